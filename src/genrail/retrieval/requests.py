"""A query becomes a request: ids become rows, a filter becomes a mask and a subset, doubts become warnings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from threading import Lock

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.catalog.filters import Junction, Node, Not, parse
from genrail.constraints.index import ConstraintIndex, Subset
from genrail.constraints.segments import LiveSubset, LiveTrie
from genrail.decoding.several import SeveralIndex, SeveralSubset
from genrail.errors import QueryError
from genrail.types import NewItems, Query

__all__ = ["FilterCache", "Request", "resolve"]

MAX_QUERY_CHARACTERS = 2048  # reliability.md D
MAX_HISTORY = 1000  # events accepted; the model reads the last of them and says so
MAX_FILTERS_KEPT = 64
MAX_FILTER_BYTES = 256 * 2**20  # of one edition: some twenty filters over 10^7 items
MAX_SHARED_PARTS = 16  # a longer AND or OR is one pass: its parts would push everything else out of the cache


Allowed = tuple[npt.NDArray[np.bool_], LiveSubset | SeveralSubset]  # a mask over rows, and the index's subset for it


@dataclass(frozen=True)
class Request:
    """Hold what the engine needs to answer one query.

    Args:
        text: The words, stripped, or None.
        history: Catalogue rows of the known items, oldest first.
        allowed: Mask over catalogue rows, made from the catalogue alone: what the last gate checks answers against.
        subset: The same set, compiled by the index; None allows every live item.
        warnings: What the caller should know.
        new_items: See `Query.new_items`.
    """

    text: str | None
    history: npt.NDArray[np.int64]
    allowed: npt.NDArray[np.bool_]
    subset: Subset | None
    warnings: tuple[str, ...]
    new_items: NewItems = "auto"


class FilterCache:
    """Remember the masks of recent filters of one edition of the catalogue, and those of their parts.

    ``a AND NOT b`` is put together from the bitmaps of ``a`` and ``b``, so requests that combine the same conditions
    in other ways read each column once.

    Args:
        catalog: The items.
        index: Makes subsets of the masks.
        entries: How many filters stay at most.
        nbytes: How many bytes they hold at most, masks and subsets together; one that is larger is not kept.

    >>> from genrail.constraints import LiveTrie, Trie
    >>> shoes = Catalog.from_items([{"id": str(n), "title": "shoe", "size": 36 + n} for n in range(4)])
    >>> cache = FilterCache(shoes, LiveTrie(Trie.from_matrix([[n] for n in range(4)], vocab_size=4)))
    >>> mask, subset = cache.get("size > 36 AND NOT size = 38")
    >>> mask.tolist(), len(subset), len(cache)
    ([False, True, False, True], 2, 4)
    """

    def __init__(
        self,
        catalog: Catalog,
        index: LiveTrie | SeveralIndex,
        entries: int = MAX_FILTERS_KEPT,
        nbytes: int = MAX_FILTER_BYTES,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._entries = entries
        self._most_bytes = nbytes
        self._kept: OrderedDict[str, Allowed] = OrderedDict()  # by what the parsed condition is written as
        self._keys: OrderedDict[str, str] = OrderedDict()  # from the text of a filter to that
        self._nbytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Count the bytes of all masks and subsets that are kept."""
        return self._nbytes

    def get(self, expression: str, before_part: Callable[[], None] | None = None) -> Allowed:
        """Evaluate an expression, or take it from the cache.

        Args:
            expression: The filter.
            before_part: Called before each condition; what it raises ends the evaluation.

        Returns:
            The mask over catalogue rows, and the subset that the index made of it.

        Raises:
            FilterError: The expression does not parse, or names an unknown field.
        """
        with self._lock:
            found = self._find(self._keys.get(expression, ""))
        if found is not None:
            return found
        node = parse(expression)
        entry = self._get(node, _parts(node) <= MAX_SHARED_PARTS, before_part)
        with self._lock:
            self._keys[expression] = repr(node)
            while len(self._keys) > self._entries:
                self._keys.popitem(last=False)
        return entry

    def _find(self, key: str) -> Allowed | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def _get(self, node: Node, shared: bool, before_part: Callable[[], None] | None) -> Allowed:
        key = repr(node)
        with self._lock:
            found = self._find(key)
        return self._keep(key, self._evaluate(node, shared, before_part)) if found is None else found

    def _evaluate(self, node: Node, shared: bool, before_part: Callable[[], None] | None) -> Allowed:
        if shared and isinstance(node, Not):
            mask, subset = self._get(node.part, shared, before_part)
            return ~mask & self._catalog.live, ~subset
        if shared and isinstance(node, Junction):
            parts = [self._get(part, shared, before_part) for part in node.parts]
            join = and_ if node.word == "AND" else or_
            return reduce(join, (mask for mask, _ in parts)), reduce(join, (subset for _, subset in parts))
        mask = self._mask(node, before_part)
        return mask, self._index.subset(mask)

    def _mask(self, node: Node, before_part: Callable[[], None] | None) -> npt.NDArray[np.bool_]:
        """Mark the live rows that a condition allows, in steps between which it can be stopped."""
        if before_part is not None and isinstance(node, Not):
            return ~self._mask(node.part, before_part) & self._catalog.live
        if before_part is not None and isinstance(node, Junction):
            join = and_ if node.word == "AND" else or_
            return reduce(join, (self._mask(part, before_part) for part in node.parts))
        if before_part is not None:
            before_part()
        return self._catalog.where(node)

    def _keep(self, key: str, entry: Allowed) -> Allowed:
        """Remember an entry; the least recently used ones make room."""
        size = _size(key, entry)
        with self._lock:
            if key in self._kept or size > self._most_bytes:
                return entry
            self._kept[key] = entry
            self._nbytes += size
            while len(self._kept) > self._entries or self._nbytes > self._most_bytes:
                self._nbytes -= _size(*self._kept.popitem(last=False))
        return entry


def _size(key: str, entry: Allowed) -> int:
    mask, subset = entry
    return len(key) + int(mask.nbytes) + subset.nbytes


def _parts(node: Node) -> int:
    """Count the conditions of a filter."""
    if isinstance(node, Not):
        return _parts(node.part)
    return sum(map(_parts, node.parts)) if isinstance(node, Junction) else 1


def resolve(query: Query, catalog: Catalog, index: ConstraintIndex | SeveralIndex, filters: FilterCache) -> Request:
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
    allowed = catalog.live
    subset: Subset | None = None
    if query.where:
        allowed, subset = filters.get(query.where)
    if excluded.size:
        subset = index.without(excluded, subset)
        allowed = allowed.copy()
        allowed[excluded] = False
    return Request(text, history, allowed, subset, warnings, query.new_items)


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
