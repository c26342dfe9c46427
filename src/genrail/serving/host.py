"""Hold an engine for a server: plain values in, plain values out, in this process or another.

A question is a dictionary with `text`, `history`, `where`, `exclude_seen`, perhaps `similar` (an item id), and what
else `Query` takes. Answers to one batch come from one edition, whose version they carry.
"""

from __future__ import annotations

import json
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from genrail import storage
from genrail.catalog.facets import facets
from genrail.catalog.suggesting import Suggester
from genrail.engine.engine import Engine
from genrail.engine.revising import only
from genrail.errors import FilterError, GenrailError, QueryError, StorageError
from genrail.finding import Edition, FindOptions, Progress, answer_each
from genrail.memory import give_back_memory
from genrail.serving.explaining import explain
from genrail.serving.listing import listing
from genrail.serving.overview import branches, example_queries
from genrail.serving.reranking import rerank
from genrail.serving.title_words import TitleWords
from genrail.serving.twin_numbers import TwinNumbers
from genrail.types import Hit, JsonObject, Query, QueryOptions, Ranking

__all__ = ["Host", "ItemUnknown", "Standing", "error_of", "plain_value"]

VIEWS_KEPT = 64  # tenants whose view of an edition is remembered; a view costs a copy of the index's bitmap
SUGGESTERS_KEPT = 8  # tenants whose sorted titles are remembered: some hundred bytes for each title
_log = logging.getLogger("genrail.serving")


class ItemUnknown(QueryError):
    """Say that there is no such item, or not for this caller: the two look alike."""


class TenantClosed(QueryError):
    """Say that a key's own filter cannot be evaluated, so that its holder sees nothing; no column is named."""


@dataclass
class Standing:
    """Hold what is live: an edition, its names, and how tenants see it.

    Args:
        edition: All items.
        index_version: Published version and the changes since, such as 3.17.
        model_version: Of the model's files.
        folder: Where the engine lies, or None.
        number: Published version, 0 for an engine in memory.
        views: What tenants see, those asked for last.
        overviews: What can be filtered by there.
        names_of: Words of the titles there.
    """

    edition: Edition
    index_version: str
    model_version: str
    folder: Path | None
    number: int
    views: OrderedDict[str, Edition] = field(default_factory=OrderedDict)
    overviews: OrderedDict[str, JsonObject] = field(default_factory=OrderedDict)
    names_of: OrderedDict[str, TitleWords] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def view(self, tenant: str | None) -> Edition:
        """Give the edition as a tenant sees it: nothing else exists there."""
        if tenant is None:
            return self.edition
        with self._lock:
            found = self.views.get(tenant)
            if found is None:
                found = self.views[tenant] = only(self.edition, tenant)
                while len(self.views) > VIEWS_KEPT:
                    self.views.popitem(last=False)
            return found

    def title_words(self, tenant: str | None) -> TitleWords:
        """Give the words of the titles that a tenant sees."""
        catalog = self.view(tenant).catalog
        with self._lock:
            found = self.names_of.setdefault(tenant or "", TitleWords(catalog))
            while len(self.names_of) > VIEWS_KEPT:
                self.names_of.popitem(last=False)
            return found

    @property
    def names(self) -> JsonObject:
        """Give what every answer carries."""
        return {"index_version": self.index_version, "model_version": self.model_version}


