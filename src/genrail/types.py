"""The words that every room speaks: Query, Hit, Ranking, Retriever."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, overload, runtime_checkable

from genrail.errors import QueryError
from genrail.showing import html_table, shortened

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = [
    "Hit",
    "Json",
    "NewItems",
    "JsonObject",
    "Progress",
    "Query",
    "QueryOptions",
    "Ranking",
    "Retriever",
    "Suggestion",
    "silent",
]

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
"""A value that JSON can hold."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as it was read or will be sent: what an entry must be is said and checked where it is used."""

NewItems = float | Literal["auto", "off"]
"""What `Query.new_items` takes."""

Boosts = Mapping[str, float] | Sequence[tuple[str, float]]
"""What `Query.boost` takes: columns or filters, each with a weight."""


class QueryOptions(TypedDict, total=False):
    """Name what a query may ask for beside words and a past; `Query` says what each means."""

    where: str | Mapping[str, object] | None
    exclude_seen: bool
    exclude: Sequence[str]
    new_items: NewItems
    offset: int
    min_score: float | None
    sort: str | None
    boost: Boosts
    pin: Sequence[str]
    facets: Sequence[str]
    fields: Sequence[str] | None
    highlight: bool
    soft_filters: bool


class Progress(Protocol):
    """Hear how far long work has come."""

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        """Hear that `done` of `total` parts of a stage are behind us."""
        ...


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody how far work is: a `Progress` where none is wanted."""


@dataclass(frozen=True)
class Query:
    """Say what somebody wants: words, a past, or both, within a filter.

    Args:
        text: The words, or None.
        history: The user's own item ids, oldest first.
        where: A filter over the catalogue's attributes, such as ``price < 100 AND in_stock``; or a dictionary of
            fields, such as ``{"price": {"<": 100}, "colour": ["red", "blue"]}``, see `genrail.catalog.conditions`.
        exclude_seen: Leave the items of the history out of the answer.
        exclude: Further item ids that must not come out.
        new_items: How items that came after the model was trained are mixed in, for engines that tell them apart:
            ``auto`` as far as it costs the others little, ``off``, or a share of the hits from 0 to 1.
        offset: How many hits come before these: ``offset=10`` with 10 hits is page two, which repeats nothing of page
            one of the same question and size.
        min_score: Leave out what scores lower, and everything where nothing fits the words.
        sort: An attribute by which the best hits (100, and of later pages as many as are found in one go) are put in
            order, such as ``price`` or, highest first, ``-price``; items without a value come last.
        boost: What else counts, with its weight: a column of numbers, moments or true and false, of which the highest
            value gains the weight times the best score, the median half of it; or a filter, which gains all of it.
            ``[("popularity", 0.2), ("brand = 'Ecco'", -0.1)]``, among the same hits as `sort`.
        pin: Item ids that come first, in this order, where they are allowed.
        facets: Attributes whose values are counted among the best 100 hits; ``["*"]`` for all.
        fields: The attributes that hits carry; None for all.
        highlight: Say which words of each hit the query asks for (`Hit.matched`).
        soft_filters: Let words that name values of the catalogue's own columns move items with such a value up, where
            an engine reads them (`Ranking.reading`).

    Raises:
        QueryError: Neither words nor a history; or a value is none of these.

    >>> Query("trail shoes", where="price < 100").text
    'trail shoes'
    """

    text: str | None = None
    history: Sequence[str] = ()
    where: str | Mapping[str, object] | None = None
    exclude_seen: bool = True
    exclude: Sequence[str] = ()
    new_items: NewItems = "auto"
    offset: int = 0
    min_score: float | None = None
    sort: str | None = None
    boost: Boosts = ()
    pin: Sequence[str] = ()
    facets: Sequence[str] = ()
    fields: Sequence[str] | None = None
    highlight: bool = False
    soft_filters: bool = True

    def __post_init__(self) -> None:
        if self.text is not None and not isinstance(self.text, str):
            raise QueryError(
                f"the words are a {type(self.text).__name__}; give one text, and for several questions "
                "search_batch([...])"
            )
        for name in ("history", "exclude", "pin", "facets", "fields"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise QueryError(f"{name} is one string ({given!r}); give a list: [{given!r}]")
            if given is not None:
                object.__setattr__(self, name, tuple(str(item) for item in given))
        if not (self.text or "").strip() and not self.history:
            raise QueryError("the query is empty: give words, or a history of item ids, or both")
        self._check_arrangement()
        share = self.new_items
        number = isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1
        if share not in ("auto", "off") and not number:
            raise QueryError(f"new_items is {share!r}; give 'auto', 'off', or a share from 0 to 1")

    def _check_arrangement(self) -> None:
        if isinstance(self.offset, bool) or not isinstance(self.offset, int) or self.offset < 0:
            raise QueryError(f"offset is {self.offset!r}; give the number of hits that come before, 0 or more")
        if self.min_score is not None and not _number(self.min_score):
            raise QueryError(f"min_score is {self.min_score!r}; give a number")
        pairs = tuple(self.boost.items()) if isinstance(self.boost, Mapping) else tuple(self.boost)
        for pair in pairs:
            fits = isinstance(pair, tuple | list) and len(pair) == 2
            if not fits or not isinstance(pair[0], str) or not _number(pair[1]):
                raise QueryError(
                    f"boost holds {pair!r}; give pairs of a column or filter and a weight: ('price', -0.1)"
                )

    @property
    def boosts(self) -> tuple[tuple[str, float], ...]:
        """Give what else counts, as pairs."""
        pairs = self.boost.items() if isinstance(self.boost, Mapping) else self.boost
        return tuple((str(name), float(weight)) for name, weight in pairs)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Hit:
    """Hold one item of an answer.

    Args:
        item_id: The user's own id.
        title: As given in the catalogue.
        score: What the ranking is sorted by, higher first.
        rank: 1 for the first.
        log_probability: Of the item's identifier under the model (natural logarithm); None for methods without a model.
        attributes: The item's other columns.
        explanation: Filled when ``explain=True`` was asked for.
        matched: Words of the item, as they stand there, that the query asks for; with ``highlight=True``.

    >>> hit = Hit("sku-1", "Trail boot", 0.5, 1, attributes={"price": 89}, matched=("boot",))
    >>> hit["price"], hit["title"], hit.marked()
    (89, 'Trail boot', 'Trail <mark>boot</mark>')
    """

    item_id: str
    title: str
    score: float
    rank: int
    log_probability: float | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)
    explanation: Mapping[str, object] | None = None
    matched: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"Hit({self.rank}, {self.item_id!r}, {shortened(self.title)!r}, {self.score:.4g})"

    def __getitem__(self, name: str) -> object:
        """Give an attribute; ``item_id``, ``title``, ``score`` and ``rank`` too."""
        if name in self.attributes:
            return self.attributes[name]
        if name in ("item_id", "title", "score", "rank"):
            return getattr(self, name)
        known = ", ".join([*self.attributes, "item_id", "title", "score", "rank"])
        raise KeyError(f"{name!r}: this hit has {known}; values that are missing are left out")

    def marked(self, before: str = "<mark>", after: str = "</mark>", text: str | None = None) -> str:
        """Write the title, or another text of the item, with the matched words marked.

        The text is taken as it is: escape it first where it becomes part of a page.
        """
        return marked(self.title if text is None else text, self.matched or (), before, after)

    def to_dict(self) -> dict[str, object]:
        """Turn the hit into plain values for JSON."""
        values: dict[str, object] = {
            "rank": self.rank,
            "item_id": self.item_id,
            "title": self.title,
            "score": self.score,
            "log_probability": self.log_probability,
            "attributes": dict(self.attributes),
        }
        if self.explanation is not None:
            values["explanation"] = dict(self.explanation)
        if self.matched is not None:
            values["matched"] = list(self.matched)
        return values


def marked(text: str, words: Sequence[str], before: str = "<mark>", after: str = "</mark>") -> str:
    """Mark some words where they stand in a text, whole words only, in any case."""
    if not words:
        return text
    anyone = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{anyone})(?!\w)", lambda found: before + found[0] + after, text, flags=re.IGNORECASE)


@dataclass(frozen=True)
class Ranking(Sequence[Hit]):
    """Hold the answer to one query: hits, best first.

    Args:
        hits: No item twice.
        exhausted: True when fewer than k items were allowed, so that nothing more could come.
        warnings: What the caller should know, such as unknown items in a history.
        trace: The steps of the decode, when asked for.
        fits: False where nothing in the catalogue is near the words: the hits are then no more than the least far ones.
        facets: For each attribute that was asked for: ``name``, ``kind``, and values with their counts, or the range.
        counted: The hits among which these were counted; 0 where none were asked for.
        reading: How ``words`` of the query were read. With ``attributes`` and ``wanted``: as a value of these; items
            that have it were moved up, the further the larger the ``share`` of the best hits that had it anyway, or
            down where it is not wanted; none was removed. With ``synonyms``: as these.

    >>> ranking = Ranking((Hit("sku-1", "Boot", -0.5, 1),))
    >>> len(ranking), ranking[0].title, ranking.item_ids
    (1, 'Boot', ['sku-1'])
    """

    hits: tuple[Hit, ...] = ()
    exhausted: bool = False
    warnings: tuple[str, ...] = ()
    trace: Any = None
    fits: bool = True
    facets: tuple[JsonObject, ...] = ()
    counted: int = 0
    reading: tuple[JsonObject, ...] = ()

    def __repr__(self) -> str:
        first = ", ".join(f"{hit.item_id!r} {shortened(hit.title, 30)!r}" for hit in self.hits[:2])
        more = ", ..." if len(self) > 2 else ""
        return f"Ranking({len(self)} hits{': ' if first else ''}{first}{more})"

    def _repr_html_(self) -> str:
        """Write the hits as a table, for notebooks."""
        names = list(dict.fromkeys(name for hit in self.hits for name in hit.attributes))[:6]
        rows = [
            [hit.rank, hit.item_id, hit.title, hit.score, *(hit.attributes.get(name) for name in names)] for hit in self
        ]
        return html_table(["rank", "item", "title", "score", *names], rows, "; ".join(self.warnings))

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @property
    def item_ids(self) -> list[str]:
        """List the ids, best first."""
        return [hit.item_id for hit in self.hits]

    def to_dict(self) -> dict[str, object]:
        """Turn the ranking into plain values for JSON."""
        return {
            "hits": [hit.to_dict() for hit in self.hits],
            "exhausted": self.exhausted,
            "warnings": list(self.warnings),
            "fits": self.fits,
            **({"facets": [dict(each) for each in self.facets]} if self.facets else {}),
            **({"reading": [dict(each) for each in self.reading]} if self.reading else {}),
        }

    def to_polars(self) -> polars.DataFrame:
        """Write the hits as a Polars table: rank, item_id, title, score, and their attributes."""
        import polars as pl

        own = ("rank", "item_id", "title", "score")
        rows = [{**{name: getattr(hit, name) for name in own}, **_others(hit.attributes, own)} for hit in self]
        return pl.DataFrame(rows or {name: [] for name in own}, infer_schema_length=None)

    def to_pandas(self) -> pandas.DataFrame:
        """Write the hits as a pandas table, see `to_polars`; pandas has to be installed."""
        return self.to_polars().to_pandas()


def _others(attributes: Mapping[str, object], taken: Sequence[str]) -> dict[str, object]:
    """Give attributes whose names are free; a column of the catalogue called "score" is `attributes.score`."""
    return {f"attributes.{name}" if name in taken else name: value for name, value in attributes.items()}


@dataclass(frozen=True)
class Suggestion:
    """Hold a text that completes what somebody types.

    Args:
        text: Words, a phrase, or a title.
        items: How many items hold it.
        item_id: Of an item with this title; None for words and phrases.
    """

    text: str
    items: int
    item_id: str | None = None

    def to_dict(self) -> dict[str, Json]:
        """Turn the suggestion into plain values for JSON."""
        return {"text": self.text, "items": self.items, "item_id": self.item_id}


@runtime_checkable
class Retriever(Protocol):
    """Answer queries with items: what engines and baselines have in common."""

    @property
    def name(self) -> str:
        """Say what this is, for tables."""
        ...

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Returns:
            One ranking per query, in order; each with k hits whenever k items are allowed.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
        """
        ...
