"""A query becomes a request: ids become rows, a filter becomes a mask, doubts become warnings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_, or_

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.catalog.filters import Junction, Node, Not, parse
from genrail.errors import QueryError
from genrail.finding.kept import Kept
from genrail.types import NewItems, Query

__all__ = ["FilterCache", "Request", "resolve"]

MAX_QUERY_CHARACTERS = 2048  # reliability.md D
MAX_HISTORY = 1000  # events accepted; the model reads the last of them and says so
MAX_SHARED_PARTS = 16  # a longer AND or OR is one pass: its parts would push everything else out of the cache

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Request:
    """Hold what a finder needs to answer one query about one edition of a catalogue.

    Args:
        text: The words, stripped, or None.
        history: Catalogue rows of the known items, oldest first.
        allowed: Mask over catalogue rows, made from the catalogue alone: what the last gate checks answers against.
        warnings: What the caller should know.
        filtered: The mask before `excluded` was taken out of it; equal conditions share one array.
        condition: Names `filtered` within the edition, for whoever compiles masks; None allows every live item.
        excluded: Rows that were taken out: seen and unwanted items.
        new_items: See `Query.new_items`.
    """

    text: str | None
    history: Rows
    allowed: Mask
    warnings: tuple[str, ...]
    filtered: Mask
    condition: str | None = None
    excluded: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    new_items: NewItems = "auto"


class FilterCache:
    """Remember the masks of recent filters of one edition of the catalogue, and those of their parts.

    ``a AND NOT b`` is put together from the masks of ``a`` and ``b``, so requests that combine the same conditions in
    other ways read each column once.

    Args:
        catalog: The items.
        kept: Where masks stay, by what the parsed condition is written as.

    >>> shoes = Catalog.from_items([{"id": str(n), "title": "shoe", "size": 36 + n} for n in range(4)])
    >>> cache = FilterCache(shoes)
    >>> condition, mask = cache.get("size > 36 AND NOT size = 38")
    >>> mask.tolist(), len(cache)
    ([False, True, False, True], 4)
    """

    def __init__(self, catalog: Catalog, kept: Kept[Mask] | None = None) -> None:
        self._catalog = catalog
        self._masks: Kept[Mask] = Kept(lambda mask: int(mask.nbytes)) if kept is None else kept
        self._conditions: Kept[str] = Kept(len)  # from the text of a filter to what it is written as

    def __len__(self) -> int:
        return len(self._masks)

    @property
    def nbytes(self) -> int:
        """Count the bytes of all masks that are kept."""
        return self._masks.nbytes

    def get(self, expression: str, before_part: Callable[[], None] | None = None) -> tuple[str, Mask]:
        """Evaluate an expression, or take it from the cache.

        Args:
            expression: The filter.
            before_part: Called before each condition; what it raises ends the evaluation.

        Returns:
            A name for the condition, the same for every way to write it, and the mask over catalogue rows.

        Raises:
            FilterError: The expression does not parse, or names an unknown field.
        """
        condition = self._conditions.find(expression)
        mask = None if condition is None else self._masks.find(condition)
        if condition is not None and mask is not None:
            return condition, mask
        node = parse(expression)
        condition = repr(node)
        mask = self._get(node, _parts(node) <= MAX_SHARED_PARTS, before_part)
        self._conditions.keep(expression, condition)
        return condition, mask

    def _get(self, node: Node, shared: bool, before_part: Callable[[], None] | None) -> Mask:
        key = repr(node)
        found = self._masks.find(key)
        return self._masks.keep(key, self._evaluate(node, shared, before_part)) if found is None else found

    def _evaluate(self, node: Node, shared: bool, before_part: Callable[[], None] | None) -> Mask:
        """Mark the live rows that a condition allows, in steps between which it can be stopped."""
        inner = self._get if shared else self._evaluate
        if isinstance(node, Not):
            return ~inner(node.part, shared, before_part) & self._catalog.live
        if isinstance(node, Junction):
            join = and_ if node.word == "AND" else or_
            mask: Mask = reduce(join, (inner(part, shared, before_part) for part in node.parts))
            return mask
        if before_part is not None:
            before_part()
        return self._catalog.where(node)


def _parts(node: Node) -> int:
    """Count the conditions of a filter."""
    if isinstance(node, Not):
        return _parts(node.part)
    return sum(map(_parts, node.parts)) if isinstance(node, Junction) else 1


def resolve(query: Query, catalog: Catalog, filters: FilterCache) -> Request:
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
    condition, filtered = filters.get(query.where) if query.where else (None, catalog.live)
    allowed = filtered
    if excluded.size:
        allowed = filtered.copy()
        allowed[excluded] = False
    return Request(text, history, allowed, warnings, filtered, condition, excluded, query.new_items)


def _known(item_ids: Sequence[str], catalog: Catalog) -> tuple[Rows, tuple[str, ...]]:
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
