"""A stable sort of 64-bit keys that carry an item each, for use inside other kernels."""

from __future__ import annotations

from genrail.arrays import Array
from genrail.constraints.compiled import Number, compiled

__all__ = ["stable_sort"]


_RUN = 16  # runs this short are sorted by insertion before they are merged


@compiled
def _insertion_sort(keys: Array, order: Array, begin: Number, end: Number) -> None:
    for i in range(begin + 1, end):
        key, item = keys[i], order[i]
        j = i - 1
        while j >= begin and keys[j] > key:
            keys[j + 1], order[j + 1] = keys[j], order[j]
            j -= 1
        keys[j + 1], order[j + 1] = key, item


@compiled
def _merge(keys: Array, order: Array, a: Number, b: Number, c: Number, other_keys: Array, other_order: Array) -> None:
    """Merge the sorted runs [a, b) and [b, c); the left one goes first among equals."""
    i, j = a, b
    for k in range(a, c):
        if i < b and (j >= c or keys[i] <= keys[j]):
            other_keys[k], other_order[k] = keys[i], order[i]
            i += 1
        else:
            other_keys[k], other_order[k] = keys[j], order[j]
            j += 1


@compiled
def stable_sort(keys: Array, order: Array, size: Number, spare_keys: Array, spare_order: Array) -> None:
    """Sort the first `size` keys with their items, stable, by merging runs."""
    for begin in range(0, size, _RUN):
        _insertion_sort(keys, order, begin, min(begin + _RUN, size))
    width = _RUN
    while width < size:
        for a in range(0, size, 2 * width):
            _merge(keys, order, a, min(a + width, size), min(a + 2 * width, size), spare_keys, spare_order)
        for i in range(size):
            keys[i], order[i] = spare_keys[i], spare_order[i]
        width *= 2
