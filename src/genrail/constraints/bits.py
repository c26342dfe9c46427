"""Which ranks are allowed: a bitmap with running popcounts, a short sorted list, or both.

`bits` = (words, counts, ranks, only). `words` is a bitmap over ranks and `counts` the set bits before each word (both
empty: all ranks). `ranks` is a sorted list: the only ranks allowed when `only`, else ranks taken away from the bitmap,
each of them set in it.
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.compiled import Arrays, Number, compiled

__all__ = [
    "allowed_ranks",
    "allows_all",
    "any_allowed",
    "bits_at",
    "count_allowed",
    "lower_bound",
    "next_set",
    "pack_bits",
    "running_counts",
    "set_bits",
]


@compiled(inline=True)
def _popcount(word: np.uint64) -> Number:
    """Count the bits of a 64-bit word; LLVM turns this into one instruction where the processor has it."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled(inline=True)
def _before(words: Array, counts: Array, rank: Number) -> Number:
    """Count the set bits below a rank."""
    word = words[rank >> 6] & ((np.uint64(1) << np.uint64(rank & 63)) - np.uint64(1))
    return np.int64(counts[rank >> 6]) + _popcount(word)


@compiled
def lower_bound(ascending: Array, value: Number) -> Number:
    """Count the values below `value`."""
    begin, end = 0, ascending.size
    while begin < end:
        middle = (begin + end) >> 1
        if np.int64(ascending[middle]) < value:
            begin = middle + 1
        else:
            end = middle
    return begin


@compiled
def count_allowed(bits: Arrays, lo: Number, hi: Number) -> Number:
    """Count the allowed ranks in [lo, hi): two reads of the bitmap, and a binary search of the list."""
    words, counts, ranks, only = bits
    listed = 0
    if ranks.size:
        listed = lower_bound(ranks, hi) - lower_bound(ranks, lo)
    if only:
        return listed
    inside = hi - lo
    if words.size:
        inside = _before(words, counts, hi) - _before(words, counts, lo)
    return inside - listed


@compiled(inline=True)
def allows_all(bits: Arrays) -> bool:
    """Say whether every rank is allowed."""
    return bool(bits[0].size == 0 and bits[2].size == 0 and not bits[3])


@compiled
def next_set(words: Array, rank: Number, hi: Number) -> Number:
    """Find the first set bit in [rank, hi); hi when there is none."""
    while rank < hi:
        word = words[rank >> 6] >> np.uint64(rank & 63)
        if word != np.uint64(0):
            low = _popcount((word & (~word + np.uint64(1))) - np.uint64(1))  # zeros below the lowest set bit
            return min(rank + low, hi)
        rank = ((rank >> 6) + 1) << 6
    return hi


@compiled(inline=True)
def any_allowed(bits: Arrays, lo: Number, hi: Number) -> bool:
    """Say whether an allowed rank lies in [lo, hi)."""
    words, _, ranks, only = bits
    if ranks.size == 0 and not only:
        if words.size == 0:
            return True
        if hi - lo == 1:
            return bool((words[lo >> 6] >> np.uint64(lo & 63)) & np.uint64(1) != np.uint64(0))
    return bool(count_allowed(bits, lo, hi) > 0)


@compiled(allocates=True)
def allowed_ranks(bits: Arrays, lo: int, hi: int) -> Array:
    """List the allowed ranks in [lo, hi), int64."""
    words, _, ranks, only = bits
    out = np.empty(count_allowed(bits, lo, hi), dtype=np.int64)
    listed = lower_bound(ranks, lo)
    filled = 0
    if only:
        for i in range(out.size):
            out[i] = ranks[listed + i]
        return out
    for rank in range(lo, hi):
        if words.size and (words[rank >> 6] >> np.uint64(rank & 63)) & np.uint64(1) == np.uint64(0):
            continue
        if listed < ranks.size and np.int64(ranks[listed]) == rank:
            listed += 1
            continue
        out[filled] = rank
        filled += 1
    return out


@compiled
def pack_bits(allowed: Array, order: Array, words: Array) -> None:
    """Set bit i of `words` where `allowed[order[i]]`: a mask over catalogue rows becomes one over ranks."""
    for w in range(words.size):
        word = np.uint64(0)
        for i in range(w << 6, min((w << 6) + 64, order.size)):
            word |= np.uint64(allowed[np.int64(order[i])]) << np.uint64(i & 63)
        words[w] = word


@compiled
def running_counts(words: Array, counts: Array) -> Number:
    """Fill `counts[w]` with the set bits before word w; return the total."""
    total = 0
    for w in range(words.size):
        counts[w] = total
        total += _popcount(words[w])
    return total


def bits_at(words: Array, ranks: Array) -> Array:
    """Read the bits of some ranks, as booleans."""
    shift = ranks.astype(np.uint64) & np.uint64(63)
    read: Array = (words[ranks >> 6] >> shift) & np.uint64(1)
    return read.astype(np.bool_)


def set_bits(words: Array, ranks: Array) -> None:
    """Set the bits of some ranks, in place."""
    np.bitwise_or.at(words, ranks >> 6, np.uint64(1) << (ranks.astype(np.uint64) & np.uint64(63)))
