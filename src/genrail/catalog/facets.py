"""Describe attributes by their values: counts of words and flags, ranges of numbers and moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.items import Catalog
from genrail.catalog.values import TAGS, written

__all__ = ["facets"]

MOST_VALUES = 50  # of an attribute that is offered as a list to choose from


def facets(
    catalog: Catalog, names: Sequence[str] | None = None, rows: npt.NDArray[np.int64] | None = None
) -> list[dict[str, Any]]:
    """Describe some attributes of some items.

    Args:
        catalog: The items.
        names: Of the attributes; None for all.
        rows: Of the items; None for all live ones.

    Returns:
        For each attribute its `name` and `kind`: `number` or `moment` with `least` and `most`; `flag`, `words` or
        `tags` with `values` and `counts`, most frequent first (of rows that were given the first 50, of all live ones
        only where there are 50 at most); or `other`.

    Cost: one pass over the items for each attribute.

    >>> shop = Catalog.from_items([{"sku": f"s{n}", "name": "boot", "price": n, "new": n > 2} for n in range(5)])
    >>> facets(shop, ["price"]), facets(shop, ["new"], np.array([0, 1, 4]))[0]["counts"]
    ([{'name': 'price', 'kind': 'number', 'least': 0, 'most': 4}], [2, 1])
    """
    names = catalog.attribute_names if names is None else names
    if not names:
        return []
    frame = catalog.frame.select(names)
    some = frame.filter(pl.Series(catalog.live)) if rows is None else frame[rows]
    return [_facet(some.get_column(name), whole=rows is None) for name in names]


def _facet(column: pl.Series, whole: bool) -> dict[str, Any]:
    page: dict[str, Any] = {"name": column.name, "kind": "other"}
    if column.dtype == pl.Boolean:
        return page | {"kind": "flag", **_counts(column.drop_nulls())}
    if column.dtype.is_numeric() or column.dtype.is_temporal():
        known = column.drop_nulls()
        ends = {"least": known.min(), "most": known.max()}
        if column.dtype.is_temporal():
            return page | {
                "kind": "moment",
                **{name: None if end is None else written(end) for name, end in ends.items()},
            }
        return page | {"kind": "number", **ends}
    if column.dtype == TAGS:
        values = column.explode().drop_nulls()
    elif column.dtype == pl.String:
        values = column.drop_nulls()
    else:
        return page
    counts = _counts(values)
    page["kind"] = "tags" if column.dtype == TAGS else "words"
    if whole and len(counts["values"]) > MOST_VALUES:
        return page
    return page | {name: listed[:MOST_VALUES] for name, listed in counts.items()}


def _counts(values: pl.Series) -> dict[str, list[Any]]:
    counts = values.rename("value").value_counts(name="items").sort("items", "value", descending=[True, False])
    return {"values": counts["value"].to_list(), "counts": counts["items"].to_list()}
