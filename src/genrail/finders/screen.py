"""Find the rows that may be among the k best by inner product, reading a quarter of the memory that all rows take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.compiled import compiled

__all__ = ["Screen"]

Vectors = npt.NDArray[np.float32]

BLOCK = 65_536  # rows that are rounded at once, so that no second copy of all vectors is made
LARGEST = 127  # of a code
FINEST = 4095  # of a rounded query, where sums of so many columns stay below 2^31
EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Screen:
    """Hold vectors rounded to 8 bits, and how far each is off by that: a bound on each product, not a guess.

    Args:
        codes: Whole numbers, int8, shape (rows, dimensions).
        scales: What a code of each row is multiplied with, (rows,).
        lost: Length of what rounding took away from each row, (rows,).
        longest: Length of the longest row.

    Cost: a byte for each number of the vectors and 8 bytes a row; made in one pass over them.
    Source: the bound is the inequality of Cauchy and Schwarz. Scalar quantisation for a first look is common practice
    (Lucene, Faiss), there with so many times k rows to score again instead of a bound.

    >>> screen = Screen.of(np.array([[1.0, 0.0], [0.6, 0.8]], dtype=np.float32))
    >>> low, high = screen.bounds(np.array([1.0, 0.0], dtype=np.float32))
    >>> bool((low <= [1.0, 0.6]).all() and (high >= [1.0, 0.6]).all() and (high - low < 0.02).all())
    True
    """

    codes: npt.NDArray[np.int8]
    scales: Vectors
    lost: Vectors
    longest: float

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Round vectors, float32, shape (rows, dimensions)."""
        rows = len(vectors)
        codes = np.empty(vectors.shape, dtype=np.int8)
        scales, lost = np.empty(rows, dtype=np.float32), np.empty(rows, dtype=np.float32)
        longest = 0.0
        for first in range(0, rows, BLOCK):
            block = vectors[first : first + BLOCK]
            here = slice(first, first + len(block))
            scales[here] = np.abs(block).max(axis=1, initial=0.0) / LARGEST
            scales[here][scales[here] == 0.0] = 1.0
            codes[here] = np.rint(block / scales[here][:, None])
            lost[here] = np.linalg.norm(block - codes[here] * scales[here][:, None], axis=1)
            longest = max(longest, float(np.linalg.norm(block, axis=1).max(initial=0.0)))
        return cls(codes, scales, lost, longest)

    @property
    def nbytes(self) -> int:
        """Count the bytes of the arrays."""
        return self.codes.nbytes + self.scales.nbytes + self.lost.nbytes

    def bounds(self, vector: Vectors) -> tuple[Vectors, Vectors]:
        """Bound the product of each row with a vector from below and above, as `inner_products` computes it.

        Args:
            vector: Finite, shape (dimensions,).
        """
        rows, dimensions = self.codes.shape
        finest = min(FINEST, (2**31 - 1) // (LARGEST * max(dimensions, 1)))
        unit = float(np.abs(vector).max(initial=0.0)) / finest or 1.0
        rounded = np.rint(vector / unit).astype(np.int16)
        length = float(np.linalg.norm(vector))
        # What rounding the query takes away; and the rounding of float32, at most, in sums of so many columns.
        off = self.longest * (float(np.linalg.norm(vector - rounded * unit)) + 4 * (dimensions + 8) * EPSILON * length)
        totals = np.empty(rows, dtype=np.int32)
        _add_up(self.codes, rounded, totals)
        low, high = np.empty(rows, dtype=np.float32), np.empty(rows, dtype=np.float32)
        _bound(totals, self.scales, self.lost, unit, length, off, low, high)
        return low, high


@compiled
def _add_up(codes: Array, rounded: Array, totals: Array) -> None:
    """Write the product of each row of codes; this loop writes nothing else, so that it becomes vector instructions."""
    for row in range(len(codes)):
        total = np.int32(0)
        for column in range(len(rounded)):
            total += np.int32(codes[row, column]) * np.int32(rounded[column])
        totals[row] = total


@compiled
def _bound(
    totals: Array, scales: Array, lost: Array, unit: float, length: float, off: float, low: Array, high: Array
) -> None:
    """Write the bounds of each row."""
    for row in range(len(totals)):
        product = totals[row] * unit * scales[row]
        slack = lost[row] * length + off
        low[row] = product - slack
        high[row] = product + slack
