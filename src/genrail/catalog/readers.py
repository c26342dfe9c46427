"""Tables from files: CSV, TSV, JSON lines, Parquet, BEIR folders and RecBole atomic files, within limits."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.columns import frame_of
from genrail.catalog.ir_collections import collection_id, documents
from genrail.errors import CatalogError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMATS", "Limits", "Table", "format_of", "read_table"]

FORMATS = ("csv", "tsv", "jsonl", "parquet", "beir", "recbole")

_SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".pq": "parquet", ".item": "recbole", ".inter": "recbole", ".user": "recbole",
}  # fmt: skip
_BLOCK = 4 * 2**20  # bytes parsed at once; also the longest CSV record
_RATIO_FROM = 16 * 2**20  # decoded bytes from which the ratio counts: small repetitive files are harmless
_PARQUET_ROWS = 1_024  # decoded at once, before they are counted: 1 GiB if every value were as long as allowed
_LINES = 50_000  # JSON lines held as Python objects at once


@dataclass(frozen=True)
class Limits:
    """Bound what a file may unfold to, so that a small file cannot fill the memory.

    Args:
        rows: Of one file.
        columns: Of one file.
        decoded_bytes: Of one file after decompression.
        ratio: Decoded bytes per byte of the file, counted from 16 MiB on.
        field_bytes: Of one value.
        record_bytes: Of all strings of one item; a larger item is refused by row.
        title_characters: Longer titles are kept whole and reported.
    """

    rows: int = 10_000_000
    columns: int = 2_000
    decoded_bytes: int = 4 * 2**30
    ratio: int = 200
    field_bytes: int = 2**20
    record_bytes: int = 64 * 2**10
    title_characters: int = 1_024

    def lifted(self) -> Limits:
        """Lift the limits on the file as a whole (``allow_large=True``); those on one value stay."""
        return replace(self, rows=2**62, decoded_bytes=2**62, ratio=2**62)


@dataclass(frozen=True)
class Table:
    """Hold a file as read: its rows that could be parsed, and the others with the reason.

    Args:
        frame: The columns, under the names of the file.
        source: How messages call the file.
        numbers: Row number in the file of each row of `frame`, from 1, the header not counted.
        refused: Rows that could not be parsed: number and reason.
        typed: True when the file says itself what is a number (JSON, Parquet).
    """

    frame: pl.DataFrame
    source: str
    numbers: npt.NDArray[np.int64]
    refused: tuple[tuple[int, str], ...] = ()
    typed: bool = True

    @property
    def rows_in(self) -> int:
        """Count all rows of the file."""
        return len(self.frame) + len(self.refused)

    @classmethod
    def of(cls, frame: pl.DataFrame, source: str) -> Table:
        """Wrap a table that is in memory already."""
        return cls(frame, source, np.arange(1, len(frame) + 1, dtype=np.int64))


def format_of(path: Path) -> str:
    """Tell a file's format by its name: `csv`, `tsv`, `jsonl`, `parquet`, `recbole`, or `beir` for a folder.

    >>> format_of(Path("products.csv.gz")), format_of(Path("ml-1m.item"))
    ('csv', 'recbole')
    """
    if path.is_dir():
        return "beir"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    if suffixes and suffixes[-1] in _SUFFIXES:
        return _SUFFIXES[suffixes[-1]]
    raise CatalogError(
        f"{path.name}: the name does not tell the format; give format= one of {', '.join(FORMATS)}, "
        "or name the file .csv, .tsv, .jsonl (also .gz, .zst), .parquet, .item or .inter"
    )


def read_table(
    path: str | Path,
    *,
    format: str | None = None,
    encoding: str = "utf-8",
    limits: Limits | None = None,
    allow_large: bool = False,
) -> Table:
    """Read a file into a table.

    Values of CSV, TSV and RecBole files stay strings; the empty string is a missing value. In CSV, a row with too many
    or too few values is refused by row. The first line names the columns.

    Args:
        path: The file; a folder is read as BEIR (its `corpus.jsonl`), and `irds:` with an id by ir_datasets.
        format: One of `FORMATS`; by default told by the name.
        encoding: Of CSV, TSV and RecBole files.
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
    if not path.exists():
        raise CatalogError(f"{path}: no such file; give the path of a catalogue or interactions file")
    kind = format or format_of(path)
    if kind not in FORMATS:
        raise CatalogError(f'format="{kind}" is not known; the formats are: {", ".join(FORMATS)}')
    if kind == "beir":
        path = _corpus_of(path)
        kind = "jsonl"
    if path.is_dir():
        raise CatalogError(f'{path.name} is a folder, but format="{kind}" reads a file')
    if kind == "parquet":
        return _read_parquet(path, limits)
    if kind == "jsonl":
        return _read_json_lines(path, limits)
    return _read_csv(path, kind, encoding, limits)


