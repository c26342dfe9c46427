"""An edition: the parts of an engine that belong together, and the next edition after a change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from genrail.catalog import Catalog
from genrail.catalog.amending import amend
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.decoding.several import SeveralIndex
from genrail.identifiers import IdentifierTable
from genrail.identifiers.several import SeveralIdentifiers, spelled
from genrail.retrieval.lanes import Added, Lane
from genrail.retrieval.requests import FilterCache

if TYPE_CHECKING:
    from genrail.retrieval.new_items import Newcomers

__all__ = ["Edition", "Revision", "revise"]


@dataclass(frozen=True)
class Revision:
    """Say what an update does to a catalogue.

    Args:
        catalog: The catalogue with the new values.
        given: All items of the update, whole, as they are logged.
        gone: Rows of the items whose text changed: they move to new rows.
        rows: The new rows of those items.
    """

    catalog: Catalog
    given: list[dict[str, Any]]
    gone: list[int]
    rows: range


@dataclass(frozen=True)
class Edition:
    """Hold the parts that belong together; a request keeps one edition from start to end.

    Args:
        catalog: The items, removed ones included (their bit in `live` is off).
        table: Identifier of each catalogue row.
        index: What keeps the decoder on these identifiers.
        lane: The model and how it reads requests.
    """

    catalog: Catalog
    table: IdentifierTable | SeveralIdentifiers
    index: LiveTrie | SeveralIndex
    lane: Lane
    filters: FilterCache = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", FilterCache(self.catalog, self.index))

    @cached_property
    def newcomers(self) -> Newcomers | None:
        """Give the live items that came after the model was trained; None where there are none."""
        from genrail.retrieval.new_items import newcomers

        return newcomers(self)

    def with_items(self, catalog: Catalog, added: Sequence[Added], gone: Sequence[int] = ()) -> Edition:
        """Make the edition after one change or several; this one stays as it is.

        Args:
            catalog: The catalogue after them.
            added: What each of them brought, in the order of the new rows.
            gone: Rows that they removed, new ones among them.
        """
        rows = range(len(self.catalog), len(catalog))
        lane, table, index = self.lane, self.table, self.index
        if added:
            lane, table = lane.extend(table, added)
            index = index.add(spelled(table, rows))
        return Edition(catalog, table, index.remove(gone) if len(gone) else index, lane)

    def without_items(self, item_ids: Sequence[str]) -> Edition:
        """Make the edition without some items; this one stays as it is.

        Raises:
            CatalogError: An id is not in the catalogue.
        """
        catalog = self.catalog.remove(item_ids)
        return replace(self, catalog=catalog, index=self.index.remove(self.catalog.rows(item_ids)))

    def only(self, where: str) -> Edition:
        """Make the edition in which there is nothing but the items that a filter allows; this one stays as it is.

        Raises:
            FilterError: The filter cannot be evaluated.

        Cost: one pass over the columns that the filter names, and a copy of the index's bitmap.
        """
        mask = self.catalog.where(where)
        gone = np.flatnonzero(self.catalog.live & ~mask)
        index = self.index.remove(gone) if len(gone) else self.index
        return Edition(self.catalog.only(mask), self.table, index, self.lane)

    def revised(self, revision: Revision, reading: dict[str, Any]) -> Edition:
        """Make the edition after an update; this one stays as it is.

        Args:
            revision: From `revise` of this one's catalogue.
            reading: From `Lane.read` for `revision.rows`.
        """
        if not revision.rows:
            return replace(self, catalog=revision.catalog)
        added = Added.of(revision.catalog, revision.rows, reading)
        return self.with_items(revision.catalog, [added], revision.gone)

    def merged(self, compacted: Trie, before: Edition) -> Edition:
        """Make the edition that searches a compacted index; it answers as this one.

        Args:
            compacted: Of the index of `before`.
            before: An edition that this one came from by adding, updating and removing.
        """
        rows = range(len(before.catalog), len(self.catalog))
        gone = np.flatnonzero(before.catalog.live & ~self.catalog.live[: rows.start])
        merged = before.index.rebuilt(compacted) if isinstance(before.index, SeveralIndex) else LiveTrie(compacted)
        index = merged.remove(gone) if len(gone) else merged
        if rows:
            index = index.add(spelled(self.table, rows))
            index = index.remove(rows.start + np.flatnonzero(~self.catalog.live[rows.start :]))
        return replace(self, index=index)


def revise(catalog: Catalog, items: Catalog | Iterable[Mapping[str, Any]]) -> Revision:
    """Work out what an update does: which items keep their rows, and which move because their text changed.

    Raises:
        CatalogError: An id is not in the catalogue, or there twice.
    """
    amended, rows = amend(catalog, items if isinstance(items, Catalog) else list(items))
    given = amended.records(rows)
    pairs = zip(_texts(catalog, rows), _texts(amended, rows), strict=True)
    moved = [place for place, (before, after) in enumerate(pairs) if before != after]
    if moved:
        amended = amended.update([given[place] for place in moved])
    return Revision(amended, given, [rows[place] for place in moved], range(len(catalog), len(amended)))


def _texts(catalog: Catalog, rows: list[int]) -> list[str]:
    """Write what a text encoder reads of some rows."""
    some = Catalog(catalog.frame[rows], np.ones(len(rows), dtype=np.bool_), catalog.columns, catalog.report)
    return some.texts()
