"""The constraint step of the substring index: the best tokens that may follow each n-gram, in two segments at once.

A beam's state = (lo, hi, lo, hi, depth): its ranks in the old and in the new segment, lo = hi where one holds nothing,
and its tokens. Arrays travel in tuples, described in `ngrams`, `bits` and `best`.
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.best import append, beats, carve, clear, finish
from genrail.constraints.bits import any_allowed, count_allowed
from genrail.constraints.children import add_logit, least_or_logit
from genrail.constraints.compiled import Arrays, Number, compiled
from genrail.constraints.kernels import base_score, find_row, pad, write_entry
from genrail.constraints.ngrams import fill_allowed, followers, is_ngram, narrow
from genrail.constraints.softmax import reduce_row

__all__ = ["STATE_SIZE", "best_tokens", "is_state", "joined_children"]


STATE_SIZE = 5
_NONE = 1 << 62  # above every token: this segment has no further child


@compiled
def is_state(segments: Arrays, state: Array, depth: Number) -> Number:
    """Say whether five numbers can be a state of this index: others would be read outside of the arrays."""
    old, new = segments
    return (
        state[4] == depth
        and is_ngram(old, state[0], state[1], depth)
        and is_ngram(new, state[2], state[3], depth)
        and (state[0] < state[1] or state[2] < state[3])
    )


@compiled(inline=True)
def _token(children: Arrays, i: Number, found: Number) -> Number:
    return np.int64(children[0][i]) if i < found else np.int64(_NONE)


@compiled(inline=True)
def _span(children: Arrays, i: Number) -> tuple[Number, Number]:
    return np.int64(children[1][i]), np.int64(children[2][i])


@compiled(inline=True)
def _offer(
    bits: Arrays,
    children: Arrays,
    found: Number,
    ask: Number,
    row: Array,
    base: float,
    parent: Number,
    best: Arrays,
    at: Number,
) -> None:
    """Offer the children of a beam that has occurrences in one segment only, whose numbers begin at `at`."""
    for i in range(found):
        token = np.int64(children[0][i])
        score = base + least_or_logit(row[token])
        if beats(best, score):
            lo, hi = _span(children, i)
            if not ask or any_allowed(bits, lo, hi):
                place = append(best, score, parent, token)
                best[2][place, at], best[2][place, at + 1] = lo, hi
                best[2][place, 2 - at], best[2][place, 3 - at] = 0, 0


@compiled(inline=True)
def _offer_joined(
    bits: Arrays,
    old: Arrays,
    new: Arrays,
    m: Number,
    n: Number,
    asks: tuple[Number, Number],
    row: Array,
    base: float,
    parent: Number,
    best: Arrays,
) -> None:
    """Offer the children of a beam that has occurrences in both segments; a token that both hold is one candidate."""
    i, j = 0, 0
    while i < m or j < n:
        s, t = _token(old, i, m), _token(new, j, n)
        token = min(s, t)
        score = base + least_or_logit(row[token])
        if beats(best, score):
            a, b = _span(old, i) if s == token else (np.int64(0), np.int64(0))
            c, d = _span(new, j) if t == token else (np.int64(0), np.int64(0))
            if (a < b and (not asks[0] or any_allowed(bits[0], a, b))) or (
                c < d and (not asks[1] or any_allowed(bits[1], c, d))
            ):
                found = best[2][append(best, score, parent, token)]
                found[0], found[1], found[2], found[3] = a, b, c, d
        i += s == token
        j += t == token


@compiled
def _log_sum(segments: Arrays, live: Arrays, state: Array, row: Array, rooms: Arrays) -> float:
    """Compute the log-sum-exp over the tokens that follow a beam in a live document, in token order."""
    m, _ = fill_allowed(segments[0], live[0], state[0], state[1], state[4], rooms[0], False)
    n, _ = fill_allowed(segments[1], live[1], state[2], state[3], state[4], rooms[1], False)
    top, total = -np.inf, 0.0
    i: Number = 0
    j: Number = 0
    while i < m or j < n:
        s, t = _token(rooms[0], i, m), _token(rooms[1], j, n)
        top, total = add_logit(top, total, least_or_logit(row[min(s, t)]))
        i += s <= t
        j += t <= s
    return float(top + np.log(total)) if total > 0.0 else -np.inf


@compiled(inline=True)
def _prepare(
    segments: Arrays, live: Arrays, beams: Arrays, logits: Array, q: Number, depth: Number, rooms: Arrays, best: Arrays
) -> tuple[Number, Number]:
    """Do what `_prepare` of `kernels` does, for states of this index; `live` is empty unless it is renormalised."""
    states, alive, scores, given, renormalised = beams
    bases, rows = best[10], best[13]
    previous: Number = np.int64(-1)
    denominator, nans = 0.0, 0
    for m in range(alive.shape[1]):
        if not alive[q, m]:
            continue
        r = find_row(logits, given, q, m, alive.shape[1])
        if r < 0 or not is_state(segments, states[q, m], depth):
            return nans, m
        if r != previous:
            denominator, found = reduce_row(logits[r], logits[r].view(np.int32), not renormalised, best[11])
            nans += found
            previous = r
            if denominator == np.inf:
                return nans, m
        base = _log_sum(segments, live, states[q, m], logits[r], rooms) if renormalised else denominator
        bases[m], rows[m] = base_score(scores[q, m], base), r
    return nans, -1


@compiled(inline=True)
def _walk(
    segments: Arrays, bits: Arrays, state: Array, row: Array, base: float, parent: Number, rooms: Arrays, best: Arrays
) -> None:
    depth = state[4]
    m, ask_old = fill_allowed(segments[0], bits[0], state[0], state[1], depth, rooms[0], True)
    n, ask_new = fill_allowed(segments[1], bits[1], state[2], state[3], depth, rooms[1], True)
    if n == 0:
        _offer(bits[0], rooms[0], m, ask_old, row, base, parent, best, 0)
    elif m == 0:
        _offer(bits[1], rooms[1], n, ask_new, row, base, parent, best, 2)
    else:
        _offer_joined(bits, rooms[0], rooms[1], m, n, (ask_old, ask_new), row, base, parent, best)


@compiled(inline=True)
def _goes_on(segments: Arrays, bits: Arrays, state: Array, depth: Number) -> Number:
    """Say whether a token can follow in an allowed document."""
    i = followers(segments[0], state[0], state[1], depth)
    j = followers(segments[1], state[2], state[3], depth)
    return (i < state[1] and any_allowed(bits[0], i, state[1])) or (j < state[3] and any_allowed(bits[1], j, state[3]))


@compiled(inline=True)
def _write(
    segments: Arrays,
    bits: Arrays,
    states_before: Array,
    best: Arrays,
    query: Number,
    depth: Number,
    longest: Number,
    out: Arrays,
) -> None:
    found, states = best[2], out[3]
    size = finish(best)
    for i in range(size):
        place = write_entry(best, query, i, out)
        parent, token = states_before[query, out[1][query, i]], out[2][query, i]
        a, b, c, d = found[place, 0], found[place, 1], found[place, 2], found[place, 3]
        if a == b:  # not looked at where the request allows nothing there: a state is the same for every request
            a, b = narrow(segments[0], parent[0], parent[1], depth, token)
        if c == d:
            c, d = narrow(segments[1], parent[2], parent[3], depth, token)
        state = states[query, i]
        state[0], state[1], state[2], state[3], state[4] = a, b, c, d, depth + 1
        out[4][query, i] = depth + 1 == longest or not _goes_on(segments, bits, state, depth + 1)
    pad(query, size, out)


@compiled
def best_tokens(
    segments: Arrays,
    bits: Arrays,
    live: Arrays,
    beams: Arrays,
    logits: Array,
    queries: Array,
    depth: int,
    longest: int,
    rooms: Arrays,
    room: Arrays,
    out: Arrays,
) -> tuple[int, int]:
    """Fill `out` with the best continuations of some queries that share one subset.

    Args:
        segments: The old and the new one.
        bits: The ranks of each that this request allows.
        live: The ranks of each that are live; only the renormalised denominator asks for them.
        beams: (states, alive, scores, rows of logits, renormalised); rows empty: in order.
        logits: float32, C-contiguous, shape (any, V).
        queries: Which queries to answer.
        depth: Tokens written.
        longest: Tokens of a whole n-gram, -1 for no bound.
        rooms: Room for the children of one beam in each segment.
        room: From `room_for`.
        out: (scores, parents, tokens, states, complete, count), see `Candidates`.

    Returns:
        How many NaN were met; and -1, or the number of the first beam (query * width + beam) that cannot be ranked.
    """
    states, alive = beams[0], beams[1]
    best = carve(room, alive.shape[1])
    nans = 0
    for q in queries:
        clear(best)
        found, bad = _prepare(segments, live, beams, logits, q, depth, rooms, best)
        nans += found
        if bad >= 0:
            return nans, q * alive.shape[1] + bad
        if depth != longest:
            for m in range(alive.shape[1]):
                if alive[q, m]:
                    _walk(segments, bits, states[q, m], logits[best[13][m]], best[10][m], m, rooms, best)
        _write(segments, bits, states, best, q, depth, longest, out)
    return nans, -1


@compiled
def joined_children(
    segments: Arrays, bits: Arrays, state: Array, rooms: Arrays, tokens: Array, counts: Array
) -> Number:
    """List the tokens that follow a state in allowed documents, and how often; return how many there are."""
    old, new = rooms
    m, _ = fill_allowed(segments[0], bits[0], state[0], state[1], state[4], old, False)
    n, _ = fill_allowed(segments[1], bits[1], state[2], state[3], state[4], new, False)
    found, i, j = 0, 0, 0
    while i < m or j < n:
        s, t = _token(old, i, m), _token(new, j, n)
        tokens[found], counts[found] = min(s, t), 0
        if s <= t:
            lo, hi = _span(old, i)
            counts[found] += count_allowed(bits[0], lo, hi)
            i += 1
        if t <= s:
            lo, hi = _span(new, j)
            counts[found] += count_allowed(bits[1], lo, hi)
            j += 1
        found += 1
    return found
