"""Read the words of a query that name values of the catalogue's own columns: soft filters, which move items up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog import Catalog
from genrail.catalog.shared_values import shared_values
from genrail.catalog.values import TAGS
from genrail.finders.parts import appended
from genrail.models.words import STOP_WORDS, English, words
from genrail.types import JsonObject

__all__ = ["Condition", "SoftFilters", "value_columns"]

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Key = tuple[str, ...]  # the terms of a value, in order

LONGEST = 4  # words of a value that is looked for; a longer one is a sentence
LEAST = 2  # live items whose value is just these words: what one item has may be a slip, or its name
FLAG = "true"  # the cell of a flag that holds
ENGLISH = English()

_ENDS = re.compile(r"\s*[>|/;,&\n]\s*")  # between the parts of a value: "Shoes > Boots", "black/white"
_POSSESSIVE = re.compile(r"['\u2019]s\b")


@dataclass(frozen=True, eq=False)
class Condition:
    """Hold words of a query that name a value, and where items have it.

    Args:
        words: As they were typed.
        columns: Those that have such a value; an excluded thing may have none.
        key: Its terms.
        excluded: Whether the query says that it is not wanted.
        share: Of the best items by the words alone that have it: how far the reading is believed.
    """

    words: str
    columns: tuple[str, ...]
    key: Key
    excluded: bool = False
    share: float = 0.0

    @classmethod
    def unnamed(cls, typed: Sequence[str]) -> Condition:
        """Make the condition that excludes something which is looked for in no column."""
        return cls(" ".join(typed), (), (), True)

    def to_dict(self) -> JsonObject:
        """Turn the condition into plain values."""
        page = {"words": self.words, "attributes": list(self.columns), "wanted": not self.excluded}
        return page if self.excluded else {**page, "share": round(self.share, 3)}


@dataclass(frozen=True, eq=False)
class SoftFilters:
    """Know the values of a catalogue's columns by their words. A value: `grown` makes the next.

    A word of a query, or several in a row, name a value when two live items or more have just these as a value, or as
    a part of one ("black" of "black/white", "boots" of "shoes > boots"). Items have it whose value holds the words:
    "navy blue" is blue. Endings and hyphens make no difference, as in BM25. The longest run of words is taken, in
    whichever columns it stands. A flag is named by its column ("waterproof"); numbers and single letters are named
    behind the column's name only ("size 42", "size M"), for alone they mean too much.

    Args:
        catalog: The items.
        columns: Whose values are read; see `value_columns`.
        parts: Of the rows, in order.

    >>> shop = Catalog.from_items(
    ...     [{"id": f"{n}", "title": "boot", "colour": colour, "warm": n < 3, "size": 36 + n % 2} for n, colour in
    ...      enumerate(["navy blue", "blue", "blue", "red", "red", "red"])])
    >>> filters = SoftFilters.of(shop, value_columns(shop))
    >>> [(one.words, one.columns) for one in filters.read("warm blue boots, size 37")]
    [('warm', ('warm',)), ('blue', ('colour',)), ('size 37', ('size',))]
    >>> filters.held(filters.read("blue")[0], np.arange(6)).tolist()
    [True, True, True, False, False, False]
    """

    catalog: Catalog
    columns: tuple[str, ...]
    parts: tuple[_Part, ...]

    @classmethod
    def of(cls, catalog: Catalog, columns: Sequence[str]) -> SoftFilters:
        """Read the values of some columns.

        Cost: one pass over the rows, and the words of the different values.
        """
        return cls(catalog, tuple(columns), (_Part.of(catalog, columns, 0, len(catalog)),))

    def grown(self, catalog: Catalog) -> SoftFilters:
        """Read the values of new rows and changed columns; those that only removed items have are read no more.

        Cost: that of the new rows, a comparison of the columns, and a pass over those that changed.
        """
        first, before, after = self.parts[-1].end, self.catalog.frame, catalog.frame
        changed = [name for name in self.columns if not after.get_column(name)[:first].equals(before.get_column(name))]
        parts = tuple(part.reread(catalog, changed) for part in self.parts) if changed else self.parts
        if first < len(catalog):
            new = _Part.of(catalog, self.columns, first, len(catalog))
            parts = appended(parts, new, lambda a, b: _Part.of(catalog, self.columns, a.first, b.end))
        return SoftFilters(catalog, self.columns, parts)

    def read(self, text: str, excluded: Sequence[Sequence[str]] = ()) -> list[Condition]:
        """Read the conditions of a query, those on what it excludes behind the others.

        What is excluded is looked for in flags alone. Other columns do not tell whether an item goes without: "ceiling
        fan without light" asks for items of the category "ceiling fans and light kits" too.

        Args:
            text: What is wanted.
            excluded: The words of each thing that is not.
        """
        found = list(self._spans(text))
        for typed in excluded:
            key = tuple(map(_term, typed))
            columns = tuple(name for name in self._named(key) if self.catalog.frame.schema[name] == pl.Boolean)
            found.append(Condition(" ".join(typed), columns, key, True))
        return found

    def _spans(self, text: str) -> Iterator[Condition]:
        """Find the longest runs of words that name values, from left to right; each value once."""
        typed = words(_POSSESSIVE.sub("", text), 1)
        terms = [_term(word) for word in typed]
        place, seen = 0, set()
        while place < len(typed):
            for end in range(min(len(typed), place + self._longest), place, -1):
                key = tuple(terms[place:end])
                if columns := self._named(key):
                    if key not in seen:
                        yield Condition(" ".join(typed[place:end]), columns, key)
                    seen.add(key)
                    break
            else:
                end = place + 1
            place = end

    def _named(self, key: Key) -> tuple[str, ...]:
        """Name the columns in which enough live items have just this value."""
        return tuple(name for name in self.columns if self._items(name, key) >= LEAST)

    def _items(self, name: str, key: Key) -> int:
        return sum(
            int(counts[name][cells].sum())
            for part, counts in zip(self.parts, self._counts, strict=True)
            if (cells := part.cells[name].exact.get(key))
        )

    @cached_property
    def _counts(self) -> list[dict[str, npt.NDArray[np.int64]]]:
        """Count the live rows of each cell."""
        live = self.catalog.live
        return [
            {name: cells.counts(live[part.first : part.end]) for name, cells in part.cells.items()}
            for part in self.parts
        ]

    @cached_property
    def _longest(self) -> int:
        keys = (cells.longest for part in self.parts for cells in part.cells.values())
        return max(keys, default=0)

    def held(self, condition: Condition, rows: Rows) -> Mask:
        """Tell which rows have the value, shape (rows,)."""
        return self._in_any(condition, rows, condition.key)

    def told(self, condition: Condition, rows: Rows) -> Mask:
        """Tell which rows have some value in the columns of a condition, shape (rows,)."""
        return self._in_any(condition, rows, None)

    def _in_any(self, condition: Condition, rows: Rows, key: Key | None) -> Mask:
        found = np.zeros(len(rows), dtype=np.bool_)
        for part in self.parts:
            here = (rows >= part.first) & (rows < part.end)
            places = rows[here] - part.first
            for name in condition.columns:
                found[here] |= part.cells[name].holds(places, key)
        return found


def value_columns(catalog: Catalog) -> tuple[str, ...]:
    """Choose the columns whose values are read: flags, and those whose values items share (two or more on average)."""
    live = catalog.frame.filter(pl.Series(catalog.live))
    return tuple(name for name in catalog.attribute_names if _is_shared(live.get_column(name)))


def _is_shared(column: pl.Series) -> bool:
    if column.dtype == pl.Boolean:
        return True
    if column.dtype not in (pl.String, pl.Int64, TAGS):
        return False
    values = shared_values(column.explode() if column.dtype == TAGS else column) or []
    short = [all(len(_key(part)) <= LONGEST for part in _ENDS.split(value)) for value in values]
    return sum(short) > len(short) / 2


@dataclass(frozen=True, eq=False)
class _Cells:
    """Hold the different values of one column in a range of rows.

    Args:
        of: Number of each row's value, -1 for none, int32, shape (rows,).
        parts: The parts of each value.
        exact: Values of which these words are a part, by their numbers.
    """

    of: npt.NDArray[np.int32]
    parts: Sequence[Sequence[Key]]
    exact: Mapping[Key, list[int]]

    @classmethod
    def of_column(cls, column: pl.Series) -> _Cells:
        name = column.name
        if column.dtype == TAGS:
            column = column.list.join("\n")
        given = column.cast(pl.String)
        values = [value for value in given.drop_nulls().unique(maintain_order=True).to_list() if value]
        numbers = given.replace_strict(values, range(len(values)), default=-1, return_dtype=pl.Int32).to_numpy()
        if column.dtype == pl.Boolean:
            parts: list[list[Key]] = [[_key(_as_words(name))] if value == FLAG else [] for value in values]
        else:
            parts = [[key for part in _ENDS.split(value) if (key := _value_key(part, name))] for value in values]
        exact: dict[Key, list[int]] = {}
        for number, keys in enumerate(parts):
            for key in dict.fromkeys(keys):
                exact.setdefault(key, []).append(number)
        return cls(numbers, parts, exact)

    def counts(self, live: Mask) -> npt.NDArray[np.int64]:
        """Count the live rows of each value."""
        known = self.of[live & (self.of >= 0)]
        return np.bincount(known, minlength=len(self.parts))

    @cached_property
    def longest(self) -> int:
        """Give the most words of a value that is looked for."""
        return max(map(len, self.exact), default=0)

    @cached_property
    def _with_term(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, keys in enumerate(self.parts):
            for term in {term for key in keys for term in key}:
                found.setdefault(term, []).append(number)
        return found

    def holds(self, places: Rows, key: Key | None) -> Mask:
        """Tell which rows have a value with these words in a row in one of its parts; None for any value."""
        if key is None:
            return self.of[places] >= 0
        holding = np.zeros(len(self.parts) + 1, dtype=np.bool_)  # the last is for rows without a value, number -1
        for number in self._with_term.get(key[0], ()):
            holding[number] = any(_within(key, part) for part in self.parts[number])
        found: Mask = holding[self.of[places]]
        return found


@dataclass(frozen=True, eq=False)
class _Part:
    """Hold the values of a range of rows, by column."""

    first: int
    end: int
    cells: Mapping[str, _Cells]

    def __len__(self) -> int:
        return self.end - self.first

    def reread(self, catalog: Catalog, columns: Sequence[str]) -> _Part:
        """Read some columns again."""
        new = _Part.of(catalog, columns, self.first, self.end)
        return _Part(self.first, self.end, {**self.cells, **new.cells})

    @classmethod
    def of(cls, catalog: Catalog, columns: Sequence[str], first: int, end: int) -> _Part:
        frame = catalog.frame[first:end]
        return cls(first, end, {name: _Cells.of_column(frame.get_column(name)) for name in columns})


def _term(word: str) -> str:
    """Give the term of a word; stop words stand for themselves: "in stock" is not "stock"."""
    return ENGLISH.term(word.lower()) or word.lower()


def _key(text: str) -> Key:
    return tuple(_term(word) for word in words(_POSSESSIVE.sub("", text), 1))


def _value_key(part: str, name: str) -> Key:
    """Give the terms of a part of a value; none for what is not looked for."""
    key = _key(part)
    if len(key) == 1 and (len(key[0]) == 1 or key[0].isdigit()):
        return (*_key(_as_words(name)), *key)
    return () if len(key) > LONGEST or STOP_WORDS.issuperset(key) else key


def _as_words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name)


def _within(key: Key, part: Key) -> bool:
    return any(part[place : place + len(key)] == key for place in range(len(part) - len(key) + 1))
