"""What `inspect` says about an engine's identifiers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog import Catalog
from genrail.errors import SettingsError
from genrail.finders.generative import generative_part
from genrail.finders.native import Native, NativeSpelling
from genrail.finding import Edition
from genrail.identifiers.quality import IdentifierReport, measure

__all__ = ["item_vectors", "measure_identifiers"]

MAX_ATTRIBUTES = 4  # a table that fits a terminal
MAX_VALUES = 200  # more different values than this name items, they do not group them


def measure_identifiers(edition: Edition) -> IdentifierReport:
    """Measure the identifiers of the live items: code use, collisions, and what items under one prefix share.

    Raises:
        SettingsError: Nothing in this engine writes identifiers.

    Cost: a few seconds for 10,000 items.
    """
    found = generative_part(edition.finder)
    if found is None:
        raise SettingsError(f"{edition.finder.name} writes no identifiers, so there are none to measure")
    vectors = item_vectors(found.spelling) if isinstance(found, Native) else None
    table = found.table.leading
    return measure(table, live=edition.catalog.live, vectors=vectors, attributes=_grouping_attributes(edition.catalog))


def item_vectors(spelling: NativeSpelling) -> npt.NDArray[np.float32]:
    """Give the text vector of every row, as the native model keeps it, shape (rows, dimensions)."""
    from genrail.models import native_warm_start

    return native_warm_start.item_vectors(spelling.model)


def _grouping_attributes(catalog: Catalog) -> dict[str, list[object]]:
    """Choose the attributes whose values many items share."""
    found: dict[str, list[object]] = {}
    for name in catalog.attribute_names:
        column = catalog.frame.get_column(name)
        if column.dtype == pl.String and 1 < column.n_unique() <= min(MAX_VALUES, max(2, len(column) // 4)):
            found[name] = column.to_list()
        if len(found) == MAX_ATTRIBUTES:
            break
    return found
