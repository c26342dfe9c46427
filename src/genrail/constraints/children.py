"""The children of one beam: from the list of a heavy prefix, or from the adjacent rows of a light one.

* `segment` = (rows, off, length, tok, start, first, ranks): the sorted identifiers of one `Trie`.
* A beam's `state` = (lo, hi, c0, c1): its ranks are [lo, hi). With c0 >= 0 its children are the edges [c0, c1) of a
  heavy prefix; with c0 = -1 they are read from the rows, in column c1, the number of tokens written.
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.bits import any_allowed, count_allowed, lower_bound
from genrail.constraints.compiled import Arrays, Number, compiled

__all__ = [
    "child_around",
    "child_counts",
    "children_log_sum",
    "forced_tail",
    "has_children",
    "is_state",
    "least_or_logit",
    "next_child",
    "token_at",
    "write_state",
]


@compiled(inline=True)
def token_at(segment: Arrays, rank: Number, depth: Number) -> Number:
    """Read one token of the identifier at a rank."""
    rows, off, length = segment[0], segment[1], segment[2]
    if off.size:
        return np.int64(rows[np.int64(off[rank]) + depth])
    return np.int64(rows[rank * length + depth])


@compiled(inline=True)
def _size_at(segment: Arrays, rank: Number) -> Number:
    """Count the tokens of the identifier at a rank."""
    off = segment[1]
    return np.int64(off[rank + 1]) - np.int64(off[rank]) if off.size else segment[2]


@compiled(inline=True)
def least_or_logit(logit: float) -> float:
    """Read a logit; NaN counts as -inf."""
    return np.float64(logit) if logit == logit else -np.inf


@compiled(inline=True)
def is_state(segment: Arrays, state: Array, depth: Number) -> bool:
    """Say whether four numbers can be a state of this segment: others would be read outside of the arrays."""
    lo, hi, c0, c1 = state[0], state[1], state[2], state[3]
    if lo < 0 or hi < lo or hi > segment[6]:
        return False
    if c0 >= 0:
        return bool(c0 <= c1 and c1 <= segment[3].size and lo < hi)
    return bool(c0 == -1 and c1 == depth)


@compiled(inline=True)
def has_children(segment: Arrays, state: Array) -> bool:
    """Say whether something can follow a state."""
    return bool(state[0] < state[1] and (state[2] >= 0 or state[3] < _size_at(segment, state[0])))


@compiled(inline=True)
def next_child(segment: Arrays, state: Array, i: Number, edge: Number) -> tuple[Number, Number]:
    """Find the token and the end of the child that begins at rank i; `edge` is its edge below a heavy prefix."""
    hi, c0, c1 = state[1], state[2], state[3]
    if c0 >= 0:
        end = hi if edge + 1 == c1 else np.int64(segment[4][edge + 1])
        return np.int64(segment[3][edge]), end
    token = token_at(segment, i, c1)
    j = i + 1
    while j < hi and token_at(segment, j, c1) == token:
        j += 1
    return token, j


@compiled
def child_around(segment: Arrays, state: Array, rank: Number, edge: Number) -> tuple[Number, Number, Number, Number]:
    """Find the child that holds a rank: (token, lo, hi, edge); below a heavy prefix, its edge is not before `edge`."""
    lo, hi, c0, c1 = state[0], state[1], state[2], state[3]
    if c0 < 0:
        token = token_at(segment, rank, c1)
        begin, end = rank, rank + 1
        while begin > lo and token_at(segment, begin - 1, c1) == token:
            begin -= 1
        while end < hi and token_at(segment, end, c1) == token:
            end += 1
        return token, begin, end, np.int64(-1)
    known = max(edge, c0)
    e = known + lower_bound(segment[4][known:c1], rank + 1) - 1
    end = hi if e + 1 == c1 else np.int64(segment[4][e + 1])
    return np.int64(segment[3][e]), np.int64(segment[4][e]), end, e


@compiled(inline=True)
def add_logit(top: float, total: float, logit: float) -> tuple[float, float]:
    """Add exp(logit) to total * exp(top), keeping the largest logit as `top`."""
    if logit > top:
        return logit, total * np.exp(top - logit) + 1.0
    if logit > -np.inf:
        return top, total + np.exp(logit - top)
    return top, total


@compiled
def children_log_sum(segment: Arrays, bits: Arrays, row: Array, state: Array) -> float:
    """Compute the log-sum-exp over the children of one beam that hold an allowed rank, in token order."""
    top, total = -np.inf, 0.0
    i, edge = state[0], state[2]
    if not has_children(segment, state):
        return top
    while i < state[1]:
        token, end = next_child(segment, state, i, edge)
        if any_allowed(bits, i, end):
            top, total = add_logit(top, total, least_or_logit(row[token]))
        i = end
        edge += 1
    return float(top + np.log(total)) if total > 0.0 else -np.inf


@compiled(inline=True)
def write_state(segment: Arrays, lo: Number, hi: Number, edge: Number, depth: Number, state: Array) -> None:
    """Turn a child into the state of a beam with `depth` tokens; lo = hi: nothing of this segment is below it."""
    state[0], state[1], state[2], state[3] = lo, hi, -1, depth
    if edge >= 0 and lo < hi:
        c0, c1 = np.int64(segment[5][edge]), np.int64(segment[5][edge + 1])
        if c1 > c0:
            state[2], state[3] = c0, c1


@compiled(allocates=True)
def child_counts(segment: Arrays, bits: Arrays, state: Array) -> tuple[Array, Array]:
    """List the tokens of a beam's children that hold an allowed rank, and how many each holds."""
    room = state[3] - state[2] if state[2] >= 0 else state[1] - state[0]
    tokens, counts = np.empty(room, np.int64), np.empty(room, np.int64)
    found = 0
    i, edge = state[0], state[2]
    while i < state[1] and has_children(segment, state):
        token, end = next_child(segment, state, i, edge)
        left = count_allowed(bits, i, end)
        if left:
            tokens[found], counts[found] = token, left
            found += 1
        i = end
        edge += 1
    return tokens[:found], counts[:found]


@compiled(allocates=True)
def forced_tail(segment: Arrays, state: Array) -> Array:
    """List the tokens to the end of the one identifier below a state; empty when there are several."""
    rows, off, length, _, _, first, _ = segment
    lo, hi, c0, c1 = state[0], state[1], state[2], state[3]
    nothing = np.empty(0, dtype=np.int64)
    if lo == hi:
        return nothing
    edges = 0
    while c0 >= 0 and c1 - c0 == 1:  # single children all the way: as many edges as tokens to the end
        edges += 1
        c0, c1 = np.int64(first[c0]), np.int64(first[c0 + 1])
    a = np.int64(off[lo]) if off.size else lo * length
    b = np.int64(off[hi - 1]) if off.size else (hi - 1) * length
    size = _size_at(segment, lo)
    if size != _size_at(segment, hi - 1):
        return nothing
    for j in range(size):
        if rows[a + j] != rows[b + j]:
            return nothing
    depth = size - edges if state[2] >= 0 else state[3]
    tail: Array = rows[a + depth : a + size].astype(np.int64)
    return tail
