"""What may become an item: rows in = indexed + refused, with a reason for every refused row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from genrail.arrays import Array
from genrail.catalog.columns import Columns, Typing, canonical, choose_columns
from genrail.catalog.markup import has_markup
from genrail.catalog.sources import Limits
from genrail.catalog.tables import Table
from genrail.catalog.values import TAGS, written_column
from genrail.errors import CatalogError
from genrail.types import Json, JsonObject

__all__ = ["Report", "validate"]

# Left out of every text: control characters (raw ESC moves a terminal's cursor), marks that turn the direction of
# writing, the byte order mark and the zero-width space. Joiners (U+200C, U+200D) stay: emoji and Persian need them.
_UNWANTED = (
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_LINE_BREAKS = r"[\t\n\x0b\x0c\r\u0085\u2028\u2029]+"
_IN_AN_ID = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd]")
_MOST_NAMED = 5  # rows or ids that one message names


@dataclass(frozen=True)
class Report:
    """Account for every row of a file: ``rows_in == indexed + len(refused)``, and what was left out besides.

    Args:
        source: The file, or what stands for it.
        rows_in: Rows there were, the header not counted.
        indexed: Rows that became items.
        refused: Row numbers (1 is the first row after the header; in JSON lines, the line) with the reason.
        warnings: What was kept but is worth knowing.
        left_out: Rows that were understood and are not used, counted by reason: low ratings, unknown items.
    """

    source: str
    rows_in: int
    indexed: int
    refused: tuple[tuple[int, str], ...] = ()
    warnings: tuple[str, ...] = ()
    left_out: tuple[tuple[int, str], ...] = ()

    @property
    def sentence(self) -> str:
        """Say in one line what became of the rows.

        >>> Report("log.csv", 9, 6, ((3, "no user"),), left_out=((2, "of unknown items"),)).sentence
        '9 rows in = 6 used + 2 of unknown items + 1 refused'
        """
        others = "".join(f" + {count:,} {reason}" for count, reason in self.left_out)
        return f"{self.rows_in:,} rows in = {self.indexed:,} used{others} + {len(self.refused):,} refused"

    def to_dict(self) -> dict[str, Json]:
        """Turn the report into plain values for JSON."""
        return {
            "source": self.source,
            "rows_in": self.rows_in,
            "indexed": self.indexed,
            "refused": [list(entry) for entry in self.refused],
            "warnings": list(self.warnings),
            "left_out": [list(entry) for entry in self.left_out],
        }

    @classmethod
    def from_dict(cls, values: JsonObject) -> Report:
        """Read back what `to_dict` wrote."""
        refused = tuple((int(row), str(reason)) for row, reason in values["refused"])
        left_out = tuple((int(count), str(reason)) for count, reason in values.get("left_out", ()))
        return cls(
            str(values["source"]),
            int(values["rows_in"]),
            int(values["indexed"]),
            refused,
            tuple(values["warnings"]),
            left_out,
        )

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.rows_in:,} rows = {self.indexed:,} items + {len(self.refused):,} refused"]
        lines += [f"  row {row}: {reason}" for row, reason in self.refused[:_MOST_NAMED]]
        if len(self.refused) > _MOST_NAMED:
            lines.append(f"  ... and {len(self.refused) - _MOST_NAMED:,} more")
        return "\n".join(lines + [f"  note: {warning}" for warning in self.warnings])


def validate(
    table: Table,
    item_id: str | None,
    title: str | None,
    text: str | Sequence[str] | None,
    limits: Limits,
    schema: Mapping[str, pl.DataType] | None = None,
) -> tuple[pl.DataFrame, Columns, Report]:
    """Turn a table as read into items: types, ids, clean texts, and an account of every row.

    Args:
        table: As read.
        item_id: Column of the ids, or None to guess.
        title: Column of the titles, or None to guess.
        text: Further columns of words, or None to guess.
        limits: On one item.
        schema: Types that are settled already, by name: those of the catalogue that rows are added to.

    Returns:
        The items (ids as strings, unique), the columns chosen, and the report.

    Raises:
        CatalogError: Nothing in it, a column missing, ids missing or twice, or no row that can be an item.
    """
    if table.frame.is_empty() and not table.refused:
        raise CatalogError(f"{table.source}: there are no rows in it; a catalogue needs at least one item")
    table, notes = _without_empty_rows(table)
    typing = Typing(table.source, table.numbers, table.typed, table.mixed, schema)
    columns, frame, said = choose_columns(table.frame, typing, item_id, title, text)
    notes = [*table.notes, *notes, *said]
    _check_ids(frame.get_column(columns.item_id), table)
    frame, cleaned = _clean(frame, columns)
    reasons = _reasons(frame, columns, limits)
    kept = np.array([reason is None for reason in reasons], dtype=bool) if reasons else np.ones(len(frame), dtype=bool)
    refused = list(table.refused)
    refused += [(int(table.numbers[row]), str(reasons[row])) for row in np.flatnonzero(~kept)]
    refused.sort()
    frame = frame.filter(pl.Series(kept)) if refused else frame
    if frame.is_empty():
        number, reason = refused[0]
        raise CatalogError(f"{table.source}: none of its {table.rows_in:,} rows can be an item; row {number}: {reason}")
    warnings = notes + _warnings(frame, columns, cleaned, limits)
    report = Report(table.source, table.rows_in, len(frame), tuple(refused), tuple(warnings))
    return frame.rechunk(), columns, report


def _without_empty_rows(table: Table) -> tuple[Table, list[str]]:
    """Bring the columns to their types, and refuse rows without a single value."""
    frame, notes = canonical(table.frame)
    if frame.width == 0:
        return replace(table, frame=frame), notes
    empty = frame.select(pl.all_horizontal(pl.all().is_null())).to_series().to_numpy()
    if not empty.any():
        return replace(table, frame=frame), notes
    refused = sorted([*table.refused, *((int(number), "the row is empty") for number in table.numbers[empty])])
    kept = frame.filter(pl.Series(~empty))
    return replace(table, frame=kept, numbers=table.numbers[~empty], refused=tuple(refused)), notes


def _check_ids(ids: pl.Series, table: Table) -> None:
    missing = (ids.is_null() | (ids.str.strip_chars() == "")).fill_null(True)
    if missing.any():
        raise CatalogError(
            f'{table.source}: {int(missing.sum()):,} rows have no item id in column "{ids.name}" '
            f"({_rows(table.numbers[missing.to_numpy()])}); fill them in or drop these rows"
        )
    if ids.n_unique() == len(ids):
        return
    twice = ids.is_duplicated().to_numpy()
    examples = ids.filter(pl.Series(twice)).unique(maintain_order=True).head(3).to_list()
    where = "; ".join(f"{item_id!r} in {_rows(table.numbers[(ids == item_id).to_numpy()])}" for item_id in examples)
    raise CatalogError(
        f'{table.source}: column "{ids.name}" has {len(ids) - ids.n_unique():,} duplicate item ids ({where}); '
        "an id names one item: drop the copies, or choose another id column"
    )


def _rows(numbers: Array) -> str:
    named = ", ".join(str(number) for number in numbers[:_MOST_NAMED])
    more = f" and {len(numbers) - _MOST_NAMED:,} more" if len(numbers) > _MOST_NAMED else ""
    return f"{'row' if len(numbers) == 1 else 'rows'} {named}{more}"


def _clean(frame: pl.DataFrame, columns: Columns) -> tuple[pl.DataFrame, int]:
    """Take unwanted characters out of all strings but the ids; a title becomes one line. Counts the values changed."""
    changed = 0
    cleaned: list[pl.Series] = []
    for column in frame.get_columns():
        if column.dtype == TAGS:
            cleaned.append(column.list.eval(pl.element().str.replace_all(_UNWANTED, "")))
            continue
        if column.dtype != pl.String or column.name == columns.item_id:
            cleaned.append(column)
            continue
        dirty = column.str.contains(_UNWANTED)
        count = int(dirty.sum() or 0)
        changed += count
        clean = column.str.replace_all(_UNWANTED, "") if count else column
        if column.name == columns.title:
            clean = clean.str.replace_all(_LINE_BREAKS, " ").str.strip_chars().fill_null("")
        cleaned.append(clean)
    return pl.DataFrame(cleaned), changed


def _reasons(frame: pl.DataFrame, columns: Columns, limits: Limits) -> list[str | None]:
    """Say for each row why it cannot be an item, None where it can. Empty when all can (the common case)."""
    ids = frame.get_column(columns.item_id)
    texts = [frame.get_column(name) for name in (columns.title, *columns.text)]
    wordless = pl.Series(np.ones(len(frame), dtype=bool))
    for column in texts:
        wordless &= (written_column(column).str.strip_chars() == "").fill_null(True)
    size = pl.Series(np.zeros(len(frame), dtype=np.int64))
    for column in frame.get_columns():
        if column.dtype in (pl.String, TAGS):
            size += written_column(column).str.len_bytes().fill_null(0).cast(pl.Int64)
    too_large = size > limits.record_bytes
    odd = ids.str.contains(_IN_AN_ID.pattern)
    if not (wordless.any() or too_large.any() or odd.any()):
        return []
    reasons: list[str | None] = [None] * len(frame)
    for row in np.flatnonzero(wordless.to_numpy()):
        reasons[row] = f'no words: "{columns.title}" and all other text columns are empty'
    for row in np.flatnonzero(odd.to_numpy()):
        reasons[row] = f"the item id {ids[int(row)]!r} holds control or invisible characters"
    for row in np.flatnonzero(too_large.to_numpy()):
        reasons[row] = f"the record has {size[int(row)]:,} bytes; at most {limits.record_bytes:,} are allowed"
    return reasons


def _warnings(frame: pl.DataFrame, columns: Columns, cleaned: int, limits: Limits) -> list[str]:
    titles = frame.get_column(columns.title)
    untitled = int((titles == "").sum())
    long = int((titles.str.len_chars() > limits.title_characters).sum())
    named = titles.filter(titles != "")
    shared = int(named.is_duplicated().sum())
    texts = [frame.get_column(name) for name in (columns.title, *columns.text)]
    marked = sum(int(has_markup(column).sum()) for column in texts if column.dtype == pl.String)
    notes = [
        (untitled, f"{untitled:,} items have no title and are shown by their id"),
        (long, f"{long:,} titles are longer than {limits.title_characters:,} characters; they are kept whole"),
        (shared, f"{shared:,} items share their title with another item; all are kept"),
        (marked, f"{marked:,} texts hold HTML; tags and entities in them are not read as words"),
        (cleaned, f"{cleaned:,} values held control or invisible characters, which were taken out"),
    ]
    return [words for count, words in notes if count]
