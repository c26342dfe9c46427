"""The constraint step on tensors: the arrays of a trie on a device, in steps of fixed shape.

For decoding where the logits already are. Shapes follow from queries, beams, depth and the catalogue alone, never from
the values, so that nothing is copied to the host during a step, and `torch.compile` or a CUDA graph can hold it. Each
beam takes as many lanes as the widest prefix of its depth has children; on a processor `Trie.candidates`, which reads
only what is there, is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genrail.arrays import Array
from genrail.constraints.index import Beams, Candidates, ScoreMeaning, Subset
from genrail.constraints.trie import Trie
from genrail.errors import SettingsError, ShapeError

__all__ = ["TorchBeams", "TorchCandidates", "TorchIndex", "TorchLanes", "TorchSubsets"]

_LOWEST = torch.finfo(torch.float64).min  # a real candidate of score -inf still comes before padding


@dataclass(frozen=True)
class TorchBeams:
    """Hold what `genrail.constraints.index.Beams` holds, on a device."""

    states: Tensor  # int64, (queries, width, 4)
    alive: Tensor  # bool, (queries, width)
    depth: int


@dataclass(frozen=True)
class TorchCandidates:
    """Hold what `genrail.constraints.index.Candidates` holds, on a device; `nan_logits` is a tensor, not a number."""

    scores: Tensor  # float64, (queries, count)
    parents: Tensor  # int64
    tokens: Tensor  # int64
    states: Tensor  # int64, (queries, count, 4)
    complete: Tensor  # bool
    count: Tensor  # int64, (queries,)
    depth: int
    nan_logits: Tensor  # int64, ()

    def to_host(self) -> Candidates:
        """Copy to NumPy arrays; this waits for the device."""
        return Candidates(
            self.scores.cpu().numpy(),
            self.parents.cpu().numpy(),
            self.tokens.cpu().numpy(),
            self.states.cpu().numpy(),
            self.complete.cpu().numpy(),
            self.count.cpu().numpy(),
            self.depth,
            int(self.nan_logits),
        )


class TorchSubsets(NamedTuple):
    """Hold the bitmaps of a batch: one per different subset, and which query has which."""

    words: Tensor  # int64 that are bits, (subsets, words)
    counts: Tensor  # int64, set bits before each word, (subsets, words)
    which: Tensor  # int64, (queries,)


class TorchLanes(NamedTuple):
    """The children of every beam, side by side: (queries, width, lanes)."""

    tokens: Tensor
    lo: Tensor
    hi: Tensor
    edges: Tensor  # -1 where the parent is light
    real: Tensor


class TorchIndex:
    """Keep beams inside a trie, on tensors.

    Answers as `Trie.candidates` does: the same candidates in the same order, ties included. Its log-sum-exp is another
    (torch's), so scores agree to a few float32 roundings, and exactly when the same denominators are passed to both. A
    logit of +inf is not looked for, which would wait for the device: such a query gets NaN scores.

    Args:
        trie: The index; a `LiveTrie` is compacted first (``live.compact()``).
        device: Where the tensors lie.

    Memory: that of the trie's arrays, in their own widths, and 1.5 bits per item for each subset in use.

    Source: the layout of `docs/formats/trie.md`; fixed-width gathers as in Su et al. 2026 (STATIC, arXiv 2602.22647).

    >>> index = TorchIndex(Trie.from_sequences([[1, 2], [1, 3], [0, 3]], vocab_size=4))
    >>> best = index.candidates(index.start(1), torch.zeros(1, 4), torch.zeros(1, 1), count=2)
    >>> best.tokens.tolist()
    [[0, 1]]
    """

    def __init__(self, trie: Trie, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.vocab_size = trie.vocab_size
        self._trie = trie
        self._rows, self._off, _, self._tok, self._start, self._first, _ = (self._tensor(a) for a in trie.arrays)
        self._root = torch.from_numpy(trie.root.copy()).to(self.device)
        self._widths = _widths(trie)
        self._everything = None if not len(trie.universe.live) else self.subsets([None])

    def _tensor(self, array: Array) -> tuple[Tensor, int]:
        """Copy an array and say how to widen what is read from it: torch gathers signed integers only."""
        width = array.dtype.itemsize
        if array.dtype == np.uint8 or width == 8:
            return torch.from_numpy(np.array(array).view(np.int64 if width == 8 else np.uint8)).to(self.device), -1
        signed = np.array(array).view(np.int16 if width == 2 else np.int32)
        return torch.from_numpy(signed).to(self.device), (1 << (8 * width)) - 1

    def start(self, queries: int) -> TorchBeams:
        """Place one beam per query at the root; not alive when the index holds nothing."""
        states = self._root.expand(queries, 1, 4).clone()
        return TorchBeams(
            states, torch.full((queries, 1), len(self._trie) > 0, dtype=torch.bool, device=self.device), 0
        )

    def beams(self, beams: Beams) -> TorchBeams:
        """Take over beams of the trie itself."""
        return TorchBeams(
            torch.from_numpy(beams.states.copy()).to(self.device),
            torch.from_numpy(beams.alive.copy()).to(self.device),
            beams.depth,
        )

    def subsets(self, subsets: Sequence[Subset | None]) -> TorchSubsets:
        """Copy the bitmaps of a batch's subsets, one per query, made by the trie; keep the result over the steps."""
        different: dict[int, Subset | None] = {id(subset): subset for subset in subsets}
        places = {key: place for place, key in enumerate(different)}
        words = np.stack([self._bitmap(subset) for subset in different.values()])
        set_bits = np.bitwise_count(words).astype(np.int64)
        counts = np.cumsum(set_bits, axis=1) - set_bits
        which = torch.tensor([places[id(subset)] for subset in subsets])
        tensors = (torch.from_numpy(words.view(np.int64)), torch.from_numpy(counts), which)
        return TorchSubsets(*(tensor.to(self.device) for tensor in tensors))

    def _bitmap(self, subset: Subset | None) -> Array:
        own = self._trie._own(subset)  # refuses a subset of another index
        return own.bitmap()

    def candidates(
        self,
        beams: TorchBeams,
        logits: Tensor,
        scores: Tensor,
        count: int,
        subsets: TorchSubsets | None = None,
        meaning: ScoreMeaning = "full_softmax",
        rows: Tensor | None = None,
        denominators: Tensor | None = None,
    ) -> TorchCandidates:
        """Find the best continuations that still lead to a live, allowed item.

        Args:
            beams: From `start`, `advance` or `beams`, (queries, width).
            logits: (queries * width, V) in beam order, or (any, V) with `rows`; any floating type.
            scores: Log-probability of each beam so far, (queries, width).
            count: At most so many continuations per query.
            subsets: From `subsets`, or None.
            meaning: See `ConstraintIndex.candidates`.
            rows: Row of `logits` that belongs to each beam, (queries, width); of dead beams it does not matter.
            denominators: Log-sum-exp of each row of `logits`, where it is known already.

        Raises:
            ShapeError: Shapes that do not fit.
            SettingsError: `count` below 1, or an unknown `meaning`.

        Cost: queries * width * lanes gathers and two top-k over them, without waiting for the device; lanes are the
        children of the widest prefix at this depth, `heavy` of the trie at least.
        """
        if count < 1 or meaning not in ("full_softmax", "renormalised"):
            raise SettingsError(
                f'count is {count} and meaning {meaning!r}; give 1 or more, "full_softmax" or the other'
            )
        used = self._check(beams, logits, scores, rows)
        lanes = self._children(beams)
        values = logits.float()
        nans = torch.isnan(values)
        values = values.masked_fill(nans, -torch.inf)
        beam_rows = values[used]  # (queries, width, V)
        logit = beam_rows.gather(2, lanes.tokens).double()
        bits = subsets if subsets is not None else self._everything
        if meaning == "renormalised":
            live = lanes.real & self._allowed(self._everything, lanes)
            bottom = torch.logsumexp(logit.masked_fill(~live, -torch.inf), dim=2)
        elif denominators is not None:
            bottom = denominators.double()[used]
        else:
            bottom = torch.logsumexp(beam_rows, dim=2).double()
        path = scores.double()
        base = torch.where((path > -torch.inf) & (bottom > -torch.inf), path - bottom, -torch.inf)
        total = base[:, :, None] + logit
        real = lanes.real & self._allowed(bits, lanes)
        nan_count = (nans.sum(dim=1)[used] * beams.alive).sum()
        return self._best(beams, lanes, total, real, count, nan_count)

    def advance(self, candidates: TorchCandidates, picks: Tensor) -> TorchBeams:
        """Make the picked candidates the next beams, (queries, width); -1 leaves a beam dead."""
        at = picks.clamp(min=0)
        alive = (picks >= 0) & (picks < candidates.count[:, None])
        states = candidates.states.gather(1, at[:, :, None].expand(-1, -1, 4))
        return TorchBeams(torch.where(alive[:, :, None], states, 0), alive, candidates.depth)

    @property
    def longest(self) -> int:
        """Count the tokens of the longest identifier."""
        return self._trie.max_length

    def children(self, beams: TorchBeams) -> tuple[TorchLanes, Tensor]:
        """Lay the children of every beam side by side.

        Returns:
            The lanes, and which of them lead to a live item, (queries, width, lanes).
        """
        lanes = self._children(beams)
        return lanes, lanes.real & self._allowed(self._everything, lanes)

    def follow(self, beams: TorchBeams, lanes: TorchLanes, chosen: Tensor) -> TorchBeams:
        """Move every beam to one of its children; a beam that chooses none is dead.

        Args:
            beams: Before.
            lanes: Their children.
            chosen: At most one lane of each beam, (queries, width, lanes).
        """
        place = chosen.int().argmax(dim=2, keepdim=True)
        lo, hi, edge = (lane.gather(2, place)[:, :, 0] for lane in (lanes.lo, lanes.hi, lanes.edges))
        alive = chosen.any(dim=2)
        states = self._state(lo, hi, edge, beams.depth + 1)
        return TorchBeams(torch.where(alive[:, :, None], states, 0), alive, beams.depth + 1)

    # Own matters --------------------------------------------------------------------------------------------

    def _state(self, lo: Tensor, hi: Tensor, edge: Tensor, depth: int) -> Tensor:
        """Put together the state behind a child: its ranks, and where its own children are if it is heavy."""
        c0, c1 = self._read(self._first, edge), self._read(self._first, edge + 1)
        heavy = (edge >= 0) & (c1 > c0)
        return torch.stack([lo, hi, torch.where(heavy, c0, -1), torch.where(heavy, c1, depth)], dim=2)

    def _check(self, beams: TorchBeams, logits: Tensor, scores: Tensor, rows: Tensor | None) -> Tensor:
        """Check shapes and give each beam's row of logits."""
        shape = beams.alive.shape
        if scores.shape != shape or beams.states.shape != (*shape, 4):
            raise ShapeError(f"scores have shape {tuple(scores.shape)} but the beams {tuple(shape)}")
        if logits.ndim != 2 or logits.shape[1] < self.vocab_size:
            raise ShapeError(f"logits have shape {tuple(logits.shape)}; give (rows, {self.vocab_size} or more)")
        if rows is None:
            if len(logits) != shape.numel():
                raise ShapeError(f"{len(logits)} rows of logits for {shape.numel()} beams; pass `rows`")
            return torch.arange(shape.numel(), device=self.device).view(shape)
        if rows.shape != shape:
            raise ShapeError(f"rows have shape {tuple(rows.shape)} but the beams {tuple(shape)}")
        return torch.where(beams.alive, rows, 0)

    def _read(self, source: tuple[Tensor, int], index: Tensor) -> Tensor:
        tensor, mask = source
        if tensor.numel() == 0:
            return torch.zeros_like(index)
        value = tensor[index.clamp(0, tensor.numel() - 1)].long()
        return value if mask < 0 else value & mask

    def _children(self, beams: TorchBeams) -> TorchLanes:
        """Lay the children of every beam side by side: its edges, or the runs of equal tokens in its few rows."""
        lo, hi, c0, c1 = (beams.states[:, :, part, None] for part in range(4))
        width = self._widths[min(beams.depth, len(self._widths) - 1)]
        lane = torch.arange(width, device=self.device)
        heavy = c0 >= 0
        edge = c0 + lane
        start = self._read(self._start, edge)
        after = torch.where(edge + 1 >= c1, hi, self._read(self._start, edge + 1))
        rank = lo + lane
        tokens, size = self._row_tokens(rank, lo, beams.depth)
        inside = (rank < hi) & (beams.depth < size)
        first = inside & ((lane == 0) | (tokens != tokens.roll(1, dims=2)))
        end = torch.where(first, rank, hi).flip(2).cummin(dim=2).values.flip(2)  # first child at or behind each lane
        end = torch.cat([end[:, :, 1:], hi], dim=2)
        return TorchLanes(
            torch.where(heavy, self._read(self._tok, edge), tokens).clamp(0, self.vocab_size - 1),
            torch.where(heavy, start, rank),
            torch.where(heavy, after, end),
            torch.where(heavy, edge, -1),
            torch.where(heavy, edge < c1, first) & beams.alive[:, :, None],
        )

    def _row_tokens(self, rank: Tensor, lo: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Read column `depth` of some ranks; and the length of each beam's first identifier."""
        if self._trie.end_token is None:
            length = self._trie.length
            return self._read(self._rows, rank * length + depth), torch.full_like(lo, length)
        begin = self._read(self._off, lo)
        return self._read(self._rows, self._read(self._off, rank) + depth), self._read(self._off, lo + 1) - begin

    def _allowed(self, subsets: TorchSubsets | None, lanes: TorchLanes) -> Tensor:
        """Say of each child whether an allowed item is below it."""
        if subsets is None:
            return torch.ones_like(lanes.real)
        which = subsets.which if len(subsets.which) == len(lanes.lo) else subsets.which[:1].expand(len(lanes.lo))
        which = which[:, None, None]
        return _before(subsets, which, lanes.hi) > _before(subsets, which, lanes.lo)

    def _best(
        self, beams: TorchBeams, lanes: TorchLanes, total: Tensor, real: Tensor, count: int, nans: Tensor
    ) -> TorchCandidates:
        """Sort out the best of each query; children lie in the order of parent and token, which breaks ties."""
        queries, _, width = lanes.tokens.shape
        keys = torch.where(real, total.clamp(min=_LOWEST), -torch.inf).view(queries, -1)
        wanted = min(count, keys.shape[1])
        places = _first_best(keys, wanted)
        scores = total.view(queries, -1).gather(1, places)
        found = real.view(queries, -1).gather(1, places)
        lo, hi, edge, tokens = (
            lane.reshape(queries, -1).gather(1, places) for lane in (lanes.lo, lanes.hi, lanes.edges, lanes.tokens)
        )
        depth = beams.depth + 1
        states = self._state(lo, hi, edge, depth)
        end_token = self._trie.end_token
        complete = tokens == end_token if end_token is not None else torch.full_like(found, depth == self._trie.length)
        return TorchCandidates(
            _pad(torch.where(found, scores, -torch.inf), count, -torch.inf),
            _pad(torch.where(found, places // width, -1), count, -1),
            _pad(torch.where(found, tokens, -1), count, -1),
            _pad(torch.where(found[:, :, None], states, 0), count, 0),
            _pad(complete & found, count, False),
            found.sum(dim=1),
            depth,
            nans,
        )


def _widths(trie: Trie) -> list[int]:
    """Count the lanes at each depth: the children of its widest heavy prefix, or the rows of a light one."""
    first, level = trie.first.astype(np.int64), trie.level
    widths = [int(level[1]) if len(level) > 1 and trie.root[2] >= 0 else 0]
    widths += [int(np.diff(first[a : b + 1]).max(initial=0)) for a, b in zip(level[:-1], level[1:], strict=True)]
    light = max(1, min(trie.heavy, len(trie.order)))
    return [max(width, light) for width in widths] + [light]


def _popcount(word: Tensor) -> Tensor:
    """Count the bits of 64-bit words held as signed integers; the masks undo the sign that a shift brings in."""
    word = word - ((word >> 1) & 0x5555555555555555)
    word = (word & 0x3333333333333333) + ((word >> 2) & 0x3333333333333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((word * 0x0101010101010101) >> 56) & 0xFF


def _before(subsets: TorchSubsets, which: Tensor, rank: Tensor) -> Tensor:
    """Count the allowed ranks below a rank."""
    place = (rank >> 6).clamp(0, subsets.words.shape[1] - 1)
    below = (torch.ones_like(rank) << (rank & 63)) - 1
    return subsets.counts[which, place] + _popcount(subsets.words[which, place] & below)


def _first_best(keys: Tensor, wanted: int) -> Tensor:
    """Find the places of the largest keys of each row, largest first, the first place first among equal ones.

    `topk` leaves the order of ties open. So its last value only says where to cut; of those that equal it the first
    places are taken, and what was taken is sorted, stable.
    """
    last = keys.topk(wanted, dim=1).values[:, -1:]
    above = keys > last
    equal = keys == last
    room = wanted - above.sum(dim=1, keepdim=True)
    taken = above | (equal & (equal.cumsum(dim=1) <= room))
    order = torch.arange(keys.shape[1], 0, -1, device=keys.device)
    places = torch.where(taken, order, 0).topk(wanted, dim=1).indices  # ascending places
    sorted_places = keys.gather(1, places).sort(dim=1, descending=True, stable=True).indices
    return places.gather(1, sorted_places)


def _pad(part: Tensor, count: int, fill: float | bool) -> Tensor:
    missing = count - part.shape[1]
    if missing == 0:
        return part
    padding = torch.full((part.shape[0], missing, *part.shape[2:]), fill, dtype=part.dtype, device=part.device)
    return torch.cat([part, padding], dim=1)
