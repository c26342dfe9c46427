"""Which items a request may receive: a bitmap over ranks with running popcounts, or a short sorted list.

Whether a prefix still holds an allowed item is answered in constant time from the bitmap (two reads of word and
count), or by binary search in the list. Seen items are a short list taken away from a bitmap, so that no request
copies the bitmap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genrail.arrays import Array
from genrail.constraints.bits import allowed_ranks, bits_at, count_allowed, running_counts, set_bits
from genrail.constraints.compiled import Arrays
from genrail.constraints.index import Subset
from genrail.constraints.owners import Owners
from genrail.errors import StateError

__all__ = ["LiveSubset", "TrieSubset", "Universe"]


_NO_WORDS: Array = np.zeros(0, dtype=np.uint64)
_NO_RANKS: Array = np.zeros(0, dtype=np.uint32)
for _empty in (_NO_WORDS, _NO_RANKS):
    _empty.setflags(write=False)

_SPARSE = 512  # a bitmap with less than one allowed rank in 512 is turned into a list: fewer reads, 32 bits per item


def _frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Universe:
    """Hold what all subsets of one segment share: its ranks, whose they are, and which of them are live.

    All ranks of a row are live, or none.

    Args:
        owners: Catalogue row of each rank.
        live: Bitmap of the live ranks, uint64; empty when all are live.
        counts: Running popcounts of `live`, uint32.
    """

    owners: Owners
    live: Array
    counts: Array

    @staticmethod
    def full(owners: Owners) -> Universe:
        """Make a universe in which every rank is live."""
        return Universe(owners, _NO_WORDS, _NO_RANKS)

    @staticmethod
    def of_words(owners: Owners, words: Array) -> Universe:
        """Make a universe in which only the set bits are live."""
        counts = np.empty(len(words), dtype=np.uint32)
        running_counts(words, counts)
        return Universe(owners, _frozen(words), _frozen(counts))

    @cached_property
    def size(self) -> int:
        """Count the ranks, live or not."""
        return len(self.owners.order)

    @cached_property
    def everything(self) -> TrieSubset:
        """Allow every live rank."""
        return TrieSubset(self, self.live, self.counts, _NO_RANKS, False)

    @cached_property
    def words(self) -> int:
        """Count the words of a bitmap over the ranks; one more than needed, so that the end can be looked up."""
        return (self.size >> 6) + 1

    def all_bits(self) -> Array:
        """Copy the bitmap of the live ranks."""
        if len(self.live):
            return self.live.copy()
        words = np.full(self.words, np.iinfo(np.uint64).max, dtype=np.uint64)
        words[-1] = np.uint64((1 << (self.size & 63)) - 1)
        return words

    def of_bits(self, words: Array) -> TrieSubset:
        """Allow the set bits (all of them live)."""
        counts = np.empty(len(words), dtype=np.uint32)
        total = int(running_counts(words, counts))
        subset = TrieSubset(self, _frozen(words), _frozen(counts), _NO_RANKS, False)
        return self.of_ranks(subset.ranks()) if total * _SPARSE < self.size else subset

    def of_ranks(self, ranks: Array) -> TrieSubset:
        """Allow a sorted list of live ranks."""
        return TrieSubset(self, _NO_WORDS, _NO_RANKS, _frozen(ranks.astype(np.uint32)), True)


@dataclass(frozen=True, eq=False)
class TrieSubset:
    """Allow some of the live items of a trie, each with all of its ranks; combine with ``&``, ``|`` and ``~``.

    Args:
        universe: The segment that this subset belongs to.
        words: Bitmap over ranks; empty when the bitmap would be full.
        counts: Running popcounts of `words`.
        listed: Sorted ranks: the only ones allowed when `only`, else taken away from the bitmap.
        only: See `listed`.

    >>> from genrail.constraints.trie import Trie
    >>> trie = Trie.from_sequences([[1, 2], [1, 3], [2, 2]], vocab_size=4)
    >>> cheap, seen = trie.only([0, 1]), trie.only([1])
    >>> len(cheap & ~seen), len(cheap | seen)
    (1, 2)
    """

    universe: Universe
    words: Array
    counts: Array
    listed: Array
    only: bool

    @property
    def bits(self) -> tuple[Array, Array, Array, bool]:
        """Give the arrays as kernels take them."""
        return self.words, self.counts, self.listed, self.only

    @cached_property
    def _size(self) -> int:
        if self.universe.owners.several:
            return self.universe.owners.count_rows(self.words, self.listed, self.only)
        return self.count_ranks()

    def count_ranks(self) -> int:
        """Count the allowed ranks: more than items, where items have several."""
        return int(count_allowed(self.bits, 0, self.universe.size))

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return self._size > 0

    @property
    def nbytes(self) -> int:
        """Count the bytes held, for caches with a bound."""
        return int(self.words.nbytes + self.counts.nbytes + self.listed.nbytes)

    def ranks(self) -> Array:
        """List the allowed ranks, int64, sorted."""
        return allowed_ranks(self.bits, 0, self.universe.size)

    def bitmap(self) -> Array:
        """Write the subset out as a bitmap over ranks."""
        if self.only:
            words = np.zeros(self.universe.words, dtype=np.uint64)
        else:
            words = self.words.copy() if len(self.words) else self.universe.all_bits()
        if self.only:
            set_bits(words, self.listed)
        else:
            bit = np.uint64(1) << (self.listed.astype(np.uint64) & np.uint64(63))
            np.bitwise_and.at(words, self.listed >> np.uint32(6), ~bit)
        return words

    def contains(self, ranks: Array) -> Array:
        """Mark which of some ranks are allowed."""
        if self.only:
            return np.isin(ranks, self.listed)
        inside = np.ones(len(ranks), dtype=np.bool_)
        if len(self.words):
            inside = bits_at(self.words, ranks)
        return inside & ~np.isin(ranks, self.listed)

    def minus(self, ranks: Array) -> TrieSubset:
        """Take away some ranks; cost grows with their number and with those taken away before."""
        ranks = np.unique(ranks)
        ranks = ranks[self.contains(ranks)]
        if self.only:
            return self.universe.of_ranks(np.setdiff1d(self.listed, ranks, assume_unique=True))
        taken = np.union1d(self.listed, ranks).astype(np.uint32)
        return TrieSubset(self.universe, self.words, self.counts, _frozen(taken), False)

    def __and__(self, other: Subset) -> TrieSubset:
        second = self._same_universe(other)
        if self.only or second.only:
            short, long = (self, second) if self.only else (second, self)
            return self.universe.of_ranks(short.listed[long.contains(short.listed.astype(np.int64))])
        return self.universe.of_bits(self.bitmap() & second.bitmap())

    def __or__(self, other: Subset) -> TrieSubset:
        second = self._same_universe(other)
        if self.only and second.only and (len(self.listed) + len(second.listed)) * _SPARSE < self.universe.size:
            return self.universe.of_ranks(np.union1d(self.listed, second.listed))
        return self.universe.of_bits(self.bitmap() | second.bitmap())

    def __invert__(self) -> TrieSubset:
        if self.only:
            return self.universe.everything.minus(self.listed.astype(np.int64))
        return self.universe.of_bits(self.universe.all_bits() & ~self.bitmap())

    def _same_universe(self, other: Subset) -> TrieSubset:
        if not isinstance(other, TrieSubset) or other.universe is not self.universe:
            raise StateError("these two subsets belong to different indexes; make both with the index that is asked")
        return other


@dataclass(frozen=True, eq=False)
class LiveSubset:
    """Allow some of the items of one snapshot; combine with ``&``, ``|`` and ``~``."""

    old: TrieSubset
    new: TrieSubset

    def __len__(self) -> int:
        return len(self.old) + len(self.new)

    def __bool__(self) -> bool:
        return bool(self.old) or bool(self.new)

    def __and__(self, other: Subset) -> LiveSubset:
        return LiveSubset(self.old & self.checked(other).old, self.new & self.checked(other).new)

    def __or__(self, other: Subset) -> LiveSubset:
        return LiveSubset(self.old | self.checked(other).old, self.new | self.checked(other).new)

    def __invert__(self) -> LiveSubset:
        return LiveSubset(~self.old, ~self.new)

    @property
    def nbytes(self) -> int:
        """Count the bytes held, for caches with a bound."""
        return self.old.nbytes + self.new.nbytes

    @cached_property
    def bits(self) -> tuple[Arrays, Arrays]:
        """Give the arrays as kernels take them."""
        return self.old.bits, self.new.bits

    @staticmethod
    def checked(subset: Subset | None) -> LiveSubset:
        """Give the subset back.

        Raises:
            StateError: The subset was made by another kind of index.
        """
        if not isinstance(subset, LiveSubset):
            raise StateError("this subset belongs to another index; make both with the index that is asked")
        return subset
