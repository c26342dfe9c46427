"""A catalogue that changes: a large index, a small one of what was added since, and marks on what was removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.best import room_for
from genrail.constraints.building import gather_rows
from genrail.constraints.compiled import Arrays
from genrail.constraints.index import Beams, Candidates, ScoreMeaning, Subset
from genrail.constraints.layout import flatten
from genrail.constraints.merging import best_of_two, merge_rows
from genrail.constraints.owners import Owners, checked_owners
from genrail.constraints.step import Step, empty_candidates, made_candidates, pick
from genrail.constraints.subset import LiveSubset
from genrail.constraints.trie import Trie, build_trie, with_edges
from genrail.errors import DamagedError, FormatError, IdentifierError, ShapeError, StateError

__all__ = ["LiveSubset", "LiveTrie"]


FORMAT = "genrail.live-trie"
VERSION = 1
MANIFEST = "live.json"


@dataclass(frozen=True, eq=False)
class LiveTrie:
    """Keep beams inside a catalogue that grows and shrinks.

    A value: `add`, `remove` and `update` return the next snapshot, which shares the arrays of this one. Readers keep
    the snapshot that they began with (beams and subsets belong to it), so nobody waits and no answer mixes two
    versions. Implements `ConstraintIndex`; candidates, scores and their order are bit for bit those of an index built
    anew. The state of a beam has eight numbers, four per segment.

    Args:
        old: The large segment, with marks on what was removed.
        new: What was added since; None for nothing yet. Rows that it shares with `old` are removed there.

    >>> first = LiveTrie(Trie.from_sequences([[5, 7], [5, 8]], vocab_size=10))
    >>> second = first.add([[6, 1]]).remove([0])
    >>> len(first), len(second), second.row_count
    (2, 2, 3)
    >>> second.children(second.start(1).states[0, 0])
    (array([5, 6]), array([1, 1]))
    """

    old: Trie
    new: Trie = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.new is None:
            nothing = np.zeros(0, dtype=self.old.rows.dtype), np.zeros(1, dtype=np.int64), self.old
            object.__setattr__(self, "new", build_trie(*nothing, np.zeros(0, dtype=np.int64), self.old.row_count))

    @classmethod
    def from_flat(
        cls,
        tokens: npt.ArrayLike,
        offsets: npt.ArrayLike,
        vocab_size: int,
        end_token: int | None = None,
        *,
        owners: npt.ArrayLike | None = None,
    ) -> LiveTrie:
        """Build the first snapshot; arguments and errors as for `Trie.from_flat`."""
        return cls(Trie.from_flat(tokens, offsets, vocab_size, end_token, owners=owners))

    # What it holds ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.old) + len(self.new)

    def __repr__(self) -> str:
        return f"LiveTrie({len(self):,} items, {len(self.new):,} of them in the new segment)"

    @property
    def vocab_size(self) -> int:
        """Give one more than the largest token that may occur."""
        return self.old.vocab_size

    @property
    def end_token(self) -> int | None:
        """Give the last token of every ragged identifier; None for one length."""
        return self.old.end_token

    @property
    def row_count(self) -> int:
        """Count the catalogue rows that were ever numbered."""
        return self.new.row_count

    @property
    def max_length(self) -> int:
        """Count the tokens of the longest identifier."""
        return max(self.old.max_length, self.new.max_length)

    @property
    def state_size(self) -> int:
        """Count the numbers of a beam's state."""
        return 8

    @property
    def nbytes(self) -> int:
        """Count the bytes of both segments."""
        return self.old.nbytes + self.new.nbytes

    @property
    def most_sequences(self) -> int:
        """Bound the identifiers of one item; 1 where none has several."""
        return max(self.old.most_sequences, self.new.most_sequences)

    @property
    def pending(self) -> int:
        """Count what `compact` would tidy up: identifiers of the new segment, and of items removed from the old."""
        return len(self.new.order) + self.old.dead_ranks

    def sequence(self, row: int) -> Array:
        """Give the identifier of a live catalogue row, int64; of several, the first in the order of tokens.

        Raises:
            ShapeError: The row is not live in this snapshot.
        """
        return self.sequences(row)[0]

    def sequences(self, row: int) -> list[Array]:
        """Give all identifiers of a live catalogue row, int64, in the order of tokens.

        Raises:
            ShapeError: The row is not live in this snapshot.
        """
        if row < self.old.row_count and len(self.old.ranks_of([row])):
            return self.old.sequences(row)
        return self.new.sequences(row)

    # Changing -----------------------------------------------------------------------------------------------

    def add(self, sequences: Sequence[Sequence[int]] | Array, owners: npt.ArrayLike | None = None) -> LiveTrie:
        """Return the snapshot with further items, numbered from `row_count` on.

        Args:
            sequences: One identifier per item, as for `Trie.from_sequences`; or a matrix, shape (items, length).
            owners: Which of the new items each identifier belongs to, rising from 0; None: one for each item.

        Raises:
            IdentifierError: As when building: a token outside the vocabulary, another length, an end token inside.
            ShapeError: Owners that do not fit the sequences or go down.

        Cost: the new segment is built again: 20,000 Semantic IDs in a few milliseconds. `compact` when it has grown.

        >>> LiveTrie(Trie.from_sequences([[5]], vocab_size=9)).add([[6], [7]], owners=[0, 0])
        LiveTrie(2 items, 1 of them in the new segment)
        """
        tokens, offsets = flatten(sequences, self.end_token)
        return self.add_flat(tokens, offsets, owners)

    def add_flat(self, tokens: npt.ArrayLike, offsets: npt.ArrayLike, owners: npt.ArrayLike | None = None) -> LiveTrie:
        """Return the snapshot with further items given one after the other; see `Trie.from_flat` and `add`."""
        identifiers = len(np.asarray(offsets)) - 1
        places = None if owners is None else checked_owners(owners, identifiers)
        numbers = self.row_count + (np.arange(identifiers) if places is None else places)
        return self._with(self.old, numbers, tokens, offsets, places)

    def update(
        self,
        rows: npt.ArrayLike,
        sequences: Sequence[Sequence[int]] | Array,
        owners: npt.ArrayLike | None = None,
    ) -> LiveTrie:
        """Return the snapshot in which some catalogue rows have other identifiers; a removed row becomes live again.

        Args:
            rows: Each once.
            sequences: As for `add`.
            owners: Place in `rows` that each identifier belongs to, rising from 0; None: one for each row.

        Raises:
            ShapeError: A row that was never numbered, a row twice, or not one sequence per row.
        """
        numbers = np.asarray(rows, dtype=np.int64).reshape(-1)
        tokens, offsets = flatten(sequences, self.end_token)
        places = None if owners is None else checked_owners(owners, len(offsets) - 1)
        given = len(offsets) - 1 if places is None else int(places.max(initial=-1)) + 1
        if len(numbers) != given or len(np.unique(numbers)) != len(numbers):
            raise ShapeError(
                f"{len(numbers)} rows and sequences of {given}; give each row once, with its sequence or sequences"
            )
        without = self.remove(numbers)
        return without._with(without.old, numbers if places is None else numbers[places], tokens, offsets, places)

    def remove(self, rows: npt.ArrayLike) -> LiveTrie:
        """Return the snapshot without some catalogue rows; rows that are not live stay so.

        Cost: a copy of the bitmap, 0.2 bytes per item; 0.1 ms at 10^6.

        Raises:
            ShapeError: A row that was never numbered.
        """
        numbers = np.asarray(rows, dtype=np.int64).reshape(-1)
        new = self.new.remove(numbers)  # checks the rows
        return LiveTrie(self.old.remove(numbers[numbers < self.old.row_count]), new)

    def compact(self) -> Trie:
        """Merge both segments into one index without the removed items, whose tokens go with them.

        Catalogue rows keep their numbers. Equal, bit for bit, to an index built anew.

        Cost: one pass over the tokens, no sort, then the lists of children; memory for a second copy of the index.
        """
        ranks = (self.old.universe.everything.ranks(), self.new.universe.everything.ranks())
        off_type = self.old.off.dtype
        tokens = _tokens_at(self.old, ranks[0]) + _tokens_at(self.new, ranks[1])
        order = np.empty(len(ranks[0]) + len(ranks[1]), dtype=np.uint32)
        rows = np.empty(tokens, dtype=self.old.rows.dtype)
        off = np.zeros(0 if self.end_token is None else len(order) + 1, dtype=off_type)
        merge_rows(self.old.segment, self.new.segment, ranks, (self.old.order, self.new.order), rows, off, order)
        several = max(part.universe.owners.several for part in (self.old, self.new))
        several = several and len(np.unique(order)) < len(order)
        return with_edges(self.old, rows, off, Owners(order, self.row_count, several))

    def merged(self) -> LiveTrie:
        """Return the snapshot whose large segment holds everything; see `compact`."""
        return LiveTrie(self.compact())

    def renamed(self, rows: npt.ArrayLike) -> LiveTrie:
        """Return the snapshot in which what belonged to row r belongs to ``rows[r]``; see `Trie.renamed`."""
        numbers = np.asarray(rows).reshape(-1)
        return LiveTrie(self.old.renamed(numbers[: self.old.row_count]), self.new.renamed(numbers))

    def _with(
        self, old: Trie, numbers: Array, tokens: npt.ArrayLike, offsets: npt.ArrayLike, places: Array | None
    ) -> LiveTrie:
        """Build the new segment from what is live in it and further identifiers of these catalogue rows.

        Args:
            old: The other segment.
            numbers: Catalogue row of each identifier.
            tokens: See `Trie.from_flat`.
            offsets: See there.
            places: Which of the caller's items each identifier belongs to; None: one of each.
        """
        flat, off = np.asarray(tokens), np.asarray(offsets, dtype=np.int64)
        if len(numbers):  # refuse before anything is merged, with the caller's row numbers
            length = Trie.from_flat(flat, off, self.vocab_size, self.end_token, owners=places).length
            old = _of_length(old, length) if not len(self.new.order) else old
            if length != old.length:
                raise IdentifierError(f"the new identifiers have {length} tokens, the index has {old.length} per item")
        kept = self.new.universe.everything.ranks()
        kept_tokens, kept_off = _gather(self.new, kept)
        all_numbers = np.concatenate([self.new.order[kept].astype(np.int64), numbers])
        all_tokens = np.concatenate([kept_tokens, flat.astype(kept_tokens.dtype)])
        all_off = np.concatenate([kept_off, kept_off[-1] + off[1:]])
        row_count = max(self.row_count, int(numbers.max(initial=-1)) + 1)
        return LiveTrie(old, build_trie(all_tokens, all_off, old, all_numbers, row_count))

    # Decoding -----------------------------------------------------------------------------------------------

    def start(self, queries: int) -> Beams:
        """Place one beam per query at the root; not alive when nothing is live."""
        states = np.empty((queries, 1, 8), dtype=np.int64)
        states[..., :4], states[..., 4:] = self.old.root, self.new.root
        return Beams(states, np.full((queries, 1), len(self) > 0), 0)

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
        """Find the best continuations in both segments at once; see `Trie.candidates`."""
        step = Step.prepare(self.vocab_size, self.state_size, beams, logits, scores, count, meaning, rows)
        out = empty_candidates(beams, count, self.state_size)
        best = room_for(count, 6, beams.alive.shape[1])
        nans = 0
        for subset, queries in step.by_subset(subsets):
            found, bad = best_of_two(
                self._segments,
                self._own(subset).bits,
                self.everything.bits,
                step.beams,
                step.logits,
                queries,
                beams.depth,
                -1 if self.end_token is None else self.end_token,
                step.renormalised,
                best,
                out,
            )
            if bad >= 0:
                step.refuse(bad)
            nans += found
        if nans:
            self.old.notice.give(nans)
        return made_candidates(out, beams.depth + 1, nans)

    @cached_property
    def _segments(self) -> tuple[Arrays, Arrays]:
        return self.old.segment, self.new.segment

    def advance(self, candidates: Candidates, picks: npt.NDArray[np.int64]) -> Beams:
        """Make the picked candidates the next beams; -1 leaves a beam dead."""
        return pick(candidates, picks)

    def items(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> npt.NDArray[np.int64]:
        """List the rows of the live, allowed items below a state, in catalogue order, int64."""
        own = self._own(subset)
        old, new = _split(state)
        if new[0] == new[1]:
            return self.old.items(old, own.old)
        return np.sort(np.concatenate([self.old.items(old, own.old), self.new.items(new, own.new)]))

    def children(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> tuple[Array, Array]:
        """List the tokens that may follow a state, and how many live, allowed items each still leads to."""
        own = self._own(subset)
        old, new = _split(state)
        old_tokens, old_counts = self.old.children(old, own.old)
        new_tokens, new_counts = self.new.children(new, own.new)
        tokens, where = np.unique(np.concatenate([old_tokens, new_tokens]), return_inverse=True)
        counts = np.zeros(len(tokens), dtype=np.int64)
        np.add.at(counts, where, np.concatenate([old_counts, new_counts]))
        return tokens, counts

    def tails(self, states: npt.NDArray[np.int64]) -> list[Array]:
        """Give, for each state, the tokens to the end where all items below have the same identifier, else nothing."""
        return [self._tail(*_split(state)) for state in states]

    def _tail(self, old: Array, new: Array) -> Array:
        if old[0] == old[1]:
            return self.new.tails(new[None])[0]
        tail = self.old.tails(old[None])[0]
        if new[0] == new[1] or np.array_equal(tail, self.new.tails(new[None])[0]):
            return tail
        return tail[:0]

    # Subsets ------------------------------------------------------------------------------------------------

    @cached_property
    def everything(self) -> LiveSubset:
        """Allow every live item."""
        return LiveSubset(self.old.universe.everything, self.new.universe.everything)

    def subset(self, allowed: npt.NDArray[np.bool_]) -> LiveSubset:
        """Compile a mask over catalogue rows, shape (row_count,), into a subset of this snapshot."""
        mask = np.ascontiguousarray(allowed, dtype=np.bool_)
        if mask.shape != (self.row_count,):
            raise ShapeError(f"the mask has shape {mask.shape} but the index numbers {self.row_count} catalogue rows")
        return LiveSubset(self.old.subset(mask[: self.old.row_count]), self.new.subset(mask))

    def only(self, rows: npt.ArrayLike) -> LiveSubset:
        """Allow just these catalogue rows, as far as they are live."""
        numbers = np.asarray(rows, dtype=np.int64).reshape(-1)
        new = self.new.only(numbers)  # checks the rows
        return LiveSubset(self.old.only(numbers[numbers < self.old.row_count]), new)

    def without(self, rows: npt.ArrayLike, subset: Subset | None = None) -> LiveSubset:
        """Allow all but these catalogue rows, within `subset` if given."""
        numbers = np.asarray(rows, dtype=np.int64).reshape(-1)
        own = self._own(subset)
        new = self.new.without(numbers, own.new)  # checks the rows
        return LiveSubset(self.old.without(numbers[numbers < self.old.row_count], own.old), new)

    def _own(self, subset: Subset | None) -> LiveSubset:
        if subset is None:
            return self.everything
        parts = LiveSubset.checked(subset)
        if parts.old.universe is not self.old.universe or parts.new.universe is not self.new.universe:
            raise StateError("the subset was made by another snapshot; make it again with this one")
        return parts

    # Files --------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write both segments into a folder; see `docs/formats/trie.md`."""
        path = Path(folder)
        self.old.save(path / "old")
        self.new.save(path / "new")
        text = json.dumps({"format": FORMAT, "version": VERSION}) + "\n"
        (path / MANIFEST).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True, verify: bool = False) -> LiveTrie:
        """Open a saved folder; arguments and errors as for `Trie.load`."""
        path = Path(folder)
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FormatError(f"{path} holds no {MANIFEST}; give a folder written by LiveTrie.save") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DamagedError(f"{path / MANIFEST} is not readable JSON ({error}); restore the folder") from None
        if manifest != {"format": FORMAT, "version": VERSION}:
            raise FormatError(
                f"{path / MANIFEST} is not of {FORMAT} version {VERSION}; update genrail or build it again"
            )
        return cls(*(Trie.load(path / part, mmap=mmap, verify=verify) for part in ("old", "new")))


def _split(state: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    values = np.asarray(state, dtype=np.int64)
    if values.shape != (8,):
        raise StateError(f"{values.tolist()} is not a state of this index; pass one from start or advance")
    return values[:4], values[4:]


def _of_length(trie: Trie, length: int) -> Trie:
    """Let an index that never held an item take identifiers of any one length."""
    return trie if len(trie.order) else replace(trie, length=length)


def _tokens_at(trie: Trie, ranks: Array) -> int:
    if trie.end_token is None:
        return len(ranks) * trie.length
    return int((trie.off[ranks + 1].astype(np.int64) - trie.off[ranks].astype(np.int64)).sum())


def _gather(trie: Trie, ranks: Array) -> tuple[Array, Array]:
    """Copy the tokens of some ranks, one item after the other."""
    tokens = np.empty(_tokens_at(trie, ranks), dtype=trie.rows.dtype)
    off = np.zeros(len(ranks) + 1, dtype=np.uint32)
    gather_rows(trie.rows, trie.off, trie.length, ranks.astype(np.uint32), tokens, off)
    return tokens, off.astype(np.int64)
