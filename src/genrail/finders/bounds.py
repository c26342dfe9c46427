"""Read bounds on numbers in a query: "under 30", "at least 2 years", "price between 10 and 20"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog import Catalog
from genrail.types import JsonObject

__all__ = ["Bound", "number_columns", "read_bounds"]

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NUMBER = r"(?P<{0}>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:[.,]\d+)?)"
_MONEY = r"(?:[$€£¥]|\b(?:usd|eur|gbp|dollars?|euros?|pounds?|bucks)\b)"
_CUE = re.compile(
    rf"(?:\b(?P<most>under|below|less\s+than|cheaper\s+than|at\s+most|up\s+to|max(?:imum)?)"
    rf"|\b(?P<least>over|above|more\s+than|at\s+least|min(?:imum)?))"
    rf"\s+(?P<sign>{_MONEY})?\s?{_NUMBER.format('one')}(?!\w)\s?(?P<unit>{_MONEY})?"
    rf"|\bbetween\s+(?P<sign2>{_MONEY})?\s?{_NUMBER.format('low')}(?!\w)\s?(?:{_MONEY}\s?)?and\s+"
    rf"(?:{_MONEY})?\s?{_NUMBER.format('high')}(?!\w)\s?(?P<unit2>{_MONEY})?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Bound:
    """Hold what a query says of a number.

    Args:
        words: As they were typed.
        column: Whose numbers are meant.
        least: Lower bound; minus infinity for none.
        most: Upper bound; infinity for none.
    """

    words: str
    column: str
    least: float = -np.inf
    most: float = np.inf

    def broken(self, catalog: Catalog, rows: Rows) -> Mask:
        """Tell which rows have a number outside the bounds, shape (rows,); a missing one breaks none."""
        numbers = catalog.frame.get_column(self.column)[rows].cast(pl.Float64).fill_null(np.nan).to_numpy()
        found: Mask = (numbers < self.least) | (numbers > self.most)
        return found

    def to_dict(self) -> JsonObject:
        """Turn the bound into plain values."""
        ends = {"least": self.least, "most": self.most}
        known = {name: value for name, value in ends.items() if np.isfinite(value)}
        return {"words": self.words, "attributes": [self.column], "wanted": True, **known}


def number_columns(catalog: Catalog) -> tuple[str, ...]:
    """Name the columns of numbers."""
    return tuple(name for name in catalog.attribute_names if catalog.frame.schema[name].is_numeric())


def read_bounds(text: str, catalog: Catalog, columns: Sequence[str]) -> tuple[str, tuple[Bound, ...]]:
    """Read the bounds of a query whose column is clear: named right before, or the only one that it can be.

    With several columns of numbers and none named, a sign or word of money means the only one with fractions. Without a
    name and without money, a word behind the number is its unit, of who knows what. A bound whose column is not clear
    stays what it is, words.

    Returns:
        The query without them, and the bounds; the query as it is where nothing else would be left.

    >>> shop = Catalog.from_items([{"id": "a", "title": "boot", "price": 25.5, "size": 42}])
    >>> read_bounds("red boots under $30, size at least 41", shop, number_columns(shop))
    ('red boots ,', (Bound(words='under $30', column='price', least=-inf, most=30.0), Bound(words='size at least 41', \
column='size', least=41.0, most=inf)))
    >>> read_bounds("boots under 30", shop, number_columns(shop))
    ('boots under 30', ())
    """
    rest, place, found = "", 0, []
    for cue in _CUE.finditer(text) if columns else ():
        before = text[place : cue.start()]
        begins = {name: begin for name in columns if (begin := _named_before(name, before)) is not None}
        money = any(cue[name] for name in ("sign", "unit", "sign2", "unit2"))
        unit = re.match(r"\s*[^\W\d_]", text[cue.end() :])
        column = next(iter(begins), None) or (None if unit and not money else _only(columns, catalog, money))
        if column is None:
            continue
        begin = place + begins.get(column, len(before))
        rest, place = rest + text[place:begin], cue.end()
        found.append(Bound(text[begin:place].strip(), column, *_ends(cue)))
    rest = " ".join((rest + text[place:]).split())
    return (rest if re.search(r"\w", rest) else text), tuple(found)


def _named_before(name: str, text: str) -> int | None:
    """Give where a column's name stands at the end of a text."""
    words = r"[\s_-]*".join(map(re.escape, re.split(r"[\s_-]+", name)))
    cue = re.search(rf"\b{words}\s*(?:of|is|:)?\s*$", text, re.IGNORECASE)
    return None if cue is None else cue.start()


def _only(columns: Sequence[str], catalog: Catalog, money: bool) -> str | None:
    if money and len(columns) > 1:
        columns = [name for name in columns if catalog.frame.schema[name].is_float()]
    return columns[0] if len(columns) == 1 else None


def _ends(cue: re.Match[str]) -> tuple[float, float]:
    def number(name: str) -> float:
        thousands = re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", cue[name])
        return float(cue[name].replace(",", "" if thousands else "."))

    if cue["low"]:
        return min(number("low"), number("high")), max(number("low"), number("high"))
    return (number("one"), np.inf) if cue["least"] else (-np.inf, number("one"))
