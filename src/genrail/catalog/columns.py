"""Which column holds what: guesses by name, shown to the user, and one small set of value types."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.moments import MOMENT, unit_of
from genrail.catalog.values import TAGS, converted, inferred, settled, tidy, written, written_column
from genrail.errors import CatalogError

__all__ = [
    "Columns",
    "Typing",
    "canonical",
    "choose_columns",
    "find_column",
    "frame_and_mixed",
    "frame_of",
    "ids_of",
    "nearest",
    "plain_name",
]

# Names seen in shops' exports and in public data sets, most telling first; compared in lower case.
ITEM_ID_NAMES = (
    "item_id", "product_id", "sku", "asin", "parent_asin", "doc_id", "_id", "article_id", "movie_id", "book_id",
    "track_id", "song_id", "news_id", "listing_id", "article_number", "id", "item", "product", "handle", "ean", "gtin",
    "isbn",
)  # fmt: skip
TITLE_NAMES = (
    "title", "name", "product_name", "product_title", "item_name", "item_title", "display_name", "productDisplayName",
    "movie_title", "book_title", "prod_name", "headline", "label",
)  # fmt: skip

# An address, a picture or another key says nothing to a text encoder.
_NOT_TEXT_ENDINGS = ("id", "ids", "sku", "asin", "ean", "gtin", "isbn", "upc", "url", "urls", "uri", "link", "image",
                     "images", "img", "path", "hash", "date", "time", "timestamp")  # fmt: skip


_TIME_ENDINGS = ("time", "timestamp", "ts", "date", "at", "on", "created", "updated")


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


def plain_name(name: str) -> str:
    """Write a name so that spellings of one name are equal: `movieId`, `movie_id` and `Movie ID`.

    >>> plain_name("Movie ID") == plain_name("movieId") == plain_name("movie_id")
    True
    """
    return "".join(letter for letter in name.lower() if letter.isalnum())


def likely_columns(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """List the columns whose names are known for a purpose, the most telling first.

    Names spelt alike come before names spelt nearly alike, and a plain `id` after both.

    >>> likely_columns(["Id", "movieId", "title"], ["movie_id", "id"])
    ['movieId', 'Id']
    """
    lowered = {name.lower().replace("-", "_").replace(" ", "_"): name for name in reversed(names)}
    plain = {plain_name(name): name for name in reversed(names)}  # the first of two alike wins
    found: list[str] = []
    for telling in (True, False):
        names_known = [name for name in known if (name not in ("id", "_id")) == telling]
        found += [lowered[name.lower()] for name in names_known if name.lower() in lowered]
        found += [plain[plain_name(name)] for name in names_known if plain_name(name) in plain]
    return list(dict.fromkeys(found))


def find_column(
    names: Sequence[str], given: str | None, known: Sequence[str], *, what: str, argument: str, source: str
) -> str:
    """Find the column that was asked for, or guess it by its name.

    Args:
        names: The columns there are.
        given: What the caller said, or None to guess.
        known: Names that this column usually has, most telling first.
        what: How errors call it ("item id").
        argument: The argument that names it ("item_id"); empty where there is none.
        source: The file.

    Raises:
        CatalogError: The column is not there, or nothing there looks like it.
    """
    listed = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    if given is not None:
        if given in names:
            return given
        raise CatalogError(f'{source}: there is no column "{given}"{nearest(given, names)}; the columns are: {listed}')
    if found := likely_columns(names, known):
        return found[0]
    plain = {plain_name(name): name for name in reversed(names)}
    near = (
        name for candidate in known for name in difflib.get_close_matches(plain_name(candidate), list(plain), 1, 0.7)
    )
    guess = next(near, None)
    hint = f' (perhaps "{plain[guess]}"?)' if guess else ""
    cure = f"name it with {argument}=..." if argument else f'call it "{known[0]}" in the file'
    raise CatalogError(f"{source}: no column looks like the {what}; {cure}{hint}; the columns are: {listed}")


@dataclass(frozen=True)
class Typing:
    """Say what is known about the types of a table before its columns are settled.

    Args:
        source: The file, for messages.
        rows: Number in the file of each row.
        typed: False when all columns are strings, so that numbers and the rest are still to be recognised.
        mixed: Columns of a typed file that held several kinds and became strings: to be recognised as well.
        schema: Types that are settled already, by name: those of the catalogue that rows are added to.
    """

    source: str
    rows: npt.NDArray[np.int64]
    typed: bool = True
    mixed: frozenset[str] = frozenset()
    schema: Mapping[str, pl.DataType] | None = None

    def settle(self, column: pl.Series, as_text: bool) -> tuple[pl.Series, tuple[str, ...]]:
        """Give one column its type, and say what is worth knowing about it.

        Raises:
            CatalogError: A value is not of the type that is settled.
        """
        if self.schema is not None and column.name in self.schema:
            return converted(column, self.schema[column.name], self.rows, self.source), ()
        if as_text:
            return written_column(column), ()
        found = (
            settled(column, self.rows)
            if column.dtype != pl.String or (self.typed and column.name not in self.mixed)
            else inferred(column, self.rows)
        )
        return found.values, (*found.notes, *_units_mixed(found.values, self.rows))


def _units_mixed(column: pl.Series, rows: npt.NDArray[np.int64]) -> list[str]:
    """Warn where a column of numbers that is called a time counts in several units."""
    last = re.sub(r"(?<=[a-z])(?=[A-Z])|[-\s.]+", "_", column.name).lower().rsplit("_", 1)[-1]
    if last not in _TIME_ENDINGS or column.dtype not in (pl.Int64, pl.Float64):
        return []
    _, mixed = unit_of(column)
    if mixed is None:
        return []
    shown = " and ".join(f"{column[place]} in row {rows[place]}" for place in mixed)
    return [f'column "{column.name}" seems to mix units of time, such as seconds and milliseconds ({shown})']


def choose_columns(
    frame: pl.DataFrame,
    typing: Typing,
    item_id: str | None = None,
    title: str | None = None,
    text: str | Sequence[str] | None = None,
) -> tuple[Columns, pl.DataFrame, list[str]]:
    """Settle the id, title and text columns of a table and the types of all, guessing what was not given.

    Text columns are guessed among the columns of strings and tags: those that hold words, and no keys, addresses or
    dates.

    Args:
        frame: Of canonical columns.
        typing: What is known about types.
        item_id: Column of the ids, or None to guess.
        title: Column of the titles, or None to guess.
        text: Further columns of words, or None to guess.

    Returns:
        The columns; the table with text there and types elsewhere; and what is worth knowing about the types.

    Raises:
        CatalogError: A column is not there, or cannot be guessed, or one column was given two roles.
    """
    names, source = frame.columns, typing.source
    id_name = _id_column(frame, item_id, source)
    others = [name for name in names if name != id_name]
    if title is not None and title == id_name:
        raise CatalogError(f'{source}: "{title}" cannot be both the item id and the title; name another column')
    title_name = find_column(others, title, TITLE_NAMES, what="title", argument="title", source=source)
    given = () if text is None else (text,) if isinstance(text, str) else tuple(text)
    for name in given:
        find_column(names, name, (), what="text", argument="text", source=source)
    frame = frame.with_columns(ids_of(frame.get_column(id_name), source))
    plain = {id_name, title_name, *(name for name in given if frame.schema[name] != TAGS)}
    made = [typing.settle(column, column.name in plain) for column in frame.get_columns()]
    frame, notes = pl.DataFrame([column for column, _ in made]), [note for _, said in made for note in said]
    if text is None:
        rest = [name for name in others if name != title_name]
        given = tuple(name for name in rest if _holds_words(frame.get_column(name)))
    columns = Columns(id_name, title_name, tuple(dict.fromkeys(name for name in given if name != title_name)))
    return columns, frame, notes


def _id_column(frame: pl.DataFrame, given: str | None, source: str) -> str:
    """Find the column of the ids; among several that look like it the first without gaps and repeats."""
    name = find_column(frame.columns, given, ITEM_ID_NAMES, what="item id", argument="item_id", source=source)
    if given is not None:
        return name
    likely = likely_columns(frame.columns, ITEM_ID_NAMES) or [name]
    return next((one for one in likely if _is_key(frame.get_column(one))), name)


def _is_key(column: pl.Series) -> bool:
    return column.null_count() == 0 and column.dtype != TAGS and column.n_unique() == len(column)


def ids_of(ids: pl.Series, source: str) -> pl.Series:
    """Write ids as text; whole numbers that a file holds as decimal ones are the numbers."""
    if ids.dtype != pl.Float64:
        return written_column(ids)
    if not (ids.drop_nulls() == ids.drop_nulls().round(0)).all() or (ids.abs().max() or 0) >= 2**53:  # type: ignore[operator]
        raise CatalogError(
            f'{source}: the item ids in "{ids.name}" are decimal numbers; write them as strings or whole numbers'
        )
    return ids.cast(pl.Int64).cast(pl.String)


def _holds_words(column: pl.Series) -> bool:
    """Tell words from keys, addresses, dates and numbers, by the name and by a sample of the values."""
    if column.dtype not in (pl.String, TAGS):
        return False
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[-\s.]+", "_", column.name)
    if words.lower().rsplit("_", 1)[-1] in _NOT_TEXT_ENDINGS:
        return False
    sample = written_column(column.drop_nulls().head(1000))
    if sample.is_empty():
        return False
    addresses = sample.str.contains(r"^\s*(https?:|www\.|data:|/\w)").mean()
    wordless = (~sample.str.contains(r"\p{L}") | sample.str.contains(r"^\d{4}-\d{2}-\d{2}")).mean()
    return float(addresses or 0.0) < 0.5 and float(wordless or 0.0) < 0.5  # type: ignore[arg-type]


def canonical(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Bring every column to one of the types of `genrail.catalog.values`, strings tidy and names without blanks.

    Lists become tags; records and lists of lists become JSON; dates become moments; durations become seconds; NaN, the
    infinities and the empty string become missing values.

    Returns:
        The table, and what was changed or left out, in words.
    """
    columns: list[pl.Series] = []
    notes: list[str] = []
    for column in _renamed(frame).get_columns():
        if column.dtype in (pl.Binary, pl.Object):
            notes.append(f'column "{column.name}" holds raw bytes and was left out')
            continue
        made = _canonical_column(column)
        if column.dtype == pl.Duration:
            notes.append(f'column "{column.name}" holds durations; they are kept as seconds')
        if made.dtype == pl.Float64 and not made.is_null().all():
            infinite = made.is_infinite().fill_null(False)
            if infinite.any():
                notes.append(f'column "{column.name}": {int(infinite.sum()):,} infinite values were taken for nothing')
            made = made.replace([float("inf"), float("-inf")], [None, None])
        columns.append(tidy(made))
    return pl.DataFrame(columns), notes