class Host:
    """Answer questions from an engine and change it.

    `answer`, `item` and `rerank` are called from one thread, `change` from another; a change shows between two batches.

    Args:
        engine: Loaded with ``live=True`` if changes are to last.
        beam_width: Beams of a decoder; None for the engine's own.
    """

    def __init__(self, engine: Engine, beam_width: int | None = None) -> None:
        self.engine = engine
        self._width = beam_width
        self._changes = 0
        self.progress: JsonObject = {"stage": None, "done": 0, "total": 0}  # of the change that is being made
        self._lock = Lock()
        self._suggesters: OrderedDict[str, Suggester] = OrderedDict()  # by tenant
        self._suggesting = Lock()
        self.standing = self._stand()

    def _stand(self) -> Standing:
        edition, version, changes = self.engine.standing()
        number, folder = (0, None) if version is None else (version.number, version.folder)
        names = f"{number}.{self._changes if version is None else changes}", _model_version(version)
        standing = Standing(edition, *names, folder, number)
        before = getattr(self, "standing", None)
        if before is not None and (number != before.number or len(edition.catalog) != len(before.edition.catalog)):
            self.warm_up(standing)  # so that no question waits for what is lazy
        return standing

    def warm_up(self, standing: Standing | None = None) -> None:
        """Ask for one item by its own id, and for words if the engine reads words: what is lazy is loaded here."""
        edition = (standing or self.standing).edition
        if not edition.catalog.live.any():
            return
        row = int(edition.catalog.live.argmax())
        item_id, title = edition.catalog.item_ids[row], edition.catalog.titles[row]
        edition.finder.warm_up()
        queries = [Query(history=[item_id], exclude_seen=False), Query(title)]
        for query in queries:
            for answer in answer_each(edition, self.engine.gate, [query], 1, FindOptions(width=self._width)):
                if isinstance(answer, GenrailError):
                    raise answer

    # --- questions --------------------------------------------------------------------------------------------------

    def answer(self, batch: JsonObject, before_step: Callable[[], None] | None = None) -> JsonObject:
        """Answer the questions of one batch in one decode.

        Args:
            batch: `questions`, `k`, `tenant` (a filter or None), and perhaps `explain`.
            before_step: Called before each step; what it raises ends the decode.

        Returns:
            `answers`, each with hits or an `error`, and the versions.
        """
        standing = self.standing
        edition = _seen(standing, batch["tenant"])
        # A tenant's scores are shares of what the tenant may see, so that nobody else's items can move them.
        options = FindOptions(
            explain=batch.get("explain") is not None,
            before_step=before_step,
            meaning=None if batch["tenant"] is None else "renormalised",
            width=self._width,
        )
        asked = [_query(question, edition) for question in batch["questions"]]
        queries = [query for query in asked if isinstance(query, Query)]
        answers = iter(self._answer(edition, queries, batch["k"], options))
        found = [next(answers) if isinstance(one, Query) else one for one in asked]
        pages = [_page(answer, options.explain) for answer in found]
        tenant = batch["tenant"] is not None
        if batch.get("explain") is not None:
            for question, answer, page in zip(batch["questions"], found, pages, strict=True):
                if isinstance(answer, Ranking):
                    names = standing.title_words(batch["tenant"])
                    page.update(explain(edition, answer, question, batch["explain"], tenant, before_step, names))
            if tenant:
                _number_among_own(edition, pages)
        return {"answers": pages, **standing.names}

    def _answer(
        self, edition: Edition, queries: Sequence[Query], k: int, options: FindOptions
    ) -> list[Ranking | GenrailError]:
        try:
            return answer_each(edition, self.engine.gate, queries, k, options)
        except Exception as error:
            options.step()  # where nobody waits any more this is no failure
            if len(queries) == 1:
                return [error if isinstance(error, GenrailError) else GenrailError(f"{type(error).__name__}: {error}")]
            # One of them spoils the answer: each for itself, so that the others get theirs.
            return [answer for query in queries for answer in self._answer(edition, [query], k, options)]

    def item(self, page: JsonObject) -> JsonObject:
        """Give one item: `item_id`, `tenant`."""
        standing = self.standing
        edition = _seen(standing, page["tenant"])
        row = _row(edition, page["item_id"])
        return {
            "id": edition.catalog.item_ids[row],
            "title": edition.catalog.titles[row],
            "metadata": plain_value(edition.catalog.attributes(row)),
            **standing.names,
        }

    def about(self, page: JsonObject) -> JsonObject:
        """Tell what `tenant` can filter by: attributes with their values, and some titles as examples."""
        standing = self.standing
        name, catalog = page["tenant"] or "", _seen(standing, page["tenant"]).catalog
        found = standing.overviews.get(name)
        if found is None:
            found = {
                "attributes": facets(catalog),
                "examples": example_queries(catalog, standing.title_words(page["tenant"])),
                "items": int(catalog.live.sum()),
                "title_column": catalog.columns.title,
            }
            found = standing.overviews[name] = plain_value(found | {"lane": standing.edition.finder.name})
            while len(standing.overviews) > VIEWS_KEPT:
                standing.overviews.popitem(last=False)
        return found | standing.names

    def listed(self, page: JsonObject) -> JsonObject:
        """List items that no question ranks, see `genrail.serving.listing`; `tenant` sees its own alone."""
        standing = self.standing
        ranking = listing(_seen(standing, page["tenant"]), page)
        return _page(ranking, explained=False) | standing.names

    def suggest(self, page: JsonObject) -> JsonObject:
        """Complete what somebody types: `typed`, `k`, `tenant`, whose items alone are read."""
        standing, name = self.standing, page["tenant"] or ""
        catalog = _seen(standing, page["tenant"]).catalog
        with self._suggesting:
            made = self._suggesters[name] = Suggester.of(catalog, self._suggesters.get(name))
            self._suggesters.move_to_end(name)
            while len(self._suggesters) > SUGGESTERS_KEPT:
                self._suggesters.popitem(last=False)
        return {"suggestions": [one.to_dict() for one in made.suggest(page["typed"], page["k"])], **standing.names}

    def branches(self, page: JsonObject) -> JsonObject:
        """List what can follow a prefix: `prefix`, `where`, `most`, `titles`, `tenant`."""
        standing = self.standing
        edition = _seen(standing, page["tenant"])
        where, tenant = page["where"] or None, page["tenant"] is not None
        names = standing.title_words(page["tenant"])
        return branches(edition, page["prefix"], where, page["most"], page["titles"], tenant, names) | standing.names

    def prepare(self, page: JsonObject, before_step: Callable[[], None]) -> JsonObject:
        """Evaluate a filter, `where` of `tenant`, so that the question that comes with it finds it evaluated.

        Called beside the decodes: a filter that costs much delays the one who asks it, and nobody else. It stops
        between two conditions when `before_step` raises.

        Raises:
            FilterError: It cannot be evaluated.
        """
        _seen(self.standing, page["tenant"]).filters.get(page["where"], before_step)
        return {}

    def rerank(self, page: JsonObject) -> JsonObject:
        """Score texts for a query: `query`, `documents`."""
        standing = self.standing
        return {**rerank(standing.edition.finder, page["query"], page["documents"]), **standing.names}

    # --- changes ----------------------------------------------------------------------------------------------------

    def change(self, page: JsonObject) -> JsonObject:
        """Change the engine; when this returns, the change is on the disk and the next batch sees it.

        Args:
            page: `verb` (add, update, remove, publish, rollback, reload) and its `items`, `ids` or `version`.
        """
        with self._lock:
            try:
                changed = _VERBS[page["verb"]](self.engine, page, self._tell)
            finally:
                self.progress = {"stage": None, "done": 0, "total": 0}
                # A change that failed halfway was still logged or not; what is live is asked, not guessed.
                self._changes += 1
                self.standing = self._stand()
            if page["verb"] in _SWAPS:
                give_back_memory()
            return self.state() | {"changed": changed}

    def _tell(self, stage: str, done: int, total: int) -> None:
        self.progress = {"stage": stage, "done": int(done), "total": int(total)}

    def settle(self) -> None:
        """Take over what the engine did by itself, such as a merge."""
        if self.engine.edition is not self.standing.edition and self._lock.acquire(blocking=False):
            try:
                self.standing = self._stand()
            finally:
                self._lock.release()

    def state(self) -> JsonObject:
        """Tell what is live."""
        standing = self.standing
        return {
            "items": len(standing.edition),
            "gate_checked": self.engine.gate.checked,
            "gate_violations": self.engine.gate.violations,
            **standing.names,
        }

    def describe(self) -> JsonObject:
        """Tell what is live, what the engine is, and which versions there are."""
        folder = self.standing.folder
        versions = [] if folder is None else storage.versions(folder)
        catalog = self.standing.edition.catalog
        names = {"id_column": catalog.columns.item_id, "title_column": catalog.columns.title}
        return self.state() | {
            "versions": versions,
            "engine": plain_value(self.engine.describe() | names | {"attributes": catalog.attribute_names}),
        }

    def check_disk(self) -> str:
        """Compare the engine on disk with its manifest, by names and sizes; "ok", or what is wrong."""
        folder = self.standing.folder
        if folder is None:
            return "ok"
        try:
            version = storage.open_version(folder, verify="sizes")
            storage.open_journal(version)
        except StorageError as error:
            return str(error)
        mine = self.standing.index_version.split(".")[0]
        if str(version.number) != mine:
            return f"version {version.number} is live on disk, this server answers from {mine}; POST /v1/index/reload"
        return "ok"


