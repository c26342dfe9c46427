"""Change what is said about items where they stand, so that they keep their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from genrail.catalog.columns import frame_and_mixed
from genrail.catalog.items import Catalog
from genrail.catalog.tables import Table
from genrail.catalog.values import TAGS
from genrail.errors import CatalogError

__all__ = ["amend"]

_NAMED = 5  # ids that one message names


def amend(catalog: Catalog, items: Catalog | Sequence[Mapping[str, object]]) -> tuple[Catalog, list[int]]:
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
    given = _dictionaries(catalog, items)
    rows = _rows(catalog, given)
    # Appending checks names and types by the rules of the catalogue; then each row moves to its place.
    longer = catalog.update(_completed(catalog, given, rows)).frame
    order = np.arange(len(catalog))
    order[rows] = len(catalog) + np.arange(len(rows))
    frame = pl.DataFrame(
        [
            column.gather(order)
            if column.dtype == TAGS  # which Polars cannot scatter
            else column[: len(catalog)].scatter(rows, column[len(catalog) :])
            for column in longer.get_columns()
        ]
    )
    return Catalog(frame, catalog.live.copy(), catalog.columns, catalog.report, catalog._lookup), rows


def _dictionaries(catalog: Catalog, items: Catalog | Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    if not isinstance(items, Catalog):
        return [dict(item) for item in items]
    theirs, ours = items.columns, catalog.columns
    names = {theirs.item_id: ours.item_id, theirs.title: ours.title}
    live = items.frame.filter(pl.Series(items.live))
    return [{names.get(name, name): value for name, value in row.items()} for row in live.to_dicts()]


def _rows(catalog: Catalog, given: list[dict[str, object]]) -> list[int]:
    """Find the rows of the items."""
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
    return [int(row) for row in rows]


def _completed(catalog: Catalog, given: list[dict[str, object]], rows: list[int]) -> pl.DataFrame:
    """Take what the items give, in the types of the catalogue, and what it says already for the rest."""
    frame, mixed = frame_and_mixed(given)
    new, _ = catalog.typed(Table.of(frame, "the update", mixed))
    before = catalog.frame[rows]
    made = []
    for column in new.get_columns():
        named = pl.Series([column.name in item for item in given], dtype=pl.Boolean)
        if column.name == catalog.columns.item_id:
            column = before.get_column(column.name)  # as it is spelt in the catalogue
        elif column.name in before.columns and not named.all():
            old = before.get_column(column.name)
            kind = column.dtype if old.null_count() == len(old) or column.dtype == pl.Float64 else old.dtype
            column = column.cast(kind).zip_with(named, old.cast(kind))
        made.append(column)
    return before.with_columns(made)
