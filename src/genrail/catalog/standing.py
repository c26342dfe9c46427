"""Where a row stands among the others: by a column of numbers, moments, or true and false."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.errors import FilterError

__all__ = ["standing"]


def standing(column: pl.Series, live: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Give the share of the live rows with a value that a row's value is above, ties in the middle, shape (rows,).

    True is 1 and false 0; a missing value is 0.

    Raises:
        FilterError: The column holds text or tags, which have no amount.

    >>> standing(pl.Series("sold", [5, 900, None, 5]), np.ones(4, dtype=np.bool_)).round(2).tolist()
    [0.25, 1.0, 0.0, 0.25]
    """
    if column.dtype == pl.Boolean:
        return column.fill_null(False).to_numpy().astype(np.float32)
    if not (column.dtype.is_numeric() or column.dtype.is_temporal()):
        raise FilterError(
            f'boost: "{column.name}" holds text, which has no amount; boost a value of it: "{column.name} = \'...\'"'
        )
    values = column.to_physical().cast(pl.Float64).set(pl.Series(~live), None)
    ranks = values.fill_nan(None).rank("average")
    last = max(len(ranks) - ranks.null_count() - 1, 1)
    return ((ranks.fill_null(1.0) - 1.0) / last).cast(pl.Float32).to_numpy()
