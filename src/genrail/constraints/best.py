"""The best continuations of one query so far: a buffer that is cut back when it is full.

Candidates arrive in the order of their keys (parent << 32 | token) and are appended while they beat the limit, the
worst score of the last cut. So an entry costs a few nanoseconds, where a heap costs a mispredicted branch at each of
its levels. Among equal scores the smaller key wins, which is the one that came first: entries never change their
relative order.

`best` = (scores, keys, found, limit, size, scratch, rank_keys, rank_order, tops, tops_copy, bases, buffer, firsts,
rows); `found` holds what the caller needs to make the candidate's state. The limit is NaN at first, which no score is
below. `tops` and `firsts` belong to `screening`; `bases` (score by denominator) and `rows` (of logits) are of the
query's beams.
"""

from __future__ import annotations

import threading

import numpy as np

from genrail.arrays import Array
from genrail.constraints.compiled import Arrays, Number, compiled
from genrail.constraints.softmax import BLOCK
from genrail.constraints.sorting import stable_sort

__all__ = ["append", "beats", "carve", "clear", "finish", "kth_largest", "room_for"]


_TOPS = 4096  # chunks of children that are screened together; more children make larger chunks
_KEPT = 32  # different sizes of room that a thread keeps
_rooms = threading.local()


def room_for(wanted: int, numbers: int, width: int) -> Arrays:
    """Give this thread's room for the best `wanted` candidates of `width` beams, with `numbers` integers each.

    It is the same from step to step: a dozen allocations cost more than a small step.
    """
    rooms: dict[tuple[int, int, int], Arrays] | None = getattr(_rooms, "by_size", None)
    if rooms is None or len(rooms) > _KEPT:
        rooms = _rooms.by_size = {}
    size = wanted, numbers, width
    room = rooms.get(size)
    if room is None:
        room = rooms[size] = _new_room(wanted, numbers, width)
    return room


def _new_room(wanted: int, numbers: int, width: int) -> Arrays:
    room = max(4 * wanted, 64)
    return (
        np.empty(2 * room + 2 * _TOPS + width + 1),
        np.empty(room + 2 * width + 1, np.int64),
        np.empty((room, numbers), np.int64),
        np.empty((2, wanted), np.uint64),
        np.empty((2, wanted), np.int64),
        np.empty(BLOCK, np.float32),
    )


@compiled(inline=True)
def carve(room: Arrays, width: Number) -> Arrays:
    """Cut a room into `best`; inside the kernel, because each array that crosses the border costs a tenth of a us."""
    floats, integers, found, rank_keys, rank_order, buffer = room
    size = found.shape[0]
    a, b = 2 * size, 2 * size + 2 * _TOPS
    return (
        floats[:size],
        integers[:size],
        found,
        floats[b + width : b + width + 1],
        integers[size + 2 * width : size + 2 * width + 1],
        floats[size:a],
        rank_keys,
        rank_order,
        floats[a : a + _TOPS],
        floats[a + _TOPS : b],
        floats[b : b + width],
        buffer,
        integers[size : size + width],
        integers[size + width : size + 2 * width],
    )


@compiled(inline=True)
def clear(best: Arrays) -> None:
    """Forget the last query."""
    best[3][0] = np.nan
    best[4][0] = 0


@compiled(inline=True)
def beats(best: Arrays, score: float) -> bool:
    """Say whether a score can still be among the best."""
    return not score <= best[3][0]


@compiled
def kth_largest(values: Array, size: Number, k: Number) -> float:
    """Select the k-th largest of the first `size` values (k from 1), reordering them."""
    left: Number = 0
    right, target = size - 1, int(k - 1)
    while left < right:
        pivot = values[(left + right) >> 1]
        i, j = left, right
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if target <= j:
            right = j
        elif target >= i:
            left = i
        else:
            break
    found: float = values[target]
    return found


@compiled
def _cut_back(best: Arrays) -> None:
    """Keep the best `wanted` entries, in the order of their keys."""
    scores, keys, found, limit, sizes, scratch, rank_keys = best[:7]
    size, wanted = sizes[0], rank_keys.shape[1]
    if size <= wanted:
        return
    for i in range(size):
        scratch[i] = scores[i]
    worst = kth_largest(scratch, size, wanted)
    equal = wanted
    for i in range(size):
        equal -= scores[i] > worst
    kept = 0
    for i in range(size):
        if scores[i] < worst or (scores[i] == worst and equal == 0):
            continue
        equal -= scores[i] == worst
        scores[kept] = scores[i]
        keys[kept] = keys[i]
        for j in range(found.shape[1]):
            found[kept, j] = found[i, j]
        kept += 1
    sizes[0] = kept
    limit[0] = worst


@compiled(inline=True)
def append(best: Arrays, score: float, parent: Number, token: Number) -> Number:
    """Write a candidate behind the others, cutting back first when there is no room; return its place in `found`."""
    sizes = best[4]
    if sizes[0] == best[0].size:
        _cut_back(best)
    place: Number = sizes[0]
    best[0][place] = score
    best[1][place] = (parent << 32) | token
    sizes[0] = place + 1
    return place


@compiled(inline=True)
def finish(best: Arrays) -> Number:
    """Cut back, list the places best first in `rank_order[0]`, and return how many there are."""
    _cut_back(best)
    scores, keys, order = best[0], best[6], best[7]
    size: Number = best[4][0]
    sign = np.uint64(1) << np.uint64(63)
    for i in range(size):
        bits = np.float64(scores[i] + 0.0).view(np.uint64)  # + 0.0 turns -0.0 into 0.0, which it equals
        keys[0, i] = bits if bits & sign else ~(bits | sign)  # unsigned, the largest score first
        order[0, i] = i
    stable_sort(keys[0], order[0], size, keys[1], order[1])
    return size
