"""Exact look-up: the query is an item's id, its article or model number, or its title."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import polars as pl

from genrail.errors import DamagedError, SettingsError
from genrail.finders.arrays import load_json, save_json
from genrail.finders.parts import appended
from genrail.finders.scoring import Integers, Scoring, Values
from genrail.finding.finder import Change, Finder, Json, Progress, Recipe
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.finding.data import Data
    from genrail.finding.requests import Request
    from genrail.models.text_encoder import Encoder

__all__ = ["Lookup", "LookupRecipe"]

ID, NUMBER, TITLE = "id", "number", "title"
LONGEST = 64  # characters; a number or key that is longer is not typed
SHORTEST_INTEGER = 10**7  # whole numbers of eight digits and more may be EANs; shorter ones are prices and years
SAMPLE = 5000  # values of a column that are looked at
_CODE = re.compile(r"[^\W_][\w./+:#-]*")  # letters and digits, with marks between: "KB-1003/a"
_TOKENS = re.compile(r"[^\s,;()\[\]\"'“”„]+")

Keys = dict[str, tuple[tuple[int, str], ...]]  # a key, and the rows that have it with what it is to them


class Lookup(Scoring):
    """Find items by what names them exactly; everything else scores 0 and follows in seeded order.

    A row scores 1 when the whole query is its id, its article or model number, or its title, and 0.5 when one word of
    the query is its id or number. Capitals, kinds of the same letter (Unicode's NFC) and blanks make no difference.
    Columns of article or model numbers are told by what the values look like: nearly all different, without blanks,
    with a digit in nearly all. In a sentence only such words count that hold a digit; a plain number counts only
    alone: "size 42" asks for no article 42.

    Args:
        catalog: The items.
        recipe: What counts as a column of numbers.
        seed: Of the order between equal scores.

    Cost: O(rows) to score; the keys of added items are kept beside the others.

    >>> from genrail.catalog import Catalog
    >>> shop = Catalog.from_items([{"id": "a-1", "title": "Oven", "model": "KB 5"}, {"id": "a-2", "title": "Hob"}])
    >>> [Lookup(shop).search(words, k=1)[0].item_id for words in ("A-2", " hob", "where is my a-1?")]
    ['a-2', 'a-2', 'a-1']
    """

    name = "Look-up"

    def __init__(self, catalog: Catalog, recipe: LookupRecipe | None = None, *, seed: int = 0) -> None:
        recipe = recipe or LookupRecipe()
        columns = number_columns(catalog, recipe)
        self._set(catalog, recipe, columns, (_Part.of(catalog, columns, 0, len(catalog)),), seed)

    def _set(
        self, catalog: Catalog, recipe: LookupRecipe, columns: tuple[str, ...], parts: tuple[_Part, ...], seed: int
    ) -> None:
        self.catalog = catalog
        self.recipe: LookupRecipe = recipe
        self.columns = columns
        self.seed = seed
        self._parts = parts
        self._amended: Keys = {}  # numbers that rows got after they were noted

    @property
    def exact_only(self) -> bool:
        """What is named so exactly comes first in a fusion, whatever else the query was read as."""
        return True

    @property
    def reads_histories(self) -> bool:
        """Histories change nothing."""
        return False

    def scores(self, requests: Sequence[Request]) -> Iterator[Values]:
        """Score all rows for each request, shape (rows,) each."""
        for request in requests:
            scores = np.zeros(len(self.catalog))
            for row, (score, _) in self._named(request.text).items():
                scores[row] = score
            yield scores

    def _named(self, text: str | None) -> dict[int, tuple[float, str]]:
        """Find the rows that a text names, with their scores and what was named."""
        if not text:
            return {}
        found: dict[int, tuple[float, str]] = {}
        for word in _TOKENS.findall(text):
            word = word.strip(".:!?")
            if any(letter.isdigit() for letter in word) and not word.isdigit():
                found.update({row: (0.5, what) for row, what in self._rows(_plain(word)) if what != TITLE})
        found.update({row: (1.0, what) for row, what in self._rows(_plain(text))})
        return found

    def _rows(self, key: str) -> list[tuple[int, str]]:
        noted = (keys.get(key, ()) for keys in (*(part.keys for part in self._parts), self._amended))
        return [(row, what) for rows in noted for row, what in rows if what != NUMBER or self._holds(row, key)]

    def _holds(self, row: int, key: str) -> bool:
        """Tell whether a row has a number now: it may have had it when it was noted, and be updated since."""
        values = (self.catalog.frame.get_column(column)[row] for column in self.columns)
        return any(value is not None and _plain(str(value)) == key for value in values)

    def fits(self, request: Request, best: float) -> bool:
        """Tell whether something was named."""
        return best > 0.0

    def explanations(self, request: Request, rows: Integers) -> list[dict[str, Json]] | None:
        """Say by what an item was named: its id, a number, or its title."""
        named = self._named(request.text)
        return [{"named by": named[row][1]} if row in named else {} for row in rows.tolist()]

    def grow(self, catalog: Catalog, change: Change) -> Lookup:
        """Note the keys of new items and new numbers of others; those of removed ones name rows never allowed."""
        first = sum(map(len, self._parts))
        parts = self._parts
        if first < len(catalog):
            parts = appended(parts, _Part.of(catalog, self.columns, first, len(catalog)), _Part.joined)
        made = Lookup.__new__(Lookup)
        made._set(catalog, self.recipe, self.columns, parts, self.seed)
        made._amended = self._amended_by(catalog, first)
        return made

    def _amended_by(self, catalog: Catalog, first: int) -> Keys:
        """Note numbers that changed while their rows stayed: texts that change get new rows."""
        amended = dict(self._amended)
        for column in self.columns:
            before, after = (one.frame.get_column(column)[:first] for one in (self.catalog, catalog))
            for row in before.ne_missing(after).arg_true().to_list():
                if after[row] is not None:
                    key = _plain(str(after[row]))
                    amended[key] = (*amended.get(key, ()), (row, NUMBER))
        return amended

    def describe(self) -> dict[str, Json]:
        """Tell the columns that are looked into."""
        return {"columns": list(self.columns)}

    def save(self, folder: Path) -> dict[str, Json]:
        """Write the names of the columns; the keys are read from the catalogue again."""
        save_json(folder, "columns", list(self.columns))
        return {"recipe": self.recipe.to_dict(), "seed": self.seed}

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: The names are missing, cut, or of another catalogue.
        """
        columns = load_json(folder, "columns")
        if not isinstance(columns, list) or not set(columns) <= set(catalog.frame.columns):
            raise DamagedError(f"{folder / 'columns.json'} does not fit the catalogue; restore it or build again")
        recipe = LookupRecipe.from_dict(details["recipe"])
        made = cls.__new__(cls)
        parts = (_Part.of(catalog, tuple(columns), 0, len(catalog)),)
        made._set(catalog, recipe, tuple(columns), parts, int(details["seed"]))
        return made


@dataclass(frozen=True)
class LookupRecipe(Recipe):
    """Say what counts as a column of article or model numbers.

    Args:
        different: Share of the values that occur once at least: several items may be of one model, but not most.
        digits: Share of the values that hold a digit: a name or a colour seldom does.

    Raises:
        SettingsError: A share outside 0 to 1.
    """

    different: float = 0.8
    digits: float = 0.8

    kind: ClassVar[str] = "lookup"
    finder: ClassVar[type[Finder]] = Lookup

    def __post_init__(self) -> None:
        if not (0 <= self.different <= 1 and 0 <= self.digits <= 1):
            raise SettingsError(f"different is {self.different} and digits {self.digits}; give shares from 0 to 1")

    def build(self, data: Data, progress: Progress) -> Lookup:
        """Choose the columns and note the keys."""
        return Lookup(data.catalog, self, seed=data.seed)


@dataclass(frozen=True, eq=False)
class _Part:
    """Hold the keys of a range of rows."""

    keys: Keys
    rows: int

    def __len__(self) -> int:
        return self.rows

    @classmethod
    def of(cls, catalog: Catalog, columns: Sequence[str], first: int, end: int) -> _Part:
        frame, names = catalog.frame[first:end], catalog.columns
        keys: dict[str, list[tuple[int, str]]] = {}
        told = [(names.title, TITLE), *((column, NUMBER) for column in columns), (names.item_id, ID)]
        for column, what in told:
            if column not in frame.columns:
                continue
            for row, value in enumerate(frame.get_column(column).cast(pl.String).to_list(), start=first):
                if value:
                    keys.setdefault(_plain(value), []).append((row, what))
        return cls({key: tuple(rows) for key, rows in keys.items() if key}, end - first)

    def joined(self, other: _Part) -> _Part:
        keys = dict(self.keys)
        for key, rows in other.keys.items():
            keys[key] = keys.get(key, ()) + rows
        return _Part(keys, self.rows + other.rows)


def number_columns(catalog: Catalog, recipe: LookupRecipe) -> tuple[str, ...]:
    """Choose the columns whose values look like article or model numbers."""
    names = catalog.columns
    frame = catalog.frame.filter(pl.Series(catalog.live))
    return tuple(
        column
        for column in frame.columns
        if column not in (names.item_id, names.title) and frame.schema[column] in (pl.String, pl.Int64)
        if _like_numbers(frame.get_column(column), recipe)
    )


def _like_numbers(values: pl.Series, recipe: LookupRecipe) -> bool:
    """Tell whether the values look like article or model numbers."""
    given = values.drop_nulls()
    if given.dtype == pl.Int64:
        if not (given >= SHORTEST_INTEGER).all():
            return False
        given = given.cast(pl.String)
    given = given.filter(given != "")
    if not len(given) or given.n_unique() < recipe.different * len(given):
        return False
    some = given.head(SAMPLE).to_list()
    codes = sum(1 for value in some if len(value) <= LONGEST and _is_code(value.strip()))
    return codes >= recipe.digits * len(some)


def _is_code(value: str) -> bool:
    """Tell whether a value is one run of letters and digits, with a digit; "KB 5" is one, a sentence is not."""
    parts = value.split()
    return (
        1 <= len(parts) <= 2
        and all(_CODE.fullmatch(part) for part in parts)
        and any(letter.isdigit() for letter in value)
        and "://" not in value
    )


def _plain(text: str) -> str:
    """Write a text so that capitals, kinds of one letter and blanks make no difference."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
