"""Which catalogue row each rank belongs to, and which ranks a row has: several, where it has several sequences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.bits import bits_at, set_bits
from genrail.errors import IdentifierError, ShapeError

__all__ = ["Owners", "checked_owners"]


_NO_RANK = np.uint32(2**32 - 1)


@dataclass(frozen=True, eq=False)
class Owners:
    """Hold the catalogue row of each rank of a segment.

    Args:
        order: Row of each rank, uint32, shape (ranks,).
        row_count: Catalogue rows that the segment numbers, live or not.
        several: A row may own several ranks. Where this is False, rows and ranks are counted alike, without a look
            at `order`.
    """

    order: Array
    row_count: int
    several: bool = False

    @classmethod
    def uncounted(cls, ranks: int) -> Owners:
        """Stand for so many ranks that belong to nobody: where a bitmap over them is all that is wanted."""
        return cls(np.broadcast_to(np.uint32(0), (ranks,)), ranks)

    def __len__(self) -> int:
        return len(self.order)

    def renamed(self, rows: Array) -> Owners:
        """Give the ranks to other rows: what belongs to row r belongs to ``rows[r]``, rising, from now on."""
        rising = checked_owners(rows, self.row_count)
        order = rising[self.order].astype(np.uint32)
        order.setflags(write=False)
        return Owners(order, _rows_of(rising), len(rising) > _rows_of(rising))

    @cached_property
    def most(self) -> int:
        """Count the ranks of the row that has the most; 1 without looking where no row has several."""
        return int(np.bincount(self.order).max(initial=1)) if self.several else 1

    @cached_property
    def leading(self) -> Array:
        """Mark the first rank of each row in a bitmap, so that rows can be counted; only where rows have several."""
        first = np.full(self.row_count, _NO_RANK, dtype=np.uint32)
        first[self.order[::-1]] = np.arange(len(self.order), dtype=np.uint32)[::-1]  # the last one written stays
        words = np.zeros((len(self.order) >> 6) + 1, dtype=np.uint64)
        set_bits(words, first[first != _NO_RANK])
        return words

    def count_rows(self, words: Array, listed: Array, only: bool) -> int:
        """Count the rows of a subset that holds all ranks of a row or none; arguments as those of `TrieSubset`."""
        inside = int(bits_at(self.leading, listed).sum())
        if only:
            return inside
        leading = self.leading & words if len(words) else self.leading
        return int(np.bitwise_count(leading).sum()) - inside

    def count_each(self, ranks: Array, sizes: Array) -> Array:
        """Count the rows in each of some consecutive groups of ranks, which have these sizes; int64."""
        if not self.several:
            return sizes
        group = np.repeat(np.arange(len(sizes)), sizes)
        pairs = np.unique(group * max(1, self.row_count) + self.order[ranks].astype(np.int64))
        return np.bincount(pairs // max(1, self.row_count), minlength=len(sizes))

    def rows(self, ranks: Array) -> Array:
        """List the rows of some ranks, in catalogue order, each once, int64."""
        rows = self.order[ranks].astype(np.int64)
        return np.unique(rows) if self.several else np.sort(rows)

    def ranks(self, rows: npt.ArrayLike) -> Array:
        """Find the ranks of some catalogue rows, int64, sorted, each once; rows without a rank have none.

        Raises:
            ShapeError: A row below 0 or beyond the catalogue.
        """
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.row_count):
            bad = int(wanted[(wanted < 0) | (wanted >= self.row_count)][0])
            raise ShapeError(f"row {bad} is not in the index, which numbers {self.row_count} catalogue rows")
        numbers, all_ranks = self._lookup
        if len(all_ranks) == 0:
            return np.zeros(0, dtype=np.int64)
        if self.several:
            begin = np.searchsorted(numbers, wanted, side="left")
            sizes = np.searchsorted(numbers, wanted, side="right") - begin
            places = np.repeat(begin - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
            return np.unique(all_ranks[places]).astype(np.int64)
        if len(numbers):
            place = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
            ranks = np.where(numbers[place] == wanted, all_ranks[place], _NO_RANK)
        else:
            ranks = all_ranks[wanted]
        return np.unique(ranks[ranks != _NO_RANK]).astype(np.int64)

    @cached_property
    def _lookup(self) -> tuple[Array, Array]:
        """Give (catalogue rows, ascending; their ranks); made when first asked for.

        When each row has one rank and most rows are in the index, the first array is empty and the second has a rank
        for each row.
        """
        if self.several or len(self.order) * 4 < self.row_count:
            ranks = np.argsort(self.order, kind="stable").astype(np.uint32)
            return self.order[ranks], ranks
        ranks = np.full(self.row_count, _NO_RANK, dtype=np.uint32)
        ranks[self.order] = np.arange(len(self.order), dtype=np.uint32)
        return np.zeros(0, dtype=np.uint32), ranks


def checked_owners(owners: npt.ArrayLike, identifiers: int) -> Array:
    """Check that each identifier has a row, and each row an identifier; int64.

    Raises:
        ShapeError: Not one row for each identifier, or rows that do not begin with 0 or go down.
        IdentifierError: A row is left out.
    """
    rows = np.asarray(owners, dtype=np.int64).reshape(-1)
    steps = np.diff(rows, prepend=-1)
    if len(rows) != identifiers or bool(np.any(steps < 0)) or bool(np.any(rows[:1] < 0)):
        raise ShapeError(f"{len(rows)} owners for {identifiers} identifiers; give the row of each, rising from 0")
    if bool(np.any(steps > 1)):
        missing = int(rows[np.flatnonzero(steps > 1)[0]]) - 1
        raise IdentifierError(f"row {missing} has no identifier; every item needs at least one")
    return rows


def _rows_of(rising: Array) -> int:
    return int(rising[-1]) + 1 if len(rising) else 0
