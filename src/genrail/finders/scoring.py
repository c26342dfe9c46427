"""Finders that score all rows of their catalogue: the common way from requests to answers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.errors import SettingsError, ShapeError
from genrail.evaluation.splits import Training
from genrail.finding.answering import Searching
from genrail.finding.finder import Finder, FindOptions, Found, Json, Recipe, RowScores
from genrail.finding.ranks import tie_order, top_rows
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences
    from genrail.finding.requests import Request

__all__ = [
    "HISTORY_ALONE",
    "NO_WORDS",
    "DECAYS",
    "ContentScoring",
    "HistoryScoring",
    "Scoring",
    "check_content",
    "event_counts",
    "grown_rows",
    "no_events",
    "popular_first",
    "recency_weights",
    "together",
]

Values = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

NO_WORDS = "this method does not read words: the answer is by popularity"
HISTORY_ALONE = "this method does not read words: the answer is by the history alone"


class Scoring(Searching, Finder):
    """Answer by scoring all rows; subclasses give `scores`, `grow`, `save` and `load`.

    Equal scores are ordered by `precedence`, never by row number or item id: in many data sets these follow the order
    of the log, and would leak what comes next.
    """

    catalog: Catalog
    seed: int

    def scores(self, requests: Sequence[Request]) -> Iterable[Values]:
        """Score all rows for each request, shape (rows,) each; finite where a row is allowed."""
        raise NotImplementedError

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Say what the caller of a request should know."""
        return ()

    def reading(self, request: Request) -> tuple[JsonObject, ...]:
        """Say how words were read; see `Ranking.reading`."""
        return ()

    def fits(self, request: Request, best: float) -> bool:
        """Tell whether the best item, by its score, has to do with the words."""
        return True

    def explanations(self, request: Request, rows: Integers) -> Sequence[Mapping[str, Json]] | None:
        """Say why these rows were found."""
        return None

    @cached_property
    def precedence(self) -> Integers:
        """Give each row its place between equal scores, lower first."""
        return tie_order(len(self.catalog), self.seed)

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Find the k best rows of each request among those it allows.

        Raises:
            LogitsError: A score that is not finite.
        """
        return [found for found, _ in self.find_scored(requests, k, options)]

    def find_scored(
        self, requests: Sequence[Request], k: int, options: FindOptions
    ) -> list[tuple[Found, RowScores | None]]:
        """Find as `find` does, with the scores of all rows."""
        answers: list[tuple[Found, RowScores | None]] = []
        for request, scores in zip(requests, self.scores(requests), strict=True):
            options.step()
            rows = top_rows(scores, request.allowed, max(k, options.pool), self.precedence)
            answers.append((self._found(request, rows, scores[rows], options), scores))
        return answers

    def _found(self, request: Request, rows: Integers, scores: Values, options: FindOptions) -> Found:
        """Say what the caller should know of the best rows, given with their scores."""
        told = self.explanations(request, rows) if options.explain else None
        explanations = None if told is None else tuple(told)
        said = None, explanations, None, self.warnings(request)
        found = Found(rows, scores.astype(np.float64), *said, reading=self.reading(request))
        fits = not request.text or not len(rows) or self.fits(request, float(found.scores[0]))
        return found if fits else replace(found, fits=False)


class HistoryScoring(Scoring):
    """Score by the history alone, and say so where words were asked."""

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Say that words were not read."""
        if not request.text:
            return ()
        return (HISTORY_ALONE,) if len(request.history) else (NO_WORDS,)


class ReadsHistory(Protocol):
    """Say how a history is read as content."""

    @property
    def decay(self) -> float:
        """What each step back in the history costs."""
        ...

    @property
    def history(self) -> int:
        """How many of the last items count."""
        ...


class ContentScoring(Scoring):
    """Score rows that are like the words, like the last items of the history, or both.

    Words give the finder's own score. A history gives the sum over its last items of the likeness to each, times
    `decay` for each step back. With words and a history, the two parts are each divided by their largest magnitude and
    added.

    Subclasses give `text_scores` and `item_scores`; their recipe has `decay` and `history`.
    """

    def text_scores(self, texts: Sequence[str]) -> Iterable[Values]:
        """Score all rows for each text, shape (rows,) each."""
        raise NotImplementedError

    def item_scores(self, rows: Integers, weights: Weights) -> Values:
        """Score all rows by the weighted sum of their likeness to some items, shape (rows,)."""
        raise NotImplementedError

    def retuned(self, recipe: Recipe) -> Self | None:
        """Read histories and words otherwise; what is indexed stays."""
        if type(recipe) is not type(self.recipe) or _indexed(recipe) != _indexed(self.recipe):
            return None
        made = copy.copy(self)
        made.__dict__.pop("_edition", None)
        made.recipe = recipe
        return made

    def word_scores(self, requests: Sequence[Request]) -> Iterable[Values]:
        """Score all rows for the words of each request; all of them have words."""
        return self.text_scores([request.text or "" for request in requests])

    def scores(self, requests: Sequence[Request]) -> Iterator[Values]:
        """Score all rows for each request, shape (rows,) each."""
        settings = cast("ReadsHistory", self.recipe)
        texts = iter(self.word_scores([request for request in requests if request.text]))
        for request in requests:
            parts = [next(texts)] if request.text else []
            last = request.history[-settings.history :]
            if len(last):
                parts.append(self.item_scores(last, recency_weights(len(last), settings.decay)))
            yield together(parts, self.catalog.live)


