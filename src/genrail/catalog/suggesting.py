"""Suggestions as somebody types: words, phrases and titles that begin with what stands there, most frequent first.

All texts lie in one sorted column, so that those with a common beginning are a range, as below a node of a trie. Of
each block of the column the most frequent texts are known ahead, so that a short beginning costs no more than a long
one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.items import Catalog
from genrail.types import Suggestion

__all__ = ["Suggester"]

Integers = npt.NDArray[np.int64]

BLOCK, TOP = 512, 24  # texts of a block, and those of them that are known as its most frequent
PHRASE_TITLES = 200_000  # titles that phrases are counted in: which are frequent, more would not tell better
LONGEST = 200  # characters that are read of what was typed
PARTS = 8  # made of later items; then all is made anew
GONE = 0.1  # share of the rows that may go before all is made anew
_LAST = "\U0010ffff"  # sorts behind every character
_WORD = r"[\pL\pN][\pL\pN\pM'’-]*"


@dataclass(frozen=True, eq=False)
class _Part:
    """Hold the texts of some rows, sorted.

    Args:
        texts: Folded, each once.
        counts: Items that hold a phrase or have a title, shape (texts,).
        rows: Of the first item with a title; -1 for words and phrases, shape (texts,).
        tops: Places of the most frequent texts of each block, shape (blocks, TOP).
    """

    texts: pl.Series
    counts: Integers
    rows: Integers
    tops: Integers

    @classmethod
    def of(cls, catalog: Catalog, first: int) -> Self:
        """Sort the words, phrases and titles of the live rows from `first` on."""
        live = np.flatnonzero(catalog.live[first:]) + first
        titles = catalog.frame.get_column(catalog.columns.title)[live]
        frame = pl.DataFrame({"text": titles.str.to_lowercase(), "row": live}).filter(pl.col("text") != "")
        frame = frame.with_columns(pl.col("text").str.replace_all(r"\s+", " ").str.strip_chars())
        whole = frame.group_by("text").agg(pl.len().alias("count"), pl.col("row").min())
        table = pl.concat([whole, _phrases(frame.get_column("text"))])
        # A text that is a phrase and a title is a title, unless other items hold it too.
        table = table.sort("text", "count", "row", descending=[False, True, True])
        table = table.unique("text", keep="first", maintain_order=True)
        counts = table.get_column("count").cast(pl.Int64).to_numpy()
        return cls(table.get_column("text"), counts, table.get_column("row").to_numpy(), _tops(counts))

    def beginning(self, prefix: str) -> Integers:
        """Give the places of the texts that begin so; of many, those that are frequent in their block."""
        low, high = (bisect_left(self.texts, end) for end in (prefix, prefix + _LAST))
        first, last = -(-low // BLOCK), high // BLOCK
        if last - first < 2:
            return np.arange(low, high)
        inner = self.tops[first:last].ravel()
        return np.concatenate([np.arange(low, first * BLOCK), inner[inner >= 0], np.arange(last * BLOCK, high)])


def _phrases(titles: pl.Series) -> pl.DataFrame:
    """Count words, and pairs and triples of words that stand in two titles or more."""
    step = max(1, len(titles) // PHRASE_TITLES)
    words = titles.gather_every(step).str.extract_all(_WORD)
    table = pl.DataFrame({"words": words}).with_row_index("title").explode("words").drop_nulls()
    own = pl.col("title")
    grams = table.select(
        own,
        pl.col("words").alias("one"),
        *(
            pl.when(own == own.shift(-more))
            .then(pl.concat_str([pl.col("words").shift(-n) for n in range(more + 1)], separator=" "))
            .alias(name)
            for more, name in ((1, "two"), (2, "three"))
        ),
    )
    found = [
        grams.select(own, pl.col(name).alias("text"))
        .drop_nulls()
        .unique()
        .group_by("text")
        .agg(pl.len().alias("count"))
        .filter(pl.col("count") >= least)
        for name, least in (("one", 1), ("two", 2), ("three", 2))
    ]
    table = pl.concat(found).filter(pl.col("text").str.contains(r"\pL"))
    return table.select("text", pl.col("count") * step, pl.lit(-1, dtype=pl.Int64).alias("row"))


def _tops(counts: Integers) -> Integers:
    blocks = -(-len(counts) // BLOCK)
    padded = np.full(blocks * BLOCK, -1, dtype=np.int64)
    padded[: len(counts)] = counts
    by_block = padded.reshape(blocks, BLOCK)
    places = np.argsort(-by_block, axis=1, kind="stable")[:, :TOP]
    chosen = np.where(np.take_along_axis(by_block, places, axis=1) > 0, places + np.arange(blocks)[:, None] * BLOCK, -1)
    return chosen.astype(np.int64)


def _follows(before: Catalog, after: Catalog) -> bool:
    """Tell whether rows were added and removed only: what was read in anew is another catalogue."""
    if before.columns != after.columns or (after.live[: len(before)] > before.live).any():
        return False
    names = [before.columns.item_id, before.columns.title]
    return after.frame.select(names)[: len(before)].equals(before.frame.select(names))


class Suggester:
    """Complete what somebody types. A value: `after` makes the one of a later edition of the catalogue.

    Args:
        catalog: The items; only what its live rows hold is suggested.

    Cost: 10^6 titles of eight words take some seconds and 300 MB; a keystroke less than a millisecond
    (benchmarks/suggest.py).

    >>> shop = Catalog.from_items([{"id": str(n), "title": f"Trail boot, {c}"} for n, c in enumerate(("red", "blue"))])
    >>> [each.text for each in Suggester(shop).suggest("tra", k=3)]
    ['trail boot', 'Trail boot, red', 'Trail boot, blue']
    """

    def __init__(self, catalog: Catalog) -> None:
        self._set(catalog, (_Part.of(catalog, 0),), int(catalog.live.sum()))

    def _set(self, catalog: Catalog, parts: tuple[_Part, ...], made_of: int) -> None:
        self._catalog = catalog
        self._parts = parts
        self._made_of = made_of

    @classmethod
    def of(cls, catalog: Catalog, before: Suggester | None) -> Suggester:
        """Make the one of an edition, from that of an earlier edition where there is one."""
        return cls(catalog) if before is None else before.after(catalog)

    def after(self, catalog: Catalog) -> Suggester:
        """Make the one of another edition: from the new rows alone, where it followed upon this one by small changes.

        Titles of removed items are not suggested; words and phrases that only they held are, until a tenth is gone.
        """
        if catalog is self._catalog:
            return self
        first, rows = len(self._catalog), len(catalog)
        followed = rows >= first and _follows(self._catalog, catalog)
        gone = int(self._catalog.live.sum()) - int(catalog.live[:first].sum()) if followed else 0
        if not followed or len(self._parts) >= PARTS or gone > GONE * self._made_of:
            return Suggester(catalog)
        made = Suggester.__new__(Suggester)
        added = (_Part.of(catalog, first),) if catalog.live[first:].any() else ()
        made._set(catalog, (*self._parts, *added), self._made_of - gone)
        return made

    def suggest(self, typed: str, k: int = 8) -> list[Suggestion]:
        """Give up to k texts that begin with what was typed, those that most items hold first.

        Where nothing does, the last words alone are completed.
        """
        folded = re.sub(r"\s+", " ", typed[:LONGEST].lower()).lstrip()
        kept = ""
        while folded.strip():
            found = self._found(folded, k)
            if found:
                return [Suggestion(kept + one.text, one.items, one.item_id if not kept else None) for one in found]
            head, _, folded = folded.partition(" ")
            kept += head + " "
        return []

    def _found(self, prefix: str, k: int) -> list[Suggestion]:
        best: dict[str, tuple[int, int]] = {}
        for text, count, row in self._beginning(prefix, k):
            known, first = best.get(text, (0, -1))
            best[text] = (known + count, first if first >= 0 else row)
        for text, (count, _) in list(best.items()):
            if any(other.startswith(text + " ") and best[other][0] == count for other in best):
                del best[text]  # it never stands alone: "trail running" where it is always "trail running shoe"
        order = sorted(best.items(), key=lambda one: (-one[1][0], one[1][1] >= 0, len(one[0]), one[0]))
        return [self._told(text, count, row) for text, (count, row) in order[:k]]

    def _beginning(self, prefix: str, k: int) -> Iterator[tuple[str, int, int]]:
        for part in self._parts:
            places = part.beginning(prefix)
            rows = part.rows[places]
            places = places[(rows < 0) | self._catalog.live[rows]]
            most = min(len(places), 4 * k)
            if len(places) > most:
                places = places[np.argpartition(-part.counts[places], most - 1)[:most]]
            texts = part.texts[places].to_list() if len(places) else []
            yield from zip(texts, part.counts[places].tolist(), part.rows[places].tolist(), strict=True)

    def _told(self, text: str, count: int, row: int) -> Suggestion:
        if row < 0:
            return Suggestion(text, count)
        shown = " ".join(self._catalog.titles[row].split())
        return Suggestion(shown, count, self._catalog.item_ids[row])
