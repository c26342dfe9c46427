"""Tables from text with separators: CSV, TSV, feeds, MovieLens' `::`, RecBole atomic files."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.sources import (
    BLOCK,
    Bounded,
    Limits,
    delimiter_of,
    encoding_name,
    encoding_of,
    separator_line,
)
from genrail.catalog.tables import Table, check_rows
from genrail.errors import CatalogError

if TYPE_CHECKING:
    import pyarrow.csv as arrow_csv

__all__ = ["read_csv", "text_of"]

# Files of MovieLens have no line of names; these are their columns, by number.
_ITEMS = ("item_id", "title", "genres")
_EVENTS = ("user_id", "item_id", "rating", "timestamp")

Refused = list[tuple[int, str]]

ARROW = find_spec("pyarrow") is not None  # parses ten times as fast; see the extra `arrow`


@dataclass(frozen=True)
class _Layout:
    """Say how a text file is laid out, as told by its beginning.

    Args:
        delimiter: Between values.
        names: Of the columns.
        encoding: Of the text.
        skip: The line ``sep=;`` before the names, or nothing.
        named: False where the first line holds values, so that the names are a guess.
        quoted: False where quotes are plain characters.
        blanks: True where blanks stand between a separator and a quote.
    """

    delimiter: str
    names: list[str]
    encoding: str
    skip: str
    named: bool
    quoted: bool
    blanks: bool


def read_csv(path: Path, kind: str, encoding: str | None, limits: Limits) -> Table:
    """Read a file of one record per line, whose first line names the columns.

    Raises:
        CatalogError: No names, a quote that is never closed, another encoding, or a limit.
    """
    layout = _layout(path, kind, encoding, limits)
    notes: tuple[str, ...] = ()
    if not layout.named:
        notes = (f"the first line of {path.name} names no columns; they are taken for {', '.join(layout.names)}",)
    simple = not layout.blanks and len(layout.delimiter) == 1
    frame, refused = (_by_arrow if simple and ARROW else _by_records)(path, layout, limits)
    check_rows(path.name, len(frame), limits)
    frame.columns = layout.names
    return Table(frame, path.name, _numbers(len(frame), refused), tuple(refused), typed=False, notes=notes)


def text_of(path: Path, encoding: str | None, limits: Limits) -> str:
    """Read a whole text file, unpacked and decoded.

    Raises:
        CatalogError: It is not of this encoding, or over a limit.
    """
    with Bounded(path, limits) as stream:
        told = encoding_of(stream.read(limits.field_bytes), encoding)
    encoding_name(path.name, told)
    source, _ = _plain_bytes(path, told, "", limits)
    return source.getvalue().decode().lstrip("\ufeff")


def _by_arrow(path: Path, layout: _Layout, limits: Limits) -> tuple[pl.DataFrame, Refused]:
    """Parse with Arrow in blocks; only on trouble walk the lines again to name the row."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    numbered = [str(number) for number in range(len(layout.names))]  # so that the first line is parsed as a row, too
    refused: Refused = []
    header = 1 if layout.named else 0

    def refuse(row: arrow_csv.InvalidRow) -> str:
        refused.append((int(row.number) - header, _ragged(row.actual_columns, row.expected_columns)))
        return "skip"

    source, quotes = _plain_bytes(path, layout.encoding, layout.skip, limits, in_place=True)
    try:
        table = arrow_csv.read_csv(
            # Arrow reads ahead in threads of its own. A Python file object there can deadlock with this thread (each
            # waits for the other), so Arrow gets a file of its own, or bytes.
            pa.BufferReader(pa.py_buffer(source.getbuffer())) if source.getbuffer() else pa.OSFile(str(path)),
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=numbered),
            parse_options=arrow_csv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char='"' if layout.quoted else False,
                newlines_in_values=layout.quoted,
                invalid_row_handler=refuse,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in numbered}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _csv_error(path, layout.encoding, str(error)) from None
    if header and (table.num_rows == 0 or (refused and refused[0][0] == 0)):
        raise CatalogError(f"{path.name}: the first line cannot be read as column names; write it as name,name,...")
    frame = cast(pl.DataFrame, pl.from_arrow(table))[header:]
    if layout.quoted and quotes % 2 and not frame.is_empty():
        _check_last_row(frame, path.name)
    return frame, refused


def _ragged(found: int, expected: int) -> str:
    return f"{found} {'value' if found == 1 else 'values'} where {expected} columns are"


def _by_records(path: Path, layout: _Layout, limits: Limits) -> tuple[pl.DataFrame, Refused]:
    """Parse record by record what Arrow cannot, separators of two characters or blanks before quotes, or without it."""
    source, quotes = _plain_bytes(path, layout.encoding, layout.skip, limits)
    lines = io.TextIOWrapper(source, encoding="utf-8-sig", newline="")
    csv.field_size_limit(limits.field_bytes)
    records: Iterator[list[str]] = (
        csv.reader(
            lines,
            delimiter=layout.delimiter,
            skipinitialspace=layout.blanks,
            quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
        )
        if len(layout.delimiter) == 1
        else (line.rstrip("\r\n").split(layout.delimiter) for line in lines if line.strip())
    )
    width = len(layout.names)
    columns: list[list[str]] = [[] for _ in range(width)]
    refused: Refused = []
    try:
        for number, record in enumerate((one for one in records if one), start=0 if layout.named else 1):
            if len(record) != width and number:
                refused.append((number, _ragged(len(record), width)))
            elif number:
                for column, value in zip(columns, record, strict=True):
                    column.append(value)
    except csv.Error as error:
        raise _csv_error(path, layout.encoding, str(error)) from None
    frame = pl.DataFrame([pl.Series(str(place), column, pl.String) for place, column in enumerate(columns)])
    if layout.quoted and quotes % 2 and not frame.is_empty():
        _check_last_row(frame, path.name)
    return frame, refused


