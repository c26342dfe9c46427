"""Which rows hold a word and how often: an index of texts that grows by parts and forgets removed rows."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.compiled import compiled
from genrail.errors import DamagedError
from genrail.finders.arrays import load_array, load_json, save_arrays, save_json
from genrail.finders.parts import appended
from genrail.models.words import Analysis, words

__all__ = ["Segment", "WordIndex"]

Integers = npt.NDArray[np.int64]
Short = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]

_LAST = "\U0010ffff"  # sorts behind every character


@dataclass(frozen=True, eq=False)
class Segment:
    """Hold the words of some texts, term by term.

    Args:
        terms: Number of each term.
        forms: Each word as it was written, in lower case, and the number of its term.
        indptr: Where each term's entries begin, shape (terms + 1,).
        rows: Catalogue rows of the entries, ascending within a term.
        counts: How often the row holds the term.
        lengths: Terms in each text, shape (texts,).
    """

    terms: dict[str, int]
    forms: dict[str, int]
    indptr: Integers
    rows: Short
    counts: Short
    lengths: Short

    @classmethod
    def of(cls, texts: Sequence[str], first: int, analysis: Analysis, live: Mask) -> Segment:
        """Index texts of the rows from `first` on; those of rows that are not live count as empty.

        Cost: O(characters), and one sort of the words.
        """
        seen: dict[str, int] = {}
        found, lengths = [], np.zeros(len(texts), dtype=np.int64)
        for place, text in enumerate(texts):
            numbers = [seen.setdefault(word.lower(), len(seen)) for word in words(text)] if live[place] else []
            found.append(np.array(numbers, dtype=np.int32))
            lengths[place] = len(numbers)
        terms: dict[str, int] = {}
        forms: dict[str, int] = {}
        number = np.full(len(seen), -1, dtype=np.int64)
        for word, place in seen.items():
            term = analysis.term(word)
            if term is not None:
                forms[word] = number[place] = terms.setdefault(term, len(terms))
        term_of = number[np.concatenate([np.zeros(0, np.int32), *found])]
        row_of = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)[term_of >= 0]
        keys, counts = np.unique(term_of[term_of >= 0] * max(len(texts), 1) + row_of, return_counts=True)
        starts = np.searchsorted(keys, np.arange(len(terms) + 1, dtype=np.int64) * max(len(texts), 1))
        rows = (keys % max(len(texts), 1) + first).astype(np.int32)
        kept = np.bincount(row_of, minlength=len(texts)).astype(np.int32)
        forms = {word: int(term) for word, term in forms.items()}
        return cls(terms, forms, starts.astype(np.int64), rows, counts.astype(np.int32), kept)

    def __len__(self) -> int:
        return len(self.lengths)

    def span(self, term: str) -> slice:
        """Give the entries of a term; an empty slice for an unknown one."""
        number = self.terms.get(term, -1)
        return slice(0, 0) if number < 0 else slice(int(self.indptr[number]), int(self.indptr[number + 1]))

    @cached_property
    def sorted_forms(self) -> list[str]:
        """List the words as they were written, in order."""
        return sorted(self.forms)

    @cached_property
    def term_names(self) -> list[str]:
        """List the terms by number."""
        return list(self.terms)

    @property
    def nbytes(self) -> int:
        """Count the bytes of the arrays."""
        return sum(array.nbytes for array in (self.indptr, self.rows, self.counts, self.lengths))


@dataclass(frozen=True, eq=False)
class WordIndex:
    """Hold the segments of an index and which rows still count. A value: `grown` makes the next.

    Args:
        segments: Rows in order.
        live: The rows that count, shape (rows,).
        analysis: How words become terms.

    >>> from genrail.models.words import English
    >>> index = WordIndex.of(["trail shoes", "wool shoes"], English(), np.ones(2, dtype=bool))
    >>> later = index.grown(["a trail boot"], np.array([True, False, True]))
    >>> index.documents("shoe"), later.documents("shoe"), later.documents("trail")
    (2, 1, 2)
    """

    segments: tuple[Segment, ...]
    live: Mask
    analysis: Analysis

    @classmethod
    def of(cls, texts: Sequence[str], analysis: Analysis, live: Mask) -> WordIndex:
        """Index one text for each row."""
        return cls((Segment.of(texts, 0, analysis, live),), live, analysis)

    def grown(self, texts: Sequence[str], live: Mask) -> WordIndex:
        """Append texts, and let rows that are no longer live count for nothing.

        Cost: that of the new texts, one pass over the live rows, and now and then a merge (see `parts.appended`).
        """
        if not texts:
            return WordIndex(self.segments, live, self.analysis)
        first = len(self.live)
        new = Segment.of(texts, first, self.analysis, live[first:])
        return WordIndex(appended(self.segments, new, lambda a, b: _joined([a, b], live)), live, self.analysis)

    def compacted(self) -> WordIndex:
        """Give one segment without removed rows."""
        return WordIndex((_joined(self.segments, self.live),), self.live, self.analysis)

    @cached_property
    def lengths(self) -> Short:
        """Give the terms in each text, shape (rows,)."""
        return np.concatenate([segment.lengths for segment in self.segments])

    @cached_property
    def items(self) -> int:
        """Count the live rows."""
        return int(self.live.sum())

    @cached_property
    def mean_length(self) -> float:
        """Give the mean number of terms in a live row; 1 where there are none."""
        return float(self.lengths[self.live].sum()) / max(self.items, 1) or 1.0

    @cached_property
    def _whole(self) -> bool:
        return self.items == len(self.live)

    def weighed(self, word: str) -> tuple[str | None, float]:
        """Give the term of a word in lower case, and its inverse document frequency; 0 where no live row holds it.

        What rows hold is remembered: titles of a history are read again and again.
        """
        known = self._weighed.get(word)
        if known is None:
            term = self.analysis.term(word)
            known = term, 0.0 if term is None else self.idf(self.documents(term))
            if known[1] > 0.0:
                self._weighed[word] = known
        return known

    @cached_property
    def _weighed(self) -> dict[str, tuple[str | None, float]]:
        return {}

    def idf(self, holding: int) -> float:
        """Say how much a word weighs that so many live rows hold; 0 for none."""
        return math.log(1.0 + (self.items - holding + 0.5) / (holding + 0.5)) if holding else 0.0

    def documents(self, term: str) -> int:
        """Count the live rows that hold a term."""
        spans = [(segment, segment.span(term)) for segment in self.segments]
        if self._whole:
            return sum(span.stop - span.start for _, span in spans)
        return sum(int(_count(segment.rows[span], self.live)) for segment, span in spans if span.stop > span.start)

    def add(self, term: str, weight: float, norms: Scores, total: Scores) -> None:
        """Add BM25's share of a term, weight x count / (count + norm), to the rows that hold it.

        Cost: O(rows that hold the term).
        """
        for segment in self.segments:
            span = segment.span(term)
            if span.stop > span.start:
                _add(total, segment.rows[span], segment.counts[span], norms, weight)

    def rows_with(self, term: str) -> Integers:
        """Give the rows that hold a term, ascending."""
        return np.concatenate([segment.rows[segment.span(term)] for segment in self.segments]).astype(np.int64)

    def terms_of(self, word: str) -> str | None:
        """Give the term of a word that was written so in some text; None where it was not."""
        for segment in self.segments:
            number = segment.forms.get(word)
            if number is not None:
                return segment.term_names[number]
        return None

    def completions(self, prefix: str) -> list[str]:
        """Give the terms of all words that begin so, in order.

        Cost: O(log of the vocabulary + words found).
        """
        found = set()
        for segment in self.segments:
            forms = segment.sorted_forms
            for word in forms[bisect_left(forms, prefix) : bisect_left(forms, prefix + _LAST)]:
                found.add(segment.term_names[segment.forms[word]])
        return sorted(found)

    @property
    def nbytes(self) -> int:
        """Count the bytes of the arrays."""
        return sum(segment.nbytes for segment in self.segments)

    def save(self, folder: Path) -> None:
        """Write one segment without removed rows."""
        one = self.segments[0] if len(self.segments) == 1 and self._whole else self.compacted().segments[0]
        save_json(folder, "words", {"terms": list(one.terms), "forms": one.forms})
        save_arrays(folder, {"indptr": one.indptr, "rows": one.rows, "counts": one.counts, "lengths": one.lengths})

    @classmethod
    def load(cls, folder: Path, analysis: Analysis, live: Mask) -> WordIndex:
        """Read what `save` wrote, for a catalogue with these live rows.

        Raises:
            DamagedError: A file is missing or cut, or they do not fit each other.
        """
        page = load_json(folder, "words")
        try:
            terms = {str(term): number for number, term in enumerate(page["terms"])}
            forms = {str(word): int(number) for word, number in page["forms"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"{folder / 'words.json'} cannot be read ({error}); build it again") from None
        indptr = load_array(folder, "indptr", np.int64, (len(terms) + 1,))
        rows = load_array(folder, "rows", np.int32, (None,))
        counts = load_array(folder, "counts", np.int32, (len(rows),))
        lengths = load_array(folder, "lengths", np.int32, (len(live),))
        inside = not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < len(live))
        whole = indptr[0] == 0 and indptr[-1] == len(rows) and bool((np.diff(indptr) >= 0).all())
        if not (inside and whole and all(0 <= number < len(terms) for number in forms.values())):
            raise DamagedError(f"{folder}: the arrays of words do not fit together; restore the folder or build again")
        return cls((Segment(terms, forms, indptr, rows, counts, lengths),), live, analysis)


def _joined(segments: Sequence[Segment], live: Mask) -> Segment:
    """Put neighbouring segments into one; entries of rows that are not live are left out."""
    terms: dict[str, int] = {}
    forms: dict[str, int] = {}
    numbers, rows, counts = [], [], []
    for segment in segments:
        renumbered = np.array([terms.setdefault(term, len(terms)) for term in segment.terms], dtype=np.int64)
        kept = live[segment.rows]
        numbers.append(np.repeat(renumbered, np.diff(segment.indptr))[kept])
        rows.append(segment.rows[kept])
        counts.append(segment.counts[kept])
        for word, number in segment.forms.items():
            forms.setdefault(word, int(renumbered[number]))
    number_of = np.concatenate(numbers)
    order = np.argsort(number_of, kind="stable")
    indptr = np.searchsorted(number_of[order], np.arange(len(terms) + 1)).astype(np.int64)
    lengths = np.concatenate([segment.lengths for segment in segments])
    return Segment(terms, forms, indptr, np.concatenate(rows)[order], np.concatenate(counts)[order], lengths)


def _add_plainly(total: Array, rows: Array, counts: Array, norms: Array, weight: float) -> None:
    total[rows] += weight * counts / (counts + norms[rows])  # no row is there twice


@compiled(plain=_add_plainly)
def _add(total: Array, rows: Array, counts: Array, norms: Array, weight: float) -> None:
    """Add one term's scores."""
    for place in range(len(rows)):
        row = rows[place]
        total[row] += weight * counts[place] / (counts[place] + norms[row])


@compiled(plain=lambda rows, live: live[rows].sum())
def _count(rows: Array, live: Array) -> int:
    """Count the rows that are live."""
    found = 0
    for row in rows:
        if live[row]:
            found += 1
    return found