def _add(engine: Engine, page: JsonObject, tell: Progress) -> int:
    engine.add(page["items"], progress=tell)
    return len(page["items"])


def _update(engine: Engine, page: JsonObject, tell: Progress) -> int:
    engine.update(page["items"], progress=tell)
    return len(page["items"])


def _remove(engine: Engine, page: JsonObject, tell: Progress) -> int:
    engine.remove(page["ids"])
    return len(page["ids"])


def _publish(engine: Engine, page: JsonObject, tell: Progress) -> int:
    engine.merge()
    return 0


def _rollback(engine: Engine, page: JsonObject, tell: Progress) -> int:
    engine.rollback(page.get("version"))
    return 0


def _reload(engine: Engine, page: JsonObject, tell: Progress) -> int:
    engine.refresh()
    return 0


_VERBS: dict[str, Callable[[Engine, JsonObject, Progress], int]] = {
    "add": _add,
    "update": _update,
    "remove": _remove,
    "publish": _publish,
    "rollback": _rollback,
    "reload": _reload,
}


_SWAPS = frozenset({"publish", "rollback", "reload"})


def error_of(error: BaseException) -> JsonObject:
    """Write an error as plain values."""
    if isinstance(error, OSError) and not isinstance(error, GenrailError | ConnectionError | TimeoutError):
        return {"kind": "DiskError", "message": f"the disk failed ({error}); check it and repeat, nothing was changed"}
    return {"kind": type(error).__name__, "message": str(error)}


