"""A language model behind an API as a teacher: it ranks or grades candidates, within a budget, and is asked once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt

from genrail.engine import Engine
from genrail.errors import ApiError, SettingsError
from genrail.finding import Change, Data, Edition, Finder, FindOptions, Found, Json, Progress, Request, recipe_named
from genrail.integrations.chat_api import ApiRetriever, ApiSettings, ChatApi
from genrail.storage.lines import KeptLines
from genrail.types import Hit, JsonObject, Query, Ranking, silent

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.models.text_encoder import Encoder

__all__ = ["ApiTeacher", "TeacherSettings", "api_teacher"]

FORMAT = "genrail teacher's answers 1"
Answer = list[float]  # a score for each candidate, 0 for what it did not name


@dataclass(frozen=True)
class TeacherSettings:
    """Say what a teacher behind an API is asked, and how much.

    Args:
        says: `ranking`: it names the best candidates in order; `labels`: it grades each from 0 to 3.
        candidates: Items that are shown for each request, those that the lanes find.
        lanes: Kinds of finders that find them, fused where there are several.
        budget: Requests to the API at most, those of this run; None for no limit. Requests beyond it have no ranking:
            they are taught by their own item alone, and counted.
        file: JSON lines in which answers are kept, so that nothing is asked twice; a run that was cut off, or out of
            budget, goes on there.
        at_once: Requests that wait for the API side by side.
        tries: Before a request that fails ends the training; what was answered is kept.
        max_history: Titles of a longer history are left out from its old end.
        system: Stands first.

    Raises:
        SettingsError: A value outside its range.
    """

    says: Literal["ranking", "labels"] = "ranking"
    candidates: int = 20
    lanes: tuple[str, ...] = ("bm25", "dense")
    budget: int | None = 1000
    file: str | None = None
    at_once: int = 4
    tries: int = 2
    max_history: int = 20
    system: str = ApiSettings.system

    def __post_init__(self) -> None:
        if self.says not in ("ranking", "labels"):
            raise SettingsError(f"says is {self.says!r}; give 'ranking' or 'labels'")
        for name, least in {"candidates": 2, "at_once": 1, "tries": 1, "max_history": 1}.items():
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is {getattr(self, name)}; give {least} or more")
        if self.budget is not None and self.budget < 0:
            raise SettingsError(f"budget is {self.budget}; give 0 or more, or None for no limit")
        if not self.lanes:
            raise SettingsError("lanes are none; name one or more, such as bm25")


def api_teacher(
    api: ChatApi,
    catalog: Catalog,
    settings: TeacherSettings | None = None,
    *,
    encoder: Encoder | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Engine:
    """Make a teacher for ``engine.train(recipe="distill", teacher=...)`` of a model behind an API.

    Args:
        api: Where it is.
        catalog: Of the engine that is taught.
        settings: Default `TeacherSettings()`.
        encoder: Text encoder of the lanes, as in `Engine.build`.
        seed: Of the lanes.
        progress: Called with (stage, done, total).

    Raises:
        FingerprintError: The file holds answers of another model, or to other questions.
    """
    settings = settings or TeacherSettings()
    names = settings.lanes
    recipe = recipe_named(names[0]) if len(names) == 1 else recipe_named("fused", {"lanes": names, "ranker": False})
    inner = recipe.build(Data(catalog, text_encoder=encoder, seed=seed), progress or silent)
    return Engine(Edition(catalog, ApiTeacher(api, catalog, inner, settings)))


class ApiTeacher(Finder):
    """Order what lanes find as a language model behind an API would.

    Args:
        api: Where it is.
        catalog: The items.
        inner: Finds the candidates.
        settings: What it is asked.

    Raises:
        FingerprintError: The file holds answers of another model, or to other questions.
        DamagedError: The file holds other things.
    """

    def __init__(self, api: ChatApi, catalog: Catalog, inner: Finder, settings: TeacherSettings) -> None:
        self.name, self.recipe = f"{api.model} (API)", inner.recipe
        self.catalog, self._inner, self._settings = catalog, inner, settings
        own = ApiSettings(max_history=settings.max_history, system=settings.system)
        self._asks = ApiRetriever(api, catalog, Engine(Edition(catalog, inner)), own)
        head: dict[str, Json] = {"format": FORMAT, "model": api.model, "says": settings.says, "system": settings.system}
        self._file = KeptLines(settings.file, "file of answers", head)
        self._answers = {str(line.get("key")): list(map(float, line.get("scores", []))) for line in self._file.lines}
        self.counts = {"asked": 0, "known": 0, "over the budget": 0}

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Rank candidates; none where the budget is spent. See `Finder.find`.

        Raises:
            ApiError: The API does not answer, or not as it should.
        """
        found = self._inner.find(requests, self._settings.candidates, options)
        pairs = [(self._query(request), one.rows) for request, one in zip(requests, found, strict=True)]
        keys = [self._key(query, rows) for query, rows in pairs]
        left = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self._answers and len(pair[1])}
        self.counts["known"] += sum(key in self._answers for key in keys)
        budget = self._settings.budget
        most = len(left) if budget is None else max(0, budget - self.counts["asked"])
        self._ask(dict(list(left.items())[:most]))
        self.counts["over the budget"] += sum(key in left and key not in self._answers for key in keys)
        return [self._ranked(rows, self._answers.get(key), k) for key, (_, rows) in zip(keys, pairs, strict=True)]

    def _ask(self, wanted: Mapping[str, tuple[Query, npt.NDArray[np.int64]]]) -> None:
        """Ask what is not known, some side by side; each answer is kept as it comes."""
        if not wanted:
            return
        from genrail.training.processes import Processes

        if Processes.here().count > 1:
            raise SettingsError(
                f"{len(wanted)} requests are not answered yet, and several processes would ask each twice; let one "
                "process train with the same file of answers first, for one epoch"
            )
        with ThreadPoolExecutor(self._settings.at_once) as pool:
            said = pool.map(lambda pair: self._scores(*pair), wanted.values())
            for key, scores in zip(wanted, said, strict=True):
                self._answers[key] = scores
                self.counts["asked"] += 1
                self._file.add([{"key": key, "scores": scores}])

    def _scores(self, query: Query, rows: npt.NDArray[np.int64]) -> Answer:
        titles, ids = self.catalog.titles, self.catalog.item_ids
        places = enumerate(rows.tolist(), start=1)
        shown = Ranking(tuple(Hit(ids[row], titles[row], 0.0, place, None, {}) for place, row in places), False)
        for attempt in range(1, self._settings.tries + 1):
            try:
                if self._settings.says == "labels":
                    return self._asks.grades(query, shown)
                named = [hit.item_id for hit in self._asks.picked(query, shown, len(shown))]
                best = {item_id: float(len(shown) - place) for place, item_id in enumerate(dict.fromkeys(named))}
                return [best.get(hit.item_id, 0.0) for hit in shown]
            except ApiError:
                if attempt == self._settings.tries:
                    raise
        raise AssertionError

    def _ranked(self, rows: npt.NDArray[np.int64], scores: Answer | None, k: int) -> Found:
        if scores is None or len(scores) != len(rows):
            return Found(rows[:0], np.zeros(0))
        given = np.array(scores, dtype=np.float64)
        order = np.argsort(-given, kind="stable")
        order = order[given[order] > 0][:k]
        return Found(rows[order], given[order])

    def _query(self, request: Request) -> Query:
        ids = self.catalog.item_ids
        return Query(request.text, [ids[row] for row in request.history.tolist()])

    def _key(self, query: Query, rows: npt.NDArray[np.int64]) -> str:
        ids, titles = self.catalog.item_ids, self.catalog.titles
        shown = [[ids[row], titles[row]] for row in rows.tolist()]
        return hashlib.sha256(json.dumps([query.text, list(query.history), shown]).encode()).hexdigest()[:24]

    @property
    def parts(self) -> Mapping[str, Finder]:
        """Give what finds the candidates."""
        return {"inner": self._inner}

    def with_part(self, part: Finder, other: Finder) -> Finder:
        """See `Finder.with_part`; answers and budget are shared."""
        made = ApiTeacher.__new__(ApiTeacher)
        made.__dict__.update(self.__dict__)
        made._inner = self._inner.with_part(part, other)
        return made

    def summary(self) -> str:
        """Say how often it was asked, and how often not.

        >>> from genrail.catalog import Catalog
        >>> from genrail.finders import BM25
        >>> shop = Catalog.from_items([{"id": "a", "title": "boot"}])
        >>> nobody = ChatApi("http://127.0.0.1:9", "some-model")
        >>> ApiTeacher(nobody, shop, BM25(shop), TeacherSettings()).summary()
        'some-model (API): 0 asked, 0 known, 0 over the budget'
        """
        return f"{self.name}: " + ", ".join(f"{count:,} {name}" for name, count in self.counts.items())

    def grow(self, catalog: Catalog, change: Change) -> Finder:
        """Refuse: a teacher is made for one edition of a catalogue.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError("a teacher behind an API is made for one catalogue; make another for the changed one")

    def save(self, folder: Path) -> dict[str, Json]:
        """Refuse: what it said is in its file.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError("a teacher behind an API is not saved; what it said is kept in its file")

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Refuse: nothing was saved.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError("a teacher behind an API is not saved; make it again with the same file of answers")
