"""The constraint step: from logits to the best continuations that still lead to an allowed item.

Only the children of live beams are read; the best are kept in a buffer per query; whether an item is left below a
child is asked only of children whose score is good enough. There is no mask and no allocation that grows with the
vocabulary. Arrays travel in tuples, described in `bits`, `best` and `children`, so that a call carries few arguments.
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.best import append, beats, carve, clear, finish
from genrail.constraints.bits import allows_all, any_allowed, count_allowed, lower_bound, next_set
from genrail.constraints.children import (
    child_around,
    children_log_sum,
    has_children,
    is_state,
    least_or_logit,
    next_child,
    token_at,
    write_state,
)
from genrail.constraints.compiled import Arrays, Number, compiled
from genrail.constraints.screening import screen
from genrail.constraints.softmax import reduce_row

__all__ = ["best_continuations", "pick_beams", "walk"]


_TOKEN = (1 << 32) - 1  # the part of a key that holds the token


@compiled(inline=True)
def _offer(
    best: Arrays, at: Number, score: float, parent: Number, token: Number, lo: Number, hi: Number, edge: Number
) -> None:
    """Append a child of the segment whose numbers begin at `at`; it has no items in the other one, if there is one."""
    place = append(best, score, parent, token)
    found = best[2]
    if found.shape[1] > 3:
        for j in range(found.shape[1]):
            found[place, j] = 0
    found[place, at] = lo
    found[place, at + 1] = hi
    found[place, at + 2] = edge


@compiled(inline=True)
def _edges(
    segment: Arrays,
    bits: Arrays,
    row: Array,
    base: float,
    parent: Number,
    state: Array,
    best: Arrays,
    at: Number,
    span: tuple[Number, Number],
) -> None:
    """Offer the children of a heavy prefix whose edges lie in `span`."""
    tok, start = segment[3], segment[4]
    hi, c1 = state[1], state[3]
    for e in range(span[0], span[1]):
        token = np.int64(tok[e])
        score = base + least_or_logit(row[token])
        if beats(best, score):
            begin = np.int64(start[e])
            end = hi if e + 1 == c1 else np.int64(start[e + 1])
            if any_allowed(bits, begin, end):
                _offer(best, at, score, parent, token, begin, end, e)


@compiled(inline=True)
def _heavy_children(
    segment: Arrays,
    bits: Arrays,
    row: Array,
    base: float,
    parent: Number,
    state: Array,
    best: Arrays,
    at: Number,
    shift: Number,
) -> None:
    """Offer the children of a heavy prefix, chunk by chunk where they are screened."""
    c0, c1 = state[2], state[3]
    chunk = best[12][parent]
    if shift == 0 or chunk < 0:
        _edges(segment, bits, row, base, parent, state, best, at, (c0, c1))
        return
    for begin in range(c0, c1, 1 << shift):
        if beats(best, best[8][chunk]):
            _edges(segment, bits, row, base, parent, state, best, at, (begin, min(begin + (1 << shift), c1)))
        chunk += 1


@compiled(inline=True)
def _light_children(
    segment: Arrays, bits: Arrays, row: Array, base: float, parent: Number, state: Array, best: Arrays, at: Number
) -> None:
    i = state[0]
    while i < state[1]:
        token, end = next_child(segment, state, i, np.int64(-1))
        score = base + least_or_logit(row[token])
        if beats(best, score) and any_allowed(bits, i, end):
            _offer(best, at, score, parent, token, i, end, np.int64(-1))
        i = end


@compiled(inline=True)
def _listed_children(
    segment: Arrays, bits: Arrays, row: Array, base: float, parent: Number, state: Array, best: Arrays, at: Number
) -> None:
    """Walk the allowed ranks instead of the children, where they are fewer."""
    ranks = bits[2]
    hi = state[1]
    i = lower_bound(ranks, state[0])
    edge: Number = np.int64(-1)
    while i < ranks.size and np.int64(ranks[i]) < hi:
        token, begin, end, edge = child_around(segment, state, np.int64(ranks[i]), edge)
        score = base + least_or_logit(row[token])
        if beats(best, score):
            _offer(best, at, score, parent, token, begin, end, edge)
        while i < ranks.size and np.int64(ranks[i]) < end:
            i += 1


@compiled(inline=True)
def _marked_edges(
    segment: Arrays, words: Array, row: Array, base: float, parent: Number, state: Array, best: Arrays, at: Number
) -> None:
    """Walk the set bits below a heavy prefix and its edges side by side; only children with a bit are looked at."""
    tok, start = segment[3], segment[4]
    hi, e, c1 = state[1], state[2], state[3]
    rank = next_set(words, state[0], hi)
    while rank < hi:
        while e + 1 < c1 and np.int64(start[e + 1]) <= rank:
            e += 1
        end = hi if e + 1 == c1 else np.int64(start[e + 1])
        token = np.int64(tok[e])
        score = base + least_or_logit(row[token])
        if beats(best, score):
            _offer(best, at, score, parent, token, np.int64(start[e]), end, e)
        rank = next_set(words, end, hi)


@compiled(inline=True)
def _marked_rows(
    segment: Arrays, words: Array, row: Array, base: float, parent: Number, state: Array, best: Arrays, at: Number
) -> None:
    """Walk the set bits below a light prefix instead of its rows."""
    hi = state[1]
    rank = next_set(words, state[0], hi)
    while rank < hi:
        token, begin, end, edge = child_around(segment, state, rank, np.int64(-1))
        score = base + least_or_logit(row[token])
        if beats(best, score):
            _offer(best, at, score, parent, token, begin, end, edge)
        rank = next_set(words, end, hi)


@compiled(inline=True)
def walk(
    segment: Arrays,
    bits: Arrays,
    row: Array,
    base: float,
    parent: Number,
    state: Array,
    best: Arrays,
    at: Number,
    shift: Number,
) -> None:
    """Offer the children of one beam, by whichever way reads least."""
    if not has_children(segment, state):
        return
    heavy = state[2] >= 0
    children = state[3] - state[2] if heavy else state[1] - state[0]
    if not allows_all(bits):
        allowed = count_allowed(bits, state[0], state[1])
        if bits[3] and allowed < children:
            _listed_children(segment, bits, row, base, parent, state, best, at)
            return
        if not bits[3] and bits[2].size == 0:
            if heavy and 2 * allowed + ((state[1] - state[0]) >> 6) < 2 * children:
                _marked_edges(segment, bits[0], row, base, parent, state, best, at)
                return
            if not heavy and allowed < children:
                _marked_rows(segment, bits[0], row, base, parent, state, best, at)
                return
    if heavy:
        _heavy_children(segment, bits, row, base, parent, state, best, at, shift)
    else:
        _light_children(segment, bits, row, base, parent, state, best, at)


@compiled(inline=True)
def base_score(score: float, denominator: float) -> float:
    """Subtract the denominator; a path or a row that is -inf throughout stays -inf, and a NaN score counts as -inf."""
    if score > -np.inf and denominator > -np.inf:
        return score - denominator
    return -np.inf


@compiled(inline=True)
def write_entry(best: Arrays, query: Number, i: Number, out: Arrays) -> Number:
    """Write score, parent and token of the i-th best; return its place in `found`."""
    place: Number = best[7][0, i]
    key = best[1][place]
    out[0][query, i] = best[0][place]
    out[1][query, i] = key >> 32
    out[2][query, i] = key & _TOKEN
    return place


@compiled(inline=True)
def pad(query: Number, size: Number, out: Arrays) -> None:
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


@compiled(inline=True)
def _write(segment: Arrays, best: Arrays, query: Number, depth: Number, end_token: Number, out: Arrays) -> None:
    found, states = best[2], out[3]
    size = finish(best)
    for i in range(size):
        place = write_entry(best, query, i, out)
        write_state(segment, found[place, 0], found[place, 1], found[place, 2], depth + 1, states[query, i])
        out[4][query, i] = out[2][query, i] == end_token if end_token >= 0 else depth + 1 == segment[2]
    pad(query, size, out)


@compiled(inline=True)
def find_row(logits: Array, given: Array, query: Number, beam: Number, width: Number) -> Number:
    """Find the row of logits of a beam; -1 when there is no such row."""
    r = given[query, beam] if given.size else query * width + beam
    return r if 0 <= r < logits.shape[0] else -1


@compiled(inline=True)
def first_read(segment: Arrays, state: Array) -> Number:
    """Read where the children of a beam begin, long before they are needed: the wait for memory overlaps other work."""
    if state[2] >= 0:
        return np.int64(segment[3][state[2]]) + np.int64(segment[4][state[2]])
    return token_at(segment, state[0], state[3]) if has_children(segment, state) else 0


@compiled(inline=True)
def _prepare(
    segment: Arrays,
    live: Arrays,
    beams: Arrays,
    logits: Array,
    q: Number,
    depth: Number,
    renormalised: bool,
    best: Arrays,
) -> tuple[Number, Number]:
    """Check the beams of a query and fill `bases` and `rows`; return how many NaN were met, and the refused beam."""
    states, alive, scores, given = beams
    bases, rows = best[10], best[13]
    previous: Number = np.int64(-1)
    denominator, nans = 0.0, 0
    for m in range(alive.shape[1]):
        if not alive[q, m]:
            continue
        r = find_row(logits, given, q, m, alive.shape[1])
        if r < 0 or not is_state(segment, states[q, m], depth):
            return nans, m
        best[5][0] += first_read(segment, states[q, m])
        if r != previous:
            denominator, found = reduce_row(logits[r], logits[r].view(np.int32), not renormalised, best[11])
            nans += found
            previous = r
            if denominator == np.inf:
                return nans, m
        base = children_log_sum(segment, live, logits[r], states[q, m]) if renormalised else denominator
        bases[m], rows[m] = base_score(scores[q, m], base), r
    return nans, -1


@compiled(inline=True)
def _walk_all(
    segment: Arrays, bits: Arrays, states: Array, alive: Array, logits: Array, best: Arrays, shift: Number
) -> None:
    for m in range(alive.size):
        if alive[m]:
            walk(segment, bits, logits[best[13][m]], best[10][m], m, states[m], best, 0, shift)


@compiled
def best_continuations(
    segment: Arrays,
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
    """Fill `out` with the best continuations of some queries that share one subset.

    Args:
        segment: The index.
        bits: The ranks that this request allows.
        live: The ranks that the index holds; only the renormalised denominator asks for them.
        beams: (states, alive, scores, rows of logits), each by query and beam; rows empty: in order.
        logits: float32, C-contiguous, shape (any, V).
        queries: Which queries to answer.
        depth: Tokens written.
        end_token: Terminator of a ragged index, -1 for a fixed length.
        renormalised: Divide by the children instead of by the whole row.
        room: From `room_for`.
        out: (scores, parents, tokens, states, complete, count), see `Candidates`.

    Returns:
        How many NaN were met; and -1, or the number of the first beam (query * width + beam) that cannot be ranked: its
        state is not one of this index, its row of logits does not exist, or that holds +inf.
    """
    states, alive = beams[0], beams[1]
    best = carve(room, alive.shape[1])
    nans = 0
    for q in queries:
        clear(best)
        found, bad = _prepare(segment, live, beams, logits, q, depth, renormalised, best)
        nans += found
        if bad >= 0:
            return nans, q * alive.shape[1] + bad
        shift, guess = screen(segment, bits, states[q], 0, alive[q], logits, best[13], best)
        _walk_all(segment, bits, states[q], alive[q], logits, best, shift)
        if guess and best[4][0] < out[0].shape[1]:
            clear(best)
            _walk_all(segment, bits, states[q], alive[q], logits, best, shift)
        _write(segment, best, q, depth, end_token, out)
    return nans, -1


@compiled
def pick_beams(states: Array, count: Array, picks: Array, next_states: Array, alive: Array) -> Number:
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
