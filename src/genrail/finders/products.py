"""Inner products whose rounding depends on the two vectors alone, not on where a row lies.

A matrix product by BLAS adds up rows at the end of a block in another order than rows in its middle. So the same item
would get another score, by some 1e-9, after its part of an index was joined with others or read from a file, and items
that are level would change places.
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.compiled import compiled

__all__ = ["inner_products"]


def inner_products(matrix: Array, vector: Array, rows: Array | None = None) -> Array:
    """Give the inner product of a vector with each row of a matrix, or with some rows, in the matrix's type.

    Args:
        matrix: Shape (rows, dimensions).
        vector: Shape (dimensions,), of the same type.
        rows: Which rows, shape (n,); None for all.

    Cost: as long as the matrix takes to be read from memory.

    >>> inner_products(np.eye(3), np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 2.0, 3.0]
    >>> inner_products(np.eye(3), np.array([1.0, 2.0, 3.0]), np.array([2, 0])).tolist()
    [3.0, 1.0]
    """
    wanted = np.arange(len(matrix)) if rows is None else rows
    found = np.empty(len(wanted), dtype=matrix.dtype)
    _multiply(matrix, np.asarray(vector, dtype=matrix.dtype), wanted, found)
    return found


def _multiply_plainly(matrix: Array, vector: Array, rows: Array, found: Array) -> None:
    whole = len(rows) == len(matrix) and np.array_equal(rows, np.arange(len(matrix)))
    np.einsum("nd,d->n", matrix if whole else matrix[rows], vector, out=found)


@compiled(plain=_multiply_plainly, fastmath={"reassoc", "contract", "nsz"})
def _multiply(matrix: Array, vector: Array, rows: Array, found: Array) -> None:
    """Write the products of some rows; the columns are added in the same order for each row."""
    for place in range(len(rows)):
        row = rows[place]
        total = vector[0] * 0
        for column in range(len(vector)):
            total += matrix[row, column] * vector[column]
        found[place] = total