def _plain_bytes(
    path: Path, encoding: str, skip: str, limits: Limits, in_place: bool = False
) -> tuple[io.BytesIO, int]:
    """Give the bytes of a file as UTF-8 without the line `skip`, and count the quotes.

    Args:
        path: The file, compressed perhaps.
        encoding: Of its text.
        skip: What it begins with that is left out.
        limits: What may be read.
        in_place: Check it, and give nothing where the file itself holds those bytes.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    sink = io.BytesIO()
    with Bounded(path, limits) as stream:
        in_place = in_place and codecs.lookup(encoding).name == "utf-8" and not stream.compressed and not skip
        try:
            while block := stream.read(BLOCK):
                text = decoder.decode(block)  # also a check: Arrow would lose a refused row that is no UTF-8
                text, skip = text.removeprefix(skip), ""
                if not in_place:
                    sink.write(text.encode())
            decoder.decode(b"", final=True)
        except UnicodeError:
            raise _csv_error(path, encoding, "UTF8") from None
        sink.seek(0)
        return sink, stream.quotes


def _numbers(kept: int, refused: Refused) -> npt.NDArray[np.int64]:
    everything = np.arange(1, kept + len(refused) + 1, dtype=np.int64)
    if not refused:
        return everything
    return np.setdiff1d(everything, np.array([number for number, _ in refused], dtype=np.int64))


# --- the beginning of a file ----------------------------------------------------------------------------------------


def _layout(path: Path, kind: str, encoding: str | None, limits: Limits) -> _Layout:
    """Tell separator, names and encoding by the beginning of a file."""
    start, encoding = _beginning(path, encoding, limits)
    told, skip = separator_line(start) or (None, "")
    start = start.removeprefix(skip).lstrip("\ufeff\r\n")
    first = re.split("[\r\n]", start, maxsplit=1)[0]
    quoted = kind != "recbole"
    if quoted and first.count('"') % 2:
        raise CatalogError(f"{path.name}: a column name in the first line has an open quote or a line break; mend it")
    if not quoted or (kind == "tsv" and "\t" in first):
        delimiter = "\t"
    else:
        delimiter = told or delimiter_of(start)
    names = _fields(first, delimiter) if quoted and len(delimiter) == 1 else first.split(delimiter)
    guessed = _unnamed(names, delimiter) if quoted else None
    named = _names(guessed or names, kind, path.name, limits)
    blanks = quoted and delimiter == "," and re.search(r', +"', start) is not None
    return _Layout(delimiter, named, encoding, skip, guessed is None, quoted, blanks)


def _beginning(path: Path, encoding: str | None, limits: Limits) -> tuple[str, str]:
    """Read the beginning of a text file: its characters and its encoding."""
    with Bounded(path, limits) as stream:
        block = stream.read(limits.field_bytes)
    if not block.strip(b"\x00 \r\n\t\xef\xbb\xbf\xff\xfe"):
        raise CatalogError(f"{path.name} is empty; its first line must name the columns")
    encoding = encoding_of(block, encoding)
    encoding_name(path.name, encoding)
    return codecs.getincrementaldecoder(encoding)("replace").decode(block), encoding


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return line.split(delimiter)


def _unnamed(first: list[str], delimiter: str) -> list[str] | None:
    """Name the columns of a file without a line of names, as MovieLens publishes them; None where there is one."""
    digits = [re.fullmatch(r"\d+(?:\.\d+)?", field.strip()) is not None for field in first]
    if len(first) not in (3, 4) or not digits[0] or not digits[-1 if len(first) == 4 else 0]:
        return None
    if all(digits):
        return list(_EVENTS[: len(first)])
    return list(_ITEMS) if len(first) == 3 and delimiter == "::" else None


def _names(header: list[str], kind: str, source: str, limits: Limits) -> list[str]:
    if len(header) > limits.columns:
        raise CatalogError(f"{source} has more than {limits.columns:,} columns; keep those that describe the items")
    names = [name.rsplit(":", 1)[0].strip() if kind == "recbole" else name.strip() for name in header]
    names = [unicodedata.normalize("NFC", name) for name in names]
    names = [name or f"column_{number}" for number, name in enumerate(names, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CatalogError(f'{source}: the header has the column "{twice[0]}" more than once; rename one of them')
    return names


# --- what is wrong --------------------------------------------------------------------------------------------------


def _check_last_row(frame: pl.DataFrame, name: str) -> None:
    """Refuse a file whose last quote is never closed, for it swallows all rows behind it."""
    if any("\n" in value or "\r" in value for value in frame.row(len(frame) - 1) if value):
        raise CatalogError(f'{name}: a quote (") opened in row {len(frame)} is never closed; close it or remove it')


def _csv_error(path: Path, encoding: str, message: str) -> CatalogError:
    if "UTF8" in message:
        line = _undecodable_line(path, encoding)
        return CatalogError(
            f"{path.name}: line {line} is not {encoding.upper()}; "
            "save the file as UTF-8, or say encoding= (such as cp1252)"
        )
    if "straddl" in message or "block" in message or "field limit" in message:
        return CatalogError(
            f"{path.name}: a record or a value is longer than may be; "
            'most likely a quote (") is never closed: close it or remove it'
        )
    return CatalogError(f"{path.name}: cannot be read as CSV ({message}); mend the file, or give format=")


def _undecodable_line(path: Path, encoding: str) -> int:
    with Bounded(path, Limits().lifted()) as stream:
        for number, line in enumerate(io.BufferedReader(stream, BLOCK), start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                return number
    return 0
