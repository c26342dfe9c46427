"""Tables from what a user names: files, folders, patterns, archives, standard input, collections."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from genrail.catalog.csv_files import read_csv
from genrail.catalog.ir_collections import collection_id, documents
from genrail.catalog.json_files import read_json
from genrail.catalog.parquet_files import read_parquet
from genrail.catalog.sources import FORMATS, Limits, check_unfolded, files_of, format_of
from genrail.catalog.tables import Table, joined, merged
from genrail.errors import CatalogError
from genrail.storage.events import EventStore, is_event_store

__all__ = ["FORMATS", "Limits", "Table", "check_unfolded", "format_of", "merged", "read_table"]


def read_table(
    path: str | Path,
    *,
    format: str | None = None,
    encoding: str | None = None,
    limits: Limits | None = None,
    allow_large: bool = False,
) -> Table:
    """Read a file, or several of one kind, into a table.

    Values of CSV, TSV and RecBole files stay strings; the empty string is a missing value. In CSV, a row with too many
    or too few values is refused by row. The first line names the columns; the separator is told by counting fields.

    Args:
        path: The file, also packed (.gz, .zst, .zip); a folder or a pattern (``parts/*.csv``) whose files are read one
            after the other; a BEIR folder (its `corpus.jsonl`); ``-`` for standard input; or `irds:` with an id, by
            ir_datasets.
        format: One of `FORMATS`; by default told by the name, or by the first bytes.
        encoding: Of files that are text; by default what a byte order mark says, or UTF-8.
        limits: What the file may unfold to.
        allow_large: Lift the limits on rows, decoded bytes and ratio.

    Raises:
        CatalogError: The file is absent, empty, damaged, too large, or not of this format; the message names row and
            cure.
    """
    path = Path(path)
    limits = limits or Limits()
    limits = limits.lifted() if allow_large else limits
    if (collection := collection_id(path)) is not None:
        return Table.of(documents(collection, limits.rows), str(path))
    if format is not None and format not in FORMATS:
        raise CatalogError(f'format="{format}" is not known; the formats are: {", ".join(FORMATS)}')
    with files_of(path, limits) as files:
        tables = [_read_file(file, format, encoding, limits) for file in files]
    return tables[0] if len(tables) == 1 else joined(tables, path.name, limits)


def _read_file(path: Path, format: str | None, encoding: str | None, limits: Limits) -> Table:
    if format is None and is_event_store(path):
        return _read_events(path)
    kind = format or format_of(path)
    if kind == "parquet":
        return read_parquet(path, limits)
    if kind in ("jsonl", "json", "beir"):
        return read_json(path, encoding, limits)
    return read_csv(path, kind, encoding, limits)


def _read_events(path: Path) -> Table:
    """Read what a server kept of its users' events."""
    store = EventStore(path)
    try:
        names = {"user": pl.String, "item": pl.String, "kind": pl.String, "timestamp": pl.Float64}
        frame = pl.DataFrame(store.everything(), schema=names, orient="row")
    finally:
        store.close()
    return Table.of(frame, path.name)
