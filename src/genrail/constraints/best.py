"""The best continuations of one query so far: a buffer that is cut back when it is full.

Candidates arrive in the order of their keys (parent << 32 | token) and are appended while they beat the limit, the
worst score of the last cut. So an entry costs a few nanoseconds, where a heap costs a mispredicted branch at each of
its levels. Among equal scores the smaller key wins, which is the one that came first: entries never change their
relative order.

`best` = (scores, keys, found, limit, size, scratch, rank_keys, rank_order); `found` holds what the caller needs to
make the candidate's state. The limit is NaN at first, which no score is below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from genrail.constraints.compiled import compiled
from genrail.constraints.sorting import stable_sort

__all__ = ["append", "beats", "clear", "finish", "new_best"]

Array = npt.NDArray[Any]
Arrays = tuple[Any, ...]


def new_best(wanted: int, numbers: int) -> Arrays:
    """Make room for the best `wanted` candidates with `numbers` integers each; used again for query after query."""
    room = max(4 * wanted, 64)
    return (
        np.empty(room),
        np.empty(room, np.int64),
        np.empty((room, numbers), np.int64),
        np.empty(1),
        np.empty(1, np.int64),
        np.empty(room),
        np.empty((2, wanted), np.uint64),
        np.empty((2, wanted), np.int64),
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
def _kth_largest(values: Array, size: Any, k: Any) -> Any:
    """Select the k-th largest of the first `size` values (k from 1), reordering them."""
    left, right, target = 0, size - 1, k - 1
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
    return values[target]


@compiled
def _cut_back(best: Arrays) -> None:
    """Keep the best `wanted` entries, in the order of their keys."""
    scores, keys, found, limit, sizes, scratch, rank_keys, _ = best
    size, wanted = sizes[0], rank_keys.shape[1]
    if size <= wanted:
        return
    for i in range(size):
        scratch[i] = scores[i]
    worst = _kth_largest(scratch, size, wanted)
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
def append(best: Arrays, score: float, parent: Any, token: Any) -> Any:
    """Write a candidate behind the others, cutting back first when there is no room; return its place in `found`."""
    sizes = best[4]
    if sizes[0] == best[0].size:
        _cut_back(best)
    place = sizes[0]
    best[0][place] = score
    best[1][place] = (parent << 32) | token
    sizes[0] = place + 1
    return place


@compiled
def finish(best: Arrays) -> Any:
    """Cut back, list the places best first in `rank_order[0]`, and return how many there are."""
    _cut_back(best)
    scores, keys, order, size = best[0], best[6], best[7], best[4][0]
    sign = np.uint64(1) << np.uint64(63)
    for i in range(size):
        bits = np.float64(scores[i] + 0.0).view(np.uint64)  # + 0.0 turns -0.0 into 0.0, which it equals
        keys[0, i] = bits if bits & sign else ~(bits | sign)  # unsigned, the largest score first
        order[0, i] = i
    stable_sort(keys[0], order[0], size, keys[1], order[1])
    return size