def _corpus_of(folder: Path) -> Path:
    if folder.is_file():
        return folder
    for name in ("corpus.jsonl", "corpus.jsonl.gz"):
        if (folder / name).is_file():
            return folder / name
    raise CatalogError(
        f"{folder.name} is a folder without corpus.jsonl, so it is no BEIR folder; give one file instead"
    )


class _Bounded(io.RawIOBase):
    """Pass bytes on, decompressed, and stop when the file unfolds beyond its limits."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.name = path.name
        self.size = max(path.stat().st_size, 1)
        self.limits = limits
        self.decoded = 0
        self.quotes = 0
        self.source, self.compressed = _open(path)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = _BLOCK if size is None or size < 0 else min(size, _BLOCK)
        try:
            block = self.source.read(size)
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise CatalogError(
                f"{self.name}: the compressed file is damaged or cut off ({error}); copy it again"
            ) from None
        self.decoded += len(block)
        self.quotes += block.count(b'"')
        check_unfolded(self.name, self.decoded, self.size, self.limits)
        return block

    def readinto(self, buffer: Any) -> int:
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self.source.close()
        super().close()


def _open(path: Path) -> tuple[BinaryIO, bool]:
    """Open a file, decompressed if its first bytes say so."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(path, "rb")), True
    if magic == b"\x28\xb5\x2f\xfd":
        import pyarrow

        return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")), True
    return path.open("rb"), False


def check_unfolded(name: str, decoded: int, size: int, limits: Limits) -> None:
    """Stop when a file has unfolded beyond the limits."""
    if decoded > limits.decoded_bytes:
        raise CatalogError(
            f"{name} unfolds to more than {limits.decoded_bytes:,} bytes; pass allow_large=True if you trust it"
        )
    if decoded > _RATIO_FROM and decoded > limits.ratio * size:
        raise CatalogError(
            f"{name} unfolds to more than {limits.ratio} times its size, as a decompression bomb does; "
            "pass allow_large=True if you trust it"
        )


def _check_rows(name: str, rows: int, limits: Limits) -> None:
    if rows > limits.rows:
        raise CatalogError(f"{name} has more than {limits.rows:,} rows; pass allow_large=True to read it all")


# --- CSV, TSV, RecBole ----------------------------------------------------------------------------------------------


