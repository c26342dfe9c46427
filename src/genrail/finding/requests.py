"""A query becomes a request: ids become rows, a filter becomes a mask, doubts become warnings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_, or_

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.catalog.conditions import as_filter
from genrail.catalog.filter_grammar import Junction, Node, Not, parse
from genrail.catalog.standing import standing
from genrail.errors import FilterError, QueryError
from genrail.finding.kept import Kept
from genrail.types import NewItems, Query

__all__ = ["MAX_K", "Arrangement", "FilterCache", "Request", "resolve", "sort_order"]

MAX_K = 1000  # hits that are looked at for one question, those of earlier pages included; reliability.md D
MAX_QUERY_CHARACTERS = 2048  # reliability.md D
MAX_HISTORY = 1000  # events accepted; the model reads the last of them and says so
MAX_SHARED_PARTS = 16  # a longer AND or OR is one pass: its parts would push everything else out of the cache

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Say which of the listed rows are shown, and in which order; see `Query`.

    Args:
        offset: Hits of earlier pages.
        min_score: Least score, or None.
        sort: Column, and whether the highest value comes first.
        boosts: What each row gains for each boost, 0 to 1, shape (rows,), and its weight.
        pins: Rows that come first, all of them allowed.
        facets: Attributes whose values are counted.
        fields: Attributes that hits carry; None for all.
    """

    offset: int = 0
    min_score: float | None = None
    sort: tuple[str, bool] | None = None
    boosts: tuple[tuple[npt.NDArray[np.floating], float], ...] = ()
    pins: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    facets: tuple[str, ...] = ()
    fields: tuple[str, ...] | None = None

    @property
    def plain(self) -> bool:
        """Tell whether what the finder gives is shown as it is."""
        return not (self.offset or self.min_score is not None or self.pins.size or self.wide)

    @property
    def wide(self) -> bool:
        """Tell whether more rows than those of the page decide what is on it."""
        return self.sort is not None or bool(self.boosts or self.facets)


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
        arrangement: What becomes of the rows that a finder lists; finders need not look at it.
        soft_filters: See `Query.soft_filters`.
    """

    text: str | None
    history: Rows
    allowed: Mask
    warnings: tuple[str, ...]
    filtered: Mask
    condition: str | None = None
    excluded: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    new_items: NewItems = "auto"
    arrangement: Arrangement = field(default_factory=Arrangement)
    soft_filters: bool = True


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
        self._standing: Kept[npt.NDArray[np.float32]] = Kept(lambda values: int(values.nbytes))

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

    def standing(self, name: str) -> npt.NDArray[np.float32]:
        """Give where each row stands by a column, 0 to 1; see `genrail.catalog.standing`.

        Raises:
            FilterError: The column has no amounts.
        """
        found = self._standing.find(name)
        if found is None:
            found = self._standing.keep(name, standing(self._catalog.frame.get_column(name), self._catalog.live))
        return found

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
    where = as_filter(query.where)
    condition, filtered = filters.get(where) if where else (None, catalog.live)
    allowed = filtered
    if excluded.size:
        allowed = filtered.copy()
        allowed[excluded] = False
    arranged = _arrangement(query, catalog, filters, allowed)
    wishes = query.new_items, arranged, query.soft_filters
    return Request(text, history, allowed, warnings, filtered, condition, excluded, *wishes)


def _arrangement(query: Query, catalog: Catalog, filters: FilterCache, allowed: Mask) -> Arrangement:
    """Look up the columns, filters and items that a query names for the order of its hits.

    Raises:
        QueryError: A column that there is not.
        FilterError: A filter that cannot be evaluated.
    """
    pins = catalog.rows(dict.fromkeys(query.pin))
    return Arrangement(
        query.offset,
        query.min_score,
        None if query.sort is None else sort_order(query.sort, catalog),
        tuple((_gains(name, catalog, filters), weight) for name, weight in query.boosts),
        pins[(pins >= 0) & allowed[pins]] if len(pins) else pins,
        catalog.known_attributes(query.facets),
        None if query.fields is None else catalog.known_attributes(query.fields),
    )


def sort_order(sort: str, catalog: Catalog) -> tuple[str, bool]:
    """Give the column that hits are sorted by, and whether its highest value comes first.

    Raises:
        QueryError: No such column.
    """
    name = sort.removeprefix("-")
    name = {"title": catalog.columns.title, "item_id": catalog.columns.item_id}.get(name, name)
    if name not in catalog.frame.columns:
        raise QueryError(f"sort: {catalog.no_attribute(name)}")
    return name, sort.startswith("-")


def _gains(name: str, catalog: Catalog, filters: FilterCache) -> npt.NDArray[np.floating]:
    """Give what each row gains: its standing in a column, or 1 where a filter holds."""
    if name in catalog.attribute_names:
        return filters.standing(name)
    try:
        parse(name)
    except FilterError as error:
        raise QueryError(f"boost: {catalog.no_attribute(name)}; nor is it a filter ({error})") from None
    return filters.get(as_filter(name) or "")[1].astype(np.float32)


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