def _renamed(frame: pl.DataFrame) -> pl.DataFrame:
    """Write the names of columns without blanks around them and composed (NFC), where that keeps them apart."""
    names = [unicodedata.normalize("NFC", name.strip()) for name in frame.columns]
    if names == frame.columns or len(set(names)) < len(names):
        return frame
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


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
    if kind == pl.Duration:
        return column.dt.total_microseconds().cast(pl.Float64) / 1e6
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return _as_moments(column)
    if isinstance(kind, pl.List) and kind.inner == pl.String:
        return column.list.eval(pl.element().str.strip_chars().str.normalize("NFC"))
    if kind.is_nested():
        return _from_python(column.name, column.to_list())[0]
    return column.cast(pl.String)


def _as_moments(column: pl.Series) -> pl.Series:
    zone = getattr(column.dtype, "time_zone", None)
    moments = column.cast(pl.Datetime("us", zone))
    return moments.dt.convert_time_zone("UTC") if zone else moments.dt.replace_time_zone("UTC")


def frame_of(records: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Turn records into a table of canonical columns; a key that a record lacks is a missing value there.

    Values of several kinds in one column become strings. Half of a surrogate pair, which no file can hold, becomes
    U+FFFD.

    >>> frame_of([{"a": 1, "b": ["x", "y"]}, {"a": 2.5}]).rows()
    [(1.0, ['x', 'y']), (2.5, None)]
    """
    return frame_and_mixed(records)[0]


def frame_and_mixed(records: Sequence[Mapping[str, object]]) -> tuple[pl.DataFrame, frozenset[str]]:
    """Turn records into a table as `frame_of` does, and name the columns that became strings for lack of one kind."""
    for number, record in enumerate(records, start=1):
        if not isinstance(record, Mapping):
            raise CatalogError(
                f"item {number} is of type {type(record).__name__}; give dictionaries of column and value"
            )
    names = dict.fromkeys(name for record in records for name in record)
    try:
        made = [_from_python(str(name), [record.get(name) for record in records]) for name in names]
    except RecursionError:
        raise CatalogError("a value is nested too deeply to be read; give strings, numbers or lists") from None
    return pl.DataFrame([column for column, _ in made]), frozenset(column.name for column, mixed in made if mixed)


def _from_python(name: str, values: list[object]) -> tuple[pl.Series, bool]:
    """Make a column, and tell whether values of several kinds were written as strings."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds <= {str, int, float, bool, list, dict}:
        values = [_plain_value(value) for value in values]
        kinds = set(map(type, values)) - {type(None)}
    try:
        if kinds <= {str}:
            return pl.Series(name, values, dtype=pl.String), False
        if kinds == {bool}:
            return pl.Series(name, values, dtype=pl.Boolean), False
        if kinds == {int}:
            return pl.Series(name, values, dtype=pl.Int64), False
        if kinds <= {int, float}:
            numbers = [None if value is None else float(cast("float", value)) for value in values]
            return pl.Series(name, numbers, dtype=pl.Float64).fill_nan(None), False
        if kinds == {datetime}:
            return pl.Series(name, values, dtype=MOMENT), False
        if kinds == {list}:
            return _lists(name, cast("list[list[object] | None]", values)), False
    except (OverflowError, UnicodeEncodeError, TypeError):
        pass  # a number beyond 64 bits, half a surrogate pair, or a list of lists
    texts = [None if value is None else written(value) for value in values]
    return pl.Series(name, texts, dtype=pl.String), len(kinds) > 1


def _plain_value(value: object) -> object:
    """Bring a value of another library to the plain kind that it stands for."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a scalar of numpy
        return _plain_value(value.item())
    return str(value) if isinstance(value, str) else value


def _lists(name: str, values: Sequence[Sequence[object] | None]) -> pl.Series:
    for value in values:
        if value is not None and any(isinstance(part, list | tuple | Mapping) for part in value):
            raise TypeError("a list of lists")
    tags = [
        None if value is None else [text for part in value if part is not None and (text := _tag(part))]
        for value in values
    ]
    return pl.Series(name, tags, dtype=TAGS)


def _tag(value: object) -> str:
    return unicodedata.normalize("NFC", written(value).strip())
