"""A constraint index from outside: identifiers kept as one sorted list, found by bisection.

Importing this file registers the kind ``sorted-trigrams``: the trigram model of ``language_model.py`` on another index.
A state is a range of the sorted list and the depth; what may follow are the tokens at that depth. It is slow next to
the built-in trie, and short: `tests/contracts/constraint_index.py` says what every index must do.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from language_model import TrigramRecipe, TrigramSpelling, TrigramWriter

from genrail.constraints.index import Beams, Candidates
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.generative import live_index
from genrail.finding import Finder, register


@dataclass(frozen=True)
class Rows:
    """The items a request may receive (a `Subset`)."""

    allowed: np.ndarray

    def __len__(self):
        return int(self.allowed.sum())

    @property
    def nbytes(self):
        return self.allowed.nbytes

    def __and__(self, other):
        return Rows(self.allowed & other.allowed)

    def __or__(self, other):
        return Rows(self.allowed | other.allowed)

    def __invert__(self):
        return Rows(~self.allowed)


class SortedList:
    most_sequences = 1

    def __init__(self, rows, vocab_size, live):
        self.rows, self.vocab_size, self.live = rows, vocab_size, live  # row -> its tokens
        self.order = sorted((tokens, row) for row, tokens in enumerate(rows) if live[row])
        self.row_count, self.pending = len(rows), 0

    # --- what the catalogue does --------------------------------------------------------------------------------

    @classmethod
    def from_flat(cls, tokens, offsets, vocab_size, end_token=None, *, owners=None):
        rows = [tuple(part.tolist()) for part in np.split(np.asarray(tokens), np.asarray(offsets)[1:-1])]
        return cls(rows[: len(offsets) - 1], vocab_size, np.ones(len(offsets) - 1, dtype=bool))

    def add_flat(self, tokens, offsets, owners=None):
        new = self.from_flat(tokens, offsets, self.vocab_size)
        return SortedList(self.rows + new.rows, self.vocab_size, np.concatenate([self.live, new.live]))

    def remove(self, rows):
        live = self.live.copy()
        live[rows] = False
        return SortedList(self.rows, self.vocab_size, live)

    def merged(self):
        return self

    def save(self, folder):
        flat, offsets = np.concatenate([np.array(row) for row in self.rows]), np.cumsum([0, *map(len, self.rows)])
        size = np.array([self.vocab_size])
        save_arrays(folder, {"tokens": flat, "offsets": offsets, "live": self.live, "size": size})

    @classmethod
    def load(cls, folder):
        tokens, offsets, size = (load_array(folder, name, np.int64, (None,)) for name in ("tokens", "offsets", "size"))
        index = cls.from_flat(tokens, offsets, int(size[0]))
        return cls(index.rows, index.vocab_size, load_array(folder, "live", bool, (index.row_count,)))

    # --- what the decoder asks ----------------------------------------------------------------------------------

    def __len__(self):
        return len(self.order)

    def sequences(self, row):
        return [np.array(self.rows[row])]

    def start(self, queries):
        states = np.tile(np.array([0, len(self), 0]), (queries, 1, 1))
        return Beams(states, np.full((queries, 1), len(self) > 0), 0)

    def items(self, state, subset=None):
        low, high, _ = state.tolist()
        below = [row for _, row in self.order[low:high] if subset is None or subset.allowed[row]]
        return np.array(sorted(below), dtype=np.int64)

    def children(self, state, subset=None):
        found = [(token, len(self.items(below, subset))) for token, below in self._below(state)]
        kept = np.array([pair for pair in found if pair[1]], dtype=np.int64).reshape(-1, 2)
        return kept[:, 0], kept[:, 1]

    def _below(self, state):
        low, high, depth = state.tolist()
        while low < high and depth < len(self.order[low][0]):
            beginning = self.order[low][0][: depth + 1]
            after = bisect_left(self.order, (*beginning[:-1], beginning[-1] + 1), low, high, key=lambda one: one[0])
            yield beginning[-1], np.array([low, after, depth + 1])
            low = after

    def candidates(self, beams, logits, scores, count, subsets=None, meaning="full_softmax", rows=None):
        queries, width = beams.alive.shape
        rows = np.arange(queries * width).reshape(queries, width) if rows is None else rows
        found = Candidates(
            scores=np.full((queries, count), -np.inf),
            parents=np.full((queries, count), -1),
            tokens=np.full((queries, count), -1),
            states=np.zeros((queries, count, 3), dtype=np.int64),
            complete=np.zeros((queries, count), dtype=bool),
            count=np.zeros(queries, dtype=np.int64),
            depth=beams.depth + 1,
        )
        for query in range(queries):
            subset = None if subsets is None else subsets[query]
            ranked = []
            for beam in np.flatnonzero(beams.alive[query]).tolist():
                below = dict(self._below(beams.states[query, beam]))
                told = np.nan_to_num(logits[rows[query, beam]].astype(np.float64), nan=-np.inf, neginf=-np.inf)
                total = np.logaddexp.reduce(told[list(below)] if meaning == "renormalised" else told)
                told = told - total + scores[query, beam] if total > -np.inf else np.full(len(told), -np.inf)
                ranked += [(-told[t], beam, t, state) for t, state in below.items() if len(self.items(state, subset))]
            best = sorted(ranked, key=lambda one: one[:3])[:count]
            found.count[query] = len(best)
            for place, (score, beam, token, state) in enumerate(best):
                found.scores[query, place], found.parents[query, place] = -score, beam
                found.tokens[query, place], found.states[query, place] = token, state
                found.complete[query, place] = len(self.order[state[0]][0]) == state[2]
        return found

    def advance(self, candidates, picks):
        states = np.take_along_axis(candidates.states, np.maximum(picks, 0)[:, :, None], axis=1)
        return Beams(states, picks >= 0, candidates.depth)

    def subset(self, allowed):
        return Rows(allowed & self.live)

    def only(self, rows):
        return Rows(np.isin(np.arange(self.row_count), rows) & self.live)

    def without(self, rows, subset=None):
        return Rows(~self.only(rows).allowed & (self.live if subset is None else subset.allowed))


class SortedTrigramWriter(TrigramWriter):
    index_kind = SortedList

    @classmethod
    def load(cls, folder, details, catalog, encoder=None):
        recipe = SortedTrigramRecipe.from_dict(details["recipe"])
        return cls.opened(folder, details, catalog, encoder, TrigramSpelling, recipe)


@register
@dataclass(frozen=True)
class SortedTrigramRecipe(TrigramRecipe):
    kind: ClassVar[str] = "sorted-trigrams"
    finder: ClassVar[type[Finder]] = SortedTrigramWriter

    def build(self, data, progress):
        made = super().build(data, progress)
        return SortedTrigramWriter(
            data.catalog,
            made.spelling,
            made.table,
            live_index(data.catalog, made.table, progress, SortedList),
            self,
        )
