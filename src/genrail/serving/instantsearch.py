"""`POST /1/indexes/*/queries`: several searches in the shape of Algolia's clients, for front ends of InstantSearch."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from genrail.finding.requests import MAX_K
from genrail.serving.door import INSTANT_PATH, Caller, caller
from genrail.serving.errors import Refusal
from genrail.serving.instant_filters import facet_filters, joined, numeric_filters, written_filter
from genrail.serving.limits import check_question, within
from genrail.serving.logs import about_text
from genrail.serving.questions import json_answer, unless_left
from genrail.serving.routing import Routes
from genrail.serving.schemas import Words, whole
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings
from genrail.types import JsonObject

__all__ = ["instant_routes"]


def _or_text(items: JsonObject) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "array", "items": items}, {"type": "string"}]}, mode="validation")


TEXT: JsonObject = {"type": "string"}
Names = Annotated[list[Words], _or_text(TEXT)]
Filters = Annotated[list[Words | list[Words]], _or_text({"anyOf": [TEXT, {"type": "array", "items": TEXT}]})]
# What would choose other hits and is not done here is refused, not overlooked; the rest of what Algolia knows is taken
# for what it is: how results are ranked, analysed or decorated.
NOT_HERE = ("tagFilters", "aroundLatLng", "aroundLatLngViaIP", "insideBoundingBox", "insidePolygon", "distinct",
            "restrictSearchableAttributes")  # fmt: skip
NUMBERS = ("page", "hitsPerPage", "maxValuesPerFacet")
LISTS = ("facets", "facetFilters", "numericFilters", "attributesToRetrieve", "attributesToHighlight")


class InstantQuery(BaseModel):
    """One search, with its parameters as fields or written into `params`."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="allow",
        strict=True,
        json_schema_extra={
            "examples": [{"indexName": "shop", "query": "boots", "facets": ["brand"], "hitsPerPage": 5}]
        },
    )

    index_name: Words = Field("", description="`NAME_price_asc` and `NAME_price_desc` sort by an attribute.")
    query: Words = Field("", description="Nothing lists the catalogue.")
    page: int = Field(0, ge=0, le=MAX_K)
    hits_per_page: int = Field(20, ge=0, le=MAX_K)
    facets: Names = Field(default_factory=list, max_length=100, description="Attributes to count; * for all.")
    max_values_per_facet: int = Field(100, ge=1, le=MAX_K)
    facet_filters: Filters = Field(default_factory=list)
    numeric_filters: Filters = Field(default_factory=list)
    filters: Words = ""
    attributes_to_retrieve: Names = Field(default_factory=lambda: ["*"])
    attributes_to_highlight: Names = Field(default_factory=lambda: ["*"])
    highlight_pre_tag: Words = Field("<mark>", description="Values are escaped for HTML where it is a tag of HTML.")
    highlight_post_tag: Words = "</mark>"
    params: Words | None = Field(None, description="Further parameters, written as in an address.")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        written = given.get("params")
        more: JsonObject = dict(parse_qsl(written, keep_blank_values=True)) if isinstance(written, str) else {}
        more |= {name: int(more[name]) for name in NUMBERS if more.get(name, "").isdecimal()}
        page = {name: whole(value) for name, value in (more | given).items()}
        return page | {name: _listed(page[name]) for name in LISTS if name in page}


class InstantRequest(BaseModel):
    """Several searches."""

    model_config = ConfigDict(extra="ignore")

    requests: list[InstantQuery] = Field(min_length=1)


class InstantResult(BaseModel):
    """The hits of one search."""

    model_config = ConfigDict(alias_generator=to_camel)

    hits: list[JsonObject] = Field(description="`objectID`, the item's attributes, `_highlightResult`.")
    nb_hits: int = Field(alias="nbHits", description="Hits that pages lead to: the best 100 or more of a query.")
    page: int
    nb_pages: int = Field(alias="nbPages")
    hits_per_page: int
    facets: dict[str, dict[str, int]]
    facets_stats: dict[str, dict[str, float]] = Field(alias="facets_stats")
    exhaustive_nb_hits: bool = Field(alias="exhaustiveNbHits")
    exhaustive_facets_count: bool
    processing_time_ms: int = Field(alias="processingTimeMS")
    query: str
    params: str
    index: str


class InstantAnswer(BaseModel):
    """The results, in the order of the requests."""

    results: list[InstantResult]


def _listed(value: object) -> object:
    """Read a list that is written as JSON, as one value, or as values between commas."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return [part.strip() for part in value.split(",") if part.strip()]


class _Columns:
    """Know what a caller can filter by, as of the last version that answered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: dict[str | None, JsonObject] = {}

    async def get(self, who: Caller) -> JsonObject:
        if who.tenant not in self._known:
            self._known[who.tenant] = await self._service.call("about", {"tenant": who.tenant}, key=who.name)
        return self._known[who.tenant]

    def heard(self, who: Caller, version: str) -> None:
        """Forget what was known of another version."""
        if who.tenant in self._known and self._known[who.tenant]["index_version"] != version:
            del self._known[who.tenant]


