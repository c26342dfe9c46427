"""Sort identifiers and list the children of heavy prefixes: compiled, with no Python object per item.

Sorting packs as many leading tokens as fit beside the item's position into one 64-bit number, sorts those, and then
re-sorts only the groups that tie, chunk of columns by chunk of columns. Equal identifiers keep the order in which they
were given.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from genrail.arrays import Array
from genrail.constraints.compiled import COMPILES, SLOW, Number, compiled
from genrail.constraints.sorting import stable_sort

__all__ = ["Edges", "first_unsorted", "gather_rows", "heavy_edges", "is_end_token_inside", "sort_identifiers"]


@compiled
def _pack(tokens: Array, off: Array, length: int, item: Number, column: int, take: int, bits: int) -> Number:
    """Pack `take` tokens of an item, from `column` on, into one number; 0 beyond the item's end."""
    begin = np.int64(off[item]) if off.size else item * length
    end = np.int64(off[item + 1]) if off.size else begin + length
    packed = np.uint64(0)
    for i in range(begin + column, begin + column + take):
        token = np.uint64(tokens[i]) if i < end else np.uint64(0)
        packed = (packed << np.uint64(bits)) | token
    return packed


@compiled(allocates=True)
def _leading_keys(tokens: Array, off: Array, length: int, items: int, take: int, bits: int, row_bits: int) -> Array:
    keys = np.empty(items, dtype=np.uint64)
    for i in range(items):
        keys[i] = (_pack(tokens, off, length, i, 0, take, bits) << np.uint64(row_bits)) | np.uint64(i)
    return keys


@compiled
def _longest_tie(ties: Array) -> int:
    longest, run = 0, 1
    for i in range(ties.size):
        run = run + 1 if ties[i] else 1
        longest = max(longest, run)
    return longest


@compiled(allocates=True)
def _resolve_ties(
    tokens: Array, off: Array, length: int, order: Array, ties: Array, column: int, take: int, bits: int, longest: int
) -> None:
    """Sort each group of tied items by its next `take` columns; `ties[i]`: item i equals item i - 1 so far."""
    keys = np.empty(longest, dtype=np.uint64)
    spare_keys = np.empty(longest, dtype=np.uint64)
    spare_order = np.empty(longest, dtype=order.dtype)
    begin = 0
    while begin < order.size:
        end = begin + 1
        while end < order.size and ties[end]:
            end += 1
        size = end - begin
        if size > 1:
            for i in range(size):
                keys[i] = _pack(tokens, off, length, np.int64(order[begin + i]), column, take, bits)
            stable_sort(keys, order[begin:end], size, spare_keys, spare_order)
            for i in range(1, size):
                ties[begin + i] = keys[i] == keys[i - 1]
        begin = end


