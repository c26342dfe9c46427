"""Lay out prompts and their right answers as tries of tokens: what they share is read once, and nothing is padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from genrail.constraints.compressed import ROOT, CompressedTrie

__all__ = ["Answers", "TrainingExample", "Pack", "packed"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TrainingExample:
    """Hold a prompt and what should follow it.

    Args:
        prompt: Tokens, one at least.
        rows: The right items.
        weights: How much each counts, together 1.
        text: Tokens that should follow instead, where the answer is no item.
    """

    prompt: Sequence[int]
    rows: Sequence[int]
    weights: Sequence[float] = (1.0,)
    text: Sequence[int] = ()


class Answers:
    """Find the identifiers of items, and the branchings on the way to each."""

    def __init__(self, trie: CompressedTrie) -> None:
        self.trie = trie
        self._order = np.argsort(trie.rows, kind="stable")
        self._sorted = trie.rows[self._order]
        self._owners = np.repeat(np.arange(len(trie)), np.diff(trie.row_offsets))
        self._paths: dict[int, list[tuple[int, int]]] = {}

    def of(self, row: int) -> list[int]:
        """List the identifiers of an item; none where it has none on these rails."""
        low, high = np.searchsorted(self._sorted, [row, row + 1])
        found: list[int] = self._owners[self._order[low:high]].tolist()
        return found

    def path(self, identifier: int) -> list[tuple[int, int]]:
        """List the branchings on the way to an identifier, as (node, edge taken)."""
        if identifier not in self._paths:
            trie, path = self.trie, []
            node = ROOT if len(trie.depth) else -1
            while node >= 0:
                first, last = trie.first_edge[node], trie.first_edge[node + 1]
                edge = int(first + np.searchsorted(trie.edge_low[first:last], identifier, side="right") - 1)
                path.append((node, edge))
                node = int(trie.edge_node[edge])
            self._paths[identifier] = path
        return self._paths[identifier]


@dataclass(eq=False)
class Pack:
    """Hold a trie of tokens to be read in one call, and what the model should decide behind some of them.

    Attributes:
        ids: Token of each slot, (slots,).
        parents: Slot that each one follows, -1 at the beginning, (slots,); it stands before its followers.
        depths: Position of each slot in its own sequence, (slots,).
        nodes: Right answers on the rails: (slot, branching) to the share of each edge.
        tokens: Right answers over the whole vocabulary: slot to the share of each token.
        weight: Of all right items in it: examples, where none was cut in pieces.
        spans: Of each example, for contrast: the slots of its prompt, those of its target behind it, those of the
            target alone, and the target.
        paths: Of each example whose items are compared: weight of each item, and the decisions on the way to it, as
            (slot, branching, edge).
    """

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    nodes: dict[tuple[int, int], dict[int, float]] = field(default_factory=dict)
    tokens: dict[int, dict[int, float]] = field(default_factory=dict)
    weight: float = 0.0
    spans: list[tuple[list[int], list[int], list[int], int]] = field(default_factory=list)
    paths: list[list[tuple[float, list[tuple[int, int, int]]]]] = field(default_factory=list)
    _slots: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def put(self, tokens: Sequence[int], behind: int = -1) -> int:
        """Write tokens behind a slot, where they do not stand there already; give the slot of the last one."""
        for token in tokens:
            at = self._slots.get((behind, token))
            if at is None:
                at = len(self.ids)
                self._slots[behind, token] = at
                self.ids.append(int(token))
                self.parents.append(behind)
                self.depths.append(self.depths[behind] + 1 if behind >= 0 else 0)
            behind = at
        return behind

    def want(self, slot: int, node: int, edge: int, share: float) -> None:
        """Let one edge be right behind a slot, on the rails."""
        edges = self.nodes.setdefault((slot, node), {})
        edges[edge] = edges.get(edge, 0.0) + share

    def want_token(self, slot: int, token: int, share: float) -> None:
        """Let one token be right behind a slot, among all tokens."""
        tokens = self.tokens.setdefault(slot, {})
        tokens[token] = tokens.get(token, 0.0) + share

    def path(self, slot: int, start: int = -1) -> list[int]:
        """List the slots from behind one slot (-1: from the beginning) to another, that one included."""
        slots = []
        while slot != start:
            slots.append(slot)
            slot = self.parents[slot]
        return slots[::-1]

    @cached_property
    def reach(self) -> npt.NDArray[np.bool_]:
        """Mark for each slot those that it sees: the ones before it in its own sequence, and itself, (slots, slots)."""
        seen = np.eye(len(self.ids), dtype=np.bool_)
        for slot, parent in enumerate(self.parents):
            if parent >= 0:
                seen[slot] |= seen[parent]
        return seen

    @property
    def chain(self) -> bool:
        """Tell whether each token simply follows the one before."""
        return self.parents == list(range(-1, len(self.ids) - 1))


@dataclass(frozen=True)
class _Way:
    """Say how examples are laid out; see `packed`."""

    answers: Answers
    rails: bool
    least: float
    contrast: bool
    compare: bool

    def add(self, pack: Pack, example: TrainingExample) -> None:
        """Write an example into a pack."""
        start = pack.put(example.prompt)
        if example.text:
            self._write(pack, start, example.text, 1.0 / len(example.text))
            pack.weight += 1.0
            return
        pack.weight += sum(example.weights)
        if self.contrast:
            self._span(pack, start, example)
        shares = self._shares(example)
        if not self.rails:
            for identifier, share in shares.items():
                self._write(pack, start, self.answers.trie.sequence(identifier).tolist(), share)
            return
        passing: dict[int, float] = {}
        for identifier, share in shares.items():
            for node, _ in self.answers.path(identifier):
                passing[node] = passing.get(node, 0.0) + share
        for identifier, share in shares.items():
            self._walk(pack, start, identifier, share, passing)
        if self.compare:
            first = [self.answers.of(row)[0] for row in example.rows]
            paths = [self._walk(pack, start, identifier, 0.0) for identifier in first]
            pack.paths.append(list(zip(example.weights, paths, strict=True)))

    @staticmethod
    def _write(pack: Pack, slot: int, tokens: Sequence[int], share: float) -> None:
        """Let each token of a text be right behind the one before."""
        for token in tokens:
            pack.want_token(slot, token, share)
            slot = pack.put([token], slot)

    def _span(self, pack: Pack, start: int, example: TrainingExample) -> None:
        """Write the foremost target of an example whole, behind its prompt and by itself."""
        row = example.rows[int(np.argmax(example.weights))]
        tokens = self.answers.trie.sequence(self.answers.of(row)[0]).tolist()
        behind, alone = pack.put(tokens, start), pack.put(tokens)
        pack.spans.append((pack.path(start), pack.path(behind, start), pack.path(alone), row))

    def _shares(self, example: TrainingExample) -> dict[int, float]:
        """Give the share of each identifier; an item with several counts by all of them alike."""
        shares: dict[int, float] = {}
        for row, weight in zip(example.rows, example.weights, strict=True):
            own = self.answers.of(row)
            for identifier in own:
                shares[identifier] = shares.get(identifier, 0.0) + weight / len(own)
        return shares

    def _walk(
        self, pack: Pack, slot: int, identifier: int, share: float, passing: Mapping[int, float] | None = None
    ) -> list[tuple[int, int, int]]:
        """Write an identifier up to its last branching that counts; what must follow is not read. Give its decisions.

        With `passing`, the shares that lead through each branching, those that lead through by less do not count.
        """
        trie, done, decisions = self.answers.trie, 0, []
        tokens = trie.sequence(identifier)
        for node, edge in self.answers.path(identifier):
            if passing is not None and passing[node] < self.least:
                break
            depth = int(trie.depth[node])
            slot, done = pack.put(tokens[done:depth].tolist(), slot), depth
            pack.want(slot, node, edge, share)
            decisions.append((slot, node, edge))
        return decisions


def packed(
    examples: Sequence[TrainingExample],
    answers: Answers,
    *,
    rails: bool = True,
    least: float = 0.0,
    size: int | None = 384,
    contrast: bool = False,
    compare: bool = False,
) -> list[Pack]:
    """Lay out examples.

    With `rails`, an identifier is read up to its last branching, because what must follow is certain; without, all of
    its tokens are right answers among the whole vocabulary.

    Args:
        examples: In order; those that begin alike should be neighbours.
        answers: The identifiers.
        rails: Where the model decides.
        least: Branchings that less than this share of an example's right items lead to are left out.
        size: A pack is closed when it holds so many tokens. Attention costs the square of it; what examples share is
            read once in each pack. None gives every right item a pack of its own, in which nothing is shared.
        contrast: Write the foremost target of each example whole as well, behind its prompt and by itself.
        compare: Read all of the first identifier of each item, also where `least` leaves branchings out, and keep the
            decisions on its way. Weights may then be 0.

    >>> from genrail.constraints import Trie
    >>> from genrail.constraints.compressed import compressed
    >>> trie = compressed(Trie.from_sequences([[5, 7, 1], [5, 8, 1], [6, 2, 1]], vocab_size=9))
    >>> pack = packed([TrainingExample([3, 4], [1]), TrainingExample([3, 4], [2])], Answers(trie))[0]
    >>> pack.ids, pack.nodes
    ([3, 4, 5], {(1, 0): {0: 1.0, 1: 1.0}, (2, 1): {3: 1.0}})
    """
    way, packs = _Way(answers, rails, least, contrast, compare), []
    if size is None:
        singles = [
            TrainingExample(example.prompt, [row], [weight])
            for example in examples
            for row, weight in zip(example.rows, example.weights, strict=True)
            if not example.text
        ] + [example for example in examples if example.text]
        for single in singles:
            packs.append(Pack())
            way.add(packs[-1], single)
        return packs
    for example in examples:
        if not packs or len(packs[-1]) >= size:
            packs.append(Pack())
        way.add(packs[-1], example)
    return packs
