"""What a model learns from: pasts with the next item, and words with the item they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from genrail.errors import ShapeError
from genrail.models.native_network import QUERY
from genrail.rng import generator

__all__ = [
    "MADE_UP",
    "ContextBatch",
    "Likes",
    "Pair",
    "QueryPairs",
    "Windows",
    "aligned_pairs",
    "held_out",
    "history_pairs",
    "judged_pairs",
    "made_up_pairs",
    "of_live",
    "windows",
]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
NOTHING = -1  # a position without a target
MADE_UP = ("text", "written")  # sources of pairs whose words nobody asked


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


# --- requests and what is right for them, for models that read words ------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Hold a request and the items that are right for it.

    Args:
        text: Words, or None.
        history: Catalogue rows, oldest first; perhaps none.
        rows: The right items, each once.
        weights: How much each of them counts; above 0, together 1.
        source: Where it is from: `history`, `judged`, `text` (a query cut out of it), `written` (by a model), `teacher`
            or `align`.
        coded: Items in the request are written as their codes instead of their titles; a request without words and past
            is the code of its item.
        named: The answer is the title of the item.

    Raises:
        ShapeError: Not one weight for each item.
    """

    text: str | None
    history: tuple[int, ...]
    rows: tuple[int, ...]
    weights: tuple[float, ...] = (1.0,)
    source: str = "judged"
    coded: bool = False
    named: bool = False

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.weights):
            raise ShapeError(f"{len(self.rows)} items but {len(self.weights)} weights; give one for each")


def history_pairs(rows: Int, offsets: Int, longest: int, most: int | None = None, seed: int = 0) -> list[Pair]:
    """List pasts with the item that came next: every event of a user but the first is one.

    Args:
        rows: Catalogue rows of all events, one user after the other, oldest first.
        offsets: Where each user begins, (users + 1,).
        longest: Items of a past at most, its end.
        most: About so many pairs: users are drawn, and all of a drawn user's events taken, because their pasts begin
            alike and are read once together. None for all users.
        seed: Of the draw.

    >>> [(one.history, one.rows) for one in history_pairs(np.array([4, 5, 6]), np.array([0, 3]), longest=5)]
    [((4,), (5,)), ((4, 5), (6,))]
    """
    counts = np.maximum(np.diff(offsets) - 1, 0)
    order = generator(seed, "users to learn from").permutation(len(counts))
    if most is not None:
        order = order[: int(np.searchsorted(np.cumsum(counts[order]), most, side="right")) + 1] if most else order[:0]
    found = []
    for user in np.sort(order).tolist():
        events = rows[offsets[user] : offsets[user + 1]].tolist()
        for place in range(1, len(events)):
            past = tuple(events[max(0, place - longest) : place])
            found.append(Pair(None, past, (events[place],), source="history"))
    return found


def judged_pairs(queries: Mapping[str, str], grades: Mapping[str, Mapping[int, float]]) -> list[Pair]:
    """List judged queries; their right items count by their grades.

    Args:
        queries: Query id to words.
        grades: Query id to row to grade; above 0 is right. Clicks are judgements too: their number is the grade.
    """
    found = []
    for query_id, judged in grades.items():
        right = {row: grade for row, grade in judged.items() if grade > 0}
        words, total = queries[query_id].strip(), sum(right.values())
        if words and right:
            found.append(Pair(words, (), tuple(right), tuple(grade / total for grade in right.values()), "judged"))
    return found


def made_up_pairs(queries: Sequence[str], rows: Int, written: npt.NDArray[np.bool_]) -> list[Pair]:
    """List made-up queries with the item of each.

    Args:
        queries: The words.
        rows: Item of each, (queries,).
        written: Which of them a language model wrote, (queries,).
    """
    return [
        Pair(text.strip(), (), (row,), source="written" if by_model else "text")
        for text, row, by_model in zip(queries, rows.tolist(), written.tolist(), strict=True)
    ]


def aligned_pairs(pairs: Sequence[Pair], titles: Sequence[str], seed: int = 0) -> list[Pair]:
    """List tasks that join codes and words, beside those that a model of codes is meant for.

    Of each item: its title is asked for and its code is right, and the other way; of each past, by turns: in codes, and
    in codes with the title of the next item as the answer.

    Args:
        pairs: The others, pasts among them.
        titles: One per row.
        seed: Of the turns.

    Source: Zheng et al. 2024, LC-Rec: item-to-index, index-to-item and fusion tasks.
    """
    found = []
    for row, title in enumerate(titles):
        if title.strip():
            found += [Pair(title.strip(), (), (row,), source="align")]
            found += [Pair(None, (), (row,), source="align", coded=True, named=True)]
    random = generator(seed, "alignment of pasts")
    for pair in pairs:
        if pair.source == "history":
            found.append(replace(pair, source="align", coded=True, named=bool(random.random() < 0.5)))
    return found


def of_live(pairs: Sequence[Pair], live: npt.NDArray[np.bool_]) -> list[Pair]:
    """Leave out items that were removed; the weights of the others become 1 together, pairs without any are dropped.

    >>> of_live([Pair("boot", (), (0, 1), (0.75, 0.25)), Pair("shoe", (), (1,))], np.array([True, False]))[0].weights
    (1.0,)
    """
    found = []
    for pair in pairs:
        kept = {row: weight for row, weight in zip(pair.rows, pair.weights, strict=True) if live[row]}
        total = sum(kept.values())
        if total > 0:
            found.append(replace(pair, rows=tuple(kept), weights=tuple(weight / total for weight in kept.values())))
    return found


def held_out(pairs: Sequence[Pair], most: int, share: float = 0.2, seed: int = 0) -> tuple[list[Pair], list[Pair]]:
    """Part pairs into those to learn from and those to validate on; the same words never stand on both sides.

    Args:
        pairs: With words.
        most: So many requests are held out at most.
        share: And at most this share of the different requests.
        seed: Of the draw.
    """
    asked = list(dict.fromkeys(pair.text for pair in pairs))
    order = generator(seed, "held-out requests").permutation(len(asked))[: min(most, int(share * len(asked)))]
    chosen = {asked[place] for place in order}
    learnt = [pair for pair in pairs if pair.text not in chosen]
    held: dict[str | None, Pair] = {}
    for pair in pairs:
        if pair.text in chosen:
            held.setdefault(pair.text, pair)
    return learnt, list(held.values())
