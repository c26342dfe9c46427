"""Every n-gram of every document as an identifier: a suffix array over the tokens of a catalogue."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.best import room_for
from genrail.constraints.bits import count_allowed
from genrail.constraints.checks import checked_tokens
from genrail.constraints.compiled import Arrays
from genrail.constraints.index import Beams, Candidates, ScoreMeaning, Subset
from genrail.constraints.layout import flatten
from genrail.constraints.ngrams import find_ngram
from genrail.constraints.step import NanNotice, Step, empty_candidates, made_candidates, pick
from genrail.constraints.substring_files import SETTINGS, read_segments, write_segments
from genrail.constraints.substring_segment import (
    FREQUENT,
    Segment,
    SegmentSubset,
    build_segment,
    room_for_children,
)
from genrail.constraints.substring_step import STATE_SIZE, best_tokens, is_state, joined_children
from genrail.errors import SettingsError, ShapeError, StateError

__all__ = ["Occurrences", "SubstringIndex", "SubstringSubset"]


_MOST_TOKENS = 2**31 - 1
_rooms = threading.local()


class Occurrences(NamedTuple):
    """Say where an n-gram stands.

    Args:
        rows: Catalogue row of each occurrence, ascending, int64.
        offsets: Its first token within the document, from 0, ascending within a row, int64.
    """

    rows: Array
    offsets: Array


@dataclass(frozen=True, eq=False)
class SubstringSubset:
    """Allow some of the documents of one snapshot; combine with ``&``, ``|`` and ``~``."""

    old: SegmentSubset
    new: SegmentSubset

    def __len__(self) -> int:
        return len(self.old.documents) + len(self.new.documents)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __and__(self, other: Subset) -> SubstringSubset:
        second = _parts(other)
        return SubstringSubset(self.old & second.old, self.new & second.new)

    def __or__(self, other: Subset) -> SubstringSubset:
        second = _parts(other)
        return SubstringSubset(self.old | second.old, self.new | second.new)

    def __invert__(self) -> SubstringSubset:
        return SubstringSubset(~self.old, ~self.new)

    @property
    def nbytes(self) -> int:
        """Count the bytes held, for caches with a bound."""
        return sum(part.documents.nbytes + part.ranks.nbytes for part in (self.old, self.new))

    @cached_property
    def bits(self) -> tuple[Arrays, Arrays]:
        """Give the arrays over ranks as kernels take them."""
        return self.old.ranks.bits, self.new.ranks.bits


def _parts(subset: Subset | None) -> SubstringSubset:
    if not isinstance(subset, SubstringSubset):
        raise StateError("this subset belongs to another index; make both with the index that is asked")
    return subset


@dataclass(frozen=True, eq=False)
class SubstringIndex:
    """Keep beams inside the n-grams of some documents; none crosses the border of a document.

    Made by `from_flat` or `from_sequences`; a value: `add`, `remove` and `update` return the next snapshot, which
    shares the large arrays. Implements `ConstraintIndex`. The items of a state are the documents that hold its n-gram,
    and a token may follow only while a live, allowed document holds the longer n-gram. A candidate is complete where
    nothing can follow in an allowed document: at `longest` tokens, or at the end of all of these documents; every
    shorter n-gram is an identifier too, if whoever decodes keeps it. The state of a beam has five numbers.

    Args:
        old: The large segment, with marks on what was removed.
        new: What was added since. Rows that it shares with `old` are removed there.
        vocab_size: One more than the largest token that may occur. No token has a meaning of its own.
        row_count: Catalogue rows that were ever numbered.
        longest: Tokens of a whole n-gram; None: to the end of the document.
        frequent: Tokens of at least so many occurrences keep a list of what follows.
        notice: Says once that logits are NaN.

    Source: Bevilacqua et al. 2022 (SEAL, arXiv 2204.10628), with a suffix array in place of their FM-index: see
        `docs/decisions/0020-a-suffix-array-for-n-grams.md`.

    >>> index = SubstringIndex.from_sequences([[5, 7, 8], [7, 8, 9], []], vocab_size=10)
    >>> state = index.find([7, 8])
    >>> index.items(state), index.count(state), index.children(state)
    (array([0, 1]), 2, (array([9]), array([1])))
    >>> len(index.add([[7, 8, 8]]).remove([1])), index.find([8, 7])[:2]
    (3, array([0, 0]))
    """

    old: Segment
    new: Segment
    vocab_size: int
    row_count: int
    longest: int | None = None
    frequent: int = FREQUENT
    notice: NanNotice = field(default_factory=NanNotice, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.vocab_size <= _MOST_TOKENS:
            raise SettingsError(f"vocab_size is {self.vocab_size}; it must be between 1 and {_MOST_TOKENS:,}")
        if self.longest is not None and self.longest < 1:
            raise SettingsError(f"longest is {self.longest}; an n-gram has at least one token, or None for no bound")

    # Building -----------------------------------------------------------------------------------------------

    @classmethod
    def from_flat(
        cls,
        tokens: npt.ArrayLike,
        offsets: npt.ArrayLike,
        vocab_size: int,
        *,
        longest: int | None = None,
        frequent: int = FREQUENT,
    ) -> SubstringIndex:
        """Build the index of documents given one after the other.

        Args:
            tokens: All tokens, integers, shape (tokens,).
            offsets: Document i has tokens[offsets[i]:offsets[i + 1]], shape (documents + 1,); it may be empty.
            vocab_size: Tokens are 0 to vocab_size - 1.
            longest: Tokens of a whole n-gram; None: to the end of the document.
            frequent: Tokens of at least so many occurrences keep a list of what follows.

        Raises:
            IdentifierError: A token outside the vocabulary, with its row; more than 2^32 - 2 tokens.
            ShapeError: Offsets that do not cut the tokens into documents.

        Cost: 1 s and 0.2 GB for 10^7 tokens; texts that repeat themselves take a few times as long.

        >>> len(SubstringIndex.from_flat([5, 7, 5], [0, 2, 2, 3], vocab_size=8))
        3
        """
        flat, off = _checked(tokens, offsets, vocab_size)
        documents = len(off) - 1
        old = build_segment(flat, off, np.arange(documents), frequent)
        new = build_segment(flat[:0], off[:1], np.arange(0), frequent, old.text.dtype)
        return cls(old, new, vocab_size, documents, longest, frequent)

    @classmethod
    def from_sequences(
        cls,
        sequences: Sequence[Sequence[int]],
        vocab_size: int,
        *,
        longest: int | None = None,
        frequent: int = FREQUENT,
    ) -> SubstringIndex:
        """Build the index of a list of token sequences; for small catalogues and tests. Errors as `from_flat`."""
        return cls.from_flat(*flatten(sequences, None), vocab_size, longest=longest, frequent=frequent)

    # What it holds ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.everything)

    def __repr__(self) -> str:
        return f"SubstringIndex({len(self):,} documents, {self.token_count:,} tokens, {self.nbytes:,} bytes)"

    @property
    def token_count(self) -> int:
        """Count the tokens of the live documents."""
        return len(self.everything.old.ranks) + len(self.everything.new.ranks)

    @property
    def state_size(self) -> int:
        """Count the numbers of a beam's state."""
        return STATE_SIZE

    @property
    def nbytes(self) -> int:
        """Count the bytes of both segments."""
        return sum(array.nbytes for segment in (self.old, self.new) for array in segment.arrays.values())

    def sequence(self, row: int) -> Array:
        """Give the tokens of a live document, int64.

        Raises:
            ShapeError: The row is not live in this snapshot.
        """
        for segment in (self.new, self.old):
            found = segment.documents_of(self._rows([row]))
            if len(found):
                return segment.document(int(found[0]))
        raise ShapeError(f"row {row} is not live in this index")

    # Changing -----------------------------------------------------------------------------------------------

    def add(self, sequences: Sequence[Sequence[int]]) -> SubstringIndex:
        """Return the snapshot with further documents, numbered from `row_count` on.

        Raises:
            IdentifierError: A token outside the vocabulary.

        Cost: the new segment is built again, 0.2 s per 10^6 of its tokens. `compact` when it has grown.
        """
        return self.add_flat(*flatten(sequences, None))

    def add_flat(self, tokens: npt.ArrayLike, offsets: npt.ArrayLike) -> SubstringIndex:
        """Return the snapshot with further documents given one after the other; see `from_flat`."""
        flat, off = _checked(tokens, offsets, self.vocab_size)
        return self._with(np.arange(self.row_count, self.row_count + len(off) - 1), flat, off)

    def update(self, rows: npt.ArrayLike, sequences: Sequence[Sequence[int]]) -> SubstringIndex:
        """Return the snapshot in which some rows have other texts; a removed row becomes live again.

        Raises:
            ShapeError: A row that was never numbered, a row twice, or not one sequence per row.
        """
        numbers = self._rows(rows)
        tokens, offsets = _checked(*flatten(sequences, None), self.vocab_size)
        if len(numbers) != len(offsets) - 1 or len(np.unique(numbers)) != len(numbers):
            raise ShapeError(
                f"{len(numbers)} rows and {len(offsets) - 1} sequences; give each row once, with its sequence"
            )
        return self.remove(numbers)._with(numbers, tokens, offsets)

    def remove(self, rows: npt.ArrayLike) -> SubstringIndex:
        """Return the snapshot without some catalogue rows; their tokens stay in the arrays until `compact`.

        Cost: a copy of the bitmap, 0.2 bytes per token, and 3 us per removed token.

        Raises:
            ShapeError: A row that was never numbered.
        """
        numbers = self._rows(rows)
        old, new = (segment.remove(segment.documents_of(numbers)) for segment in (self.old, self.new))
        return replace(self, old=old, new=new)

    def compact(self) -> SubstringIndex:
        """Build one segment of all live documents; rows keep their numbers, removed texts are gone.

        Cost: as building the index.
        """
        first, second = self.old.live_texts(), self.new.live_texts()
        old = build_segment(*_joined(first, second), self.frequent)
        new = build_segment(second[0][:0], second[1][:1], second[2][:0], self.frequent, old.text.dtype)
        return replace(self, old=old, new=new)

    def _with(self, rows: Array, tokens: Array, offsets: Array) -> SubstringIndex:
        new = build_segment(
            *_joined(self.new.live_texts(), (tokens, offsets, rows)), self.frequent, self.old.text.dtype
        )
        return replace(self, new=new, row_count=max(self.row_count, int(rows.max(initial=-1)) + 1))

    # Decoding -----------------------------------------------------------------------------------------------

    def start(self, queries: int) -> Beams:
        """Place one beam per query at the root; not alive when no live document holds a token."""
        return self.start_behind((), queries)

    def start_behind(self, tokens: npt.ArrayLike, queries: int) -> Beams:
        """Place one beam per query behind an n-gram, such as the token that begins every title.

        The tokens count as written; the beams are not alive when no live document holds them.
        """
        state = self.find(tokens)
        states = np.tile(state, (queries, 1, 1))
        return Beams(states, np.full((queries, 1), self.count(state) > 0), int(state[4]))

    def find(self, tokens: npt.ArrayLike) -> Array:
        """Give the state of an n-gram, int64, (5,); its ranges are empty where no document, live or not, holds it.

        Cost: one binary search of the suffixes per token, 1 us.
        """
        ngram = np.ascontiguousarray(tokens, dtype=np.int64).reshape(-1)
        ranges = (*find_ngram(self.old.kernel, ngram), *find_ngram(self.new.kernel, ngram))
        return np.array([*ranges, len(ngram)], dtype=np.int64)

    def candidates(
        self,
        beams: Beams,
        logits: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float64],
        count: int,
        subsets: Sequence[Subset | None] | None = None,
        meaning: ScoreMeaning = "full_softmax",
        rows: npt.NDArray[np.int64] | None = None,
    ) -> Candidates:
        """Find the best tokens that still lead to an n-gram of an allowed document; see `Trie.candidates`.

        Cost: what follows the beams plus one pass over their rows of logits.
        """
        step = Step.prepare(self.vocab_size, STATE_SIZE, beams, logits, scores, count, meaning, rows)
        out = empty_candidates(beams, count, STATE_SIZE)
        nans = 0
        for subset, queries in step.by_subset(subsets):
            found, bad = best_tokens(
                self._segments,
                self._own(subset).bits,
                self.everything.bits,
                (*step.beams, step.renormalised),
                step.logits,
                queries,
                beams.depth,
                -1 if self.longest is None else self.longest,
                self._room(),
                room_for(count, 4, beams.alive.shape[1]),
                out,
            )
            if bad >= 0:
                step.refuse(bad)
            nans += found
        if nans:
            self.notice.give(nans)
        return made_candidates(out, beams.depth + 1, nans)

    def advance(self, candidates: Candidates, picks: npt.NDArray[np.int64]) -> Beams:
        """Make the picked candidates the next beams; -1 leaves a beam dead."""
        return pick(candidates, picks)

    def items(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> Array:
        """List the rows of the live, allowed documents that hold the n-gram of a state, in catalogue order, int64.

        All of them at the root. Cost: the occurrences of the n-gram, 50 ns each.
        """
        lo, hi, low, high, depth = self._state(state)
        own = self._own(subset)
        if depth == 0:
            found = [self.old.rows[own.old.documents.ranks()], self.new.rows[own.new.documents.ranks()]]
        else:
            found = [self.old.rows_below(lo, hi, own.old), self.new.rows_below(low, high, own.new)]
        return np.sort(np.concatenate(found).astype(np.int64))

    def count(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> int:
        """Count the occurrences of the n-gram of a state in live, allowed documents."""
        lo, hi, low, high, _ = self._state(state)
        old, new = self._own(subset).bits
        return int(count_allowed(old, lo, hi)) + int(count_allowed(new, low, high))

    def locate(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> Occurrences:
        """Say where the n-gram of a state stands in live, allowed documents, by row and then offset.

        >>> SubstringIndex.from_sequences([[1, 2, 1], [1]], vocab_size=3).locate(np.array([0, 3, 0, 0, 1]))
        Occurrences(rows=array([0, 0, 1]), offsets=array([0, 2, 0]))
        """
        lo, hi, low, high, _ = self._state(state)
        own = self._own(subset)
        places = zip(self.old.places(lo, hi, own.old), self.new.places(low, high, own.new), strict=True)
        rows, offsets = (np.concatenate(pair) for pair in places)
        order = np.lexsort((offsets, rows))
        return Occurrences(rows[order], offsets[order])

    def children(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> tuple[Array, Array]:
        """List the tokens that may follow a state, ascending, and how often each does in live, allowed documents.

        Returns:
            Tokens and counts, both int64. Empty behind `longest` tokens.
        """
        checked = self._state(state)
        if checked[4] == self.longest:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        rooms, bits = self._room(), self._own(subset).bits
        most = len(rooms[0][0]) + len(rooms[1][0])
        tokens, counts = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
        found = joined_children(self._segments, bits, np.array(checked), rooms, tokens, counts)
        return tokens[:found].copy(), counts[:found].copy()

    def tails(self, states: npt.NDArray[np.int64]) -> list[Array]:
        """Give, for each state, the tokens up to `longest` or the document's end where its n-gram stands only once."""
        return [self._tail(*self._state(state)) for state in states]

    def _tail(self, lo: int, hi: int, low: int, high: int, depth: int) -> Array:
        if (hi - lo) + (high - low) != 1:
            return np.zeros(0, dtype=np.int64)
        segment, rank = (self.old, lo) if hi > lo else (self.new, low)
        begin = int(segment.suffixes[rank])
        end = int(segment.begins[segment.document_at(np.array([begin]))[0] + 1]) - 1
        if self.longest is not None:
            end = min(end, begin + self.longest)
        return segment.vocabulary[segment.text[begin + depth : end]].astype(np.int64)

    # Subsets ------------------------------------------------------------------------------------------------

    @cached_property
    def everything(self) -> SubstringSubset:
        """Allow every live document."""
        return SubstringSubset(self.old.everything, self.new.everything)

    def subset(self, allowed: npt.NDArray[np.bool_]) -> SubstringSubset:
        """Compile a mask over catalogue rows, shape (row_count,), into a subset of this snapshot.

        Cost: one read per token, 20 ms per 10^7; keep the subset where a filter returns.
        """
        mask = np.ascontiguousarray(allowed, dtype=np.bool_)
        if mask.shape != (self.row_count,):
            raise ShapeError(f"the mask has shape {mask.shape} but the index numbers {self.row_count} catalogue rows")
        return SubstringSubset(*(segment.subset(mask[segment.rows]) for segment in (self.old, self.new)))

    def only(self, rows: npt.ArrayLike) -> SubstringSubset:
        """Allow just these catalogue rows, as far as they are live. Cost: 3 us per token of theirs."""
        numbers = self._rows(rows)
        return SubstringSubset(*(part.only(part.documents_of(numbers)) for part in (self.old, self.new)))

    def without(self, rows: npt.ArrayLike, subset: Subset | None = None) -> SubstringSubset:
        """Allow all but these catalogue rows, within `subset` if given. Cost: 3 us per token of theirs."""
        numbers, own = self._rows(rows), self._own(subset)
        old = self.old.without(self.old.documents_of(numbers), own.old)
        return SubstringSubset(old, self.new.without(self.new.documents_of(numbers), own.new))

    # Files --------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the arrays and their manifest into a folder; see `docs/formats/substring.md`."""
        write_segments(self.old, self.new, {name: getattr(self, name) for name in SETTINGS}, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True, verify: bool = False) -> SubstringIndex:
        """Open a saved folder.

        Args:
            folder: Where `save` wrote.
            mmap: Map the arrays instead of reading them: milliseconds at any size, and processes share the pages.
            verify: Read everything, compare checksums and check the order of the suffixes.

        Raises:
            FormatError: The folder is not a substring index, or of a newer format.
            DamagedError: A file is missing, has the wrong size or shape, or (with `verify`) other content.
        """
        old, new, settings = read_segments(Path(folder), mmap=mmap, verify=verify)
        return cls(old, new, **settings)

    # Own matters --------------------------------------------------------------------------------------------

    @cached_property
    def _segments(self) -> tuple[Arrays, Arrays]:
        return self.old.kernel, self.new.kernel

    def _room(self) -> tuple[Arrays, Arrays]:
        """Give this thread's room for the children of one beam; kept from step to step."""
        held = getattr(_rooms, "held", None)
        if held is None or any(
            len(room[0]) < len(segment.vocabulary) for room, segment in zip(held, (self.old, self.new), strict=True)
        ):
            held = _rooms.held = room_for_children(self.old), room_for_children(self.new)
        return held

    def _own(self, subset: Subset | None) -> SubstringSubset:
        if subset is None:
            return self.everything
        parts = _parts(subset)
        for part, segment in ((parts.old, self.old), (parts.new, self.new)):
            if part.documents.universe is not segment.documents or part.ranks.universe is not segment.ranks:
                raise StateError("the subset was made by another snapshot; make it again with this one")
        return parts

    def _rows(self, rows: npt.ArrayLike) -> Array:
        numbers = np.asarray(rows, dtype=np.int64).reshape(-1)
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= self.row_count):
            bad = int(numbers[(numbers < 0) | (numbers >= self.row_count)][0])
            raise ShapeError(f"row {bad} is not in the index, which numbers {self.row_count} catalogue rows")
        return numbers

    def _state(self, state: npt.NDArray[np.int64]) -> tuple[int, int, int, int, int]:
        """Check five numbers; unlike a beam, a state may be of an n-gram that does not occur."""
        values = np.ascontiguousarray(state, dtype=np.int64)
        if values.shape == (STATE_SIZE,):
            nowhere = values[0] == values[1] == values[2] == values[3] == 0 <= values[4]
            if nowhere or is_state(self._segments, values, values[4]):
                lo, hi, low, high, depth = values.tolist()
                return lo, hi, low, high, depth
        raise StateError(f"{values.tolist()} is not a state of this index; pass one from find, start or advance")


def _checked(tokens: npt.ArrayLike, offsets: npt.ArrayLike, vocab_size: int) -> tuple[Array, Array]:
    """Refuse what cannot be indexed; give tokens in a narrow type."""
    flat, off = np.asarray(tokens), np.asarray(offsets, dtype=np.int64)
    whole = flat.ndim == off.ndim == 1 and len(off) > 0 and off[0] == 0 and off[-1] == len(flat)
    if not whole or np.any(np.diff(off) < 0):
        raise ShapeError(
            f"offsets must ascend from 0 to the number of tokens ({flat.size}); "
            f"they are {off.reshape(-1)[:1].tolist()} ... {off.reshape(-1)[-1:].tolist()}"
        )
    return checked_tokens(flat, off, 0, vocab_size), off


def _joined(first: tuple[Array, Array, Array], second: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Put two lists of documents (tokens, offsets, rows) behind each other."""
    tokens = np.concatenate([first[0], second[0].astype(first[0].dtype, copy=False)])
    offsets = np.concatenate([first[1], first[1][-1] + second[1][1:]])
    return tokens, offsets, np.concatenate([first[2], second[2]])
