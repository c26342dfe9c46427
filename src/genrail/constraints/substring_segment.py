"""One segment of a substring index: the texts of some documents, their suffixes in order, and which are live."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.bits import allowed_ranks
from genrail.constraints.building import gather_rows
from genrail.constraints.compiled import Arrays
from genrail.constraints.ngrams import list_pairs, mark_documents, pack_positions, ranks_of_spans
from genrail.constraints.owners import Owners
from genrail.constraints.subset import TrieSubset, Universe
from genrail.constraints.suffixes import bucket_heads, sort_suffixes
from genrail.errors import IdentifierError

__all__ = ["FREQUENT", "Segment", "SegmentSubset", "build_segment", "follow_lists", "room_for_children"]


FREQUENT = 4096  # tokens of at least so many occurrences keep a list of what follows; a rarer one is listed in 0.1 ms
_MOST_POSITIONS = 2**32 - 2
_SEARCHED = 64  # a suffix is found by binary search in the time in which so many are passed in order
_TABLE = 1 << 24  # vocabularies up to here are mapped by a table


@dataclass(frozen=True, eq=False)
class SegmentSubset:
    """Allow some documents of a segment, and so the suffixes that begin in them."""

    documents: TrieSubset
    ranks: TrieSubset

    def __and__(self, other: SegmentSubset) -> SegmentSubset:
        return SegmentSubset(self.documents & other.documents, self.ranks & other.ranks)

    def __or__(self, other: SegmentSubset) -> SegmentSubset:
        return SegmentSubset(self.documents | other.documents, self.ranks | other.ranks)

    def __invert__(self) -> SegmentSubset:
        return SegmentSubset(~self.documents, ~self.ranks)


@dataclass(frozen=True, eq=False)
class Segment:
    """Hold some documents and their suffixes in order; a value, like `Trie`.

    Args:
        text: Codes from 1 on, each document followed by 0; uint16, or uint32 for more than 65,535 different tokens.
        suffixes: Positions in `text` of the suffixes in order, uint32, (tokens,).
        heads: First rank of each code, uint32, (codes + 2,); entry 0 belongs to the separator, which has none.
        tok: Codes that follow each frequent code, ascending, as `text`, (pairs,).
        start: First rank of each of these pairs, uint32, (pairs,).
        first: Where the pairs of each code begin, uint32, (codes + 2,).
        vocabulary: Token of each code, ascending from entry 1, uint32, (codes + 1,).
        begins: Where each document begins in `text`, uint32, (documents + 1,).
        rows: Catalogue row of each document, ascending, uint32.
        documents: Which documents are live.
        ranks: Which ranks are live: those of live documents.
    """

    text: Array
    suffixes: Array
    heads: Array
    tok: Array
    start: Array
    first: Array
    vocabulary: Array
    begins: Array
    rows: Array
    documents: Universe = field(repr=False)
    ranks: Universe = field(repr=False)

    @property
    def arrays(self) -> dict[str, Array]:
        """Give what is saved, by name."""
        names = ("text", "suffixes", "heads", "tok", "start", "first", "vocabulary", "begins", "rows")
        live = {"live": self.documents.live, "live_ranks": self.ranks.live}
        return {name: getattr(self, name) for name in names} | live

    @cached_property
    def kernel(self) -> Arrays:
        """Give the arrays as kernels take them."""
        arrays = (self.text, self.suffixes, self.heads, self.tok, self.start, self.first, self.vocabulary)
        return (*arrays, len(self.suffixes))

    @cached_property
    def lengths(self) -> Array:
        """Count the tokens of each document, int64."""
        return np.diff(self.begins.astype(np.int64)) - 1

    @cached_property
    def everything(self) -> SegmentSubset:
        """Allow every live document."""
        return SegmentSubset(self.documents.everything, self.ranks.everything)

    def documents_of(self, rows: Array) -> Array:
        """Find the live documents among some catalogue rows, int64, ascending, each once."""
        if not len(self.rows):
            return np.zeros(0, dtype=np.int64)
        place = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        found = np.unique(place[self.rows[place] == rows]).astype(np.int64)
        return found[self.documents.everything.contains(found)]

    def document_at(self, positions: Array) -> Array:
        """Say in which document each position of the text lies."""
        return np.searchsorted(self.begins, positions, side="right") - 1

    def document(self, number: int) -> Array:
        """Give the tokens of a document, int64."""
        begin, end = int(self.begins[number]), int(self.begins[number + 1]) - 1
        return self.vocabulary[self.text[begin:end]].astype(np.int64)

    # Subsets ------------------------------------------------------------------------------------------------

    def subset(self, allowed: Array) -> SegmentSubset:
        """Allow the live ones among some documents, given as a mask.

        Cost: one pass over the suffixes, 20 ms per 10^7.
        """
        mask = np.zeros(len(self.rows), dtype=np.bool_)
        mask[self.documents.everything.ranks()] = True
        mask &= allowed
        words = np.zeros(self.documents.words, dtype="<u8")
        packed = np.packbits(mask, bitorder="little")
        words.view(np.uint8)[: len(packed)] = packed
        positions = np.empty((len(self.text) >> 6) + 1, dtype=np.uint64)
        ranks = np.empty(self.ranks.words, dtype=np.uint64)
        pack_positions(self.kernel, self.begins, mask, positions, ranks)
        return SegmentSubset(self.documents.of_bits(words.astype(np.uint64, copy=False)), self.ranks.of_bits(ranks))

    def only(self, documents: Array) -> SegmentSubset:
        """Allow just these live documents."""
        ranks = self._ranks_of(documents)
        if ranks is None:
            return self.subset(self._mask(documents))
        return SegmentSubset(self.documents.of_ranks(documents), self.ranks.of_ranks(ranks))

    def without(self, documents: Array, subset: SegmentSubset) -> SegmentSubset:
        """Take these live documents away from a subset."""
        ranks = self._ranks_of(documents)
        if ranks is None:
            return subset & self.subset(~self._mask(documents))
        return SegmentSubset(subset.documents.minus(documents), subset.ranks.minus(ranks))

    def remove(self, documents: Array) -> Segment:
        """Return the segment in which these documents are no longer live."""
        if not len(documents):
            return self
        left = self.without(documents, self.everything)
        return replace(
            self,
            documents=Universe.of_words(Owners.uncounted(len(self.rows)), left.documents.bitmap()),
            ranks=Universe.of_words(Owners.uncounted(len(self.suffixes)), left.ranks.bitmap()),
        )

    def _mask(self, documents: Array) -> Array:
        mask = np.zeros(len(self.rows), dtype=np.bool_)
        mask[documents] = True
        return mask

    def _ranks_of(self, documents: Array) -> Array | None:
        """Find the ranks of all suffixes of some documents, sorted; None when one pass over all ranks is cheaper."""
        tokens = int(self.lengths[documents].sum())
        if tokens * _SEARCHED > len(self.suffixes):
            return None
        ranks = np.empty(tokens, dtype=np.int64)
        effort = 32 * len(self.suffixes) + 4096  # codes: about the time of that pass, where texts repeat themselves
        if ranks_of_spans(self.kernel, self.begins, documents, effort, ranks) < 0:
            return None
        ranks.sort()
        return ranks

    # N-grams ------------------------------------------------------------------------------------------------

    def rows_below(self, lo: int, hi: int, subset: SegmentSubset) -> Array:
        """List the catalogue rows of the allowed documents that hold an n-gram."""
        marks = np.zeros(len(self.rows), dtype=np.bool_)
        mark_documents(self.kernel, self.begins, allowed_ranks(subset.ranks.bits, lo, hi), marks)
        return self.rows[marks].astype(np.int64)

    def places(self, lo: int, hi: int, subset: SegmentSubset) -> tuple[Array, Array]:
        """List where an n-gram stands: catalogue rows, and the offset of its first token."""
        positions = self.suffixes[allowed_ranks(subset.ranks.bits, lo, hi)]
        documents = self.document_at(positions)
        offsets = positions.astype(np.int64) - self.begins[documents].astype(np.int64)
        return self.rows[documents].astype(np.int64), offsets

    def live_texts(self) -> tuple[Array, Array, Array]:
        """Copy the tokens of the live documents: (tokens uint32, offsets, rows)."""
        documents = self.documents.everything.ranks()
        mask = np.repeat(self._mask(documents), self.lengths + 1)
        mask[self.begins[1:].astype(np.int64) - 1] = False
        offsets = np.concatenate([[0], np.cumsum(self.lengths[documents])])
        return self.vocabulary[self.text[mask]], offsets, self.rows[documents].astype(np.int64)


def room_for_children(segment: Segment) -> Arrays:
    """Make room for what follows one n-gram."""
    codes = len(segment.vocabulary)
    return (*(np.empty(codes, dtype=np.uint32) for _ in range(3)), np.empty(16, dtype=np.int64))


def build_segment(
    tokens: Array, offsets: Array, rows: Array, frequent: int = FREQUENT, width: npt.DTypeLike = np.uint16
) -> Segment:
    """Sort the suffixes of documents given one after the other; they may come in any order of rows.

    Args:
        tokens: All tokens, unsigned integers below 2^32.
        offsets: Document i has tokens[offsets[i]:offsets[i + 1]], int64.
        rows: Catalogue row of each document, no row twice.
        frequent: Tokens of at least so many occurrences keep a list of what follows.
        width: At least this type of codes: kernels are compiled per pair of types, so segments take the same.

    Raises:
        IdentifierError: More than 2^32 - 2 tokens and documents.
    """
    if len(tokens) + len(rows) > _MOST_POSITIONS:
        raise IdentifierError(
            f"{len(tokens):,} tokens in {len(rows):,} documents are more than one index can number "
            f"({_MOST_POSITIONS:,} together); split the catalogue"
        )
    if np.any(rows[1:] < rows[:-1]):
        tokens, offsets, rows = _by_row(tokens, offsets, rows)
    vocabulary, codes = _codes(tokens, width)
    begins = (offsets + np.arange(len(offsets))).astype(np.uint32)
    text = _text(codes, begins)
    _freeze(text)
    suffixes = sort_suffixes(text, _heads(text, len(vocabulary) - 1))
    _freeze(suffixes)
    heads, tok, start, first = follow_lists(text, suffixes, len(vocabulary) - 1, frequent)
    arrays = (text, suffixes, heads, tok, start, first, vocabulary, begins, rows.astype(np.uint32))
    _freeze(*arrays)
    sizes = (Owners.uncounted(len(rows)), Owners.uncounted(len(suffixes)))
    return Segment(*arrays, *map(Universe.full, sizes))


def _freeze(*arrays: Array) -> None:
    for array in arrays:
        array.setflags(write=False)


def _by_row(tokens: Array, offsets: Array, rows: Array) -> tuple[Array, Array, Array]:
    """Put documents in the order of their rows."""
    order = np.argsort(rows, kind="stable").astype(np.uint32)
    new_tokens, new_offsets = np.empty(len(tokens), dtype=np.uint32), np.zeros(len(offsets), dtype=np.uint32)
    gather_rows(tokens.astype(np.uint32, copy=False), offsets.astype(np.uint32), 0, order, new_tokens, new_offsets)
    return new_tokens, new_offsets.astype(np.int64), rows[order]


def _codes(tokens: Array, least: npt.DTypeLike) -> tuple[Array, Array]:
    """Give the vocabulary (the tokens that occur, ascending; entry 0 is the separator's) and the code of each token."""
    largest = int(tokens.max(initial=0))
    if largest < _TABLE:
        there = np.zeros(largest + 1, dtype=np.bool_)
        there[tokens] = True
        used = np.flatnonzero(there) if len(tokens) else np.zeros(0, dtype=np.int64)
    else:
        used = np.unique(tokens)
    width = np.promote_types(least, np.uint16 if len(used) < 2**16 else np.uint32)
    vocabulary = np.concatenate([[0], used]).astype(np.uint32)
    if largest >= _TABLE:
        return vocabulary, (np.searchsorted(used, tokens) + 1).astype(width)
    table = np.zeros(largest + 1, dtype=width)
    table[used] = np.arange(1, len(used) + 1)
    return vocabulary, table[tokens]


def _text(codes: Array, begins: Array) -> Array:
    """Put a separator behind each document."""
    text = np.zeros(len(codes) + len(begins) - 1, dtype=codes.dtype)
    mask = np.ones(len(text), dtype=np.bool_)
    mask[begins[1:].astype(np.int64) - 1] = False
    text[mask] = codes
    return text


def _heads(text: Array, codes: int) -> Array:
    heads = np.empty(codes + 2, dtype=np.uint32)
    bucket_heads(text, heads)
    return heads


def follow_lists(text: Array, suffixes: Array, codes: int, frequent: int) -> tuple[Array, Array, Array, Array]:
    """List where the suffixes of each code begin, and what follows each frequent code: (heads, tok, start, first)."""
    heads = _heads(text, codes)
    own, none = np.arange(codes + 1, dtype=np.uint32), np.zeros(codes + 2, dtype=np.uint32)
    _freeze(heads, own, none)
    segment = (text, suffixes, heads, text[:0], suffixes[:0], none, own, len(suffixes))
    room = (*(np.empty(codes + 1, dtype=np.uint32) for _ in range(3)), np.empty(16, dtype=np.int64))
    tok, start, first = np.empty(0, dtype=text.dtype), np.empty(0, dtype=np.uint32), np.zeros_like(none)
    pairs = list_pairs(segment, frequent, room, tok, start, first)
    tok, start = np.empty(pairs, dtype=text.dtype), np.empty(pairs, dtype=np.uint32)
    list_pairs(segment, frequent, room, tok, start, first)
    return heads, tok, start, first