def plain_value(value: object) -> Any:
    """Turn a value into what JSON can hold: NaN and infinities become null, times become ISO 8601.

    >>> plain_value({"price": float("nan"), "since": date(2026, 1, 2), "tags": ("a",)})
    {'price': None, 'since': '2026-01-02', 'tags': ['a']}
    """
    if isinstance(value, str | int | bool) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value)


def _model_version(version: storage.Version | None) -> str:
    if version is None:
        return "memory"
    files = {name: entry.sha256 for name, entry in version.files.items() if _MODELS & set(Path(name).parts)}
    page = json.dumps([files, version.details.get("finder", {})], sort_keys=True, default=str)
    return sha256(page.encode()).hexdigest()[:12]


_MODELS = {"model", "checkpoint"}  # folders of a saved engine that hold weights


def _seen(standing: Standing, tenant: str | None) -> Edition:
    """Give the edition as a tenant sees it; whoever's filter cannot be evaluated sees nothing, columns included."""
    try:
        return standing.view(tenant)
    except FilterError as error:
        _log.error("the filter of a key cannot be evaluated", extra={"page": {"where": tenant, "why": str(error)}})
        raise TenantClosed(
            "what this key may see cannot be told on this engine, so nothing is shown; ask the one who made the key"
        ) from None


def _number_among_own(edition: Edition, pages: list[JsonObject]) -> None:
    numbers = TwinNumbers(edition)
    for hit in (hit for page in pages for hit in page.get("hits", ()) if hit.get("identifier")):
        hit["identifier"] = numbers.own(hit["identifier"])


def _row(edition: Edition, item_id: str) -> int:
    row = int(edition.catalog.rows([item_id])[0])
    if row < 0:
        raise ItemUnknown(f"no item has the id {item_id!r}; ids are those of the catalogue")
    return row


def _query(question: JsonObject, edition: Edition) -> Query | GenrailError:
    options = QueryOptions.__annotations__.keys() - {"where", "exclude_seen"}
    arranged = {name: value for name, value in question.items() if name in options}
    try:
        if question.get("similar") is not None:
            _row(edition, question["similar"])
            return Query(None, [question["similar"]], where=question.get("where"), **arranged)
        return Query(
            question.get("text"),
            question.get("history") or (),
            where=question.get("where") or None,
            exclude_seen=question.get("exclude_seen", True),
            **arranged,
        )
    except GenrailError as error:
        return error


def _page(answer: Ranking | GenrailError, explained: bool) -> JsonObject:
    if isinstance(answer, GenrailError):
        return {"error": error_of(answer)}
    return {
        "hits": [_hit(hit, explained) for hit in answer],
        "exhausted": answer.exhausted,
        "warnings": list(answer.warnings),
        "fits": answer.fits,
        **{name: plain_value(told) for name in ("facets", "counted", "reading") if (told := getattr(answer, name))},
    }


def _hit(hit: Hit, explained: bool) -> JsonObject:
    page = {
        "id": hit.item_id,
        "title": hit.title,
        "score": plain_value(hit.score),
        "rank": hit.rank,
        "metadata": plain_value(hit.attributes),
    }
    if explained and hit.explanation is not None:
        page["log_probability"] = plain_value(hit.log_probability)
        page["identifier"] = hit.explanation.get("identifier")
        page["found_by"] = plain_value(hit.explanation.get("lanes"))
        for name in ("matched", "ngrams", "passage", "soft_filters"):
            page[name] = hit.explanation.get(name)
    if hit.matched is not None:
        page["matched"] = list(hit.matched)
    return page
