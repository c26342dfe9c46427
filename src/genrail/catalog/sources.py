"""From what a user names to files on the disk: globs, folders, zip archives, standard input, formats, encodings."""

from __future__ import annotations

import codecs
import csv
import glob
import gzip
import io
import re
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from genrail.errors import CatalogError, MissingPackageError

__all__ = [
    "BLOCK",
    "FORMATS",
    "STANDARD_INPUT",
    "Bounded",
    "Limits",
    "check_unfolded",
    "decompressed",
    "delimiter_of",
    "encoding_name",
    "encoding_of",
    "files_of",
    "format_of",
    "known_by_name",
    "named_files",
    "separator_line",
]

FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "beir", "recbole")
STANDARD_INPUT = "-"
BLOCK = 4 * 2**20  # bytes read at once

_SUFFIXES = {
    ".csv": "csv", ".txt": "csv", ".dat": "csv", ".data": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl",
    ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet", ".item": "recbole",
    ".inter": "recbole", ".user": "recbole",
}  # fmt: skip
_PACKED = (".gz", ".zst", ".zip")
_RATIO_FROM = 16 * 2**20  # decoded bytes from which the ratio counts: small repetitive files are harmless
_SNIFFED = 200_000  # characters that the separator is told by
_SNIFFED_RECORDS = 200
_SEPARATORS = ("::", "\t", ";", "|", ",")


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


class Bounded(io.RawIOBase):
    """Pass bytes of a file on, decompressed, and stop when it unfolds beyond its limits."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.name = path.name
        self.size = max(path.stat().st_size, 1)
        self.limits = limits
        self.decoded = 0
        self.quotes = 0
        self.source, self.compressed = decompressed(path)

    def readable(self) -> bool:
        """Say that this can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read some bytes, at most `BLOCK`."""
        size = BLOCK if size is None or size < 0 else min(size, BLOCK)
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
        """Fill a buffer."""
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        """Close the file."""
        self.source.close()
        super().close()


def decompressed(path: Path) -> tuple[BinaryIO, bool]:
    """Open a file, decompressed if its first bytes say so."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(path, "rb")), True
    if magic == b"\x28\xb5\x2f\xfd":
        try:
            import pyarrow
        except ImportError:
            raise MissingPackageError("pyarrow", "arrow", f"{path.name}: reading zst") from None
        return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")), True
    return path.open("rb"), False


# --- which files ----------------------------------------------------------------------------------------------------


@contextmanager
def files_of(path: Path, limits: Limits) -> Iterator[list[Path]]:
    """Turn what a user names into files, in order by name.

    Standard input (`-`) and the member of a zip archive are written to a temporary folder first, within the limits.

    Args:
        path: A file, a folder of tables of one format, a pattern such as ``parts/*.csv``, a zip archive, or `-`.
        limits: What an archive may unfold to.

    Raises:
        CatalogError: There is no such file, or nothing in it that could be read.
    """
    with tempfile.TemporaryDirectory(prefix="genrail-") as scratch:
        yield [_plain_file(file, Path(scratch), limits) for file in named_files(path)]


def named_files(path: Path) -> list[Path]:
    """List the files that a path stands for, without opening them."""
    if str(path) == STANDARD_INPUT or path.is_file():
        return [path]
    if path.is_dir():
        return _files_in(path)
    if any(sign in str(path) for sign in "*?["):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if found:
            return found
        raise CatalogError(f"{path}: no file matches the pattern")
    if path.exists():  # a pipe or a device
        return [path]
    raise CatalogError(f"{path}: no such file; give the path of a catalogue or interactions file")


def _files_in(folder: Path) -> list[Path]:
    """List the tables of a folder: a BEIR corpus, or all files of one format."""
    for name in ("corpus.jsonl", "corpus.jsonl.gz"):
        if (folder / name).is_file():
            return [folder / name]
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith((".", "_")))
    tables = [file for file in files if _format_or_none(file) is not None]
    kinds = sorted({str(_format_or_none(file)) for file in tables})
    if not tables:
        raise CatalogError(
            f"{folder.name} is a folder without corpus.jsonl, so it is no BEIR folder, and without CSV, JSON or "
            "Parquet files; give one file instead"
        )
    if len(kinds) > 1:
        raise CatalogError(
            f"{folder.name} holds files of several formats ({', '.join(kinds)}); "
            f"give a pattern, such as {folder.name}/*{tables[0].suffix}"
        )
    return tables


