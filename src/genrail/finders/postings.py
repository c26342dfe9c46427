"""Hold a sparse table by term: which rows a term scores, and how much. Words are terms, items of a history too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genrail.errors import DamagedError
from genrail.finders.arrays import load_array, save_arrays

__all__ = ["Postings"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Postings:
    """Hold a sparse matrix of shape (terms, rows), term by term.

    Args:
        indptr: Where each term's entries begin, shape (terms + 1,).
        indices: Rows of the entries; no row twice within a term.
        data: Values of the entries, float32.
        rows: Number of rows.
    """

    indptr: Integers
    indices: npt.NDArray[np.int32]
    data: npt.NDArray[np.float32]
    rows: int

    @classmethod
    def from_pairs(
        cls, terms: Integers, rows: Integers, values: npt.NDArray[np.floating], shape: tuple[int, int]
    ) -> Postings:
        """Add up the values of equal (term, row) pairs.

        Args:
            terms: Shape (pairs,).
            rows: Shape (pairs,).
            values: Shape (pairs,).
            shape: Numbers of terms and of rows.

        Cost: one sort of the pairs.
        """
        keys = terms.astype(np.int64) * shape[1] + rows
        distinct, inverse = np.unique(keys, return_inverse=True)
        sums = np.bincount(inverse, weights=values, minlength=len(distinct))
        starts = np.searchsorted(distinct, np.arange(shape[0] + 1, dtype=np.int64) * shape[1])
        return cls(starts.astype(np.int64), (distinct % shape[1]).astype(np.int32), sums.astype(np.float32), shape[1])

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def scores(self, terms: Integers, weights: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Add up each row's values over weighted terms.

        Args:
            terms: Shape (n,); a term may come more than once.
            weights: Shape (n,).

        Returns:
            Shape (rows,).

        Cost: O(rows + entries of the terms).
        """
        total = np.zeros(self.rows)
        for term, weight in zip(terms.tolist(), weights.tolist(), strict=True):
            span = slice(self.indptr[term], self.indptr[term + 1])
            total[self.indices[span]] += weight * self.data[span]
        return total

    def transposed(self) -> Postings:
        """Turn terms into rows and rows into terms.

        >>> table = Postings.from_pairs(np.array([0, 0]), np.array([1, 2]), np.array([5.0, 7.0]), shape=(1, 3))
        >>> table.transposed().scores(np.array([2]), np.array([1.0])).tolist()
        [7.0]
        """
        terms = np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.indptr))
        order = np.argsort(self.indices, kind="stable")
        starts = np.searchsorted(self.indices[order], np.arange(self.rows + 1))
        return Postings(starts.astype(np.int64), terms[order], self.data[order], len(self))

    def strongest(self, keep: int) -> Postings:
        """Keep the largest values of each term, and the rows with equal values at the border."""
        kept = np.zeros(len(self.data), dtype=bool)
        for term in range(len(self)):
            span = slice(self.indptr[term], self.indptr[term + 1])
            values = self.data[span]
            kept[span] = (
                values >= np.partition(values, len(values) - keep)[len(values) - keep] if len(values) > keep else True
            )
        counts = np.concatenate([[0], np.cumsum(kept)])
        return Postings(counts[self.indptr], self.indices[kept], self.data[kept], self.rows)

    def save(self, folder: Path) -> None:
        """Write three arrays into an existing folder."""
        save_arrays(folder, {"indptr": self.indptr, "indices": self.indices, "data": self.data})

    @classmethod
    def load(cls, folder: Path, terms: int, rows: int) -> Postings:
        """Read what `save` wrote.

        Raises:
            DamagedError: A missing or cut file, or entries that do not fit.
        """
        indptr = load_array(folder, "indptr", np.int64, (terms + 1,))
        indices = load_array(folder, "indices", np.int32, (None,))
        data = load_array(folder, "data", np.float32, (len(indices),))
        inside = not len(indices) or (indices.min() >= 0 and indices.max() < rows)
        whole = indptr[0] == 0 and indptr[-1] == len(indices) and bool(np.all(np.diff(indptr) >= 0))
        if not (inside and whole):
            raise DamagedError(
                f"{folder}: the arrays do not fit together or name rows beyond {rows}; restore the folder or build it "
                "again"
            )
        return cls(indptr, indices, data, rows)
