"""A threshold before the search: where a query has many children, find out first how good the best must be.

The children of heavy prefixes are cut into chunks, and only the largest logit of each chunk is read out, which takes no
branches. Each chunk holds a child as good as its top, so the `wanted`-th largest top is no better than the worst of the
best; whatever is below it needs no further look. Under a subset this is a guess (the child behind a top may be
forbidden): the caller looks again without it when fewer than `wanted` were found. Either way the answer is exact.
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.best import kth_largest
from genrail.constraints.bits import allows_all, count_allowed
from genrail.constraints.children import least_or_logit
from genrail.constraints.compiled import Arrays, Number, compiled

__all__ = ["screen", "top_of"]


_MAGNITUDE = np.int32(0x7FFFFFFF)
_MARGIN = 2.0  # a guess that is too high costs a second look


@compiled(inline=True)
def top_of(tokens: Array, row: Array, bits: Array) -> float:
    """Find the largest logit of some tokens as an ordered integer key; NaN counts as -inf."""
    top: float
    key = np.int32(-2147483648)
    for j in range(tokens.size):
        b = np.int32(bits[tokens[j]])
        key = max(key, np.int32(b ^ np.int32(np.int32(b >> np.int32(31)) & _MAGNITUDE)))
    top = np.float64(np.int32(key ^ np.int32(np.int32(key >> np.int32(31)) & _MAGNITUDE)).view(np.float32))
    if top != top:
        top = -np.inf
        for j in range(tokens.size):
            top = max(top, least_or_logit(row[tokens[j]]))
    return top


@compiled
def _expected(bits: Arrays, states: Array, at: Number, bases: Array, alive: Array) -> tuple[Number, float]:
    """Count the children of heavy prefixes, and estimate how many of them hold an allowed item.

    The estimate takes a prefix's allowed items to be spread evenly over its children.
    """
    children, allowed = 0, 0.0
    everything = allows_all(bits)
    for m in range(alive.size):
        size = states[m, at + 3] - states[m, at + 2]
        if not alive[m] or states[m, at + 2] < 0 or size <= 0 or bases[m] == -np.inf:
            continue
        children += size
        if not everything:
            inside = count_allowed(bits, states[m, at], states[m, at + 1])
            allowed += size * (1.0 - np.exp(-inside / size))
    return children, np.float64(children) if everything else allowed


@compiled(inline=True)
def _fill_tops(
    segment: Arrays, states: Array, at: Number, alive: Array, logits: Array, rows: Array, best: Arrays, shift: Number
) -> Number:
    """Read the top of each chunk and note each beam's first chunk; return how many there are."""
    tops, bases, firsts = best[8], best[10], best[12]
    chunks = 0
    for m in range(alive.size):
        c0, c1 = states[m, at + 2], states[m, at + 3]
        if not alive[m] or c0 < 0 or bases[m] == -np.inf:
            continue
        firsts[m] = chunks
        row = logits[rows[m]]
        bits = row.view(np.int32)
        for begin in range(c0, c1, 1 << shift):
            tops[chunks] = bases[m] + top_of(segment[3][begin : min(begin + (1 << shift), c1)], row, bits)
            chunks += 1
    return chunks


@compiled(inline=True)
def screen(
    segment: Arrays, bits: Arrays, states: Array, at: Number, alive: Array, logits: Array, rows: Array, best: Arrays
) -> tuple[Number, bool]:
    """Set the limit of one query's search, and the tops of its chunks.

    Args:
        segment: The index whose heavy prefixes are screened.
        bits: Its allowed ranks.
        states: Of the query's beams, (width, state_size); those of this segment begin at `at`.
        at: See `states`.
        alive: Which beams exist, (width,).
        logits: float32, (any, V).
        rows: Row of each beam, (width,).
        best: Cleared; `bases` are filled.

    Returns:
        log2 of the chunk size, 0 for no chunks; and whether the limit is a guess.
    """
    tops, copy, firsts = best[8], best[9], best[12]
    wanted = best[6].shape[1]
    for m in range(alive.size):
        firsts[m] = -1
    everything = allows_all(bits)
    children, allowed = _expected(bits, states, at, best[10], alive)
    if children < 256 or children < 8 * wanted:
        return 0, False
    share = wanted / allowed if everything else _MARGIN * wanted / max(allowed, 1.0)  # of the children that are wanted
    shift = 5
    while shift > 3 and share * (1 << shift) > 0.5:
        shift -= 1
    if share * (1 << shift) > 0.5:
        return 0, False  # nearly every chunk would be looked into
    while (children >> shift) + alive.size > tops.size:
        shift += 1
    if alive.size * 2 > tops.size:
        return 0, False
    chunks = _fill_tops(segment, states, at, alive, logits, rows, best, shift)
    rank = wanted if everything else np.int64(chunks * (1.0 - (1.0 - share) ** (1 << shift))) + 1
    if rank > chunks:
        return shift, False
    for i in range(chunks):
        copy[i] = tops[i]
    threshold = kth_largest(copy, chunks, rank)
    if threshold > -np.inf:
        best[3][0] = np.nextafter(threshold, -np.inf)
    return shift, not everything and bool(threshold > -np.inf)
