"""Changes of an edition: what an update does to a catalogue, and the edition after a change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from genrail.catalog import Catalog
from genrail.catalog.amending import amend
from genrail.finding import Added, Change, Edition
from genrail.types import Json

__all__ = ["Revision", "grown", "only", "revise", "revised"]


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
    given: list[dict[str, object]]
    gone: list[int]
    rows: range


def grown(edition: Edition, catalog: Catalog, change: Change) -> Edition:
    """Make the edition after one change or several; the given one stays as it is.

    Args:
        edition: Before them.
        catalog: After them.
        change: What became of the rows.
    """
    return Edition(catalog, edition.finder.grow(catalog, change))


def only(edition: Edition, where: str) -> Edition:
    """Make the edition in which there is nothing but the items that a filter allows; the given one stays as it is.

    Raises:
        FilterError: The filter cannot be evaluated.

    Cost: one pass over the columns that the filter names, and what the finder's `grow` costs for the rest.
    """
    mask = edition.catalog.where(where)
    gone = np.flatnonzero(edition.catalog.live & ~mask)
    return grown(edition, edition.catalog.only(mask), Change(gone=gone)) if len(gone) else edition


def revised(edition: Edition, revision: Revision, reading: Json) -> tuple[Edition, Change]:
    """Make the edition after an update; the given one stays as it is.

    Args:
        edition: Before it.
        revision: From `revise` of its catalogue.
        reading: From `Finder.read` for `revision.rows`.
    """
    added = (Added.of(revision.catalog, revision.rows, reading),) if revision.rows else ()
    change = Change(added, np.asarray(revision.gone, dtype=np.int64))
    return grown(edition, revision.catalog, change), change


def revise(catalog: Catalog, items: Catalog | Iterable[Mapping[str, object]]) -> Revision:
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