def _plain_file(path: Path, scratch: Path, limits: Limits) -> Path:
    """Give a file that can be opened several times: standard input and archives are unfolded."""
    if str(path) == STANDARD_INPUT:
        return _copied(sys.stdin.buffer, scratch / "standard input", 2**62, limits)
    if not path.is_file():
        with path.open("rb") as stream:
            return _copied(stream, scratch / path.name, 2**62, limits)
    with path.open("rb") as file:
        if file.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):  # the second of an empty archive
            return path
    try:
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, path.name)
            with archive.open(member) as stream:
                size = max(path.stat().st_size, 1)
                return _copied(cast(BinaryIO, stream), scratch / Path(member).name, size, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        raise CatalogError(f"{path.name}: the archive cannot be read ({error}); unpack it and give the file") from None


def _member(archive: zipfile.ZipFile, name: str) -> str:
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if "[Content_Types].xml" in names:
        raise CatalogError(f"{name} is a workbook of Excel; save it as CSV UTF-8 and give that file")
    names = [one for one in names if not one.startswith("__MACOSX") and not Path(one).name.startswith(".")]
    tables = [one for one in names if _format_or_none(Path(one)) is not None] if len(names) > 1 else names
    if len(tables) != 1:
        listed = ", ".join(names[:8]) or "nothing"
        raise CatalogError(f"{name} holds {listed}; unpack it and give the one file that is meant")
    return tables[0]


def _copied(stream: BinaryIO, target: Path, size: int, limits: Limits) -> Path:
    decoded = 0
    with target.open("wb") as file:
        while block := stream.read(BLOCK):
            decoded += len(block)
            check_unfolded(target.name, decoded, size, limits)
            file.write(block)
    return target


# --- of which format ------------------------------------------------------------------------------------------------


def _format_or_none(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def known_by_name(path: Path) -> bool:
    """Tell whether the name of a file says its format."""
    return _format_or_none(path) is not None


def format_of(path: Path) -> str:
    """Tell a file's format by its name, or by its first bytes where the name has no ending.

    Returns:
        `csv`, `tsv`, `jsonl`, `parquet`, `recbole`, or `beir` for a folder.

    >>> format_of(Path("products.csv.gz")), format_of(Path("ml-1m.item"))
    ('csv', 'recbole')
    """
    if path.is_dir():
        return "beir"
    known = _format_or_none(path)
    if known is not None:
        return known
    told = _format_by_content(path) if path.is_file() and not path.suffix else None
    if told is None:
        raise CatalogError(
            f"{path.name}: the name does not tell the format; give format= one of {', '.join(FORMATS)}, "
            "or name the file .csv, .tsv, .txt, .jsonl (also .gz, .zst, .zip), .parquet, .item or .inter"
        )
    return told


def _format_by_content(path: Path) -> str | None:
    stream, _ = decompressed(path)
    with stream:
        try:
            start = stream.read(2**16)
        except (OSError, EOFError, zlib.error, ValueError):
            return None
    if start.startswith(b"PAR1"):
        return "parquet"
    text = start.decode(encoding_of(start, None), "replace").lstrip("\ufeff \r\n\t")
    if text.startswith(("{", "[")):
        return "jsonl"
    lines = [line for line in text.splitlines() if line]
    separator = delimiter_of(text)
    return "csv" if path.name == "standard input" or (len(lines) > 1 and separator in lines[0]) else None


def encoding_of(start: bytes, given: str | None) -> str:
    """Tell a text's encoding: what was said, or what a byte order mark says, or UTF-8.

    >>> encoding_of("a".encode("utf-16"), None), encoding_of(b"a", None), encoding_of(b"a", "cp1252")
    ('utf-16', 'utf-8', 'cp1252')
    """
    if given is not None:
        return given
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = start[:4096]
    for encoding, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        others = sample[::2] if encoding == "utf-16-le" else sample[1::2]
        if len(sample) >= 8 and zeros.count(0) > 0.9 * len(zeros) and others.count(0) == 0:
            return encoding  # without its mark; text of Western letters
    return "utf-8"


def encoding_name(source: str, encoding: str) -> str:
    """Give the plain name of an encoding.

    Raises:
        CatalogError: There is none of this name, or it is none of text.
    """
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise CatalogError(f"{source}: {error}; give encoding= by its Python name, such as cp1252") from None


def delimiter_of(text: str) -> str:
    r"""Tell the separator by counting fields over many records, outside quotes.

    >>> delimiter_of("sku;name;'a, b'\na;Boot, red;1,5\n"), delimiter_of("1::Toy Story, 1995::Comedy\n")
    (';', '::')
    """
    sample = text[:_SNIFFED]
    if len(text) > _SNIFFED and "\n" in sample:
        sample = sample[: sample.rindex("\n") + 1]
    best, score = ",", (0.0, 0)
    for separator in _SEPARATORS:
        found = _agreement(sample, separator)
        if found >= score and found[1] > 1:
            best, score = separator, found
    return best


def _agreement(sample: str, separator: str) -> tuple[float, int]:
    """Give the share of records with as many fields as the first, in tenths, and that number."""
    lines = sample.splitlines(keepends=True)
    counts: list[int] = []
    try:
        records = (
            ([field for field in line.split("::")] for line in lines if line.strip())
            if separator == "::"
            else csv.reader(lines, delimiter=separator)
        )
        for record in records:
            counts += [len(record)] if record else []
            if len(counts) == _SNIFFED_RECORDS:
                break
    except csv.Error:
        return 0.0, 0
    if not counts or counts[0] < 2:
        return 0.0, 0
    return min(0.9, int(10 * counts.count(counts[0]) / len(counts)) / 10), counts[0]


def separator_line(text: str) -> tuple[str, str] | None:
    r"""Find Excel's line ``sep=;`` at the start: the separator, and the line itself.

    >>> separator_line("sep=;\r\nsku;name\r\n")
    (';', 'sep=;\r\n')
    """
    match = re.match(r'\ufeff?"?sep=(.)"?[ \t]*(?:\r\n|\n|\r)', text, re.IGNORECASE)
    return (match.group(1), match.group(0)) if match else None
