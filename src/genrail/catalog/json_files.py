"""Tables from JSON: one object per line, or one array of objects."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from genrail.catalog.columns import frame_and_mixed
from genrail.catalog.sources import BLOCK, Bounded, Limits, encoding_name, encoding_of
from genrail.catalog.tables import Table, check_rows, merged, mixed_columns
from genrail.errors import CatalogError

__all__ = ["read_json"]

_LINES = 50_000  # lines held as Python objects at once


def read_json(path: Path, encoding: str | None, limits: Limits) -> Table:
    """Parse lines, 50,000 as Python objects at a time, or an array of objects.

    Raises:
        CatalogError: A line is no object, or the file is over a limit.
    """
    frames: list[pl.DataFrame] = []
    mixed: set[str] = set()
    numbers: list[int] = []
    records: list[dict[str, object]] = []

    def take() -> None:
        frame, several = _checked(records, path, limits)
        frames.append(frame)
        mixed.update(several)
        records.clear()
        check_rows(path.name, len(numbers), limits)

    for number, record in _objects(path, encoding, limits):
        numbers.append(number)
        records.append(record)
        if len(records) == _LINES:
            take()
    if records:
        take()
    if not frames:
        raise CatalogError(f"{path.name} is empty; it needs one JSON object per line")
    several = frozenset(mixed) | mixed_columns(frames)
    return Table(merged(frames), path.name, np.array(numbers, dtype=np.int64), mixed=several)


def _objects(path: Path, encoding: str | None, limits: Limits) -> Iterator[tuple[int, dict[str, object]]]:
    """Give each object with its number: that of its line, or its place in an array."""
    with Bounded(path, limits) as stream:
        start = stream.read(BLOCK)
    told = encoding_of(start, encoding)
    plain = encoding_name(path.name, told) == "utf-8"
    if plain and not start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
        with Bounded(path, limits) as stream:
            yield from _lines(io.BufferedReader(stream, BLOCK), path.name, limits)
        return
    with Bounded(path, limits) as stream:
        whole = io.BufferedReader(stream, BLOCK).read()
    try:
        text = whole.decode(told).lstrip("\ufeff")
    except UnicodeError:
        raise CatalogError(f"{path.name} is not {told.upper()}; save it as UTF-8, or say encoding=") from None
    if text.lstrip().startswith("[") and not _are_lines(text):
        yield from _array(text, path.name)
    else:
        yield from _lines(io.BytesIO(text.encode()), path.name, limits)


def _are_lines(text: str) -> bool:
    """Tell lines that each hold a list, which are no records, from one array over all lines."""
    first, _, rest = text.strip().partition("\n")
    return bool(rest) and first.rstrip().endswith("]") and rest.lstrip().startswith(("[", "{"))


def _array(text: str, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        raise CatalogError(f"{name} is not a JSON object per line, nor an array of them ({error}); mend it") from None
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise CatalogError(
                f"{name}: line 1 holds a list, whose entry {number} is of type {type(value).__name__}; "
                "write an array of JSON objects, or one object per line"
            )
        yield number, value


def _lines(lines: IO[bytes], name: str, limits: Limits) -> Iterator[tuple[int, dict[str, object]]]:
    longest = 8 * limits.field_bytes
    number = 0
    while line := lines.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise CatalogError(f"{name}: line {number} is longer than {longest:,} bytes; split the record")
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if text:
            yield number, _record(text, number, name)


def _record(line: bytes, number: int, name: str) -> dict[str, object]:
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        raise CatalogError(
            f"{name}: line {number} is not UTF-8; save the file as UTF-8, or say encoding= (such as cp1252)"
        ) from None
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        raise CatalogError(f"{name}: line {number} is not a JSON object ({error}); write one object per line") from None
    if not isinstance(record, dict):
        raise CatalogError(f"{name}: line {number} holds a {type(record).__name__}; write one JSON object per line")
    return record


def _checked(records: list[dict[str, object]], path: Path, limits: Limits) -> tuple[pl.DataFrame, frozenset[str]]:
    frame, mixed = frame_and_mixed(records)
    if frame.width > limits.columns:
        raise CatalogError(f"{path.name} has {frame.width:,} different keys; at most {limits.columns:,} are read")
    return frame, mixed
