"""A trie as sorted rows of tokens: a prefix is a range of ranks, and only heavy prefixes keep a list of children."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints import kernels
from genrail.constraints.best import room_for
from genrail.constraints.bits import allowed_ranks, pack_bits
from genrail.constraints.building import gather_rows
from genrail.constraints.checks import check_offsets, row_at
from genrail.constraints.children import child_counts, forced_tail, is_state
from genrail.constraints.compiled import Arrays
from genrail.constraints.files import read_trie, write_trie
from genrail.constraints.index import Beams, Candidates, ScoreMeaning, Subset
from genrail.constraints.layout import Layout, flatten, lay_out, with_children
from genrail.constraints.owners import Owners, checked_owners
from genrail.constraints.step import NanNotice, Step, empty_candidates, made_candidates, pick
from genrail.constraints.subset import TrieSubset, Universe
from genrail.errors import IdentifierError, ShapeError, StateError

__all__ = ["HEAVY", "Trie"]


HEAVY = 32  # a prefix of at most so many items reads its children from adjacent rows: two cache lines of Semantic IDs


@dataclass(frozen=True, eq=False)
class Trie:
    """Keep beams inside a set of token sequences; an item may have several.

    Made by `from_matrix`, `from_flat` or `from_sequences`; a value: `remove` returns another one that shares the
    arrays. Implements `ConstraintIndex`; the state of a beam has four numbers (first rank, last rank, and where its
    children are).

    Args:
        rows: Tokens of all items, sorted by sequence, uint8, 16 or 32 by vocabulary, shape (tokens,).
        off: Where each rank begins, uint32 or uint64, (ranks + 1,); empty for identifiers of one length.
        tok: Token of each child of a heavy prefix, level by level, (edges,).
        start_ranks: First rank below each child, uint32, (edges,).
        first: First edge of each child's own children, uint32, (edges + 1,).
        level: Where the edges of each level begin, int64.
        vocab_size: One more than the largest token that may occur.
        length: Tokens of an identifier when all have the same; 0 when they are ragged.
        end_token: Last token of every ragged identifier; None for one length.
        heavy: A prefix of more identifiers than this has a list of children.
        universe: Which ranks are live, and the catalogue row of each; equal identifiers stand in catalogue order.
        notice: Logs NaN logits, once for this index and those that come from it.

    Source: layout after the measurements in `docs/formats/trie.md`; sorted-array tries as in De Cao et al. 2021
        (GENRE),
    compressed children as in Su et al. 2026 (STATIC, arXiv 2602.22647), but only where a prefix is heavy.

    >>> trie = Trie.from_sequences([[5, 7], [5, 8], [6]], vocab_size=10, end_token=0)
    >>> best = trie.candidates(trie.start(1), np.zeros((1, 10), np.float32), np.zeros((1, 1)), count=4)
    >>> best.tokens[0, : best.count[0]]
    array([5, 6])
    >>> beams = trie.advance(best, np.array([[0]]))
    >>> trie.items(beams.states[0, 0])
    array([0, 1])
    """

    rows: Array
    off: Array
    tok: Array
    start_ranks: Array
    first: Array
    level: Array
    vocab_size: int
    length: int
    end_token: int | None
    heavy: int
    universe: Universe = field(repr=False)
    notice: NanNotice = field(default_factory=NanNotice, repr=False)

    # Building -----------------------------------------------------------------------------------------------

    @classmethod
    def from_matrix(
        cls, codes: npt.ArrayLike, vocab_size: int, *, owners: npt.ArrayLike | None = None, heavy: int = HEAVY
    ) -> Trie:
        """Build the index of identifiers that all have the same length.

        Args:
            codes: Token of each item at each level, integers, shape (items, length). Row i is catalogue row i.
            vocab_size: Tokens are 0 to vocab_size - 1.
            owners: See `from_flat`.
            heavy: A prefix of more identifiers than this gets a list of children.

        Raises:
            IdentifierError: A token outside the vocabulary, no level, or more than 2^32 - 2 items.

        Cost: one sort; about 0.3 s and 200 MB beside the input for 10^7 items of 4 x 256.

        >>> len(Trie.from_matrix([[1, 2], [1, 3], [1, 2]], vocab_size=4))
        3
        """
        matrix = np.asarray(codes)
        if matrix.ndim != 2:
            raise ShapeError(f"codes have shape {matrix.shape}; give one row per item, shape (items, length)")
        rows, row_count = _numbered(owners, len(matrix))
        settings = (len(matrix), vocab_size, None, heavy, row_count)
        return _made(lay_out(matrix.reshape(-1), None, matrix.shape[1], rows, *settings), vocab_size, None, heavy)

    @classmethod
    def from_flat(
        cls,
        tokens: npt.ArrayLike,
        offsets: npt.ArrayLike,
        vocab_size: int,
        end_token: int | None = None,
        *,
        owners: npt.ArrayLike | None = None,
        heavy: int = HEAVY,
    ) -> Trie:
        """Build the index of identifiers given one after the other.

        Args:
            tokens: All tokens, integers, shape (tokens,).
            offsets: Identifier i is tokens[offsets[i]:offsets[i + 1]], shape (identifiers + 1,).
            vocab_size: Tokens are 0 to vocab_size - 1.
            end_token: Last token of every identifier, and nowhere else; without it, all must have the same length,
                because an identifier could otherwise be the beginning of another one.
            owners: Catalogue row of each identifier, rising from 0, shape (identifiers,); a row comes as often as it
                has identifiers. None: identifier i is that of row i.
            heavy: A prefix of more identifiers than this gets a list of children.

        Raises:
            IdentifierError: A token outside the vocabulary, an empty identifier, different lengths without `end_token`,
                an identifier without it at its end or with it inside, a row without one or with the same one twice.
            ShapeError: Offsets that do not fit the tokens, or owners that do not fit the offsets or go down.

        Cost: 10^6 titles of 14 tokens in about 2 s.

        >>> trie = Trie.from_flat([5, 7, 0, 6, 0], [0, 3, 5], vocab_size=10, end_token=0)
        >>> trie.sequence(1)
        array([6, 0])
        """
        flat, off = np.asarray(tokens), np.asarray(offsets, dtype=np.int64)
        rows, row_count = _numbered(owners, len(off) - 1)
        check_offsets(flat, off, rows)
        lengths = np.diff(off)
        settings = (len(lengths), vocab_size, end_token, heavy, row_count)
        if end_token is not None:
            return _made(lay_out(flat, off, 0, rows, *settings), vocab_size, end_token, heavy)
        length = int(lengths[0]) if len(lengths) else 0
        if np.any(lengths != length):
            item = int(np.flatnonzero(lengths != length)[0])
            raise IdentifierError(
                f"row {row_at(rows, item)} has {lengths[item]} tokens and row 0 has {length}: identifiers of different "
                "lengths need an end_token, so that none is the beginning of another"
            )
        return _made(lay_out(flat, None, length, rows, *settings), vocab_size, None, heavy)

    @classmethod
    def from_sequences(
        cls,
        sequences: Sequence[Sequence[int]],
        vocab_size: int,
        end_token: int | None = None,
        *,
        owners: npt.ArrayLike | None = None,
        heavy: int = HEAVY,
    ) -> Trie:
        """Build the index of a list of token sequences; for small catalogues and tests.

        With an `end_token`, it is appended to every sequence that does not end with it.

        Raises:
            IdentifierError: As `from_flat`.

        >>> trie = Trie.from_sequences([[5, 7], [6], [8]], vocab_size=10, end_token=0, owners=[0, 0, 1])
        >>> len(trie), trie.sequences(0), trie.items(trie.root)
        (2, [array([5, 7, 0]), array([6, 0])], array([0, 1]))
        """
        return cls.from_flat(*flatten(sequences, end_token), vocab_size, end_token, owners=owners, heavy=heavy)

    # What it holds ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.universe.everything)

    def __repr__(self) -> str:
        kind = f"{self.length} tokens" if self.end_token is None else f"ragged, end token {self.end_token}"
        return f"Trie({len(self):,} items, {kind}, vocabulary {self.vocab_size:,}, {self.nbytes:,} bytes)"

    @property
    def nbytes(self) -> int:
        """Count the bytes of all arrays."""
        bitmap = self.universe.live.nbytes + self.universe.counts.nbytes
        return int(sum(array.nbytes for array in self.arrays) + bitmap)

    @cached_property
    def order(self) -> Array:
        """Give the catalogue row of each rank, uint32."""
        return self.universe.owners.order

    @cached_property
    def row_count(self) -> int:
        """Count the catalogue rows that this index numbers, live or not."""
        return self.universe.owners.row_count

    @property
    def most_sequences(self) -> int:
        """Bound the identifiers of one item; 1 where none has several."""
        return self.universe.owners.most

    @property
    def dead_ranks(self) -> int:
        """Count the identifiers of removed items, which `LiveTrie.compact` drops."""
        return self.universe.size - self.universe.everything.count_ranks()

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Give what is saved: rows, off, order, tok, start, first, level."""
        return self.rows, self.off, self.order, self.tok, self.start_ranks, self.first, self.level

    @cached_property
    def max_length(self) -> int:
        """Count the tokens of the longest identifier, the end token included; 0 without items."""
        if self.end_token is None:
            return self.length if len(self.order) else 0
        return int(np.diff(self.off).max(initial=0))

    @cached_property
    def segment(self) -> Arrays:
        """Give the arrays as kernels take them."""
        return self.rows, self.off, self.length, self.tok, self.start_ranks, self.first, len(self.order)

    def ranks_of(self, rows: npt.ArrayLike) -> Array:
        """Find the ranks of the live items among some catalogue rows, int64, sorted, each once.

        Raises:
            ShapeError: A row below 0 or beyond the catalogue.
        """
        ranks = self.universe.owners.ranks(rows)
        return ranks[self.universe.everything.contains(ranks)]

    def sequence(self, row: int) -> Array:
        """Give the identifier of a live catalogue row, int64; of several, the first in the order of tokens.

        Raises:
            ShapeError: The row is not live in this index.
        """
        return self.sequences(row)[0]

    def sequences(self, row: int) -> list[Array]:
        """Give all identifiers of a live catalogue row, int64, in the order of tokens.

        Raises:
            ShapeError: The row is not live in this index.
        """
        ranks = self.ranks_of([row])
        if not len(ranks):
            raise ShapeError(f"row {row} is not live in this index")
        return [self._tokens_at(rank) for rank in ranks.tolist()]

    def _tokens_at(self, rank: int) -> Array:
        begin, end = rank * self.length, (rank + 1) * self.length
        if self.end_token is not None:
            begin, end = int(self.off[rank]), int(self.off[rank + 1])
        return self.rows[begin:end].astype(np.int64)

    # Decoding -----------------------------------------------------------------------------------------------

    @property
    def state_size(self) -> int:
        """Count the numbers of a beam's state."""
        return 4

    def start(self, queries: int) -> Beams:
        """Place one beam per query at the root; not alive when the index holds nothing."""
        states = np.empty((queries, 1, 4), dtype=np.int64)
        states[:] = self.root
        return Beams(states, np.full((queries, 1), len(self) > 0), 0)

    @cached_property
    def root(self) -> Array:
        """Give the state of the empty prefix."""
        edges = int(self.level[1]) if len(self.level) > 1 else 0
        items = len(self.order)
        return np.array([0, items, 0, edges] if items > self.heavy else [0, items, -1, 0], dtype=np.int64)

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
        """Find the best continuations that still lead to a live, allowed item; see `ConstraintIndex.candidates`.

        Logits that are not contiguous float32 are converted once, a copy of the whole array. The logits may be wider
        than the vocabulary of the index (padded heads): the denominator is over all of them.

        Raises:
            LogitsError: +inf, fewer columns than `vocab_size`, or rows that do not fit the beams.
            StateError: A state or subset that this index did not produce.
            SettingsError: `count` below 1, or an unknown `meaning`.

        Cost: children of the beams plus one pass over their rows of logits; independent of the number of items.
        """
        step = Step.prepare(self.vocab_size, self.state_size, beams, logits, scores, count, meaning, rows)
        out = empty_candidates(beams, count, self.state_size)
        best = room_for(count, 3, beams.alive.shape[1])
        nans = 0
        for subset, queries in step.by_subset(subsets):
            found, bad = kernels.best_continuations(
                self.segment,
                self._bits(subset),
                self.universe.everything.bits,
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
            self.notice.give(nans)
        return made_candidates(out, beams.depth + 1, nans)

    def advance(self, candidates: Candidates, picks: npt.NDArray[np.int64]) -> Beams:
        """Make the picked candidates the next beams; -1 leaves a beam dead.

        Raises:
            StateError: A pick that is no real entry.
        """
        return pick(candidates, picks)

    def items(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> npt.NDArray[np.int64]:
        """List the rows of the live, allowed items below a state, in catalogue order, each once, int64.

        Cost: the ranks below the state; for a subset that is a short list, its own length.
        """
        checked = self._checked(state)
        ranks = allowed_ranks(self._bits(subset), int(checked[0]), int(checked[1]))
        return self.universe.owners.rows(ranks)

    def children(self, state: npt.NDArray[np.int64], subset: Subset | None = None) -> tuple[Array, Array]:
        """List the tokens that may follow a state, and how many live, allowed items each still leads to.

        Returns:
            Tokens, ascending, and counts, both int64. Empty behind a whole identifier.

        Cost: the children; where items have several identifiers, the ranks below the state, which are sorted by row.

        >>> trie = Trie.from_sequences([[5, 7], [5, 8], [6, 1]], vocab_size=10)
        >>> trie.children(trie.start(1).states[0, 0])
        (array([5, 6]), array([2, 1]))
        """
        checked, bits = self._checked(state), self._bits(subset)
        tokens, counts = child_counts(self.segment, bits, checked)
        owners = self.universe.owners
        if not owners.several or not len(tokens):
            return tokens, counts
        return tokens, owners.count_each(allowed_ranks(bits, int(checked[0]), int(checked[1])), counts)

    def tails(self, states: npt.NDArray[np.int64]) -> list[Array]:
        """Give, for each state, the tokens to the end where all items below have the same identifier, else nothing.

        Args:
            states: Shape (n, state_size).

        Returns:
            One int64 array per state. Removed items count as items here.

        >>> Trie.from_sequences([[5, 7, 1]], vocab_size=10).tails(np.array([[0, 1, -1, 0]]))
        [array([5, 7, 1])]
        """
        return [forced_tail(self.segment, self._checked(state)) for state in states]

    # Subsets ------------------------------------------------------------------------------------------------

    def subset(self, allowed: npt.NDArray[np.bool_]) -> TrieSubset:
        """Compile a mask over catalogue rows into a subset; removed items stay out.

        Raises:
            ShapeError: The mask does not have one entry per catalogue row.

        Cost: one random read per item (about 60 ms at 10^7); keep the subset where a filter returns.
        """
        mask = np.ascontiguousarray(allowed, dtype=np.bool_)
        if mask.shape != (self.row_count,):
            raise ShapeError(f"the mask has shape {mask.shape} but the index numbers {self.row_count} catalogue rows")
        words = np.zeros(self.universe.words, dtype=np.uint64)
        pack_bits(mask, self.order, words)
        if len(self.universe.live):
            words &= self.universe.live
        return self.universe.of_bits(words)

    def by_rank(self, values: npt.ArrayLike) -> Array:
        """Reorder a column of the catalogue, one value per row, to the order of the ranks.

        Keep the result: predicates on it, given to `subset_by_rank`, read memory in order.
        """
        column = np.asarray(values)
        if column.shape[:1] != (self.row_count,):
            raise ShapeError(f"the column has shape {column.shape} but the index numbers {self.row_count} rows")
        return column[self.order]

    def subset_by_rank(self, allowed: npt.NDArray[np.bool_]) -> TrieSubset:
        """Compile a mask over ranks, as a predicate on a `by_rank` column gives, into a subset.

        Raises:
            ShapeError: The mask does not have one entry per rank, or has some identifiers of a row and not others.

        Cost: one pass in order, about 2 ms at 10^7 ranks; `subset` reads at random, thirty times slower.

        >>> trie = Trie.from_sequences([[5, 8], [5, 7], [6, 1]], vocab_size=10)
        >>> price = trie.by_rank([30.0, 10.0, 20.0])
        >>> trie.items(trie.root, trie.subset_by_rank(price < 25))
        array([1, 2])
        """
        mask = np.asarray(allowed, dtype=np.bool_)
        if mask.shape != (len(self.order),):
            raise ShapeError(f"the mask has shape {mask.shape} but the index has {len(self.order)} ranks")
        if self.universe.owners.several and len(np.intersect1d(self.order[mask], self.order[~mask])):
            raise ShapeError("the mask has some identifiers of a row and not others; make it of a `by_rank` column")
        words = np.zeros(self.universe.words, dtype="<u8")
        packed = np.packbits(mask, bitorder="little")
        words.view(np.uint8)[: len(packed)] = packed
        words = words.astype(np.uint64, copy=False)
        if len(self.universe.live):
            words &= self.universe.live
        return self.universe.of_bits(words)

    def only(self, rows: npt.ArrayLike) -> TrieSubset:
        """Allow just these catalogue rows, as far as they are live."""
        return self.universe.of_ranks(self.ranks_of(rows))

    def without(self, rows: npt.ArrayLike, subset: Subset | None = None) -> TrieSubset:
        """Allow all but these catalogue rows, within `subset` if given."""
        return self._own(subset).minus(self.ranks_of(rows))

    def remove(self, rows: npt.ArrayLike) -> Trie:
        """Return the index without some catalogue rows; they keep their numbers, and their tokens stay on disk.

        Cost: a copy of the bitmap, 0.1 byte per item. Subsets of the old index do not fit the new one.
        """
        ranks = self.ranks_of(rows)
        if not len(ranks):
            return self
        words = self.universe.everything.minus(ranks).bitmap()
        return replace(self, universe=Universe.of_words(self.universe.owners, words))

    def renamed(self, rows: npt.ArrayLike) -> Trie:
        """Return the index in which what belonged to row r belongs to ``rows[r]``.

        For an index that numbers identifiers, where the items that they belong to are known.

        Args:
            rows: Rising from 0, shape (row_count,).

        Raises:
            ShapeError: Another number of rows, or rows that go down.
            IdentifierError: A row is left out.

        >>> trie = Trie.from_sequences([[5], [6], [7]], vocab_size=10).renamed([0, 0, 1])
        >>> len(trie), trie.items(trie.root)
        (2, array([0, 1]))
        """
        owners = self.universe.owners.renamed(np.asarray(rows))
        return replace(self, universe=replace(self.universe, owners=owners))

    # Files --------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the arrays and their manifest into a folder; see `docs/formats/trie.md`."""
        owners, names = self.universe.owners, ("rows", "off", "order", "tok", "start", "first", "level")
        arrays = {**dict(zip(names, self.arrays, strict=True)), "live": self.universe.live}
        settings = {name: getattr(self, name) for name in ("vocab_size", "length", "end_token", "row_count", "heavy")}
        write_trie(Path(folder), settings, arrays, owners.several)

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True, verify: bool = False) -> Trie:
        """Open a saved folder.

        Args:
            folder: Where `save` wrote.
            mmap: Map the arrays instead of reading them: milliseconds at any size, and processes share the pages.
            verify: Read everything, compare checksums and check the order of the rows, as after a copy over a network.

        Raises:
            FormatError: The folder is not a trie, or of a newer format.
            DamagedError: A file is missing, has the wrong size or shape, or (with `verify`) other content.
        """
        settings, arrays, several = read_trie(Path(folder), mmap=mmap, verify=verify)
        owners = Owners(arrays.pop("order"), int(settings.pop("row_count")), several)
        live = arrays.pop("live")
        universe = Universe.of_words(owners, live) if len(live) else Universe.full(owners)
        rows, off, tok, start, first, level = arrays.values()
        return cls(rows, off, tok, start, first, level, universe=universe, **settings)

    # Own matters --------------------------------------------------------------------------------------------

    def _own(self, subset: Subset | None) -> TrieSubset:
        if subset is None:
            return self.universe.everything
        if not isinstance(subset, TrieSubset) or subset.universe is not self.universe:
            raise StateError("the subset was made by another index (or before an update); make it again with this one")
        return subset

    def _bits(self, subset: Subset | None) -> tuple[Array, Array, Array, bool]:
        return self._own(subset).bits

    def _checked(self, state: npt.NDArray[np.int64]) -> Array:
        values = np.ascontiguousarray(state, dtype=np.int64)
        if values.shape == (4,) and is_state(self.segment, values, max(0, int(values[3]))):
            return values
        raise StateError(f"{values.tolist()} is not a state of this index; pass one from start or advance")


def _numbered(owners: npt.ArrayLike | None, identifiers: int) -> tuple[Array | None, int]:
    """Give the row of each identifier, None where they stand in the order of the rows; and how many rows there are."""
    if owners is None:
        return None, identifiers
    rows = checked_owners(owners, identifiers)
    row_count = int(rows[-1]) + 1 if len(rows) else 0
    return (rows if row_count < identifiers else None), row_count


def with_edges(like: Trie, rows: Array, off: Array, owners: Owners) -> Trie:
    """Make an index with the settings of another one from rows that are sorted already."""
    layout = with_children(rows, off, owners, like.length, like.heavy)
    return _made(layout, like.vocab_size, like.end_token, like.heavy, like.notice)


def build_trie(tokens: Array, offsets: Array, like: Trie, numbers: Array, row_count: int) -> Trie:
    """Build an index with the settings of another one; identifier i is of catalogue row `numbers[i]` of `row_count`.

    The numbers may come in any order, and repeatedly; equal identifiers are ordered by them.
    """
    ascending = np.argsort(numbers, kind="stable").astype(np.uint32)
    sorted_tokens = np.empty(len(tokens), dtype=like.rows.dtype)
    sorted_off = np.zeros(len(offsets), dtype=np.uint32)
    typed = tokens.astype(like.rows.dtype, copy=False)
    gather_rows(typed, offsets.astype(np.uint32), 0, ascending, sorted_tokens, sorted_off)
    off = None if like.end_token is None else sorted_off.astype(np.int64)
    settings = (len(numbers), like.vocab_size, like.end_token, like.heavy, row_count)
    layout = lay_out(sorted_tokens, off, like.length, numbers[ascending], *settings)
    return _made(layout, like.vocab_size, like.end_token, like.heavy, like.notice)


def _made(layout: Layout, vocab_size: int, end_token: int | None, heavy: int, notice: NanNotice | None = None) -> Trie:
    """Make the index of a layout; every rank is live."""
    rows, off, owners, edges, length = layout
    arrays = (rows, off, edges.tok, edges.start, edges.first, edges.level)
    return Trie(*arrays, vocab_size, length, end_token, heavy, Universe.full(owners), notice or NanNotice())
