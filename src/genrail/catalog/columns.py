"""Which column holds what: guesses by name, shown to the user, and one small set of value types."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from genrail.errors import CatalogError

__all__ = ["Columns", "canonical", "choose_columns", "find_column", "frame_of", "inferred", "nearest"]

# Names seen in shops' exports and in public data sets, most telling first; compared in lower case.
ITEM_ID_NAMES = (
    "item_id", "product_id", "sku", "asin", "parent_asin", "doc_id", "docid", "_id", "article_id", "movie_id",
    "book_id", "id", "item", "product", "ean", "gtin", "isbn",
)  # fmt: skip
TITLE_NAMES = (
    "title", "name", "product_name", "product_title", "item_name", "item_title", "display_name", "productDisplayName",
    "movie_title", "book_title", "prod_name", "headline", "label",
)  # fmt: skip

# An address, a picture or another key says nothing to a text encoder.
_NOT_TEXT_ENDINGS = ("id", "ids", "sku", "asin", "ean", "gtin", "isbn", "upc", "url", "urls", "uri", "link", "image",
                     "images", "img", "path", "hash", "date", "time", "timestamp")  # fmt: skip

_INTEGER = r"^[+-]?(0|[1-9]\d{0,17})$"  # no leading zeros: "00123" is an article number, not 123
_NUMBER = r"^[+-]?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d{1,3})?$"
_YES = ("true", "yes")
_NO = ("false", "no")


@dataclass(frozen=True)
class Columns:
    """Say which columns of a catalogue hold the id, the title and the further text.

    Args:
        item_id: The user's own key.
        title: What is shown, and what the title lane writes.
        text: Further columns that a text encoder reads, in this order.
    """

    item_id: str
    title: str
    text: tuple[str, ...] = ()


def nearest(name: str, known: Iterable[str]) -> str:
    """Phrase the nearest known name as a hint, or nothing.

    >>> nearest("prcie", ["price", "colour"])
    ' (did you mean "price"?)'
    """
    known = list(known)
    matches = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)
    if not matches:
        lowered = {candidate.lower(): candidate for candidate in known}
        matches = [
            lowered[key] for key in difflib.get_close_matches(name[:200].lower(), list(lowered), n=1, cutoff=0.6)
        ]
    return f' (did you mean "{matches[0]}"?)' if matches else ""


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "_")


def find_column(
    names: Sequence[str], given: str | None, known: Sequence[str], *, what: str, argument: str, source: str
) -> str:
    """Find the column that was asked for, or guess it by its name.

    Args:
        names: The columns there are.
        given: What the caller said, or None to guess.
        known: Names that this column usually has, most telling first.
        what: How errors call it ("item id").
        argument: The argument that names it ("item_id").
        source: The file.

    Raises:
        CatalogError: The column is not there, or nothing there looks like it.
    """
    listed = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    if given is not None:
        if given in names:
            return given
        raise CatalogError(f'{source}: there is no column "{given}"{nearest(given, names)}; the columns are: {listed}')
    plain = {_plain(name): name for name in reversed(names)}  # the first of two alike wins
    for candidate in known:
        if _plain(candidate) in plain:
            return plain[_plain(candidate)]
    near = (name for candidate in known for name in difflib.get_close_matches(_plain(candidate), list(plain), 1, 0.7))
    guess = next(near, None)
    hint = f' (perhaps "{plain[guess]}"?)' if guess else ""
    raise CatalogError(
        f"{source}: no column looks like the {what}; name it with {argument}=...{hint}; the columns are: {listed}"
    )


def choose_columns(
    frame: pl.DataFrame,
    source: str,
    item_id: str | None = None,
    title: str | None = None,
    text: str | Sequence[str] | None = None,
    *,
    typed: bool = True,
) -> tuple[Columns, pl.DataFrame]:
    """Settle the id, title and text columns of a table, guessing those that were not given.

    Text columns are guessed among the columns of strings: those that hold words, and no keys, addresses or dates.

    Args:
        frame: Of canonical columns.
        source: The file, for messages.
        item_id: Column of the ids, or None to guess.
        title: Column of the titles, or None to guess.
        text: Further columns of words, or None to guess.
        typed: False when all columns are strings, so that numbers and booleans are still to be recognised.

    Returns:
        The columns, and the table with strings there and types elsewhere.

    Raises:
        CatalogError: A column is not there, or cannot be guessed, or one column was given two roles.
    """
    names = frame.columns
    id_name = find_column(names, item_id, ITEM_ID_NAMES, what="item id", argument="item_id", source=source)
    others = [name for name in names if name != id_name]
    if title is not None and title == id_name:
        raise CatalogError(f'{source}: "{title}" cannot be both the item id and the title; name another column')
    title_name = find_column(others, title, TITLE_NAMES, what="title", argument="title", source=source)
    given = () if text is None else (text,) if isinstance(text, str) else tuple(text)
    for name in given:
        find_column(names, name, (), what="text", argument="text", source=source)
    strings = {id_name, title_name, *given}
    if frame.schema[id_name] == pl.Float64:
        raise CatalogError(
            f'{source}: the item ids in "{id_name}" are decimal numbers; write them as strings or whole numbers'
        )
    frame = pl.DataFrame(
        [
            column.cast(pl.String) if column.name in strings else column if typed else inferred(column)
            for column in frame.get_columns()
        ]
    )
    if text is None:
        rest = [name for name in others if name != title_name]
        given = tuple(name for name in rest if _holds_words(frame.get_column(name)))
    return Columns(id_name, title_name, tuple(dict.fromkeys(name for name in given if name != title_name))), frame


def _holds_words(column: pl.Series) -> bool:
    """Tell words from keys, addresses, dates and numbers, by the name and by a sample of the values."""
    if column.dtype != pl.String:
        return False
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[-\s.]+", "_", column.name)
    if words.lower().rsplit("_", 1)[-1] in _NOT_TEXT_ENDINGS:
        return False
    sample = column.drop_nulls().head(1000)
    if sample.is_empty():
        return False
    addresses = sample.str.contains(r"^\s*(https?:|www\.|data:|/\w)").mean()
    wordless = (~sample.str.contains(r"\p{L}") | sample.str.contains(r"^\d{4}-\d{2}-\d{2}")).mean()
    return float(addresses or 0.0) < 0.5 and float(wordless or 0.0) < 0.5  # type: ignore[arg-type]


def inferred(column: pl.Series) -> pl.Series:
    """Give a column of strings its type: Boolean, Int64, Float64, or String as it was.

    Empty strings are missing values. Booleans are `true`, `false`, `yes`, `no` and nothing else, in any case;
    0 and 1 stay numbers. Numbers with leading zeros stay strings, for they are codes.

    >>> inferred(pl.Series(["1", "", "2.5"])).to_list(), inferred(pl.Series(["Yes", "no"])).to_list()
    ([1.0, None, 2.5], [True, False])
    >>> inferred(pl.Series(["007", "12"])).to_list()
    ['007', '12']
    """
    values = column.replace("", None) if column.dtype == pl.String else column
    known = values.drop_nulls()
    if column.dtype != pl.String or known.is_empty():
        return values
    lowered = known.head(1).str.to_lowercase()[0]
    if lowered in _YES + _NO:
        words = values.str.to_lowercase()
        if words.drop_nulls().is_in(_YES + _NO).all():
            return words.is_in(_YES)  # null stays null
    if known.str.contains(_INTEGER).all():
        return values.str.strip_prefix("+").cast(pl.Int64)
    if (known.str.contains(_NUMBER) & known.str.contains(r"\d")).all():
        numbers = values.str.strip_prefix("+").cast(pl.Float64, strict=False)
        if numbers.null_count() == values.null_count() and numbers.drop_nulls().is_finite().all():
            return numbers
    return values


def canonical(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Bring every column to String, Int64, Float64 or Boolean.

    Lists become one string, joined by `|`; records and other nested values become JSON; dates become ISO strings, whose
    alphabetical order is the order in time; NaN and the empty string become missing values.

    Returns:
        The table, and what had to be left out, in words.
    """
    columns: list[pl.Series] = []
    notes: list[str] = []
    for column in frame.get_columns():
        if column.dtype in (pl.Binary, pl.Object):
            notes.append(f'column "{column.name}" holds raw bytes and was left out')
            continue
        columns.append(_canonical_column(column))
    return pl.DataFrame(columns).with_columns(pl.col(pl.String).replace("", None)), notes


