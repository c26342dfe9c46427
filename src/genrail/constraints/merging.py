"""The step over two segments at once: the children of both are walked together in token order; and their merge.

A beam has one state per segment, one after the other in its eight numbers; lo = hi where a segment holds nothing below
it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from genrail.constraints.best import append, beats, clear, finish
from genrail.constraints.bits import any_allowed
from genrail.constraints.children import (
    add_logit,
    children_log_sum,
    has_children,
    is_state,
    least_or_logit,
    next_child,
    write_state,
)
from genrail.constraints.compiled import compiled
from genrail.constraints.kernels import base_score, pad, walk, write_entry

__all__ = ["best_of_two", "merge_rows"]

Array = npt.NDArray[Any]
Arrays = tuple[Any, ...]

_NONE = 1 << 62  # above every token: this segment has no further child


@compiled(inline=True)
def _child(segment: Arrays, state: Array, i: Any, edge: Any) -> tuple[Any, Any]:
    """Find token and end of the next child, or no token behind the last one."""
    if i < state[1]:
        return next_child(segment, state, i, edge)
    return np.int64(_NONE), i


@compiled
def _merged_children(
    old: Arrays, new: Arrays, bits: Arrays, row: Array, base: float, parent: Any, state: Array, best: Arrays
) -> None:
    """Offer the children of a beam that has items in both segments; a token that both hold is one candidate."""
    a, b = state[:4], state[4:]
    i, j, e, f = a[0], b[0], a[2], b[2]
    s, i_end = _child(old, a, i, e)
    t, j_end = _child(new, b, j, f)
    while s != _NONE or t != _NONE:
        token = min(s, t)
        score = base + least_or_logit(row[token])
        if beats(best, score) and (
            (s == token and any_allowed(bits[0], i, i_end)) or (t == token and any_allowed(bits[1], j, j_end))
        ):
            found = best[2][append(best, score, parent, token)]
            found[0], found[1], found[2] = (i, i_end, e if a[2] >= 0 else -1) if s == token else (0, 0, -1)
            found[3], found[4], found[5] = (j, j_end, f if b[2] >= 0 else -1) if t == token else (0, 0, -1)
        if s == token:
            i, e = i_end, e + 1
            s, i_end = _child(old, a, i, e)
        if t == token:
            j, f = j_end, f + 1
            t, j_end = _child(new, b, j, f)


@compiled
def _merged_log_sum(old: Arrays, new: Arrays, live: Arrays, row: Array, state: Array) -> Any:
    """Compute the log-sum-exp over the children that hold a live item in either segment, in token order."""
    a, b = state[:4], state[4:]
    i, j, e, f = a[0], b[0], a[2], b[2]
    top, total = -np.inf, 0.0
    s, i_end = _child(old, a, i, e)
    t, j_end = _child(new, b, j, f)
    while s != _NONE or t != _NONE:
        token = min(s, t)
        if (s == token and any_allowed(live[0], i, i_end)) or (t == token and any_allowed(live[1], j, j_end)):
            top, total = add_logit(top, total, least_or_logit(row[token]))
        if s == token:
            i, e = i_end, e + 1
            s, i_end = _child(old, a, i, e)
        if t == token:
            j, f = j_end, f + 1
            t, j_end = _child(new, b, j, f)
    return top + np.log(total) if total > 0.0 else -np.inf


@compiled
def _one_beam(
    old: Arrays,
    new: Arrays,
    bits: Arrays,
    live: Arrays,
    row: Array,
    score: float,
    denominator: float,
    renormalised: bool,
    parent: Any,
    state: Array,
    best: Arrays,
) -> None:
    in_old, in_new = has_children(old, state[:4]), has_children(new, state[4:])
    if in_old and in_new:
        if renormalised:
            denominator = _merged_log_sum(old, new, live, row, state)
        _merged_children(old, new, bits, row, base_score(score, denominator), parent, state, best)
    elif in_old:
        if renormalised:
            denominator = children_log_sum(old, live[0], row, state[:4])
        walk(old, bits[0], row, base_score(score, denominator), parent, state[:4], best, 0)
    elif in_new:
        if renormalised:
            denominator = children_log_sum(new, live[1], row, state[4:])
        walk(new, bits[1], row, base_score(score, denominator), parent, state[4:], best, 3)


@compiled
def _write(old: Arrays, new: Arrays, best: Arrays, query: Any, depth: Any, end_token: Any, out: Arrays) -> None:
    states = out[3]
    size = finish(best)
    for i in range(size):
        found = best[2][write_entry(best, query, i, out)]
        state = states[query, i]
        write_state(old, found[0], found[1], found[2], depth + 1, state[:4])
        write_state(new, found[3], found[4], found[5], depth + 1, state[4:])
        out[4][query, i] = out[2][query, i] == end_token if end_token >= 0 else depth + 1 == old[2]
    pad(query, size, out)


@compiled
def best_of_two(
    segments: Arrays,
    bits: Arrays,
    live: Arrays,
    beams: Arrays,
    logits: Array,
    sums: Array,
    queries: Array,
    depth: int,
    end_token: int,
    renormalised: bool,
    best: Arrays,
    out: Arrays,
) -> Any:
    """Fill `out` as `kernels.best_continuations` does, from two segments; `bits` and `live` are pairs."""
    old, new = segments
    states, alive, beam_scores, logit_rows = beams
    for q in queries:
        clear(best)
        for m in range(alive.shape[1]):
            if not alive[q, m]:
                continue
            state = states[q, m]
            if not (is_state(old, state[:4], depth) and is_state(new, state[4:], depth)):
                return q * alive.shape[1] + m
            r = logit_rows[q, m]
            _one_beam(old, new, bits, live, logits[r], beam_scores[q, m], sums[r], renormalised, m, state, best)
        _write(old, new, best, q, depth, end_token, out)
    return -1


# Compaction -------------------------------------------------------------------------------------------------


@compiled(inline=True)
def _begin(segment: Arrays, rank: Any) -> Any:
    return np.int64(segment[1][rank]) if segment[1].size else rank * segment[2]


@compiled
def _is_before(old: Arrays, new: Arrays, i: Any, j: Any, old_row: Any, new_row: Any) -> bool:
    """Compare rank i of one segment with rank j of the other: by tokens, then by catalogue row."""
    a, b = _begin(old, i), _begin(new, j)
    a_end, b_end = _begin(old, i + 1), _begin(new, j + 1)
    while a < a_end and b < b_end:
        if old[0][a] != new[0][b]:
            return bool(old[0][a] < new[0][b])
        a += 1
        b += 1
    if a < a_end or b < b_end:
        return bool(b < b_end)
    return bool(old_row < new_row)


@compiled
def _copy(segment: Arrays, rank: Any, row: Any, rows: Array, off: Array, order: Array, filled: Any, token: Any) -> Any:
    for a in range(_begin(segment, rank), _begin(segment, rank + 1)):
        rows[token] = segment[0][a]
        token += 1
    order[filled] = row
    if off.size:
        off[filled + 1] = token
    return token


@compiled
def merge_rows(old: Arrays, new: Arrays, ranks: Arrays, orders: Arrays, rows: Array, off: Array, order: Array) -> None:
    """Merge the live ranks of two sorted segments into `rows`, `off` and `order`; one pass, no sort."""
    i = j = token = 0
    for filled in range(order.size):
        if j == ranks[1].size or (
            i < ranks[0].size
            and _is_before(old, new, ranks[0][i], ranks[1][j], orders[0][ranks[0][i]], orders[1][ranks[1][j]])
        ):
            token = _copy(old, ranks[0][i], orders[0][ranks[0][i]], rows, off, order, filled, token)
            i += 1
        else:
            token = _copy(new, ranks[1][j], orders[1][ranks[1][j]], rows, off, order, filled, token)
            j += 1
