"""Scores by one vector: of all rows, of some, or of the best alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genrail.finders.parts import Rows
from genrail.finders.products import inner_products
from genrail.finding.ranks import highest, top_rows

__all__ = ["Cosines"]

Integers = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cosines:
    """Tell the score of each row, ``(row @ vector - shift) / length``, the same however it is asked for.

    Args:
        rows: The items' vectors.
        vector: Of words or of a past, shape (dimensions,).
        shift: What is taken away from each product.
        lengths: What the rest is divided by, positive, (rows,); None for 1.

    >>> told = Cosines(Rows.of(np.eye(3, dtype=np.float32)), np.array([0.5, 0.25, 0.0], dtype=np.float32))
    >>> told[np.array([1, 0])].tolist()
    [0.25, 0.5]
    >>> told.best(np.array([True, False, True]), 1, np.arange(3))
    (array([0]), array([0.5], dtype=float32))
    """

    rows: Rows
    vector: Vectors
    shift: float = 0.0
    lengths: Vectors | None = None

    def all(self) -> Vectors:
        """Score all rows."""
        return self._scaled(self.rows.products(self.vector), slice(None))

    def __getitem__(self, rows: Integers) -> Vectors:
        """Score some rows."""
        return self._scaled(inner_products(self.rows.take(rows), self.vector), rows)

    def best(self, allowed: npt.NDArray[np.bool_], k: int, precedence: Integers) -> tuple[Integers, Vectors]:
        """Find the k best of the allowed rows as `top_rows` finds them among all scores, but score few.

        Args:
            allowed: Shape (rows,).
            k: How many at most.
            precedence: Lower comes first between equal scores, (rows,).

        Returns:
            Rows, best first, and their scores.

        Cost: one pass over the rounded vectors, and the scores of rows that these do not tell apart from the k-th best.
        """
        rows = np.flatnonzero(allowed)
        if k < len(rows):
            # Taking away and dividing round the same way for a bound and what it bounds, so it stays one.
            low, high = (self._scaled(one, slice(None))[rows] for one in self.rows.bounds(self.vector))
            rows = rows[high >= highest(low, k)]
        scores = self[rows]
        best = top_rows(scores, np.ones(len(rows), dtype=np.bool_), k, precedence[rows])
        return rows[best], scores[best]

    def _scaled(self, products: Vectors, rows: Integers | slice) -> Vectors:
        if self.lengths is None:
            return products
        scaled: Vectors = (products - np.float32(self.shift)) / self.lengths[rows]
        return scaled
