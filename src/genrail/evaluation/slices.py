"""Look at parts of the queries: by length, by negation, by how often the right items were taken."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genrail.types import Query

if TYPE_CHECKING:
    from genrail.evaluation.evaluations import Evaluation

__all__ = ["Slice", "by_length", "by_negation", "by_popularity", "query_slices", "slice_means"]

# "without", "not", "no", "never", "except", "-free", and contracted forms; matched as whole words.
NEGATION = re.compile(r"\b(?:without|not|no|non|never|none|except|excluding|minus|\w+n['\u2019]t)\b|-free\b", re.I)
SHORT, MEDIUM = 3, 7  # words: keywords, a phrase, and longer: a nuanced request


@dataclass(frozen=True)
class Slice:
    """Name some of the queries.

    Args:
        name: For tables.
        query_ids: Which queries.
    """

    name: str
    query_ids: frozenset[str]


def by_length(queries: Mapping[str, Query]) -> list[Slice]:
    """Part queries by their number of words: up to 3, 4 to 7, 8 and more.

    >>> [part.name for part in by_length({"a": Query("boots"), "b": Query("boots for a walk in the rain please")})]
    ['1 to 3 words', '8 and more words']
    """
    words = {query_id: len((query.text or "").split()) for query_id, query in queries.items() if query.text}
    names = (f"1 to {SHORT} words", f"{SHORT + 1} to {MEDIUM} words", f"{MEDIUM + 1} and more words")
    kind = {query_id: int(count > SHORT) + int(count > MEDIUM) for query_id, count in words.items()}
    return _filled(
        [Slice(name, frozenset(key for key, own in kind.items() if own == place)) for place, name in enumerate(names)]
    )


def by_negation(queries: Mapping[str, Query]) -> list[Slice]:
    """Part queries by whether they say what is not wanted ("without", "not", "no", "-free").

    >>> by_negation({"a": Query("shoes without laces"), "b": Query("nothing special")})[0].query_ids
    frozenset({'a'})
    """
    worded = {query_id for query_id, query in queries.items() if query.text}
    negated = frozenset(query_id for query_id in worded if NEGATION.search(queries[query_id].text or ""))
    return _filled([Slice("with a negation", negated), Slice("without a negation", frozenset(worded) - negated)])


def by_popularity(
    relevant: Mapping[str, Sequence[str]], counts: Mapping[str, int], shares: tuple[float, float] = (1 / 3, 2 / 3)
) -> list[Slice]:
    """Part queries by how often their right items were taken: head, torso and tail hold a third of the events each.

    Args:
        relevant: Query id to its right items; the most popular one decides.
        counts: Item id to how often it was taken in training; a missing one is new.
        shares: Of all events, where head and torso end.
    """
    order = sorted(counts, key=lambda item: -counts[item])
    total = np.cumsum([counts[item] for item in order]) if order else np.zeros(0)
    place = {
        item: ("head" if before < shares[0] else "torso" if before < shares[1] else "tail")
        for item, before in zip(order, (np.r_[0, total[:-1]] / max(1, total[-1])) if order else (), strict=True)
        if counts[item] > 0
    }
    found: dict[str, set[str]] = {"head": set(), "torso": set(), "tail": set(), "new": set()}
    for query_id, items in relevant.items():
        if items:
            best = max(items, key=lambda item: counts.get(item, 0))
            found[place.get(best, "new")].add(query_id)
    return _filled([Slice(f"{name} items", frozenset(ids)) for name, ids in found.items()])


def query_slices(queries: Mapping[str, Query]) -> list[Slice]:
    """List the parts by length and by negation; a part that holds every query says nothing and is left out."""
    parts = [*by_length(queries), *by_negation(queries)]
    return [part for part in parts if len(part.query_ids) < len(queries)]


class SliceMeans(NamedTuple):
    """Hold the mean of a metric over the counted queries of one part, by method."""

    slice: str
    queries: int
    means: dict[str, float]


def slice_means(evaluations: Mapping[str, Evaluation], metric: str, slices: Sequence[Slice]) -> list[SliceMeans]:
    """Average a metric over each part, for each method.

    Returns:
        One entry for each part with a counted query.
    """
    values = {name: evaluation.measured.by_query(metric) for name, evaluation in evaluations.items()}
    rows = []
    for part in slices:
        counted = [key for key in next(iter(values.values()), {}) if key in part.query_ids]
        if counted:
            means = {name: float(np.mean([found[key] for key in counted])) for name, found in values.items()}
            rows.append(SliceMeans(slice=part.name, queries=len(counted), means=means))
    return rows


def _filled(parts: Sequence[Slice]) -> list[Slice]:
    return [part for part in parts if part.query_ids]
