"""What `inspect` says about an engine's identifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog import Catalog
from genrail.identifiers.quality import IdentifierReport, measure
from genrail.retrieval.engine import Engine
from genrail.retrieval.lanes import NativeLane

__all__ = ["item_vectors", "measure_identifiers"]

MAX_ATTRIBUTES = 4  # a table that fits a terminal
MAX_VALUES = 200  # more different values than this name items, they do not group them


def measure_identifiers(engine: Engine) -> IdentifierReport:
    """Measure the identifiers of the live items: code use, collisions, and what items under one prefix share.

    Cost: a few seconds for 10,000 items.
    """
    edition = engine.edition
    vectors = item_vectors(edition.lane) if isinstance(edition.lane, NativeLane) else None
    table = edition.table.leading
    return measure(table, live=edition.catalog.live, vectors=vectors, attributes=_grouping_attributes(edition.catalog))


def item_vectors(lane: NativeLane) -> npt.NDArray[np.float32]:
    """Give the text vector of every row, as the native model keeps it, shape (rows, dimensions)."""
    from genrail.models import native_warm_start

    return native_warm_start.item_vectors(lane.model)


def _grouping_attributes(catalog: Catalog) -> dict[str, list[Any]]:
    """Choose the attributes whose values many items share."""
    found: dict[str, list[Any]] = {}
    for name in catalog.attribute_names:
        column = catalog.frame.get_column(name)
        if column.dtype == pl.String and 1 < column.n_unique() <= min(MAX_VALUES, max(2, len(column) // 4)):
            found[name] = column.to_list()
        if len(found) == MAX_ATTRIBUTES:
            break
    return found
