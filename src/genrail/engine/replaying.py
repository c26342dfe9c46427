"""Apply logged changes: all of a log in one step, with the result of one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import numpy as np

from genrail.catalog import Catalog
from genrail.engine.revising import grown, revise
from genrail.errors import FormatError
from genrail.finding import Added, Change, Edition
from genrail.types import JsonObject

__all__ = ["replayed"]

Record = JsonObject


def replayed(edition: Edition, records: Iterable[Record]) -> Edition:
    """Make the edition after logged changes; this one stays as it is.

    The catalogue goes through runs of like changes, and the finder takes everything that is new at once.

    Args:
        edition: Before them.
        records: As `LiveEdition` logs them, oldest first.

    Raises:
        FormatError: A change of a kind that is not known here.

    Cost: that of one change with as many items, and a copy of the catalogue's columns for each update of a text and
    for each run of other updates.
    """
    changes = _Changes(edition.catalog)
    for kind, run in groupby(records, key=_kind):
        _KINDS[kind](changes, list(run))
    if changes.catalog is edition.catalog:
        return edition
    return grown(edition, changes.catalog, Change(tuple(changes.added), np.asarray(changes.gone, dtype=np.int64)))


class _Changes:
    """Gather what a log did to a catalogue."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.added: list[Added] = []
        self.gone: list[int] = []

    def add(self, run: list[Record]) -> None:
        """Add the items of several changes, each of which remains a group of its own."""
        begin = len(self.catalog)
        self.catalog = self.catalog.add([item for record in run for item in record["items"]])
        for record in run:
            rows = range(begin, begin + len(record["items"]))
            self.added.append(Added.of(self.catalog, rows, record["reading"]))
            begin = rows.stop

    def remove(self, run: list[Record]) -> None:
        """Remove items."""
        item_ids = [item_id for record in run for item_id in record["item_ids"]]
        self.gone += self.catalog.rows(item_ids).tolist()
        self.catalog = self.catalog.remove(item_ids)

    def update(self, run: list[Record]) -> None:
        """Change attributes where items stand."""
        name = self.catalog.columns.item_id
        # Items are logged whole, so of several changes of one item the last is what remains.
        last = {item[name]: item for record in run for item in record["items"]}
        revision = revise(self.catalog, list(last.values()))
        if revision.rows:  # of a finder that reads texts but says nothing of them
            self.move(run)
        else:
            self.catalog = revision.catalog

    def move(self, run: list[Record]) -> None:
        """Change texts, each of which moves its item to a new row."""
        for record in run:
            revision = revise(self.catalog, record["items"])
            self.catalog = revision.catalog
            self.gone += revision.gone
            if revision.rows:
                self.added.append(Added.of(self.catalog, revision.rows, record["reading"]))


_KINDS = {"add": _Changes.add, "remove": _Changes.remove, "update": _Changes.update, "move": _Changes.move}


def _kind(record: Record) -> str:
    kind = record.get("change")
    if kind == "update" and record["reading"]:
        return "move"
    if kind not in ("add", "remove", "update"):
        raise FormatError(
            f"the log holds a change {kind!r}, which this version of genrail does not know; upgrade genrail"
        )
    return str(kind)
