"""Change what is said about items where they stand, so that they keep their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from genrail.catalog.items import Catalog
from genrail.errors import CatalogError

__all__ = ["amend"]

_NAMED = 5  # ids that one message names


def amend(catalog: Catalog, items: Catalog | Sequence[Mapping[str, Any]]) -> tuple[Catalog, list[int]]:
    """Change titles and attributes of live items; columns that an item does not give keep their values.

    Args:
        catalog: Where the items are.
        items: Dictionaries with the id and what is new, or a catalogue. A value of None empties a column.

    Returns:
        The catalogue with the same rows and other values, and the row of each given item, in the order given.

    Raises:
        CatalogError: An id is not a live item, or occurs twice; or a column holds another type.

    Cost: a copy of each column.

    >>> shop = Catalog.from_items([{"sku": "a", "name": "Boot", "price": 9}, {"sku": "b", "name": "Clog", "price": 8}])
    >>> later, rows = amend(shop, [{"sku": "b", "price": 5}])
    >>> rows, later.titles, later.where("price < 6").tolist()
    ([1], ['Boot', 'Clog'], [False, True])
    """
    completed, rows = _completed(catalog, _dictionaries(catalog, items))
    # Appending checks and aligns names and types by the rules of the catalogue; then each row moves to its place.
    longer = catalog.update(completed).frame
    columns = [
        column[: len(catalog)].scatter(rows, column[len(catalog) :]) if len(catalog) else column
        for column in longer.get_columns()
    ]
    frame = pl.DataFrame(columns)
    return Catalog(frame, catalog.live.copy(), catalog.columns, catalog.report, catalog._lookup), rows


def _dictionaries(catalog: Catalog, items: Catalog | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(items, Catalog):
        return [dict(item) for item in items]
    theirs, ours = items.columns, catalog.columns
    names = {theirs.item_id: ours.item_id, theirs.title: ours.title}
    live = items.frame.filter(pl.Series(items.live))
    return [{names.get(name, name): value for name, value in row.items()} for row in live.to_dicts()]


def _completed(catalog: Catalog, given: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """Fill in what the items do not give, and find their rows."""
    name = catalog.columns.item_id
    if not given:
        raise CatalogError("there is nothing to update; give at least one item")
    lacking = next((place for place, item in enumerate(given) if item.get(name) is None), None)
    if lacking is not None:
        raise CatalogError(f'item {lacking} of the update has no "{name}"; give the id of each item')
    ids = [str(item[name]) for item in given]
    rows = catalog.rows(ids)
    if (rows < 0).any():
        unknown = [ids[place] for place in np.flatnonzero(rows < 0).tolist()]
        named = ", ".join(repr(item_id) for item_id in unknown[:_NAMED])
        raise CatalogError(f"{len(unknown):,} ids are not in the catalogue and cannot be updated: {named}; add them")
    before = catalog.frame[rows.tolist()].to_dicts()
    return [{**old, **new} for old, new in zip(before, given, strict=True)], rows.tolist()
