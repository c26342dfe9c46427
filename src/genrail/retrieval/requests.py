"""A query becomes a request: ids become rows, a filter becomes a mask and a subset, doubts become warnings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.constraints.index import ConstraintIndex, Subset
from genrail.errors import QueryError
from genrail.types import Query

__all__ = ["FilterCache", "Request", "resolve"]

MAX_QUERY_CHARACTERS = 2048  # reliability.md D
MAX_HISTORY = 1000  # events accepted; the model reads the last of them and says so
MAX_FILTERS_KEPT = 64


@dataclass(frozen=True)
class Request:
    """Hold what the engine needs to answer one query.

    Args:
        text: The words, stripped, or None.
        history: Catalogue rows of the known items, oldest first.
        allowed: Mask over catalogue rows, made from the catalogue alone: what the last gate checks answers against.
        subset: The same set, compiled by the index; None allows every live item.
        warnings: What the caller should know.
    """

    text: str | None
    history: npt.NDArray[np.int64]
    allowed: npt.NDArray[np.bool_]
    subset: Subset | None
    warnings: tuple[str, ...]


class FilterCache:
    """Remember the masks of recent filter expressions of one edition of the catalogue."""

    def __init__(self, catalog: Catalog, index: ConstraintIndex) -> None:
        self._catalog = catalog
        self._index = index
        self._kept: OrderedDict[str, tuple[npt.NDArray[np.bool_], Subset]] = OrderedDict()
        self._lock = Lock()

    def get(self, expression: str) -> tuple[npt.NDArray[np.bool_], Subset]:
        """Evaluate an expression, or take it from the cache.

        Returns:
            The mask over catalogue rows, and the subset that the index made of it.

        Raises:
            FilterError: The expression does not parse, or names an unknown field.
        """
        with self._lock:
            if expression in self._kept:
                self._kept.move_to_end(expression)
                return self._kept[expression]
        mask = self._catalog.where(expression)
        entry = (mask, self._index.subset(mask))
        with self._lock:
            self._kept[expression] = entry
            while len(self._kept) > MAX_FILTERS_KEPT:
                self._kept.popitem(last=False)
        return entry


def resolve(query: Query, catalog: Catalog, index: ConstraintIndex, filters: FilterCache) -> Request:
    """Turn a query into a request against one edition of the catalogue.

    Raises:
        QueryError: No words, and not a single known item in the history; or a text or history over its limit.
        FilterError: The filter cannot be evaluated.
    """
    text = (query.text or "").strip() or None
    if text is not None and len(text) > MAX_QUERY_CHARACTERS:
        raise QueryError(
            f"the query has {len(text)} characters; the limit is {MAX_QUERY_CHARACTERS}, please shorten it"
        )
    if len(query.history) > MAX_HISTORY:
        raise QueryError(f"the history has {len(query.history)} items; the limit is {MAX_HISTORY}, send the latest")
    history, warnings = _known(query.history, catalog)
    if text is None and not history.size:
        raise QueryError(
            f"no item of the history is in the catalogue ({_some(query.history)}); check the ids, or add words"
        )
    excluded = catalog.rows(query.exclude)
    excluded = excluded[excluded >= 0]
    if query.exclude_seen:
        excluded = np.union1d(excluded, history)
    allowed, subset = filters.get(query.where) if query.where else (catalog.live, None)
    if excluded.size:
        subset = index.without(excluded, subset)
        allowed = allowed.copy()
        allowed[excluded] = False
    return Request(text, history, allowed, subset, warnings)


def _known(item_ids: Sequence[str], catalog: Catalog) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Look up a history; unknown items are left out with a warning."""
    rows = catalog.rows(item_ids)
    unknown = [item for item, row in zip(item_ids, rows.tolist(), strict=True) if row < 0]
    if not unknown:
        return rows, ()
    return rows[rows >= 0], (
        f"{len(unknown)} of {len(item_ids)} history items are not in the catalogue: {_some(unknown)}",
    )


def _some(item_ids: Sequence[str], most: int = 3) -> str:
    more = f" and {len(item_ids) - most} more" if len(item_ids) > most else ""
    return ", ".join(repr(item) for item in item_ids[:most]) + more
