"""The constraint step: from logits to the best continuations that still lead to an allowed item.

Only the children of live beams are read; the best are kept in a buffer per query; whether an item is left below a
child is asked only of children whose score is good enough. There is no mask and no allocation that grows with the
vocabulary. Arrays travel in tuples, described in `bits`, `best` and `children`, so that a call carries few arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from genrail.constraints.best import append, beats, clear, finish
from genrail.constraints.bits import any_allowed, count_allowed, lower_bound
from genrail.constraints.children import (
    child_around,
    children_log_sum,
    has_children,
    is_state,
    least_or_logit,
    next_child,
    write_state,
)
from genrail.constraints.compiled import compiled

__all__ = ["best_continuations", "pick_beams", "walk"]

Array = npt.NDArray[Any]
Arrays = tuple[Any, ...]

_TOKEN = (1 << 32) - 1  # the part of a key that holds the token


@compiled(inline=True)
def _offer(best: Arrays, at: Any, score: float, parent: Any, token: Any, lo: Any, hi: Any, edge: Any) -> None:
    """Append a child of the segment whose numbers begin at `at`; it has no items in the other one, if there is one."""
    place = append(best, score, parent, token)
    found = best[2]
    if found.shape[1] > 3:
        for j in range(found.shape[1]):
            found[place, j] = 0
    found[place, at] = lo
    found[place, at + 1] = hi
    found[place, at + 2] = edge


@compiled
def _heavy_children(
    segment: Arrays, bits: Arrays, row: Array, base: float, parent: Any, state: Array, best: Arrays, at: Any
) -> None:
    tok, start = segment[3], segment[4]
    hi, c0, c1 = state[1], state[2], state[3]
    for e in range(c0, c1):
        token = np.int64(tok[e])
        score = base + least_or_logit(row[token])
        if beats(best, score):
            begin = np.int64(start[e])
            end = hi if e + 1 == c1 else np.int64(start[e + 1])
            if any_allowed(bits, begin, end):
                _offer(best, at, score, parent, token, begin, end, e)


@compiled
def _light_children(
    segment: Arrays, bits: Arrays, row: Array, base: float, parent: Any, state: Array, best: Arrays, at: Any
) -> None:
    i = state[0]
    while i < state[1]:
        token, end = next_child(segment, state, i, np.int64(-1))
        score = base + least_or_logit(row[token])
        if beats(best, score) and any_allowed(bits, i, end):
            _offer(best, at, score, parent, token, i, end, np.int64(-1))
        i = end


@compiled
def _listed_children(
    segment: Arrays, bits: Arrays, row: Array, base: float, parent: Any, state: Array, best: Arrays, at: Any
) -> None:
    """Walk the allowed ranks instead of the children, where they are fewer."""
    ranks = bits[2]
    hi = state[1]
    i = lower_bound(ranks, state[0])
    edge = np.int64(-1)
    while i < ranks.size and np.int64(ranks[i]) < hi:
        token, begin, end, edge = child_around(segment, state, np.int64(ranks[i]), edge)
        score = base + least_or_logit(row[token])
        if beats(best, score):
            _offer(best, at, score, parent, token, begin, end, edge)
        while i < ranks.size and np.int64(ranks[i]) < end:
            i += 1


@compiled
def walk(
    segment: Arrays, bits: Arrays, row: Array, base: float, parent: Any, state: Array, best: Arrays, at: Any
) -> None:
    """Offer the children of one beam, by whichever way reads least."""
    if not has_children(segment, state):
        return
    children = state[3] - state[2] if state[2] >= 0 else state[1] - state[0]
    if bits[3] and count_allowed(bits, state[0], state[1]) < children:
        _listed_children(segment, bits, row, base, parent, state, best, at)
    elif state[2] >= 0:
        _heavy_children(segment, bits, row, base, parent, state, best, at)
    else:
        _light_children(segment, bits, row, base, parent, state, best, at)


@compiled(inline=True)
def base_score(score: float, denominator: float) -> float:
    """Subtract the denominator; a path or a row that is -inf throughout stays -inf, and a NaN score counts as -inf."""
    if score > -np.inf and denominator > -np.inf:
        return score - denominator
    return -np.inf


@compiled(inline=True)
def write_entry(best: Arrays, query: Any, i: Any, out: Arrays) -> Any:
    """Write score, parent and token of the i-th best; return its place in `found`."""
    place = best[7][0, i]
    key = best[1][place]
    out[0][query, i] = best[0][place]
    out[1][query, i] = key >> 32
    out[2][query, i] = key & _TOKEN
    return place


@compiled(inline=True)
def pad(query: Any, size: Any, out: Arrays) -> None:
    """Fill what lies beyond the real entries of a query, and write their number."""
    scores, parents, tokens, states, complete, count = out
    for i in range(size, scores.shape[1]):
        scores[query, i] = -np.inf
        parents[query, i] = -1
        tokens[query, i] = -1
        complete[query, i] = False
        for j in range(states.shape[2]):
            states[query, i, j] = 0
    count[query] = size


@compiled
def _write(segment: Arrays, best: Arrays, query: Any, depth: Any, end_token: Any, out: Arrays) -> None:
    found, states = best[2], out[3]
    size = finish(best)
    for i in range(size):
        place = write_entry(best, query, i, out)
        write_state(segment, found[place, 0], found[place, 1], found[place, 2], depth + 1, states[query, i])
        out[4][query, i] = out[2][query, i] == end_token if end_token >= 0 else depth + 1 == segment[2]
    pad(query, size, out)


@compiled
def best_continuations(
    segment: Arrays,
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
    """Fill `out` with the best continuations of some queries that share one subset.

    Args:
        segment: The index.
        bits: The ranks that this request allows.
        live: The ranks that the index holds; only the renormalised denominator asks for them.
        beams: (states, alive, scores, rows of logits), each by query and beam.
        logits: float32, shape (any, V).
        sums: Log-sum-exp by row of `logits`.
        queries: Which queries to answer.
        depth: Tokens written.
        end_token: Terminator of a ragged index, -1 for a fixed length.
        renormalised: Divide by the children instead of by the whole row.
        best: Room from `new_best`.
        out: (scores, parents, tokens, states, complete, count), see `Candidates`.

    Returns:
        -1, or the number of the first beam (query * width + beam) whose state is not one of this index.
    """
    states, alive, beam_scores, logit_rows = beams
    for q in queries:
        clear(best)
        for m in range(alive.shape[1]):
            if not alive[q, m]:
                continue
            state = states[q, m]
            if not is_state(segment, state, depth):
                return q * alive.shape[1] + m
            row = logits[logit_rows[q, m]]
            denominator = sums[logit_rows[q, m]]
            if renormalised:
                denominator = children_log_sum(segment, live, row, state)
            walk(segment, bits, row, base_score(beam_scores[q, m], denominator), m, state, best, 0)
        _write(segment, best, q, depth, end_token, out)
    return -1


@compiled
def pick_beams(states: Array, count: Array, picks: Array, next_states: Array, alive: Array) -> Any:
    """Copy the states of picked candidates; return -1, or the first query with a pick that is no real entry."""
    for q in range(picks.shape[0]):
        for m in range(picks.shape[1]):
            pick = picks[q, m]
            if pick < -1 or pick >= count[q]:
                return q
            alive[q, m] = pick >= 0
            for j in range(states.shape[2]):
                next_states[q, m, j] = states[q, pick, j] if pick >= 0 else 0
    return -1