def _read_csv(path: Path, kind: str, encoding: str, limits: Limits) -> Table:
    """Parse with Arrow in blocks; only on trouble walk the lines again to name the row."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    delimiter, names = _header(path, kind, encoding, limits)
    numbered = [str(number) for number in range(len(names))]  # so that the first line is parsed as a row, too
    refused: list[tuple[int, str]] = []

    def refuse(row: Any) -> str:
        values = "value" if row.actual_columns == 1 else "values"
        refused.append((int(row.number) - 1, f"{row.actual_columns} {values} where {row.expected_columns} columns are"))
        return "skip"

    quoted = kind != "recbole"
    source, quotes = _plain_bytes(path, encoding, limits)
    try:
        table = arrow_csv.read_csv(
            source,
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=numbered),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=refuse,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in numbered}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _csv_error(path, encoding, str(error)) from None
    if table.num_rows == 0 or (refused and refused[0][0] == 0):
        raise CatalogError(f"{path.name}: the first line cannot be read as column names; write it as name,name,...")
    frame = cast(pl.DataFrame, pl.from_arrow(table))[1:]
    _check_rows(path.name, len(frame), limits)
    if quoted and quotes % 2 and not frame.is_empty():
        _check_last_row(frame, path.name)
    frame.columns = names
    return Table(frame, path.name, _numbers(len(frame), refused), tuple(refused), typed=False)


def _plain_bytes(path: Path, encoding: str, limits: Limits) -> tuple[Any, int]:
    """Give Arrow a source of UTF-8 bytes, and count the quotes.

    Arrow reads ahead in threads of its own. A Python file object there can deadlock with this thread (each waits for
    the other), so Arrow gets a file of its own, or the decompressed bytes.
    """
    import pyarrow as pa

    decoder = codecs.getincrementaldecoder(encoding)()
    with _Bounded(path, limits) as stream:
        in_place = codecs.lookup(encoding).name == "utf-8" and not stream.compressed
        sink = pa.BufferOutputStream()
        try:
            while block := stream.read(_BLOCK):
                text = decoder.decode(block)  # also a check: Arrow would lose a refused row that is no UTF-8
                if not in_place:
                    sink.write(text.encode())
            decoder.decode(b"", final=True)
        except UnicodeError:
            raise _csv_error(path, encoding, "UTF8") from None
        return pa.OSFile(str(path)) if in_place else pa.BufferReader(sink.getvalue()), stream.quotes


def _numbers(kept: int, refused: list[tuple[int, str]]) -> npt.NDArray[np.int64]:
    everything = np.arange(1, kept + len(refused) + 1, dtype=np.int64)
    if not refused:
        return everything
    return np.setdiff1d(everything, np.array([number for number, _ in refused], dtype=np.int64))


def _header(path: Path, kind: str, encoding: str, limits: Limits) -> tuple[str, list[str]]:
    """Read the first line: the delimiter and the names of the columns."""
    with _Bounded(path, limits) as stream:
        block = stream.read(limits.field_bytes)
    if not block.strip():
        raise CatalogError(f"{path.name} is empty; its first line must name the columns")
    try:
        start = codecs.getincrementaldecoder(encoding)("replace").decode(block)
    except LookupError as error:
        raise CatalogError(f"{path.name}: {error}; give encoding= by its Python name, such as cp1252") from None
    text = re.split("[\r\n]", start.lstrip("\ufeff\r\n"), maxsplit=1)[0]
    if kind != "recbole" and text.count('"') % 2:
        raise CatalogError(f"{path.name}: a column name in the first line has an open quote or a line break; mend it")
    delimiter = "\t" if kind in ("tsv", "recbole") else _delimiter(text)
    header = text.split(delimiter) if kind == "recbole" else next(csv.reader([text], delimiter=delimiter))
    return delimiter, _names(header, kind, path.name, limits)


def _names(header: list[str], kind: str, source: str, limits: Limits) -> list[str]:
    if len(header) > limits.columns:
        raise CatalogError(f"{source} has more than {limits.columns:,} columns; keep those that describe the items")
    names = [name.rsplit(":", 1)[0].strip() if kind == "recbole" else name.strip() for name in header]
    names = [name or f"column_{number}" for number, name in enumerate(names, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CatalogError(f'{source}: the header has the column "{twice[0]}" more than once; rename one of them')
    return names


def _delimiter(header: str) -> str:
    for candidate in (",", ";", "\t", "|"):
        if candidate in header:
            return candidate
    return ","


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
    if "straddl" in message or "block" in message:
        return CatalogError(
            f"{path.name}: a record is longer than {_BLOCK:,} bytes; "
            'most likely a quote (") is never closed: close it or remove it'
        )
    return CatalogError(f"{path.name}: cannot be read as CSV ({message}); mend the file, or give format=")


def _undecodable_line(path: Path, encoding: str) -> int:
    with _Bounded(path, Limits().lifted()) as stream:
        for number, line in enumerate(io.BufferedReader(stream, _BLOCK), start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                return number
    return 0


# --- JSON lines -----------------------------------------------------------------------------------------------------


def _read_json_lines(path: Path, limits: Limits) -> Table:
    """Parse line by line, 50,000 lines as Python objects at a time."""
    frames: list[pl.DataFrame] = []
    numbers: list[int] = []
    records: list[dict[str, Any]] = []
    for number, record in _records(path, limits):
        numbers.append(number)
        records.append(record)
        if len(records) == _LINES:
            frames.append(_checked(records, path, limits))
            records = []
            _check_rows(path.name, len(numbers), limits)
    if records:
        frames.append(_checked(records, path, limits))
    _check_rows(path.name, len(numbers), limits)
    if not frames:
        raise CatalogError(f"{path.name} is empty; it needs one JSON object per line")
    return Table(merged(frames), path.name, np.array(numbers, dtype=np.int64))


def _records(path: Path, limits: Limits) -> Iterator[tuple[int, dict[str, Any]]]:
    longest = 8 * limits.field_bytes
    with _Bounded(path, limits) as stream:
        lines = io.BufferedReader(stream, _BLOCK)
        number = 0
        while line := lines.readline(longest + 1):
            number += 1
            if len(line) > longest:
                raise CatalogError(f"{path.name}: line {number} is longer than {longest:,} bytes; split the record")
            text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
            if text:
                yield number, _record(text, number, path.name)


def _record(line: bytes, number: int, name: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        raise CatalogError(f"{name}: line {number} is not UTF-8; save the file as UTF-8") from None
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        raise CatalogError(f"{name}: line {number} is not a JSON object ({error}); write one object per line") from None
    if not isinstance(record, dict):
        raise CatalogError(f"{name}: line {number} holds a {type(record).__name__}; write one JSON object per line")
    return record


def _checked(records: list[dict[str, Any]], path: Path, limits: Limits) -> pl.DataFrame:
    frame = frame_of(records)
    if frame.width > limits.columns:
        raise CatalogError(f"{path.name} has {frame.width:,} different keys; at most {limits.columns:,} are read")
    return frame


def merged(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Stack tables of canonical columns: absent columns are missing values, numbers widen, other mixes become text."""
    if len(frames) == 1:
        return frames[0]
    kinds: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, kind in frame.schema.items():
            known = frame.get_column(name).null_count() < len(frame)
            kinds.setdefault(name, set()).update({kind} if known else set())
    schema = {name: _common(found) for name, found in kinds.items()}
    return pl.concat(
        [
            frame.select(
                pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, dtype=kind).alias(name)
                for name, kind in schema.items()
            )
            for frame in frames
        ]
    )


