"""Split interactions for next-item evaluation, and say which traps the split holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError, ShapeError
from genrail.evaluation.traps import Traps, order_correlation, repeats, same_moments
from genrail.rng import generator

__all__ = ["FlatSequences", "HeldOut", "Split", "Training", "Traps", "leave_last_out"]

Rows = npt.NDArray[np.int64]


class FlatSequences(Protocol):
    """Hold users' events one after the other: user u owns ``rows[offsets[u]:offsets[u + 1]]``, oldest first."""

    @property
    def user_ids(self) -> Sequence[str]:
        """Name the users."""
        ...

    @property
    def offsets(self) -> Rows:
        """Give where each user begins, shape (users + 1,)."""
        ...

    @property
    def rows(self) -> Rows:
        """Give the catalogue row of each event, shape (events,)."""
        ...


@dataclass(frozen=True)
class Training:
    """Hold the events to learn from, as `FlatSequences`."""

    user_ids: Sequence[str]
    offsets: Rows
    rows: Rows

    def sequence(self, user: int) -> Rows:
        """Give one user's events, oldest first."""
        return self.rows[self.offsets[user] : self.offsets[user + 1]]


@dataclass(frozen=True)
class HeldOut:
    """Hold one withheld event per user, with the history before it.

    Args:
        users: Positions of the users in the input, shape (n,).
        targets: The withheld catalogue row of each, shape (n,).
        offsets: Where each history begins, shape (n + 1,).
        rows: The histories, one after the other, oldest first.
    """

    users: Rows
    targets: Rows
    offsets: Rows
    rows: Rows

    def __len__(self) -> int:
        return len(self.targets)

    def history(self, index: int) -> Rows:
        """Give the history before the withheld event, oldest first."""
        return self.rows[self.offsets[index] : self.offsets[index + 1]]

    def cases(self) -> Iterator[tuple[list[int], int]]:
        """Give each history with the row that came next."""
        for index, target in enumerate(self.targets.tolist()):
            yield self.history(index).tolist(), target

    def sample(self, users: int, seed: int = 0) -> HeldOut:
        """Draw some of the users, without repeats; all of them when there are fewer.

        Raises:
            SettingsError: users below 1.
        """
        if users < 1:
            raise SettingsError(f"users is {users}; draw 1 or more")
        drawn = np.sort(generator(seed, "held-out users").permutation(len(self))[:users])
        lengths = np.diff(self.offsets)[drawn]
        return HeldOut(
            users=self.users[drawn],
            targets=self.targets[drawn],
            offsets=_starts(lengths),
            rows=self.rows[_spans(self.offsets[drawn], lengths)],
        )


@dataclass(frozen=True)
class Split:
    """Hold training sequences, validation and test of one set of interactions.

    Args:
        train: Each user's events without the withheld ones.
        validation: The second last event of each user; its history is training data.
        test: The last event of each user; its history ends with the validation event.
        traps: What to know before comparing figures.
    """

    train: Training
    validation: HeldOut
    test: HeldOut
    traps: Traps


def leave_last_out(sequences: FlatSequences, *, items: int | None = None, history: int = 20) -> Split:
    """Withhold each user's last event for test and the one before for validation.

    Users with fewer than three events stay in training whole. Training sequences are not cut; histories keep their last
    events.

    Args:
        sequences: Events of all users, chronological. Where they have `times`, (events,), ties and copies are counted.
        items: Number of catalogue rows, to check the events against; by default the largest row named and one.
        history: How many events before the target a method may see, 1 or more.

    Raises:
        SettingsError: history below 1.
        ShapeError: Offsets that do not fit the events, or rows outside the catalogue.

    Cost: O(events).
    Source: Rajput et al. 2023, Recommender Systems with Generative Retrieval (TIGER); Zhou et al. 2020 (S3-Rec).

    >>> from types import SimpleNamespace
    >>> flat = SimpleNamespace(user_ids=["u"], offsets=np.array([0, 4]), rows=np.array([3, 0, 2, 1]))
    >>> split = leave_last_out(flat, items=4)
    >>> split.train.rows.tolist(), split.validation.targets.tolist(), split.test.history(0).tolist()
    ([3, 0], [2], [3, 0, 2])
    """
    if history < 1:
        raise SettingsError(f"history is {history}; let a method see at least 1 event")
    offsets, rows = _checked(sequences, items)
    items = int(rows.max(initial=-1)) + 1 if items is None else items
    lengths = np.diff(offsets)
    tested = np.flatnonzero(lengths >= 3)
    train_lengths = np.where(lengths >= 3, lengths - 2, lengths)
    train_offsets = _starts(train_lengths)
    train_rows = rows[_spans(offsets[:-1], train_lengths)]
    validation = _held_out(offsets, rows, tested, back=2, history=history)
    test = _held_out(offsets, rows, tested, back=1, history=history)
    known = np.zeros(items, dtype=bool)
    known[train_rows] = True
    repeated = repeats(offsets, rows)
    ties, copies, targets_tied = same_moments(offsets, rows, getattr(sequences, "times", None), tested)
    traps = Traps(
        users=len(lengths),
        items=len(np.unique(rows)),
        too_short=int(len(lengths) - len(tested)),
        test_unseen=int(np.sum(~known[test.targets])),
        validation_unseen=int(np.sum(~known[validation.targets])),
        repeats=int(repeated.sum()),
        target_in_history=int(repeated[offsets[tested + 1] - 1].sum()),
        ties=ties,
        target_tied=targets_tied,
        duplicates=copies,
        order_correlation=order_correlation(rows),
    )
    return Split(Training(sequences.user_ids, train_offsets, train_rows), validation, test, traps)


def _checked(sequences: FlatSequences, items: int | None) -> tuple[Rows, Rows]:
    offsets = np.asarray(sequences.offsets, dtype=np.int64)
    rows = np.asarray(sequences.rows, dtype=np.int64)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(rows) or bool(np.any(np.diff(offsets) < 0)):
        raise ShapeError(f"the offsets of {len(offsets) - 1} users do not fit {len(rows)} events: they rise from 0")
    if len(rows) and (int(rows.min()) < 0 or (items is not None and int(rows.max()) >= items)):
        raise ShapeError(
            f"events name rows {rows.min()}..{rows.max()} but the catalogue has {items}; use one catalogue"
        )
    return offsets, rows


def _starts(lengths: Rows) -> Rows:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _spans(starts: Rows, lengths: Rows) -> Rows:
    """List the positions start, start + 1, ... of each span, one span after the other."""
    ends = np.cumsum(lengths)
    positions: Rows = np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths)
    return positions


def _held_out(offsets: Rows, rows: Rows, users: Rows, back: int, history: int) -> HeldOut:
    positions = offsets[users + 1] - back
    starts = np.maximum(offsets[users], positions - history)
    lengths = positions - starts
    return HeldOut(
        users=users,
        targets=rows[positions],
        offsets=_starts(lengths),
        rows=rows[_spans(starts, lengths)],
    )
