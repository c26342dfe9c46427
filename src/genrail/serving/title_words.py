"""Name groups of items by the words that their titles share, and tell phrases that people may type."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from math import log

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.models.words import STOP_WORDS, words

__all__ = ["TitleWords"]

READ = 2000  # titles that tell how frequent a word is in all
READ_BELOW = 200  # titles of a group that are read to name it
SHORTEST = 3  # letters of a word that names something
_HEAD = re.compile(r"[^,;:(|/]*")  # what stands behind is a colour, a size, a number

Rows = npt.NDArray[np.int64]


class TitleWords:
    """Read the titles of a catalogue's live items.

    Args:
        catalog: As the caller sees it: what it does not hold moves no name.

    >>> titles = ["Red rain boot", "Blue rain boot", "Red sandal", "Blue sandal"]
    >>> shop = Catalog.from_items([{"sku": f"s{n}", "name": name} for n, name in enumerate(titles)])
    >>> TitleWords(shop).naming(np.array([0, 1])), TitleWords(shop).phrases()
    (['rain', 'boot'], ['rain boot'])
    """

    def __init__(self, catalog: Catalog) -> None:
        self._titles = catalog.titles
        self._live = catalog.live
        self._words: dict[int, list[str]] = {}

    def naming(self, rows: Rows, most: int = 3) -> list[str]:
        """Give the words that most of some items have in their titles and few others do, in the order of the titles.

        Cost: 200 titles are read at most, each once.
        """
        live = rows[self._live[rows]]
        some = _spread(live, READ_BELOW)
        titles = [list(dict.fromkeys(self._of(row))) for row in some.tolist()]
        counts = Counter(word for title in titles for word in title)
        found, total = self._frequencies
        scores = {
            word: count * log((total + 1) / min(total, found.get(word, 0) + 1))
            for word, count in counts.items()
            if count > 1 or len(some) == 1
        }
        best = sorted(scores, key=lambda word: (-scores[word], word))[:most]
        places = {word: [title.index(word) / len(title) for title in titles if word in title] for word in best}
        return sorted(best, key=lambda word: sum(places[word]) / len(places[word]))

    def phrases(self, most: int = 4) -> list[str]:
        """Give the two or three words that titles often end in, before a comma: what a thing is called."""
        heads = [_HEAD.findall(self._titles[row])[0].lower().split() for row in self._sample.tolist()]
        ends = Counter(tuple(head[-length:]) for head in heads for length in (2, 3) if len(head) >= length)
        taken: list[str] = []
        used: set[str] = set()
        for pair, count in sorted(ends.items(), key=lambda each: (-each[1], each[0])):
            if count < 2 or len(taken) == most:
                break
            if len(pair) == 3 or any(word in STOP_WORDS or not word[0].isalpha() for word in pair):
                continue
            longer = max((three for three in ends if three[1:] == pair), key=lambda three: ends[three], default=pair)
            phrase = longer if 2 * ends[longer] > count else pair
            if 2 * len(used & set(phrase)) <= len(phrase):
                used |= set(phrase)
                taken.append(" ".join(phrase))
        return taken

    def _of(self, row: int) -> list[str]:
        if row not in self._words:
            self._words[row] = _named(self._titles[row])
        return self._words[row]

    @cached_property
    def _sample(self) -> Rows:
        return _spread(np.flatnonzero(self._live), READ)

    @cached_property
    def _frequencies(self) -> tuple[Counter[str], int]:
        """Count the titles of a sample that hold each word."""
        sample = self._sample.tolist()
        return Counter(word for row in sample for word in dict.fromkeys(self._of(row))), len(sample)


def _named(title: str) -> list[str]:
    """Cut a title into the words that name something."""
    return [word.lower() for word in words(title) if len(word) >= SHORTEST and not word.isdigit()]


def _spread(rows: Rows, most: int) -> Rows:
    """Take some rows from all over."""
    if len(rows) <= most:
        return rows
    places = np.linspace(0, len(rows) - 1, most).astype(np.int64)
    return rows[places]