def instant_routes(service: Service, settings: ServeSettings) -> APIRouter:
    """Make the route that front ends of InstantSearch ask."""
    routes = Routes(tags=["questions"])
    limits, columns = settings.limits, _Columns(service)

    async def answer(asked: InstantQuery, who: Caller) -> JsonObject:
        began, about = time.perf_counter(), await columns.get(who)
        kinds = {each["name"]: each["kind"] for each in about["attributes"]}
        question = _question(asked, kinds)
        k = max(1, min(asked.hits_per_page, MAX_K - question["offset"]))
        check_question(limits, question, k)
        if asked.query.strip():
            found = await service.ask(question, k, tenant=who.tenant, key=who.name)
            service.tally.count(asked.query, found)
        else:
            page = {"listed": None, "k": k, "tenant": who.tenant, **question}
            found = await service.call("listed", page, key=who.name)
        columns.heard(who, found["index_version"])
        result = _result(asked, found, about["title_column"])
        return result | {"processingTimeMS": max(1, round(1000 * (time.perf_counter() - began)))}

    @routes.post(INSTANT_PATH, response_model=InstantAnswer)
    async def queries(request: Request, body: InstantRequest) -> Response:
        """Answer several searches in the shape of Algolia's clients, for front ends made with InstantSearch."""
        who = caller(request)
        within("the number of requests", len(body.requests), limits.batch)
        within("the number of hits of all requests", sum(one.hits_per_page for one in body.requests), limits.batch_hits)
        if (refusal := who.spend(len(body.requests) - 1, of=len(body.requests))) is not None:
            raise refusal
        who.page.update(about_text(body.requests[0].query, settings.log_queries))
        results = asyncio.gather(*(answer(one, who) for one in body.requests))
        return json_answer({"results": list(await unless_left(request, results))})

    return routes


def _question(asked: InstantQuery, kinds: Mapping[str, str]) -> JsonObject:
    for name in NOT_HERE:
        if (asked.model_extra or {}).get(name) not in (None, "", [], "[]", False, "false", 0, "0"):
            raise Refusal(422, f"{name} is not possible here; leave it out, or use facetFilters or filters", "invalid")
    where = joined(
        [
            facet_filters(asked.facet_filters, kinds),
            numeric_filters(asked.numeric_filters, kinds),
            written_filter(asked.filters, kinds),
        ]
    )
    start = asked.page * asked.hits_per_page
    return {
        "text": asked.query,
        "where": where,
        "offset": start if start < MAX_K else 0,
        "sort": _sort(asked.index_name, kinds),
        "facets": asked.facets or [*kinds][:1],  # something is counted, so that the hits are
        "highlight": True,
    }


def _sort(index: str, kinds: Mapping[str, str]) -> str | None:
    """Read the attribute to sort by off the name of a replica, as Algolia's are usually called."""
    for name in kinds:
        for end, sign in (("asc", ""), ("desc", "-")):
            if index.endswith(f"_{name}_{end}"):
                return sign + name
    return None


def _result(asked: InstantQuery, found: JsonObject, title: str) -> JsonObject:
    size, start = asked.hits_per_page, asked.page * asked.hits_per_page
    hits = found["hits"] if size and start < MAX_K else []
    number = max(found.get("counted", 0), start + len(hits))
    counted = found.get("facets", ()) if asked.facets else ()
    return {
        "hits": [_hit(asked, hit, title) for hit in hits],
        "nbHits": number,
        "page": asked.page,
        "nbPages": math.ceil(min(number, MAX_K) / size) if size else 0,
        "hitsPerPage": size,
        "facets": {one["name"]: _counts(one, asked.max_values_per_facet) for one in counted},
        "facets_stats": {
            one["name"]: {"min": one["least"], "max": one["most"]}
            for one in counted
            if one["kind"] == "number" and one["least"] is not None
        },
        "exhaustiveNbHits": not asked.query.strip(),
        "exhaustiveFacetsCount": not asked.query.strip(),
        "query": asked.query,
        "params": asked.params or "",
        "index": asked.index_name,
    }


def _counts(facet: JsonObject, most: int) -> dict[str, int]:
    pairs = zip(facet.get("values", ()), facet.get("counts", ()), strict=True)
    named = [(str(value).lower() if isinstance(value, bool) else str(value), count) for value, count in pairs]
    return dict(named[:most])


def _hit(asked: InstantQuery, hit: JsonObject, title: str) -> JsonObject:
    values = {title: hit["title"], **hit["metadata"]}
    shown, marked = _chooser(asked.attributes_to_retrieve), _chooser(asked.attributes_to_highlight)
    mark = _marker(asked, hit.get("matched") or ())
    return {
        **{name: value for name, value in values.items() if shown(name)},
        "objectID": hit["id"],
        "_highlightResult": {
            name: [mark(each) for each in value] if isinstance(value, list) else mark(value)
            for name, value in values.items()
            if marked(name) and (isinstance(value, str) or (value and isinstance(value, list)))
        },
    }


def _chooser(names: Sequence[str]) -> Callable[[str], bool]:
    """Read a list of attributes, in which * stands for all and a minus leaves one out."""
    return lambda name: f"-{name}" not in names and (name in names or "*" in names)


def _marker(asked: InstantQuery, words: Sequence[str]) -> Callable[[object], JsonObject]:
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    wanted = re.compile(rf"(?<!\w)({pattern})(?!\w)", re.IGNORECASE) if pattern else None
    plain: Callable[[str], str] = (lambda text: escape(text, quote=False)) if "<" in asked.highlight_pre_tag else str

    def mark(value: object) -> JsonObject:
        parts = wanted.split(str(value)) if wanted else [str(value)]
        met = list(dict.fromkeys(part.lower() for part in parts[1::2]))
        pieces = [
            f"{asked.highlight_pre_tag}{plain(part)}{asked.highlight_post_tag}" if place % 2 else plain(part)
            for place, part in enumerate(parts)
        ]
        level = "none" if not met else "full" if len(met) >= len(asked.query.split()) else "partial"
        return {"value": "".join(pieces), "matchLevel": level, "matchedWords": met}

    return mark
