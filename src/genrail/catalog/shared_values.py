"""Which columns hold values that items share: decided by what the values look like, never by a column's name."""

from __future__ import annotations

import polars as pl

__all__ = ["shared_values"]


def shared_values(column: pl.Series) -> list[str] | None:
    """List a column's values, most frequent first, where one stands for two items or more on average.

    Returns:
        None for a column that has fewer than two values, or hardly two items with the same one.

    >>> shared_values(pl.Series(["red", "blue", "red", None, "blue", "red"]))
    ['red', 'blue']
    >>> shared_values(pl.Series(["a title", "another one", "a third"]))
    """
    given = column.drop_nulls().cast(pl.String).rename("value")
    given = given.filter(given != "")
    counts = given.value_counts(name="items").sort("items", "value", descending=[True, False])
    return counts["value"].to_list() if 2 <= len(counts) <= len(given) // 2 else None
