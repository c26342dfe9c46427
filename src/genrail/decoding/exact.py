"""Exact top k: best-first search over the identifiers, with a proof or the size of the doubt."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Generic, Protocol, cast

import numpy as np
import numpy.typing as npt

from genrail.constraints.index import Beams, Candidates, ConstraintIndex, RowSequences, ScoreMeaning, Subset
from genrail.decoding.answers import Decoded, Pool
from genrail.decoding.beam_search import beam_search
from genrail.decoding.settings import BeamSettings
from genrail.errors import SettingsError, ShapeError
from genrail.models.language_model import Context, LanguageModel, State

__all__ = ["ExactSettings", "exact_search"]

Int = npt.NDArray[np.int64]

SLACK = 1e-4  # relative; the same path scored in another batch differs by roundings only (promise 3: 1e-4)


@dataclass(frozen=True)
class ExactSettings:
    """Say how far to search.

    Args:
        budget: Prefixes that the model may read for each query, before the search gives up the proof.
        rows_at_once: Prefixes read in one call of the model. 1 reads the fewest; more use the machine better.
        width: Beam width of the search that fills the answer when the budget is spent with fewer than k items found.
        beam_first: Search with a beam of `width` first. What cannot beat its k-th item is then never read, so with many
            rows at once (thousands, for short identifiers of a small vocabulary) the proof needs one call of the model
            for each level, as the beam did. The rows read stay about the same.
        meaning: Of the scores, see `BeamSettings`. Renormalised scores lose nothing to forbidden tokens, so their
            bounds are closer and the proof comes sooner.
    """

    budget: int = 10_000
    rows_at_once: int = 16
    width: int = 20
    beam_first: bool = False
    meaning: ScoreMeaning = "full_softmax"

    def __post_init__(self) -> None:
        for name in ("budget", "rows_at_once", "width"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        BeamSettings(meaning=self.meaning)  # refuses what it does not know


def exact_search(
    model: LanguageModel[Context, State],
    contexts: Sequence[Context],
    index: ConstraintIndex,
    settings: ExactSettings | None = None,
    subsets: Sequence[Subset | None] | None = None,
    k: int = 10,
) -> list[Decoded]:
    """Find the k most probable items of each query, and prove that they are.

    The most probable open prefix is read next. A log-probability can only fall as a prefix grows, so when no open
    prefix is above the k-th item found, nothing better exists: `Decoded.exact` is then True. When the budget ends
    before that, `Decoded.gap` says by how much a missed item could beat the last one of the answer; k items come out
    all the same.

    Args:
        model: A `LanguageModel` whose older states stay usable (its ``keeps_states`` is True).
        contexts: One per query.
        index: The identifiers that may be written.
        settings: Default `ExactSettings()`.
        subsets: Items allowed to each query, None for all.
        k: Items wanted for each query, 1 or more.

    Raises:
        SettingsError: k below 1, or a model that does not keep its states.
        ShapeError: Another number of subsets than contexts.
        LogitsError: The model gave +inf.

    Cost: at most `budget` rows of the model for each query; few where the model is sure, all prefixes where it is not.

    >>> from genrail.constraints import Trie
    >>> from genrail.models.tiny_lm import NoiseModel
    >>> trie = Trie.from_sequences([[1, 2], [1, 3], [0, 3]], vocab_size=4)
    >>> [answer] = exact_search(NoiseModel(4, seed=1), [[0]], trie, k=2)
    >>> len(answer), answer.exact
    (2, True)
    """
    settings = settings or ExactSettings()
    if k < 1:
        raise SettingsError(f"k is {k}; ask for 1 item or more")
    if not getattr(model, "keeps_states", False):
        raise SettingsError("exact search needs a model that keeps older states usable; use beam_search with this one")
    subsets = [None] * len(contexts) if subsets is None else list(subsets)
    if len(subsets) != len(contexts):
        raise ShapeError(f"{len(contexts)} contexts but {len(subsets)} subsets; give one subset (or None) per context")
    answers = []
    for context, subset in zip(contexts, subsets, strict=True):
        allowed = len(index) if subset is None else len(subset)
        if allowed == 0:
            answers.append(Pool(k).decoded(exhausted=True, bound=-np.inf))
            continue
        beam = BeamSettings(width=settings.width, meaning=settings.meaning)
        filled = beam_search(model, [context], index, beam, [subset], k)[0] if settings.beam_first else None
        answer = _BestFirst(model, index, subset, settings, k, _floor(filled, k)).run(context)
        if len(answer) < min(k, allowed):  # the budget ended early: let a beam fill the answer
            filled = filled or beam_search(model, [context], index, beam, [subset], k)[0]
            answer = replace(filled, bound=max(filled.bound, answer.bound))
        answers.append(replace(answer, exhausted=allowed < k))
    return answers


def _floor(found: Decoded | None, k: int) -> float:
    """Give the score below which nothing need be read: the k-th item found, less what rounding may move it."""
    if found is None or len(found) < k:
        return -np.inf
    last = float(found.scores[k - 1])
    return last - SLACK * max(1.0, abs(last)) if np.isfinite(last) else -np.inf


class JoiningModel(Protocol[State]):
    """Put rows of different length into one state. A `LanguageModel` whose ``joins_states`` is True offers this."""

    def join(self, states: Sequence[State]) -> tuple[State, list[int]]:
        """Make one state of several; give it, and where the rows of each begin."""
        ...


@dataclass
class _Node(Generic[State]):
    """A prefix that the model has read: where its logits came from, and its children, best first."""

    prefix: tuple[int, ...]
    state: State
    row: int
    children: Candidates
    place: int  # of this node among the queries of `children`
    next: int = 0

    @property
    def bound(self) -> float:
        """Give the score of the best child not yet taken."""
        return float(self.children.scores[self.place, self.next])

    @property
    def left(self) -> bool:
        """Tell whether a child is left."""
        return self.next < int(self.children.count[self.place])


@dataclass
class _Taken(Generic[State]):
    """A child taken from its node, to be read by the model."""

    node: _Node[State]
    child: int

    @property
    def token(self) -> int:
        return int(self.node.children.tokens[self.node.place, self.child])

    @property
    def prefix(self) -> tuple[int, ...]:
        return (*self.node.prefix, self.token)

    @property
    def score(self) -> float:
        return float(self.node.children.scores[self.node.place, self.child])

    @property
    def state(self) -> Int:
        return np.asarray(self.node.children.states[self.node.place, self.child])

    @property
    def complete(self) -> bool:
        return bool(self.node.children.complete[self.node.place, self.child])


@dataclass
class _BestFirst(Generic[Context, State]):
    """Search for one query. The heap holds each read prefix once, by its best child not yet taken."""

    model: LanguageModel[Context, State]
    index: ConstraintIndex
    subset: Subset | None
    settings: ExactSettings
    k: int
    floor: float = -np.inf
    heap: list[tuple[float, int, _Node[State]]] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=count)

    def run(self, context: Context) -> Decoded:
        several = isinstance(self.index, RowSequences) and self.index.most_sequences > 1
        self.pool = Pool(self.k, several)
        state, logits = self.model.prefill([context])
        beams = self.index.start(1)
        self._open([()], beams.states[:, 0], np.zeros(1), [state], np.zeros(1, dtype=np.int64), logits, 0)
        budget = self.settings.budget
        while budget > 0:
            taken = self._take(min(budget, self.settings.rows_at_once))
            if not taken:
                return self.pool.decoded(False, self._bound())
            budget -= len(taken)
            self._read(taken)
        return self.pool.decoded(False, self._bound())

    def _bound(self) -> float:
        return -self.heap[0][0] if self.heap else -np.inf

    def _worth_reading(self) -> bool:
        return self._bound() >= self.floor and self.pool.admits(self._bound())

    def _push(self, node: _Node[State]) -> None:
        if node.left:
            heapq.heappush(self.heap, (-node.bound, next(self.order), node))

    def _take(self, most: int) -> list[_Taken[State]]:
        """Take the best children of all nodes, until `most` are to be read; finished ones go to the pool."""
        taken: list[_Taken[State]] = []
        while self.heap and len(taken) < most and self._worth_reading():
            _, _, node = heapq.heappop(self.heap)
            child = _Taken(node, node.next)
            node.next += 1
            self._push(node)
            if child.complete:
                rows = self.index.items(child.state, self.subset)
                self.pool.add(child.score, child.score, child.prefix, rows)
            else:
                taken.append(child)
        return taken

    def _read(self, taken: list[_Taken[State]]) -> None:
        """Run the model on the taken prefixes, and open them for the search."""
        for group in self._groups(taken):
            states = list({id(one.node.state): one.node.state for one in group}.values())
            state, offsets = self._joined(states)
            parents = np.array([offsets[id(one.node.state)] + one.node.row for one in group], dtype=np.int64)
            after, logits = self.model.step(state, parents, np.array([one.token for one in group], dtype=np.int64))
            by_depth = defaultdict(list)
            for row, one in enumerate(group):
                by_depth[len(one.prefix)].append((row, one))
            for depth, members in by_depth.items():
                rows = np.array([row for row, _ in members])
                self._open(
                    [one.prefix for _, one in members],
                    np.stack([one.state for _, one in members]),
                    np.array([one.score for _, one in members]),
                    [after] * len(members),
                    rows,
                    logits[rows],
                    depth,
                )

    def _groups(self, taken: list[_Taken[State]]) -> list[list[_Taken[State]]]:
        """Group what one call of the model can read: all, if it can join states, else what shares a state."""
        if getattr(self.model, "joins_states", False):
            return [taken]
        groups: dict[int, list[_Taken[State]]] = {}
        for one in taken:
            groups.setdefault(id(one.node.state), []).append(one)
        return list(groups.values())

    def _joined(self, states: list[State]) -> tuple[State, dict[int, int]]:
        if len(states) == 1:
            return states[0], {id(states[0]): 0}
        joined, first_rows = cast("JoiningModel[State]", self.model).join(states)
        return joined, {id(state): int(first) for state, first in zip(states, first_rows, strict=True)}

    def _open(
        self,
        prefixes: list[tuple[int, ...]],
        states: Int,
        scores: npt.NDArray[np.float64],
        model_states: list[State],
        rows: Int,
        logits: npt.NDArray[np.float32],
        depth: int,
    ) -> None:
        """List all children of prefixes of one depth, and put the prefixes on the heap.

        Args:
            prefixes: n of them.
            states: In the index, (n, state_size).
            scores: Log-probabilities, (n,).
            model_states: Where each row belongs, n.
            rows: Of the model's state, (n,).
            logits: Behind each prefix, (n, V).
            depth: Tokens of each prefix.
        """
        alive = np.ones((len(prefixes), 1), dtype=np.bool_)
        most = max(len(self.index.children(state, self.subset)[0]) for state in states)
        children = self.index.candidates(
            Beams(states[:, None, :], alive, depth),
            logits,
            scores[:, None],
            max(1, most),
            [self.subset] * len(prefixes) if self.subset is not None else None,
            self.settings.meaning,
        )
        for place, prefix in enumerate(prefixes):
            self._push(_Node(prefix, model_states[place], int(rows[place]), children, place))