def _common(kinds: set[pl.DataType]) -> pl.DataType:
    if len(kinds) == 1:
        return next(iter(kinds))
    return pl.Float64() if kinds and kinds <= {pl.Int64(), pl.Float64()} else pl.String()


# --- Parquet --------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, limits: Limits) -> Table:
    """Decode in batches and count, because the sizes that a Parquet file states may be false.

    Columns of few distinct values are decoded as dictionaries first, so that one long value repeated a million times is
    counted before it is written out.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as head:
            schema, repetitive = head.schema_arrow, _repetitive(head)
            _check_rows(path.name, head.metadata.num_rows, limits)
        if len(schema.names) > limits.columns or len(set(schema.names)) < len(schema.names):
            raise CatalogError(f"{path.name} has two columns of one name, or more than {limits.columns:,} columns")
        with parquet.ParquetFile(path, read_dictionary=repetitive) as file:
            decoded, batches = 0, []
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, use_threads=False):
                decoded += sum(_decoded_bytes(column) for column in batch.columns)
                check_unfolded(path.name, decoded, max(path.stat().st_size, 1), limits)
                batches.append(batch.cast(schema))
        frame = cast(pl.DataFrame, pl.from_arrow(pa.Table.from_batches(batches, schema)))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise CatalogError(
            f"{path.name}: cannot be read as Parquet ({error}); write it again, or give format="
        ) from None
    return Table.of(frame, path.name)


def _repetitive(file: Any) -> list[str]:
    """Name the columns of strings or bytes whose values are mostly numbers into a dictionary: under 8 bytes each.

    The others must not be read as dictionaries: Arrow would copy all their values so far into every batch.
    """
    from pyarrow import types

    names = []
    for number, field in enumerate(file.schema_arrow if file.metadata.num_columns == len(file.schema_arrow) else ()):
        kind = field.type
        if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
            chunks = [file.metadata.row_group(group).column(number) for group in range(file.metadata.num_row_groups)]
            size = sum(chunk.total_uncompressed_size for chunk in chunks)
            if size < 8 * sum(chunk.num_values for chunk in chunks):
                names.append(field.name)
    return names


def _decoded_bytes(column: pa.Array) -> int:
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = compute.binary_length(column.dictionary)
    return int(compute.sum(lengths.take(column.indices)).as_py() or 0) + 4 * len(column)