def sort_identifiers(tokens: Array, off: Array, length: int, longest: int, items: int, vocab_size: int) -> Array:
    """Order items by their token sequence; equal sequences stay in the order given.

    Args:
        tokens: All tokens, item after item.
        off: Where each item begins, (items + 1,); empty when each has `length` tokens.
        length: Tokens of each item, when `off` is empty.
        longest: Tokens of the longest item.
        items: How many there are.
        vocab_size: Above every token.

    Returns:
        uint32, shape (items,): which item is the first, the second, ...

    Cost: one sort of 64-bit numbers, plus a merge sort of what still ties; 16 bytes per item on top of the input.
    """
    if not COMPILES:
        warnings.warn(SLOW, RuntimeWarning, stacklevel=2)
    bits = max(1, (vocab_size - 1).bit_length())
    row_bits = max(1, (items - 1).bit_length())
    column = min(longest, (64 - row_bits) // bits)
    keys = _leading_keys(tokens, off, length, items, column, bits, row_bits)
    keys.sort()
    order = (keys & np.uint64((1 << row_bits) - 1)).astype(np.uint32)
    if column >= longest:
        return order
    keys >>= np.uint64(row_bits)
    ties = np.zeros(items, dtype=np.bool_)
    np.equal(keys[1:], keys[:-1], out=ties[1:])
    del keys
    while column < longest and (tied := int(_longest_tie(ties))) > 1:
        take = min(longest - column, 64 // bits)
        _resolve_ties(tokens, off, length, order, ties, column, take, bits, tied)
        column += take
    return order


@compiled
def gather_rows(tokens: Array, off: Array, length: int, order: Array, out: Array, out_off: Array) -> None:
    """Copy the items' tokens in sorted order; fill `out_off` when items are ragged."""
    position = 0
    for i in range(order.size):
        item = np.int64(order[i])
        begin = np.int64(off[item]) if off.size else item * length
        end = np.int64(off[item + 1]) if off.size else begin + length
        for j in range(begin, end):
            out[position] = tokens[j]
            position += 1
        if out_off.size:
            out_off[i + 1] = position


@compiled
def is_end_token_inside(tokens: Array, off: Array, end_token: int) -> int:
    """Find the first item that holds the end token before its end, or does not end with it; -1 when there is none."""
    for item in range(off.size - 1):
        last = np.int64(off[item + 1]) - 1
        if np.int64(tokens[last]) != end_token:
            return item
        for j in range(np.int64(off[item]), last):
            if np.int64(tokens[j]) == end_token:
                return item
    return -1


@compiled
def first_unsorted(rows: Array, off: Array, length: int, order: Array) -> int:
    """Find the first rank whose identifier is not after the one before it (by tokens, then catalogue row); -1: none."""
    for i in range(1, order.size):
        a = np.int64(off[i - 1]) if off.size else (i - 1) * length
        b = np.int64(off[i]) if off.size else i * length
        end = np.int64(off[i + 1]) if off.size else b + length
        j = 0
        while a + j < b and b + j < end and rows[a + j] == rows[b + j]:
            j += 1
        if a + j == b and b + j == end:
            if order[i - 1] >= order[i]:
                return i
        elif a + j == b or b + j == end or rows[a + j] > rows[b + j]:
            return i
    return -1


@compiled
def _child_end(rows: Array, off: Array, length: int, i: int, hi: int, depth: int) -> int:
    """Find where the run of one token in column `depth` ends, by galloping from rank i."""
    token = rows[np.int64(off[i]) + depth] if off.size else rows[i * length + depth]
    inside, step = i, 1
    while inside + step < hi:
        j = inside + step
        if (rows[np.int64(off[j]) + depth] if off.size else rows[j * length + depth]) != token:
            break
        inside = j
        step *= 2
    outside = min(inside + step, hi)
    while outside - inside > 1:
        j = (inside + outside) >> 1
        if (rows[np.int64(off[j]) + depth] if off.size else rows[j * length + depth]) == token:
            inside = j
        else:
            outside = j
    return outside


@compiled
def _is_whole(off: Array, length: int, i: int, depth: int) -> bool:
    """Say whether the identifier at rank i has no token in column `depth`."""
    size = np.int64(off[i + 1]) - np.int64(off[i]) if off.size else length
    return bool(depth >= size)


@compiled(allocates=True)
def _count_children(rows: Array, off: Array, length: int, los: Array, his: Array, depth: int) -> Array:
    counts = np.zeros(los.size, dtype=np.int64)
    for p in range(los.size):
        i = los[p]
        if _is_whole(off, length, i, depth):
            continue
        while i < his[p]:
            i = _child_end(rows, off, length, i, his[p], depth)
            counts[p] += 1
    return counts


@compiled
def _list_children(
    rows: Array, off: Array, length: int, los: Array, his: Array, depth: int, tok: Array, start: Array, end: Array
) -> None:
    e = 0
    for p in range(los.size):
        i = los[p]
        if _is_whole(off, length, i, depth):
            continue
        while i < his[p]:
            tok[e] = rows[np.int64(off[i]) + depth] if off.size else rows[i * length + depth]
            start[e] = i
            i = _child_end(rows, off, length, i, his[p], depth)
            end[e] = i
            e += 1


@dataclass(frozen=True)
class Edges:
    """Hold the children of heavy prefixes, level by level.

    Args:
        tok: Token of each edge, (edges,).
        start: First rank below it, uint32, (edges,).
        first: First edge of its own children, uint32, (edges + 1,); nothing between two values means a light child.
        level: Where each level's edges begin, int64, (levels + 1,).
    """

    tok: Array
    start: Array
    first: Array
    level: Array


def heavy_edges(rows: Array, off: Array, length: int, items: int, heavy: int) -> Edges:
    """List the children of every prefix that holds more than `heavy` items, from the root down.

    Cost: proportional to the children found (runs are found by galloping), not to the tokens.
    """
    los = np.zeros(1 if items > heavy else 0, dtype=np.int64)
    his = np.full(los.size, items, dtype=np.int64)
    toks: list[Array] = []
    starts: list[Array] = []
    firsts: list[Array] = []
    level = [0]
    above = np.zeros(0, dtype=np.int64)  # which edges of the level above are the parents of this one
    depth = 0
    while los.size:
        counts = _count_children(rows, off, length, los, his, depth)
        edges = int(counts.sum())
        if firsts:
            firsts[-1][above] = counts
        if not edges:
            break
        tok = np.empty(edges, dtype=rows.dtype)
        start = np.empty(edges, dtype=np.int64)
        end = np.empty(edges, dtype=np.int64)
        _list_children(rows, off, length, los, his, depth, tok, start, end)
        toks.append(tok)
        starts.append(start.astype(np.uint32))
        firsts.append(np.zeros(edges, dtype=np.uint32))
        level.append(level[-1] + edges)
        above = np.flatnonzero(end - start > heavy)
        los, his = start[above], end[above]
        depth += 1
    return Edges(
        tok=np.concatenate(toks) if toks else np.zeros(0, dtype=rows.dtype),
        start=np.concatenate(starts) if starts else np.zeros(0, dtype=np.uint32),
        first=_first_edges(firsts, level),
        level=np.array(level, dtype=np.int64),
    )


def _first_edges(counts: list[Array], level: list[int]) -> Array:
    """Turn the number of children of each edge into the number of its first child edge."""
    edges = level[-1]
    root = level[1] if len(level) > 1 else 0
    children = np.concatenate(counts) if counts else np.zeros(0, dtype=np.uint32)
    first = np.empty(edges + 1, dtype=np.int64)
    first[0] = root
    np.cumsum(children, out=first[1:])
    first[1:] += root
    return first.astype(np.uint32)
