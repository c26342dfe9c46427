"""Split interactions at a moment, or by items that are new; thin them out to a core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.evaluation.splits import HeldOut, Training
from genrail.evaluation.traps import same_length
from genrail.rng import generator

__all__ = ["EventSplit", "cold_items", "k_core", "split_at"]

Rows = npt.NDArray[np.int64]
Times = npt.NDArray[np.floating | np.integer]


@dataclass(frozen=True)
class EventSplit:
    """Hold training events and withheld ones.

    Args:
        train: What may be learnt from.
        test: One withheld event of each tested user, with what the user had before it, training events alone.
        notes: Traps of this split, one sentence each.
    """

    train: Training
    test: HeldOut
    notes: tuple[str, ...]


def split_at(users: Rows, rows: Rows, times: Times, moment: float | None = None, *, share: float = 0.1) -> EventSplit:
    """Learn from all events before a moment and test each user's first event from then on.

    Unlike leave-last-out, nothing of the future is learnt from: what becomes popular later is not known.

    Args:
        users: User of each event, 0 ... users - 1, (events,).
        rows: Catalogue row of each event, (events,).
        times: When, in any unit, (events,).
        moment: Where to cut; None for the time before which 1 - `share` of the events lie.
        share: Of the events, from the cut on.

    Raises:
        ShapeError: Columns of different lengths.
        SettingsError: share not between 0 and 1, or one side of the cut is empty.

    Source: Ji et al. 2023, A Critical Study on Data Leakage in Recommender System Offline Evaluation.

    >>> events = np.array([0, 0, 1, 1]), np.array([5, 6, 5, 7]), np.array([1, 9, 2, 3])
    >>> split = split_at(*events, moment=5)
    >>> split.train.rows.tolist(), split.test.targets.tolist(), split.test.history(0).tolist()
    ([5, 5, 7], [6], [5])
    """
    same_length(users, rows, times)
    if moment is None and not 0.0 < share < 1.0:
        raise SettingsError(f"share is {share}; give more than 0 and less than 1")
    cut = float(np.quantile(times, 1.0 - share)) if moment is None and len(times) else moment
    early = times < (0.0 if cut is None else cut)
    if not len(rows) or early.all() or not early.any():
        raise SettingsError(f"all {len(rows)} events lie on one side of {cut}; choose another moment")
    order = np.lexsort((np.arange(len(rows)), times, users))  # by user, then time; equal times as they came
    users, rows, early = users[order], rows[order], early[order]
    later = np.flatnonzero(~early)
    first = later[np.r_[True, users[later][1:] != users[later][:-1]]]
    return _event_split(users, rows, early, first, int(np.sum(times == cut)))


def cold_items(users: Rows, rows: Rows, *, share: float = 0.1, seed: int = 0) -> EventSplit:
    """Take some items out of training altogether and test each user's first event with one of them.

    Args:
        users: User of each event, each user's oldest first, (events,).
        rows: Catalogue row of each event, (events,).
        share: Of the items that occur.
        seed: Of the draw.

    Raises:
        ShapeError: Columns of different lengths.
        SettingsError: share not between 0 and 1, or too few items to draw from.
    """
    same_length(users, rows)
    if not 0.0 < share < 1.0:
        raise SettingsError(f"share is {share}; give more than 0 and less than 1")
    known = np.unique(rows)
    count = round(share * len(known))
    if not 0 < count < len(known):
        raise SettingsError(f"{share} of {len(known)} items leaves none on one side; give another share or more items")
    cold = generator(seed, "cold items").permutation(known)[:count]
    order = np.argsort(users, kind="stable")
    users, rows = users[order], rows[order]
    warm = ~np.isin(rows, cold)
    tested = np.flatnonzero(~warm)
    first = tested[np.r_[True, users[tested][1:] != users[tested][:-1]]]
    return _event_split(users, rows, warm, first, 0)


def k_core(users: Rows, rows: Rows, k: int) -> npt.NDArray[np.bool_]:
    """Mark the events that remain when users and items with fewer than k events are taken out until none is left.

    Args:
        users: User of each event, (events,).
        rows: Catalogue row of each event, (events,).
        k: Fewest events, 1 or more.

    Raises:
        SettingsError: k below 1.

    >>> k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 2]), 2).tolist()
    [True, True, True, True, False]
    """
    if k < 1:
        raise SettingsError(f"k is {k}; give 1 or more")
    same_length(users, rows)
    kept = np.ones(len(rows), dtype=np.bool_)
    while kept.any():
        enough = kept.copy()
        for column in (users, rows):
            enough &= np.bincount(column[kept], minlength=int(column.max()) + 1)[column] >= k
        if enough.sum() == kept.sum():
            break
        kept = enough
    return kept


def _event_split(users: Rows, rows: Rows, learnt: npt.NDArray[np.bool_], first: Rows, ties: int) -> EventSplit:
    """Put the parts together; users are sorted, `first` is the withheld event of each tested user."""
    count = int(users.max()) + 1
    train_users, train_rows = users[learnt], rows[learnt]
    offsets = np.searchsorted(train_users, np.arange(count + 1)).astype(np.int64)
    # What a tested user had before: the training events that stand before the withheld one.
    before = np.cumsum(learnt)[first]
    starts = offsets[users[first]]
    lengths = before - starts
    spans = np.concatenate([np.arange(start, end) for start, end in zip(starts, before, strict=True)] or [np.zeros(0)])
    tested = lengths > 0
    kept = np.repeat(tested, lengths)
    held_out = HeldOut(
        users=users[first][tested],
        targets=rows[first][tested],
        offsets=np.r_[0, np.cumsum(lengths[tested])].astype(np.int64),
        rows=train_rows[spans.astype(np.int64)[kept]],
    )
    unseen = int(np.sum(~np.isin(held_out.targets, train_rows)))
    notes = [
        (ties, f"{ties} events lie at the very moment of the cut and count as later"),
        (
            int(np.sum(~tested)),
            f"{int(np.sum(~tested))} users have no event before the withheld one and are not tested",
        ),
        (unseen, f"{unseen} of {len(held_out)} test targets never occur in training: no count can find them"),
    ]
    training = Training([str(user) for user in range(count)], offsets, train_rows)
    return EventSplit(training, held_out, tuple(sentence for present, sentence in notes if present))
