"""What a model learns from: pasts with the next item, and words with the item they are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genrail.errors import CatalogError, SettingsError, ShapeError
from genrail.models.native_network import QUERY
from genrail.rng import generator

__all__ = ["ContextBatch", "Likes", "QueryPairs", "Windows", "encode_pseudo_queries", "pseudo_queries", "windows"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
NOTHING = -1  # a position without a target


@dataclass(frozen=True, eq=False)
class ContextBatch:
    """Hold contexts side by side.

    Args:
        tokens: Item rows, oldest first, `QUERY` where the query is read, any row behind the end, (contexts, positions).
        targets: Row of the item to be written after each position, -1 for none, (contexts, positions).
        queries: Vector of each context's query, (contexts, dimensions), or None if no context has one.
        likes: What a teacher would give beside each target, in their order; None without a teacher.
    """

    tokens: Int
    targets: Int
    queries: Float | None = None
    likes: Likes | None = None


@dataclass(frozen=True, eq=False)
class Likes:
    """Hold a distribution over some items for each target.

    Args:
        rows: Items, (targets, k).
        shares: How probable each is, 0 or more, (targets, k); rows add up to 1.
    """

    rows: Int
    shares: Float


# --- histories ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Windows:
    """Cut sequences into pieces that fit the model, so that every item but the first is a target exactly once.

    Args:
        rows: Item rows of all sequences, one after the other, (events,).
        start: First input of each window, (windows,).
        length: Inputs of each window; input i has the target `rows[start + i + 1]`, (windows,).
        skip: Leading inputs whose targets belong to an earlier window: they are read only, (windows,).
    """

    rows: Int
    start: Int
    length: Int
    skip: Int

    def __len__(self) -> int:
        return len(self.start)

    @property
    def targets(self) -> int:
        """Count the targets."""
        return int((self.length - self.skip).sum())

    def batches(self, size: int, random: np.random.Generator) -> list[ContextBatch]:
        """Lay out one epoch: windows of about equal length together, batches in random order.

        Args:
            size: About so many targets in a batch.
            random: Draws the order.
        """
        if len(self) == 0:
            return []
        order = np.argsort(self.length + 2.0 * random.random(len(self)), kind="stable")
        targets = (self.length - self.skip)[order]
        group = (np.cumsum(targets) - targets) // size
        pieces = np.split(order, np.flatnonzero(np.diff(group)) + 1)
        return [self._batch(pieces[number]) for number in random.permutation(len(pieces))]

    def _batch(self, chosen: Int) -> ContextBatch:
        length, position = self.length[chosen], np.arange(self.length[chosen].max())
        event = np.minimum(self.start[chosen, None] + position, len(self.rows) - 2)  # (windows, positions)
        wanted = (position >= self.skip[chosen, None]) & (position < length[:, None])
        return ContextBatch(self.rows[event], np.where(wanted, self.rows[event + 1], NOTHING))


def windows(rows: Int, offsets: Int, history: int) -> Windows:
    """Cut sequences into windows of at most `history` inputs, counted from the end.

    A window begins half a history before its first target, so that a target far into a long sequence has a past of at
    least half the length that the model reads.

    Args:
        rows: Item rows of all sequences, (events,).
        offsets: Sequence n is `rows[offsets[n] : offsets[n + 1]]`, (sequences + 1,).
        history: Longest input.

    >>> windows(np.array([5, 6, 7, 8]), np.array([0, 3, 4]), history=20).targets
    2
    """
    first, last = offsets[:-1], offsets[1:] - 1  # inputs are first .. last - 1, targets first + 1 .. last
    starts, lengths, skips = [], [], []
    fresh = max(1, history - history // 2)  # targets that each further window to the left adds
    alive = last > first
    begin, end, done = first[alive], last[alive], last[alive]  # `done`: the target before which all are taken
    while len(end):
        start = np.maximum(begin, end - history)
        left = np.where(start > begin, np.minimum(done, start + 1 + history - fresh), begin + 1)  # first target taken
        starts.append(start)
        lengths.append(done - start)
        skips.append(left - 1 - start)
        more = left > begin + 1
        begin, end, done = begin[more], left[more] - 1, left[more] - 1
    if not starts:
        nothing = np.zeros(0, dtype=np.int64)
        return Windows(rows, nothing, nothing, nothing)
    return Windows(rows, np.concatenate(starts), np.concatenate(lengths), np.concatenate(skips))


# --- words --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class QueryPairs:
    """Hold queries and the item each is about.

    Args:
        vectors: From the text encoder, (pairs, dimensions).
        rows: Item of each query, (pairs,).

    Raises:
        ShapeError: Another number of vectors than rows.
    """

    vectors: Float
    rows: Int

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.rows):
            raise ShapeError(
                f"{len(self.rows)} rows but vectors of shape {self.vectors.shape}; give one vector per row"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: npt.NDArray[Any]) -> QueryPairs:
        """Choose some pairs, by number or by mask."""
        return QueryPairs(self.vectors[chosen], self.rows[chosen])

    def batches(
        self, size: int, random: np.random.Generator, events: Windows | None = None, with_history: float = 0.0
    ) -> list[ContextBatch]:
        """Lay out one epoch in random order.

        Args:
            size: Queries in a batch.
            random: Draws the order and the histories.
            events: Where items were taken by somebody; None for no histories.
            with_history: Share of the queries that are read behind the past of somebody who then took the item.
        """
        before = _Befores(events) if events is not None and events.targets and with_history > 0.0 else None
        order = random.permutation(len(self))
        behind = np.zeros(len(self), dtype=bool)
        if before is not None:
            behind = before.known(self.rows[order]) & (random.random(len(self)) < with_history)
        # Apart, so that words alone are not padded to the length of a history.
        batches = [self._batch(chosen, None, random) for chosen in _pieces(order[~behind], size)]
        batches += [self._batch(chosen, before, random) for chosen in _pieces(order[behind], size)]
        return [batches[number] for number in random.permutation(len(batches))]

    def _batch(self, chosen: Int, before: _Befores | None, random: np.random.Generator) -> ContextBatch:
        rows = self.rows[chosen]
        if before is None:
            tokens, targets = np.full((len(rows), 1), QUERY, dtype=np.int64), rows[:, None]
        else:
            tokens, targets = before.contexts(rows, random)
        return ContextBatch(tokens, targets, self.vectors[chosen])


def _pieces(numbers: Int, size: int) -> list[Int]:
    """Cut numbers into pieces of at most `size`."""
    return [numbers[first : first + size] for first in range(0, len(numbers), size)]


class _Befores:
    """Find what was taken before an item."""

    longest = 10  # of the past in front of a query: words say more than what lies further back

    def __init__(self, events: Windows) -> None:
        start = np.repeat(events.start, events.length)
        first = np.cumsum(events.length) - events.length
        inner = np.arange(int(events.length.sum())) - np.repeat(first, events.length)
        taken = inner >= np.repeat(events.skip, events.length)
        self.rows = events.rows
        self.begin = start[taken]
        self.event = (start + inner)[taken] + 1  # the target's place among the events
        order = np.argsort(events.rows[self.event], kind="stable")
        self.begin, self.event = self.begin[order], self.event[order]
        self.items = events.rows[self.event]  # ascending

    def known(self, rows: Int) -> npt.NDArray[np.bool_]:
        """Tell which items somebody took after something else, (rows,)."""
        return np.searchsorted(self.items, rows, side="right") > np.searchsorted(self.items, rows)

    def contexts(self, rows: Int, random: np.random.Generator) -> tuple[Int, Int]:
        """Put a past before a query for each row, all known; gives tokens and targets, (queries, positions)."""
        low, high = np.searchsorted(self.items, rows), np.searchsorted(self.items, rows, side="right")
        picked = low + (random.random(len(rows)) * (high - low)).astype(np.int64)
        event = self.event[picked]
        length = np.minimum(event - self.begin[picked], self.longest)
        position = np.arange(int(length.max()) + 1)
        source = np.minimum(event[:, None] - length[:, None] + position, len(self.rows) - 1)
        at_end = position == length[:, None]
        return np.where(at_end, QUERY, self.rows[source]), np.where(at_end, rows[:, None], NOTHING)


def pseudo_queries(
    titles: Sequence[str], texts: Sequence[str], variants: int = 4, seed: int = 0
) -> tuple[list[str], Int]:
    """Make up queries from a catalogue's own text, so that search learns without a log.

    In turn, for each item: the title's words with some left out; a span of the title; one or two attributes (pieces of
    the text between full stops) after a short span of the title; a span of the text behind the title. Where an item has
    nothing for a kind, the title stands in. Indexing documents by pseudo-queries is what DSI-QG (Zhuang et al. 2022)
    found most important, with a model writing them; these need no model.

    Args:
        titles: One per row.
        texts: What the text encoder reads, one per row; the title stands at its beginning.
        variants: Queries for each item, 1 or more.
        seed: Of the draws.

    Returns:
        Queries, and the row of each. Rows without any word get none.

    >>> queries, rows = pseudo_queries(["Red trail shoe"], ["Red trail shoe. Acme. Shoes"], variants=2)
    >>> len(queries), rows.tolist()
    (2, [0, 0])
    """
    if variants < 1:
        raise SettingsError(f"variants is {variants}; give 1 or more")
    if len(titles) != len(texts):
        raise ShapeError(f"{len(titles)} titles but {len(texts)} texts; give one of each per row")
    queries, rows = [], []
    for row, (title, text) in enumerate(zip(titles, texts, strict=True)):
        random = generator(seed, "pseudo-queries", row)
        words = (title or text).split()
        if not words:
            continue
        rest = text[len(title) :].strip(" .") if text.startswith(title) else text
        for variant in range(variants):
            queries.append(_KINDS[variant % len(_KINDS)](words, rest, random))
            rows.append(row)
    return queries, np.array(rows, dtype=np.int64)


def _fewer_words(words: list[str], rest: str, random: np.random.Generator) -> str:
    kept = [word for word in words[:20] if random.random() < 0.6]
    return " ".join(kept or words[:1])


def _title_span(words: list[str], rest: str, random: np.random.Generator) -> str:
    return _span(words, 2, 6, random)


def _attributes(words: list[str], rest: str, random: np.random.Generator) -> str:
    pieces = [piece.strip() for piece in rest.split(". ") if piece.strip()]
    if not pieces:
        return _fewer_words(words, rest, random)
    chosen = random.choice(len(pieces), size=min(len(pieces), int(random.integers(1, 3))), replace=False)
    return " ".join([_span(words, 1, 3, random), *(" ".join(pieces[piece].split()[:6]) for piece in chosen)])


def _text_span(words: list[str], rest: str, random: np.random.Generator) -> str:
    body = rest.split()
    return _span(body, 4, 16, random) if len(body) >= 4 else _title_span(words, rest, random)


_KINDS = (_fewer_words, _title_span, _attributes, _text_span)


def _span(words: list[str], shortest: int, longest: int, random: np.random.Generator) -> str:
    length = min(len(words), int(random.integers(shortest, longest + 1)))
    start = int(random.integers(0, len(words) - length + 1))
    return " ".join(words[start : start + length])


def encode_pseudo_queries(
    encode: Callable[[Sequence[str]], Float],
    titles: Sequence[str],
    texts: Sequence[str],
    variants: int = 4,
    seed: int = 0,
) -> QueryPairs:
    """Make pseudo-queries and encode them once.

    Args:
        encode: Texts to vectors, (texts, dimensions): the encoder that made the item vectors.
        titles: See `pseudo_queries`.
        texts: See `pseudo_queries`.
        variants: Queries for each item.
        seed: Of the draws.

    Raises:
        CatalogError: No row has a word.

    Cost: the encoder's, on `variants` short texts for each item.
    """
    queries, rows = pseudo_queries(titles, texts, variants, seed)
    if not queries:
        raise CatalogError("no item has a title or text; nothing to make queries from")
    return QueryPairs(np.asarray(encode(queries), dtype=np.float32), rows)
