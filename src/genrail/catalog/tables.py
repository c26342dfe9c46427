"""A file as read: its rows, and what is known about them before types are settled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.columns import canonical
from genrail.catalog.sources import Limits
from genrail.catalog.values import written_column
from genrail.errors import CatalogError

__all__ = ["Table", "check_rows", "joined", "merged", "mixed_columns"]


@dataclass(frozen=True)
class Table:
    """Hold a file as read: its rows that could be parsed, and the others with the reason.

    Args:
        frame: The columns, under the names of the file.
        source: How messages call the file.
        numbers: Row number in the file of each row of `frame`, from 1, the header not counted.
        refused: Rows that could not be parsed: number and reason.
        typed: True when the file says itself what is a number (JSON, Parquet).
        mixed: Columns of a typed file that held values of several kinds, which were written as strings.
        notes: What is worth knowing about how the file was read.
    """

    frame: pl.DataFrame
    source: str
    numbers: npt.NDArray[np.int64]
    refused: tuple[tuple[int, str], ...] = ()
    typed: bool = True
    mixed: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def rows_in(self) -> int:
        """Count all rows of the file."""
        return len(self.frame) + len(self.refused)

    @classmethod
    def of(cls, frame: pl.DataFrame, source: str, mixed: frozenset[str] = frozenset()) -> Table:
        """Wrap a table that is in memory already."""
        return cls(frame, source, np.arange(1, len(frame) + 1, dtype=np.int64), mixed=mixed)


def check_rows(name: str, rows: int, limits: Limits) -> None:
    """Stop when there are more rows than the limits allow."""
    if rows > limits.rows:
        raise CatalogError(f"{name} has more than {limits.rows:,} rows; pass allow_large=True to read it all")


def joined(tables: list[Table], source: str, limits: Limits) -> Table:
    """Stack the tables of several files; rows are counted through, and refused ones name their file."""
    numbers: list[npt.NDArray[np.int64]] = []
    refused: list[tuple[int, str]] = []
    begin = 0
    for table in tables:
        numbers.append(table.numbers + begin)
        refused += [(begin + number, f"{reason} (row {number} of {table.source})") for number, reason in table.refused]
        begin += max([int(table.numbers.max(initial=0)), *(number for number, _ in table.refused)])
        check_rows(source, begin, limits)
    read = [canonical(table.frame) for table in tables]
    frames = [frame for frame, _ in read]
    notes = [
        f"{table.source}: {note}"
        for table, (_, said) in zip(tables, read, strict=True)
        for note in (*table.notes, *said)
    ]
    mixed = frozenset(name for table in tables for name in table.mixed) | mixed_columns(frames)
    typed = all(table.typed for table in tables)
    return Table(merged(frames), source, np.concatenate(numbers), tuple(refused), typed, mixed, tuple(notes))


def merged(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Stack tables of canonical columns: absent columns are missing values, numbers widen, other mixes become text."""
    if len(frames) == 1:
        return frames[0]
    schema = {name: _common(found) for name, found in _kinds(frames).items()}
    return pl.concat([pl.DataFrame([_of_kind(frame, name, kind) for name, kind in schema.items()]) for frame in frames])


def mixed_columns(frames: list[pl.DataFrame]) -> frozenset[str]:
    """Name the columns that hold strings in some tables and other values in others."""
    return frozenset(name for name, kinds in _kinds(frames).items() if len(kinds) > 1 and _common(kinds) == pl.String)


def _kinds(frames: list[pl.DataFrame]) -> dict[str, set[pl.DataType]]:
    kinds: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, kind in frame.schema.items():
            known = frame.get_column(name).null_count() < len(frame)
            kinds.setdefault(name, set()).update({kind} if known else set())
    return kinds


def _common(kinds: set[pl.DataType]) -> pl.DataType:
    if len(kinds) == 1:
        return next(iter(kinds))
    return pl.Float64() if kinds and kinds <= {pl.Int64(), pl.Float64()} else pl.String()


def _of_kind(frame: pl.DataFrame, name: str, kind: pl.DataType) -> pl.Series:
    if name not in frame.columns or frame.get_column(name).null_count() == len(frame):
        return pl.Series(name, [None], dtype=kind).new_from_index(0, len(frame))
    column = frame.get_column(name)
    return written_column(column) if kind == pl.String else column.cast(kind)
