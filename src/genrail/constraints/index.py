"""The seam between a constraint and whoever decodes: integers in, integers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["Beams", "Candidates", "ConstraintIndex", "GrowingIndex", "RowSequences", "ScoreMeaning", "Subset"]

ScoreMeaning = Literal["full_softmax", "renormalised"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Beams:
    """Say where every beam of a batch stands in an index.

    Args:
        states: Opaque numbers of the index that made them, shape (queries, width, state_size).
        alive: Which beams exist, shape (queries, width).
        depth: Tokens written so far; the same for all beams.
    """

    states: npt.NDArray[np.int64]
    alive: npt.NDArray[np.bool_]
    depth: int


@dataclass(frozen=True)
class Candidates:
    """Hold the best continuations of each query, best first.

    Order: score descending, then parent beam, then token; the same whatever else is in the batch. Entries
    beyond `count` are padding (score -inf, parent and token -1).

    Args:
        scores: Log-probability of the whole path so far, float64, shape (queries, n). May be -inf for a real entry.
        parents: Beam within the query, shape (queries, n).
        tokens: Token that continues it, shape (queries, n).
        states: State behind the token, shape (queries, n, state_size).
        complete: True where the token ends an identifier (nothing can follow), shape (queries, n).
        count: How many entries are real, shape (queries,).
        depth: Tokens written, this one included.
        nan_logits: How many NaN logits the step met in the rows of live beams; they counted as -inf.
    """

    scores: npt.NDArray[np.float64]
    parents: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    states: npt.NDArray[np.int64]
    complete: npt.NDArray[np.bool_]
    count: npt.NDArray[np.int64]
    depth: int
    nan_logits: int = 0


class Subset(Protocol):
    """Say which items a request may receive; made by an index, combined by ``&``, ``|`` and ``~``."""

    def __len__(self) -> int:
        """Count the allowed items."""
        ...

    @property
    def nbytes(self) -> int:
        """Count the bytes it holds, for whoever keeps subsets of usual filters."""
        ...

    def __and__(self, other: Subset, /) -> Subset:
        """Allow what both allow."""
        ...

    def __or__(self, other: Subset, /) -> Subset:
        """Allow what either allows."""
        ...

    def __invert__(self) -> Subset:
        """Allow what this one does not."""
        ...


@runtime_checkable
class ConstraintIndex(Protocol):
    """Keep beams inside a set of token sequences.

    An item has one sequence, or several where the index offers `RowSequences` too; items are counted, not sequences.

    `row` is the number of an item in its catalogue (the order in which the sequences were given), never the rank
    inside the index. A subset belongs to a request, so it is passed with each call, one per query; None allows all.
    """

    @property
    def vocab_size(self) -> int:
        """Give one more than the largest token that may occur."""
        ...

    def __len__(self) -> int:
        """Count the items that are live."""
        ...

    def start(self, queries: int) -> Beams:
        """Place one beam per query at the root, width 1. Of an empty index, the beams are not alive."""
        ...

    def candidates(
        self,
        beams: Beams,
        logits: Float,
        scores: npt.NDArray[np.float64],
        count: int,
        subsets: Sequence[Subset | None] | None = None,
        meaning: ScoreMeaning = "full_softmax",
        rows: Int | None = None,
    ) -> Candidates:
        """Find the best continuations that still lead to a live, allowed item.

        Args:
            beams: From `start` or `advance`, (queries, width).
            logits: One row per beam, (queries * width, V) in beam order, or (any, V) with `rows`. V may exceed
                `vocab_size`.
            scores: Log-probability of each beam so far, (queries, width).
            count: At most so many continuations per query.
            subsets: One per query, or None.
            meaning: `full_softmax`: log-softmax over all V logits, then the constraint (Hugging Face, SEAL, STATIC).
                `renormalised`: log-softmax over the beam's children in the whole index (a subset does not move it).
            rows: Row of `logits` that belongs to each beam, (queries, width), -1 where there is none (dead beams).

        Raises:
            LogitsError: A logit is +inf, or rows do not fit. NaN counts as -inf, outside the denominator.
        """
        ...

    def advance(self, candidates: Candidates, picks: Int) -> Beams:
        """Make the picked candidates the next beams.

        Args:
            candidates: From `candidates`.
            picks: Which entries, (queries, width); -1 leaves that beam dead.
        """
        ...

    def items(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> Int:
        """List the rows of the live, allowed items below a state of shape (state_size,), in catalogue order.

        Each row comes once, however many of its sequences lie there.
        """
        ...

    def children(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> tuple[Int, Int]:
        """List the tokens that may follow a state, and how many live, allowed items each still leads to.

        Returns:
            Tokens, ascending, and counts. Empty behind a whole identifier. An item with several sequences counts once
            for each token that leads to one of them.
        """
        ...

    def subset(self, allowed: npt.NDArray[np.bool_]) -> Subset:
        """Compile a mask over catalogue rows, shape (rows,), into a subset."""
        ...

    def only(self, rows: npt.ArrayLike) -> Subset:
        """Allow just these rows. Cost grows with their number, not with the catalogue's."""
        ...

    def without(self, rows: npt.ArrayLike, subset: Subset | None = None) -> Subset:
        """Allow all but these rows (seen items, deny-list), within `subset` if given."""
        ...


@runtime_checkable
class RowSequences(Protocol):
    """Know the sequences of each row. A `ConstraintIndex` whose items may have several offers this."""

    @property
    def most_sequences(self) -> int:
        """Bound the sequences of one item: 1 where none has several."""
        ...

    def sequences(self, row: int) -> list[Int]:
        """Give all sequences of a live row."""
        ...


class GrowingIndex(ConstraintIndex, RowSequences, Protocol):
    """Follow a catalogue that changes: what a finder that writes identifiers needs of its index.

    A value: `add_flat`, `remove` and `merged` give the next one, and this one stays usable.
    """

    @classmethod
    def from_flat(
        cls,
        tokens: npt.ArrayLike,
        offsets: npt.ArrayLike,
        vocab_size: int,
        end_token: int | None = None,
        *,
        owners: npt.ArrayLike | None = None,
    ) -> Self:
        """Build the index of identifiers given one after the other; arguments as for `Trie.from_flat`."""
        ...

    @property
    def row_count(self) -> int:
        """Count the rows that were ever numbered, removed ones included."""
        ...

    @property
    def pending(self) -> int:
        """Count what `merged` would tidy up."""
        ...

    def add_flat(self, tokens: npt.ArrayLike, offsets: npt.ArrayLike, owners: npt.ArrayLike | None = None) -> Self:
        """Give the index with further items, whose rows follow the last."""
        ...

    def remove(self, rows: npt.ArrayLike) -> Self:
        """Give the index without some rows; rows that are not live stay so."""
        ...

    def merged(self) -> Self:
        """Give the index that answers as this one, with what was added and removed tidied up."""
        ...

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        ...
