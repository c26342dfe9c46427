"""Turn scores of all rows into the k best, with ties in an order that says nothing about row numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from genrail.errors import LogitsError

__all__ = ["highest", "tie_order", "top_rows"]

SAMPLE = 512  # scores from which the k-th one is guessed


def top_rows(
    scores: npt.NDArray[np.floating],
    allowed: npt.NDArray[np.bool_],
    k: int,
    precedence: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Find the k allowed rows with the highest scores, best first.

    Args:
        scores: Shape (rows,).
        allowed: Shape (rows,).
        k: How many at most.
        precedence: Lower comes first between equal scores, shape (rows,).

    Returns:
        Shape (min(k, allowed rows),).

    Raises:
        LogitsError: An allowed row whose score is not finite.

    Cost: O(rows), plus sorting k.

    >>> top_rows(np.array([1.0, 3.0, 1.0, 9.0]), np.array([True, True, True, False]), 2, np.array([2, 1, 0, 3]))
    array([1, 2])
    """
    rows = np.flatnonzero(allowed)
    values = scores[rows]
    if not np.isfinite(values).all():
        row = int(rows[~np.isfinite(values)][0])
        raise LogitsError(f"the score of row {row} is {scores[row]}; a ranking needs finite scores: check the vectors")
    if k < len(rows):
        rows = _best(rows, values, k, precedence)
    return rows[np.lexsort((precedence[rows], -scores[rows]))]


def highest(values: npt.NDArray[np.floating], k: int) -> float:
    """Give the k-th highest of some finite values, or the lowest where fewer than k are above it.

    >>> highest(np.array([3.0, 1.0, 2.0, 1.0]), 2), highest(np.array([3.0, 1.0, 1.0, 1.0]), 2)
    (2.0, 1.0)
    """
    lowest = values.min()
    # Most methods give most rows the same lowest score; selecting among thousands of equals is what would cost. So only
    # rows above it are looked at, or above the score that some 2k rows exceed by a sample.
    sample = np.sort(values[:: max(1, len(values) // SAMPLE)])
    guess = sample[-1 - min(2 * k * len(sample) // len(values), len(sample) - 1)]
    for floor in (guess, lowest):
        candidates = values[values > floor]
        if len(candidates) >= k:
            return float(np.partition(candidates, len(candidates) - k)[len(candidates) - k])
    return float(lowest)


def _best(
    rows: npt.NDArray[np.int64],
    values: npt.NDArray[np.floating],
    k: int,
    precedence: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Select k of more than k rows, in any order."""
    threshold = highest(values, k)
    above, tied = rows[values > threshold], rows[values == threshold]
    missing = k - len(above)  # at least 1: some row has the threshold itself
    if missing < len(tied):
        tied = tied[np.argpartition(precedence[tied], missing - 1)[:missing]]
    return np.concatenate([above, tied])


def tie_order(rows: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Give each row a place between equal scores that says nothing about its number (splitmix64 of row and seed).

    A row keeps its value when rows are appended.

    >>> tie_order(3, seed=1).tolist() == tie_order(5, seed=1)[:3].tolist()
    True
    """
    start = (seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    value = np.arange(rows, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((value ^ (value >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
