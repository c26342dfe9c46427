"""The step over two segments at once: the children of both are walked together in token order; and their merge.

A beam has one state per segment, one after the other in its eight numbers; lo = hi where a segment holds nothing below
it.
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.best import append, beats, carve, clear, finish
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
from genrail.constraints.compiled import Arrays, Number, compiled
from genrail.constraints.kernels import base_score, find_row, first_read, pad, walk, write_entry
from genrail.constraints.screening import screen, top_of
from genrail.constraints.softmax import reduce_row

__all__ = ["best_of_two", "merge_rows"]


_NONE = 1 << 62  # above every token: this segment has no further child
_CHUNK = 16  # edges that are skipped together


@compiled(inline=True)
def _child(segment: Arrays, state: Array, i: Number, edge: Number) -> tuple[Number, Number]:
    """Find token and end of the next child, or no token behind the last one."""
    if i < state[1]:
        return next_child(segment, state, i, edge)
    return np.int64(_NONE), i


@compiled(inline=True)
def _next_edge(
    segment: Arrays, state: Array, e: Number, row: Array, base: float, limit: float, tops: Array, shift: Number
) -> Number:
    """Find the first edge from e on whose score is above the limit.

    A chunk of edges is skipped by its top: from `tops`, those of the prefix's chunks, or read here where `shift` is 0.
    """
    tok = segment[3]
    c0, c1 = state[2], state[3]
    while e < c1:
        if shift:
            chunk = (e - c0) >> shift
            end = min(c0 + ((chunk + 1) << shift), c1)
            low = tops[chunk] <= limit
        else:
            end = min(e + _CHUNK, c1)
            low = end - e > 4 and base + top_of(tok[e:end], row, row.view(np.int32)) <= limit
        while not low and e < end:
            if not base + least_or_logit(row[np.int64(tok[e])]) <= limit:
                return e
            e += 1
        e = end
    last: Number = c1
    return last


@compiled
def _next_good(
    segment: Arrays,
    state: Array,
    i: Number,
    edge: Number,
    row: Array,
    base: float,
    limit: float,
    tops: Array,
    shift: Number,
) -> tuple[Number, Number, Number, Number]:
    """Find the next child whose score is above the limit: (token, lo, hi, edge), no token behind the last one."""
    if state[2] >= 0:
        e = _next_edge(segment, state, edge, row, base, limit, tops, shift)
        if e == state[3]:
            return np.int64(_NONE), i, i, e
        i = np.int64(segment[4][e])
        token, end = next_child(segment, state, i, e)
        return token, i, end, e
    while i < state[1]:
        token, end = next_child(segment, state, i, edge)
        if not base + least_or_logit(row[token]) <= limit:
            return token, i, end, np.int64(-1)
        i = end
    return np.int64(_NONE), i, i, np.int64(-1)


@compiled(inline=True)
def _merged_children(
    old: Arrays,
    new: Arrays,
    bits: Arrays,
    row: Array,
    base: float,
    parent: Number,
    state: Array,
    best: Arrays,
    shift: Number,
) -> None:
    """Offer the children of a beam that has items in both segments; a token that both hold is one candidate.

    The limit is read once: a token has the same score in both, so it is good in both or in neither.
    """
    a, b = state[:4], state[4:]
    chunk, limit = best[12][parent], best[3][0]
    if chunk < 0:
        chunk, shift = 0, 0
    tops = best[8][chunk:]
    s, i, i_end, e = _next_good(old, a, a[0], a[2], row, base, limit, tops, shift)
    t, j, j_end, f = _next_good(new, b, b[0], b[2], row, base, limit, tops, 0)
    while s != _NONE or t != _NONE:
        token = min(s, t)
        score = base + least_or_logit(row[token])
        if beats(best, score) and (
            (s == token and any_allowed(bits[0], i, i_end)) or (t == token and any_allowed(bits[1], j, j_end))
        ):
            found = best[2][append(best, score, parent, token)]
            found[0], found[1], found[2] = (i, i_end, e) if s == token else (0, 0, -1)
            found[3], found[4], found[5] = (j, j_end, f) if t == token else (0, 0, -1)
        if s == token:
            s, i, i_end, e = _next_good(old, a, i_end, e + 1, row, base, limit, tops, shift)
        if t == token:
            t, j, j_end, f = _next_good(new, b, j_end, f + 1, row, base, limit, tops, 0)


@compiled
def _merged_log_sum(old: Arrays, new: Arrays, live: Arrays, row: Array, state: Array) -> float:
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
    return float(top + np.log(total)) if total > 0.0 else -np.inf


@compiled
def _log_sum(old: Arrays, new: Arrays, live: Arrays, row: Array, state: Array) -> float:
    """Compute the renormalised denominator of a beam."""
    in_old, in_new = has_children(old, state[:4]), has_children(new, state[4:])
    if in_old and in_new:
        return _merged_log_sum(old, new, live, row, state)
    return children_log_sum(old, live[0], row, state[:4]) if in_old else children_log_sum(new, live[1], row, state[4:])


@compiled(inline=True)
def _prepare(
    segments: Arrays,
    live: Arrays,
    beams: Arrays,
    logits: Array,
    q: Number,
    depth: Number,
    renormalised: bool,
    best: Arrays,
) -> tuple[Number, Number]:
    """Do what `_prepare` of `kernels` does, for states of two segments."""
    old, new = segments
    states, alive, scores, given = beams
    bases, rows = best[10], best[13]
    previous: Number = np.int64(-1)
    denominator, nans = 0.0, 0
    for m in range(alive.shape[1]):
        if not alive[q, m]:
            continue
        state = states[q, m]
        r = find_row(logits, given, q, m, alive.shape[1])
        if r < 0 or not (is_state(old, state[:4], depth) and is_state(new, state[4:], depth)):
            return nans, m
        best[5][0] += first_read(old, state[:4]) + first_read(new, state[4:])
        if r != previous:
            denominator, found = reduce_row(logits[r], logits[r].view(np.int32), not renormalised, best[11])
            nans += found
            previous = r
            if denominator == np.inf:
                return nans, m
        base = _log_sum(old, new, live, logits[r], state) if renormalised else denominator
        bases[m], rows[m] = base_score(scores[q, m], base), r
    return nans, -1


@compiled(inline=True)
def _walk_all(
    segments: Arrays, bits: Arrays, states: Array, alive: Array, logits: Array, best: Arrays, shift: Number
) -> None:
    old, new = segments
    for m in range(alive.size):
        if not alive[m]:
            continue
        row, base, state = logits[best[13][m]], best[10][m], states[m]
        in_old, in_new = has_children(old, state[:4]), has_children(new, state[4:])
        if in_old and in_new:
            _merged_children(old, new, bits, row, base, m, state, best, shift)
        elif in_old:
            walk(old, bits[0], row, base, m, state[:4], best, 0, shift)
        elif in_new:
            walk(new, bits[1], row, base, m, state[4:], best, 3, 0)


@compiled(inline=True)
def _write(
    old: Arrays, new: Arrays, best: Arrays, query: Number, depth: Number, end_token: Number, out: Arrays
) -> None:
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
    queries: Array,
    depth: int,
    end_token: int,
    renormalised: bool,
    room: Arrays,
    out: Arrays,
) -> tuple[int, int]:
    """Fill `out` as `kernels.best_continuations` does, from two segments; `bits` and `live` are pairs."""
    states, alive = beams[0], beams[1]
    best = carve(room, alive.shape[1])
    nans = 0
    for q in queries:
        clear(best)
        found, bad = _prepare(segments, live, beams, logits, q, depth, renormalised, best)
        nans += found
        if bad >= 0:
            return nans, q * alive.shape[1] + bad
        # children of the large segment alone are a lower bound for those of both
        shift, guess = screen(segments[0], bits[0], states[q], 0, alive[q], logits, best[13], best)
        _walk_all(segments, bits, states[q], alive[q], logits, best, shift)
        if guess and best[4][0] < out[0].shape[1]:
            clear(best)
            _walk_all(segments, bits, states[q], alive[q], logits, best, shift)
        _write(segments[0], segments[1], best, q, depth, end_token, out)
    return nans, -1


# Compaction -------------------------------------------------------------------------------------------------


@compiled(inline=True)
def _begin(segment: Arrays, rank: Number) -> Number:
    return np.int64(segment[1][rank]) if segment[1].size else rank * segment[2]


@compiled
def _is_before(old: Arrays, new: Arrays, i: Number, j: Number, old_row: Number, new_row: Number) -> bool:
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
def _copy(
    segment: Arrays, rank: Number, row: Number, rows: Array, off: Array, order: Array, filled: Number, token: Number
) -> Number:
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
    i = j = 0
    token: Number = 0
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