def _canonical_column(column: pl.Series) -> pl.Series:
    kind = column.dtype
    if kind in (pl.String, pl.Int64, pl.Boolean):
        return column
    if kind.is_integer() and kind not in (pl.UInt64, pl.Int128, pl.UInt128):
        return column.cast(pl.Int64)
    if kind.is_integer():
        small = column.cast(pl.Int64, strict=False)
        return small if small.null_count() == column.null_count() else column.cast(pl.String)
    if kind.is_float() or kind.is_decimal():
        return column.cast(pl.Float64).fill_nan(None)
    if kind == pl.List and column.dtype.inner == pl.String:  # type: ignore[attr-defined]
        return column.list.join("|", ignore_nulls=True)
    if kind.is_nested():
        return _from_python(column.name, column.to_list())
    return column.cast(pl.String)


def frame_of(records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Turn records into a table of canonical columns; a key that a record lacks is a missing value there.

    Values of several kinds in one column become strings. Half of a surrogate pair, which no file can hold, becomes
    U+FFFD.

    >>> frame_of([{"a": 1, "b": ["x", "y"]}, {"a": 2.5}]).rows()
    [(1.0, 'x|y'), (2.5, None)]
    """
    for number, record in enumerate(records, start=1):
        if not isinstance(record, Mapping):
            raise CatalogError(
                f"item {number} is of type {type(record).__name__}; give dictionaries of column and value"
            )
    names = dict.fromkeys(name for record in records for name in record)
    try:
        return pl.DataFrame([_from_python(str(name), [record.get(name) for record in records]) for name in names])
    except RecursionError:
        raise CatalogError("a value is nested too deeply to be read; give strings, numbers or lists") from None


def _from_python(name: str, values: list[Any]) -> pl.Series:
    kinds = set(map(type, values)) - {type(None)}
    try:
        if kinds <= {str}:
            return pl.Series(name, values, dtype=pl.String)
        if kinds == {bool}:
            return pl.Series(name, values, dtype=pl.Boolean)
        if kinds == {int}:
            return pl.Series(name, values, dtype=pl.Int64)
        if kinds <= {int, float}:
            return pl.Series(
                name, [None if value is None else float(value) for value in values], dtype=pl.Float64
            ).fill_nan(None)
    except (OverflowError, UnicodeEncodeError, TypeError):
        pass  # a number beyond 64 bits, or half a surrogate pair
    return pl.Series(name, [as_text(value) for value in values], dtype=pl.String)


def as_text(value: Any) -> str | None:
    """Write any value as one string: lists joined by `|`, records as JSON, half surrogate pairs as U+FFFD."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, (list, tuple)):
        text = "|".join(part for part in map(as_text, value) if part is not None)
    elif isinstance(value, Mapping):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
