"""The constraint index written the obvious way, in Python dicts: the oracle of everything that decodes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from genrail.constraints.index import Beams, Candidates
from genrail.errors import LogitsError


@dataclass
class Node:
    children: dict[int, int] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)  # every item below, in catalogue order


class DictSubset:
    def __init__(self, rows: set[int], total: set[int]):
        self.rows = rows
        self.total = total

    def __len__(self):
        return len(self.rows)

    def __and__(self, other):
        return DictSubset(self.rows & other.rows, self.total)

    def __or__(self, other):
        return DictSubset(self.rows | other.rows, self.total)

    def __invert__(self):
        return DictSubset(self.total - self.rows, self.total)


class DictIndex:
    """State of a beam: (number of its node,). Sequences must be prefix-free."""

    def __init__(self, sequences, vocab_size: int):
        self.vocab_size = vocab_size
        self.sequences = [tuple(int(token) for token in sequence) for sequence in sequences]
        self.max_length = max(map(len, self.sequences), default=0)
        self.nodes = [Node()]
        for row, sequence in enumerate(self.sequences):
            self._add(row, sequence)

    def _add(self, row, sequence):
        at = 0
        self.nodes[at].rows.append(row)
        for token in sequence:
            if token not in self.nodes[at].children:
                self.nodes.append(Node())
                self.nodes[at].children[token] = len(self.nodes) - 1
            at = self.nodes[at].children[token]
            self.nodes[at].rows.append(row)

    def __len__(self):
        return len(self.sequences)

    def start(self, queries):
        alive = np.full((queries, 1), len(self) > 0)
        return Beams(np.zeros((queries, 1, 1), dtype=np.int64), alive, 0)

    def _allowed(self, node, subset):
        return [row for row in self.nodes[node].rows if subset is None or row in subset.rows]

    def _log_probabilities(self, row, node, meaning):
        row = np.where(np.isnan(row), -np.inf, row.astype(np.float64))
        if np.isposinf(row).any():
            raise LogitsError("a logit is +inf")
        if meaning == "renormalised":
            row = np.where(np.isin(np.arange(len(row)), list(self.nodes[node].children)), row, -np.inf)
        top = row.max()
        if np.isneginf(top):
            return np.full(len(row), -np.inf)
        return row - top - np.log(np.exp(row - top).sum())

    def candidates(self, beams, logits, scores, count, subsets=None, meaning="full_softmax", rows=None):
        queries, width = beams.alive.shape
        rows = np.arange(queries * width).reshape(queries, width) if rows is None else rows
        out = Candidates(
            np.full((queries, count), -np.inf),
            np.full((queries, count), -1),
            np.full((queries, count), -1),
            np.zeros((queries, count, 1), dtype=np.int64),
            np.zeros((queries, count), dtype=bool),
            np.zeros(queries, dtype=np.int64),
            beams.depth + 1,
        )
        for query in range(queries):
            found = []
            for beam in range(width):
                if not beams.alive[query, beam]:
                    continue
                node = int(beams.states[query, beam, 0])
                table = self._log_probabilities(logits[rows[query, beam]], node, meaning)
                for token, child in self.nodes[node].children.items():
                    if self._allowed(child, subsets[query] if subsets is not None else None):
                        found.append((-(scores[query, beam] + table[token]), beam, token, child))
            found.sort()
            out.count[query] = min(count, len(found))
            for place, (score, beam, token, child) in enumerate(found[:count]):
                out.scores[query, place] = -score
                out.parents[query, place] = beam
                out.tokens[query, place] = token
                out.states[query, place, 0] = child
                out.complete[query, place] = not self.nodes[child].children
        return out

    def advance(self, candidates, picks):
        at = np.maximum(picks, 0)
        states = np.take_along_axis(candidates.states, at[:, :, None], axis=1)
        return Beams(states, picks >= 0, candidates.depth)

    def items(self, state, subset=None):
        return np.array(self._allowed(int(state[0]), subset), dtype=np.int64)

    def children(self, state, subset=None):
        counts = {
            token: len(self._allowed(child, subset)) for token, child in self.nodes[int(state[0])].children.items()
        }
        tokens = sorted(token for token, number in counts.items() if number)
        return np.array(tokens, dtype=np.int64), np.array([counts[token] for token in tokens], dtype=np.int64)

    def tails(self, states):
        return [self._tail(int(state[0])) for state in states]

    def _tail(self, node):
        tail = []
        while self.nodes[node].children:
            if len(self.nodes[node].children) > 1:
                return np.zeros(0, dtype=np.int64)
            [(token, node)] = self.nodes[node].children.items()
            tail.append(token)
        return np.array(tail, dtype=np.int64)

    def subset(self, allowed):
        return DictSubset(set(np.flatnonzero(allowed).tolist()), set(range(len(self))))

    def only(self, rows):
        return DictSubset({int(row) for row in np.atleast_1d(rows)}, set(range(len(self))))

    def without(self, rows, subset=None):
        allowed = subset.rows if subset is not None else set(range(len(self)))
        return DictSubset(allowed - {int(row) for row in np.atleast_1d(rows)}, set(range(len(self))))