READ = {"decay", "history", "centred", "synonyms"}  # settings of how questions are read, which no index depends on


def _indexed(recipe: Recipe) -> dict[str, Json]:
    return {name: value for name, value in recipe.to_dict().items() if name not in READ}


def check_content(decay: float, history: int) -> None:
    """Check how a history is read.

    Raises:
        SettingsError: A setting outside its range.
    """
    if not 0 < decay <= 1 or history < 1:
        raise SettingsError(f"decay is {decay} and history {history}; give 0 < decay <= 1 and history >= 1")


DECAYS = (0.3, 0.5, 0.7, 0.9)  # of earlier items in a history, tried on validation events


def recency_weights(items: int, decay: float) -> Weights:
    """Weigh a history, oldest first: 1 for the last item, `decay` for the one before, and so on.

    >>> recency_weights(3, 0.5).tolist()
    [0.25, 0.5, 1.0]
    """
    weights: Weights = decay ** np.arange(items - 1, -1, -1, dtype=np.float64)
    return weights


def together(parts: Sequence[Values], live: npt.NDArray[np.bool_]) -> Values:
    """Add the scores for the words and for the history, each divided by its largest magnitude; one part stays as it is.

    Args:
        parts: One or two, shape (rows,) each.
        live: The rows among which the largest is sought: removed ones must not move the others.

    >>> together([np.array([2.0, 1.0, 9.0]), np.array([0.0, 10.0, 0.0])], np.array([True, True, False])).tolist()
    [1.0, 1.5, 4.5]
    """
    if len(parts) == 1:
        return parts[0]
    total = np.zeros(len(parts[0]))
    for part in parts:
        largest = float(np.abs(part).max(where=live, initial=0.0))
        total += part / largest if largest > 0 else 0.0
    return total


def event_counts(sequences: FlatSequences, rows: int) -> Integers:
    """Count the events of each row, shape (rows,).

    Raises:
        ShapeError: Events outside the catalogue.
    """
    events = np.asarray(sequences.rows, dtype=np.int64)
    if len(events) and not 0 <= int(events.min()) <= int(events.max()) < rows:
        raise ShapeError(
            f"events name rows {events.min()}..{events.max()} but the catalogue has {rows}; use one catalogue"
        )
    return np.bincount(events, minlength=rows).astype(np.int64)


def no_events(sequences: FlatSequences | None) -> FlatSequences:
    """Give the sequences, or none of any length where there are no interactions."""
    return Training([], np.zeros(1, np.int64), np.zeros(0, np.int64)) if sequences is None else sequences


def popular_first(counts: Integers, ties: Integers) -> Integers:
    """Give each row its place by popularity, ties by `ties`: the order between rows that score the same."""
    places = np.empty(len(counts), dtype=np.int64)
    places[np.lexsort((ties, -counts))] = np.arange(len(counts))
    return places


def predecessors(catalog: Catalog, first: int) -> tuple[Integers, Integers]:
    """Find the earlier rows of items that got a row from `first` on: what was learnt of an item holds for its new row.

    Returns:
        The last earlier row and the new row of each such item, shape (n,) each.

    Cost: one pass over the ids.
    """
    ids = catalog.frame.get_column(catalog.columns.item_id)
    new = ids[first:].to_list()
    again = np.flatnonzero(ids[:first].is_in(pl.Series(new, dtype=pl.String).implode()).to_numpy())
    earlier = dict(zip(ids.gather(again).to_list(), again.tolist(), strict=True))  # of several, the last
    pairs = [(earlier[item_id], first + place) for place, item_id in enumerate(new) if item_id in earlier]
    old, later = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return old, later


def grown_rows(values: Integers, catalog: Catalog, unknown: int) -> Integers:
    """Carry what was learnt of rows to a larger catalogue: a new row gets its earlier row's value, or `unknown`."""
    first = len(values)
    if first == len(catalog):
        return values
    grown = np.concatenate([values, np.full(len(catalog) - first, unknown, dtype=np.int64)])
    old, new = predecessors(catalog, first)
    grown[new] = grown[old]
    return grown
