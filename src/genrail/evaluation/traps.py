"""Traps of a split: what can make figures look better, or other, than they are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.errors import ShapeError
from genrail.types import Json

__all__ = [
    "Traps",
    "duplicate_events",
    "order_correlation",
    "query_traps",
    "repeats",
    "same_length",
    "same_moments",
    "text_overlap",
]

Rows = npt.NDArray[np.int64]
Times = Array

# Below this a correlation of row number with first appearance is of no use to a guesser.
LEAK_CORRELATION = 0.3


@dataclass(frozen=True)
class Traps:
    """Hold what can make the figures of a split look better, or other, than they are.

    Args:
        users: Users in the input.
        items: Different items that occur.
        too_short: Users with fewer than three events: they are training data only.
        test_unseen: Test targets whose item never occurs in training.
        validation_unseen: The same for validation targets.
        repeats: Events whose item the user had before.
        target_in_history: Test targets that the user had before: excluding seen items makes these impossible.
        ties: Events that share user and time with another; None when there were no times.
        target_tied: Test targets that share their time with the event before; None when there were no times.
        duplicates: Events that repeat user, item and time of another; None when there were no times.
        order_correlation: Spearman correlation of row number with first appearance over all events, test included; near
            1 means that numbers alone predict what comes next. None with fewer than three items.
    """

    users: int
    items: int
    too_short: int
    test_unseen: int
    validation_unseen: int
    repeats: int
    target_in_history: int
    ties: int | None
    target_tied: int | None
    duplicates: int | None
    order_correlation: float | None

    @property
    def order_leaks(self) -> bool:
        """Tell whether row numbers follow the order of first appearance."""
        if self.order_correlation is None:
            return False
        by_chance = 3.0 / math.sqrt(self.items - 1)  # three standard deviations of a random order
        return abs(self.order_correlation) >= max(LEAK_CORRELATION, by_chance)

    def sentences(self) -> list[str]:
        """Say each trap that is there in one sentence; empty when there is none."""
        found = [
            (self.too_short, f"{self.too_short} of {self.users} users have fewer than three events and are not tested"),
            (self.test_unseen, f"{self.test_unseen} test targets never occur in training: no count can find them"),
            (self.repeats, f"{self.repeats} events repeat an item that the user had before"),
            (
                self.target_in_history,
                f"{self.target_in_history} test targets are in the history: excluding seen items makes them impossible",
            ),
            (self.ties, f"{self.ties} events share user and time with another: the file decides which one came first"),
            (self.target_tied, f"{self.target_tied} test targets are the last event by the order of the file alone"),
            (
                self.duplicates,
                f"{self.duplicates} events are copies of another (user, item, time) and may test themselves",
            ),
            (
                self.order_leaks,
                f"item numbers follow the order of first appearance (correlation {self.order_correlation or 0:.2f}): "
                "let nothing depend on them",
            ),
        ]
        return [sentence for present, sentence in found if present]

    def to_dict(self) -> dict[str, Json]:
        """Turn the counts into plain values for JSON."""
        return {**self.__dict__, "warnings": self.sentences()}


def repeats(offsets: Rows, rows: Rows) -> npt.NDArray[np.bool_]:
    """Mark the events whose item the same user had before, shape (events,)."""
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((np.arange(len(rows)), rows, users))  # stable: by user, then item, then time
    same = (users[order][1:] == users[order][:-1]) & (rows[order][1:] == rows[order][:-1])
    repeated = np.zeros(len(rows), dtype=bool)
    repeated[order[1:][same]] = True
    return repeated


def order_correlation(rows: Rows) -> float | None:
    """Correlate an item's number with the place where it first appears (both are ranks without ties)."""
    _, first = np.unique(rows, return_index=True)  # sorted by item number
    if len(first) < 3:
        return None
    appearance = np.argsort(np.argsort(first))
    return float(np.corrcoef(np.arange(len(first)), appearance)[0, 1])


def same_moments(
    offsets: Rows, rows: Rows, times: Times | None, tested: Rows
) -> tuple[int | None, int | None, int | None]:
    """Count events that share user and time with another, copies, and test targets tied with the event before.

    Args:
        offsets: Where each user begins, (users + 1,).
        rows: Catalogue row of each event, (events,).
        times: When each was, (events,); None where nobody knows, which gives None for all three.
        tested: Users whose last event is a test target.
    """
    if times is None:
        return None, None, None
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    same_length(users, rows, times)
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])  # chronological: equal times stand together
    ties = int((np.append(same, False) | np.append(False, same)).sum())
    ends = offsets[tested + 1] - 1
    return ties, duplicate_events(users, rows, times), int(np.sum(times[ends] == times[ends - 1]))


def duplicate_events(users: Rows, rows: Rows, times: Times) -> int:
    """Count events that repeat user, item and time of another: copies of one act, which would be tested on itself.

    >>> duplicate_events(np.array([0, 0, 0]), np.array([1, 1, 1]), np.array([5, 5, 6]))
    1
    """
    same_length(users, rows, times)
    order = np.lexsort((times, rows, users))
    same = [np.diff(column[order]) == 0 for column in (users, rows, times)]
    return int(np.logical_and.reduce(same).sum())


def text_overlap(train: Mapping[str, str], test: Mapping[str, str]) -> list[tuple[str, str]]:
    """List the test queries that are training queries too, letter case, blanks and punctuation aside.

    Returns:
        (test id, training id), in the order of the tests: leave these out of training, or say so.

    >>> text_overlap({"a": "Red  shoes!"}, {"x": "red shoes", "y": "blue"})
    [('x', 'a')]
    """
    known: dict[str, str] = {}
    for query_id, text in train.items():
        known.setdefault(_plain(text), query_id)
    return [(query_id, known[_plain(text)]) for query_id, text in test.items() if _plain(text) in known]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def query_traps(
    test: Mapping[str, str], chosen: Mapping[str, str], trained: Mapping[str, str], titles: Sequence[str] = ()
) -> tuple[str, ...]:
    """Say which texts of the test were seen before, one sentence for each kind.

    Args:
        test: Words of the test queries by id.
        chosen: Of the queries on which settings were chosen.
        trained: Of the queries that a method was trained on, as far as they are known.
        titles: Of the catalogue's items, which methods are trained on.

    >>> query_traps({"a": "red shoes", "b": "Red shoes!"}, {"c": "red shoes"}, {}, ["Red shoes"])[0]
    '2 test queries have the words of a query that settings were chosen on (such as "red shoes")'
    """
    seen: dict[str, str] = {}
    twice = {
        query_id: words for query_id, words in test.items() if seen.setdefault(_plain(words), query_id) != query_id
    }
    overlaps = [
        (_both(chosen, test), "have the words of a query that settings were chosen on"),
        (_both(trained, test), "have the words of a query that a method was trained on"),
        (
            _both({str(place): title for place, title in enumerate(titles)}, test),
            "are the title of an item, word by word",
        ),
        (list(twice), "have the words of another test query and count again"),
    ]
    return tuple(
        f'{len(found)} test queries {what} (such as "{test[found[0]][:80]}")' for found, what in overlaps if found
    )


def _both(known: Mapping[str, str], test: Mapping[str, str]) -> list[str]:
    return [query_id for query_id, _ in text_overlap(known, test)]


def same_length(*columns: Sequence[object] | Array) -> None:
    """Insist on one value for each event."""
    if len({len(column) for column in columns}) > 1:
        raise ShapeError(
            f"the columns have {[len(column) for column in columns]} events; give one value for each event"
        )
