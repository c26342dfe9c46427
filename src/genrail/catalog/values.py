"""The one way in for values: what is read becomes text, number, true or false, moment or list of tags.

`inferred` settles the type of a column that nobody has typed yet (building from CSV); `converted` brings values to the
type that a catalogue has already (adding, updating). Both read strings by the same rules, and both say what stood in
the way, by row. A type is a Polars type: String, Int64, Float64, Boolean, `MOMENT`, `TAGS`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.moments import MOMENT, as_written, read_moments
from genrail.catalog.numbers import CODE, read_numbers
from genrail.errors import CatalogError

__all__ = ["TAGS", "Inferred", "converted", "in_words", "inferred", "kind_of", "settled", "tidy", "written"]

TAGS = pl.List(pl.String)

_YES = ("true", "yes")
_NO = ("false", "no")
_TRUE_TOO = ("t", "y", "on", "1")  # read as true where a column is of true and false already
_FALSE_TOO = ("f", "n", "off", "0")
# Marks of a database or a spreadsheet for nothing, in any column but ids and titles.
_NULL_MARKS = ("\\n", "null", "nan", "n/a", "#n/a", "<na>", "nat")
# Words that people write where a number, a date or an answer is missing; among words they may be words.
_NOTHING = (*_NULL_MARKS, "na", "none", "nil", "missing", "unknown", "n.a.", "n. a.", "tbd", "tba", "-", "--", "–", "—",
            "?", ".", "#value!", "#ref!", "#div/0!", "#num!", "#name?", "undefined", "k.a.")  # fmt: skip
_SAMPLE = 1_000  # known values looked at before the whole column is
_MOST = 0.5  # share of values that must read as a type before the others are said to stand in its way
_NAMED = 3  # values that one message names
_TAG_CHARACTERS = 60  # longer parts between `|` are sentences, not tags

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Inferred:
    """Hold a column with its type, and what is worth knowing about how it was read."""

    values: pl.Series
    notes: tuple[str, ...] = ()


def tidy(column: pl.Series) -> pl.Series:
    r"""Bring strings to one spelling: composed (NFC), without blanks around them; the empty string is missing.

    >>> tidy(pl.Series(["  Cafe\u0301 ", " "])).to_list()
    ['Café', None]
    """
    if column.dtype != pl.String:
        return column
    stripped = column.str.strip_chars()
    if stripped.str.contains(r"[^\x00-\x7f]").any():
        stripped = stripped.str.normalize("NFC")
    return stripped.replace("", None)


def kind_of(dtype: pl.DataType | type[pl.DataType]) -> str:
    """Name a type for people.

    >>> kind_of(pl.Int64()), kind_of(TAGS)
    ('whole numbers', 'tags')
    """
    kinds = {pl.String(): "text", pl.Int64(): "whole numbers", pl.Float64(): "numbers", pl.Boolean(): "true or false"}
    kinds |= {MOMENT: "dates and times", TAGS: "tags"}
    return next((name for kind, name in kinds.items() if kind == dtype), str(dtype))


def in_words(values: list[object], rows: Numbers) -> str:
    r"""Name some values with their rows: ``"ask us" in row 3``."""
    named = [f'"{str(value)[:40]}" in row {row}' for value, row in zip(values[:_NAMED], rows[:_NAMED], strict=False)]
    more = f" and {len(values) - _NAMED:,} more" if len(values) > _NAMED else ""
    return ", ".join(named) + more


# --- a column without a type ----------------------------------------------------------------------------------------


def inferred(column: pl.Series, rows: Numbers) -> Inferred:
    r"""Give a column of strings its type.

    Where most values are of one type and some are not, the column stays text and the note names those that stood in
    the way. Words for nothing (``N/A``, ``-``, ``\N``, ...) are missing values and never stand in the way.

    Args:
        column: Strings, tidy.
        rows: Number in the file of each value, for messages.

    >>> column = pl.Series("price", ["1", "2.5", "N/A"])
    >>> inferred(column, np.arange(1, 4)).values.to_list()
    [1.0, 2.5, None]
    >>> inferred(pl.Series("price", ["1", "2.5", "ask us"]), np.arange(1, 4)).notes[0]
    'column "price" stays text: 1 of 3 values is no number ("ask us" in row 3)'
    """
    bare = _without(column, _NOTHING)
    known = bare.drop_nulls()
    if known.is_empty():
        return _text(column, rows)
    sample = known.head(_SAMPLE)
    for read in (_booleans, _numbers, _moments, _tags):
        if read(sample, None) is None:
            continue
        found = read(bare, rows)
        if isinstance(found, pl.Series):
            return Inferred(found, tuple(_nothing_said(column, bare, rows)))
        if isinstance(found, Inferred):
            if found.values.dtype == pl.String:
                text = _text(column, rows)
                return Inferred(text.values, (*found.notes, *text.notes))
            return Inferred(found.values, (*found.notes, *_nothing_said(column, bare, rows)))
    return _text(column, rows)


def settled(column: pl.Series, rows: Numbers) -> Inferred:
    """Give a column of a file that types its values (JSON, Parquet) what such files cannot say: moments.

    Numbers written as text stay text, for the file says so; the note tells.
    """
    if column.dtype != pl.String:
        return Inferred(column)
    bare = _without(column, _NULL_MARKS)
    sample = bare.drop_nulls().head(_SAMPLE)
    if sample.is_empty():
        return Inferred(column)
    if _moments(sample, None) is not None:
        found = _moments(bare, rows)
        if isinstance(found, pl.Series):
            return Inferred(found, tuple(_nothing_said(column, bare, rows)))
        if isinstance(found, Inferred):
            return Inferred(column, found.notes)
    if sample.str.contains(CODE).any() or _numbers(sample, None) is None:
        return Inferred(column)
    found = _numbers(bare, rows)
    if isinstance(found, Inferred) and found.values.dtype == pl.String:
        return Inferred(column, found.notes)
    if found is None:
        return Inferred(column)
    note = f'column "{column.name}" holds numbers written as text and stays text; write them without quotes'
    return Inferred(column, (note,))


def _without(column: pl.Series, words: tuple[str, ...]) -> pl.Series:
    nothing = column.str.to_lowercase().is_in(words).fill_null(False)
    return column.zip_with(~nothing, _missing(column)) if nothing.any() else column


def _missing(column: pl.Series, kind: pl.DataType | type[pl.DataType] = pl.String) -> pl.Series:
    return pl.Series(column.name, [None], dtype=kind).new_from_index(0, len(column))


def _nothing_said(before: pl.Series, after: pl.Series, rows: Numbers) -> list[str]:
    """Say which words were taken for nothing."""
    taken = before.is_not_null() & after.is_null()
    if not taken.any():
        return []
    words = before.filter(taken).unique(maintain_order=True).head(_NAMED).to_list()
    named = ", ".join(f'"{word}"' for word in words)
    count = int(taken.sum())
    return [f'column "{before.name}": {count:,} values ({named}) were taken for nothing']


def _text(column: pl.Series, rows: Numbers) -> Inferred:
    bare = _without(column, _NULL_MARKS)
    return Inferred(bare, tuple(_nothing_said(column, bare, rows)))


def _booleans(column: pl.Series, rows: Numbers | None) -> pl.Series | Inferred | None:
    words = column.str.to_lowercase()
    answers = words.is_in(_YES + _NO)
    if answers.fill_null(True).all():
        return words.is_in(_YES)
    known = len(column) - column.null_count()
    odd = (~answers).fill_null(False)
    if int(odd.sum()) >= (1 - _MOST) * known:
        return None
    if rows is None:
        return words
    count = int(odd.sum())
    named = in_words(column.filter(odd).to_list(), rows[odd.to_numpy()])
    are = "is" if count == 1 else "are"
    note = f'column "{column.name}" stays text: {count:,} of {known:,} values {are} neither true nor false ({named})'
    return Inferred(column, (note,))


def _numbers(column: pl.Series, rows: Numbers | None) -> pl.Series | Inferred | None:
    """Read numbers; with `rows` say what stood in the way, without tell only whether to look further."""
    digits = column.str.contains(r"\d").fill_null(False)
    if int(digits.sum()) < _MOST * (len(column) - column.null_count()):
        return None
    found = read_numbers(column)
    odd = found.values.is_null() & column.is_not_null()
    codes = column.str.contains(CODE).fill_null(False)
    known = len(column) - column.null_count()
    if int((odd & ~codes).sum()) > (1 - _MOST) * known:
        return None
    if rows is None:
        return found.values
    if odd.any():
        return Inferred(column, (_in_the_way(column, odd, codes, rows),))
    if found.form is None:
        return found.values
    return Inferred(found.values, (f'column "{column.name}" was read as numbers, {found.form}',))


def _in_the_way(column: pl.Series, odd: pl.Series, codes: pl.Series, rows: Numbers) -> str:
    if codes.any():
        value, row = column.filter(codes)[0], int(rows[int(codes.arg_true()[0])])
        return f'column "{column.name}" stays text: "{value}" in row {row} would lose digits as a number'
    count, known = int(odd.sum()), len(column) - column.null_count()
    named = in_words(column.filter(odd).to_list(), rows[odd.to_numpy()])
    are = "is no number" if count == 1 else "are no numbers"
    return f'column "{column.name}" stays text: {count:,} of {known:,} values {are} ({named})'


def _moments(column: pl.Series, rows: Numbers | None) -> pl.Series | Inferred | None:
    dated = column.str.contains(r"\d{4}").fill_null(False) & column.str.contains(r"\d[-/. ,]").fill_null(False)
    known = len(column) - column.null_count()
    if int(dated.sum()) < _MOST * known:
        return None
    found = read_moments(column)
    if rows is None:
        likely = found.values.null_count() - column.null_count() <= (1 - _MOST) * known
        return found.values if likely or found.doubt else None
    odd = found.values.is_null() & column.is_not_null()
    if not odd.any():
        return found.values
    if found.doubt is not None:
        named = in_words(column.filter(odd).to_list(), rows[odd.to_numpy()])
        return Inferred(column, (f'column "{column.name}" stays text: {found.doubt} ({named}); write 2024-05-31',))
    if int(odd.sum()) > (1 - _MOST) * known:
        return None
    count = int(odd.sum())
    named = in_words(column.filter(odd).to_list(), rows[odd.to_numpy()])
    are = "is no date" if count == 1 else "are no dates"
    return Inferred(column, (f'column "{column.name}" stays text: {count:,} of {known:,} values {are} ({named})',))


def _tags(column: pl.Series, rows: Numbers | None) -> pl.Series | None:
    """Read lists: JSON arrays, or short parts joined by `|` without blanks around it."""
    known = column.drop_nulls()
    if (known.str.starts_with("[") & known.str.ends_with("]")).all():
        return _from_json(column)
    joined = known.str.contains(r"\S\|\S")
    if not joined.any() and rows is not None:
        return None
    if rows is None:  # of a sample: the only joined value may come later
        longest = known.str.split("|").list.eval(pl.element().str.len_chars()).list.max().max()
        return column if not isinstance(longest, int) or longest <= _TAG_CHARACTERS else None
    parts = column.str.split("|").list.eval(pl.element().str.strip_chars())
    longest = parts.list.eval(pl.element().str.len_chars()).list.max().max()
    empty = known.str.contains(r"^\||\|\s*\||\|$").any()
    if empty or known.str.contains(r"\s\|\s").any() or (isinstance(longest, int) and longest > _TAG_CHARACTERS):
        return None
    return parts


def _from_json(column: pl.Series) -> pl.Series | None:
    lists: list[list[str] | None] = []
    for value in column.to_list():
        try:
            lists.append(None if value is None else _tag_list(json.loads(value)))
        except (ValueError, TypeError, RecursionError):
            return None
    return pl.Series(column.name, lists, dtype=TAGS)


def _tag_list(values: object) -> list[str]:
    if not isinstance(values, list) or any(isinstance(value, dict | list) for value in values):
        raise TypeError("no list of tags")
    parts = [written(value).strip() for value in values if value is not None]
    return [part for part in parts if part]


# --- a column that has a type ---------------------------------------------------------------------------------------


def converted(column: pl.Series, kind: pl.DataType, rows: Numbers, source: str) -> pl.Series:
    """Bring values to the type that a catalogue has.

    Text stays as it is written, number, moment and tags are read as in `inferred`; a whole-number column that gets a
    decimal number becomes one of decimals.

    Args:
        column: Strings, or values of another type.
        kind: The type of the catalogue's column.
        rows: Number in the file of each value, for messages.
        source: The file.

    Raises:
        CatalogError: A value is not of the type; the message names column, row and value.

    >>> converted(pl.Series("zip", ["01234", "yes"]), pl.String(), np.arange(1, 3), "new.csv").to_list()
    ['01234', 'yes']
    >>> converted(pl.Series("price", ["12", "cheap"]), pl.Int64(), np.arange(1, 3), "new.csv")
    Traceback (most recent call last):
    genrail.errors.CatalogError: new.csv: column "price" holds whole numbers, and "cheap" in row 2 is none; ...
    """
    if column.dtype == kind or column.null_count() == len(column):
        return column if column.dtype == kind else _missing(column, kind)
    if kind == pl.String:
        return written_column(column)
    if column.dtype == pl.String:
        bare = _without(column, _NOTHING)
        found = _read_as(bare, kind)
        lost = found.is_null() & bare.is_not_null()
    else:
        found = _recast(column, kind)
        lost = found.is_null() & column.is_not_null()
    if lost.any():
        place = int(lost.arg_true()[0])
        value = written(column[place])
        count = int(lost.sum())
        others = f" (and {count - 1:,} more)" if count > 1 else ""
        raise CatalogError(
            f'{source}: column "{column.name}" holds {kind_of(kind)}, and "{value[:40]}" in row {rows[place]} is none'
            f"{others}; mend the {'values' if count > 1 else 'value'}"
        )
    return found


def _read_as(column: pl.Series, kind: pl.DataType) -> pl.Series:
    if kind in (pl.Int64, pl.Float64):
        found = read_numbers(column).values
        return found.cast(pl.Float64) if kind == pl.Float64 else found
    if kind == pl.Boolean:
        words = column.str.to_lowercase()
        true = words.is_in(_YES + _TRUE_TOO)
        return true.zip_with(true | words.is_in(_NO + _FALSE_TOO), _missing(column, pl.Boolean))
    if kind == MOMENT:
        return read_moments(column).values
    parts = column.str.split("|").list.eval(pl.element().str.strip_chars())
    arrays = column.str.starts_with("[") & column.str.ends_with("]")
    if arrays.any():
        listed = _from_json(column.zip_with(arrays, _missing(column)))
        parts = parts if listed is None else listed.zip_with(listed.is_not_null(), parts)
    return parts


def _recast(column: pl.Series, kind: pl.DataType) -> pl.Series:
    """Bring typed values to another type where nothing is lost; missing where it would be."""
    numeric = (pl.Int64, pl.Float64)
    if column.dtype in numeric and kind in numeric:
        if kind == pl.Float64:
            return column.cast(pl.Float64)
        whole = (column == column.round(0)).all() and column.abs().max() < 2**53  # type: ignore[operator]
        return column.cast(pl.Int64) if whole else column
    if column.dtype in numeric and kind == pl.Boolean:
        return (column == 1).zip_with(((column == 0) | (column == 1)).fill_null(False), _missing(column, pl.Boolean))
    if kind == TAGS:
        return pl.Series(column.name, [None if value is None else [written(value)] for value in column], dtype=TAGS)
    return _missing(column, kind)


# --- and out again --------------------------------------------------------------------------------------------------


def written_column(column: pl.Series) -> pl.Series:
    """Write values as text, each as `written` does."""
    if column.dtype == pl.String:
        return column
    if column.dtype == MOMENT:
        return as_written(column)
    if column.dtype == TAGS:
        return column.list.join("|", ignore_nulls=True)
    if column.dtype == pl.Int64:
        return column.cast(pl.String)
    return pl.Series(column.name, [None if value is None else written(value) for value in column], dtype=pl.String)


def written(value: object) -> str:
    """Write one value as text: lists joined by `|`, records as JSON, half surrogate pairs as U+FFFD.

    >>> written(True), written(["a", "b"]), written(7.0)
    ('true', 'a|b', '7.0')
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, list | tuple):
        text = "|".join(written(part) for part in value if part is not None)
    elif isinstance(value, dict):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif hasattr(value, "isoformat"):
        text = str(as_written(pl.Series([value]).cast(MOMENT))[0]) if hasattr(value, "year") else value.isoformat()
    else:
        text = str(value)
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
