"""Sampling without replacement: k different items, each as probable as the model finds it, in one search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

import numpy as np
import numpy.typing as npt

from genrail.constraints.index import Candidates, ConstraintIndex, RowSequences, Subset
from genrail.decoding.answers import Decoded, Pool
from genrail.errors import SettingsError, ShapeError
from genrail.models.language_model import Context, LanguageModel, State
from genrail.rng import generator

__all__ = ["SampleSettings", "sample_search"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SampleSettings:
    """Say how to draw.

    Args:
        temperature: 1 draws by the model's probabilities, more is more even, less is more sure. Several numbers: one
            for each level of the identifier, the last for all deeper ones; with ``(2.0, 0.5)`` Semantic IDs differ in
            their first code rather than in their last.
        seed: The same seed gives the same draw. Every query of a batch draws from the same seed, so that its answer
            does not depend on its neighbours; give each request a seed of its own to have independent draws.
    """

    temperature: float | tuple[float, ...] = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.levels or not all(0 < value < np.inf for value in self.levels):
            raise SettingsError(f"temperature is {self.temperature}; give numbers above 0")

    @property
    def levels(self) -> tuple[float, ...]:
        """Give the temperature of each level; the last holds for all deeper ones."""
        return tuple(self.temperature) if isinstance(self.temperature, Sequence) else (float(self.temperature),)

    def at(self, level: int) -> float:
        """Give the temperature of a level, counted from 0."""
        return self.levels[min(level, len(self.levels) - 1)]


def sample_search(
    model: LanguageModel[Context, State],
    contexts: Sequence[Context],
    index: ConstraintIndex,
    settings: SampleSettings | None = None,
    subsets: Sequence[Subset | None] | None = None,
    k: int = 10,
    seeds: Sequence[int] | None = None,
) -> list[Decoded]:
    """Draw k items of each query without replacement, by stochastic beam search.

    At every step the model's probability is shared out among the tokens that lead to an allowed item, so an item is
    drawn with the product of these shares. The answer is distributed as if items were drawn one by one, each from what
    the earlier ones left over. Items of probability zero come last, and only where nothing else is left.

    Args:
        model: A `LanguageModel`.
        contexts: One per query, as the model reads them.
        index: The identifiers that may be written.
        settings: Default `SampleSettings()`.
        subsets: Items allowed to each query, None for all.
        k: Items wanted, 1 or more.
        seeds: One per query, instead of the settings' seed for all.

    Returns:
        One answer per query, in the order of the draw. `scores` are the perturbed log-probabilities that made the
        order; `log_probabilities` are the model's own, under its full softmax and without temperature. Items that share
        an identifier are drawn together; an item with several comes where the first of them was drawn.

    Raises:
        SettingsError: k below 1.
        ShapeError: Another number of subsets or seeds than contexts.

    Cost: one model call per token of the longest identifier drawn, on at most k rows for each query. Where items have
    several identifiers and those drawn name fewer than k items, the query draws anew, twice as many.

    Source: Kool, van Hoof and Welling 2019, Stochastic Beams and Where to Find Them (ICML), with the constraint's
    renormalisation at every step.

    >>> from genrail.constraints import Trie
    >>> from genrail.models.tiny_lm import UniformModel
    >>> trie = Trie.from_sequences([[1, 2], [1, 3], [0, 3]], vocab_size=4)
    >>> [answer] = sample_search(UniformModel(4), [[0]], trie, SampleSettings(seed=1), k=3)
    >>> sorted(answer.rows.tolist()), answer.log_probabilities.round(3).tolist()
    ([0, 1, 2], [-2.773, -2.773, -2.773])
    """
    settings = settings or SampleSettings()
    if k < 1:
        raise SettingsError(f"k is {k}; ask for 1 item or more")
    subsets = [None] * len(contexts) if subsets is None else list(subsets)
    seeds = [settings.seed] * len(contexts) if seeds is None else list(seeds)
    if not len(subsets) == len(seeds) == len(contexts):
        raise ShapeError(f"{len(contexts)} contexts, {len(subsets)} subsets, {len(seeds)} seeds; give one per context")
    allowed = [len(index) if subset is None else len(subset) for subset in subsets]
    answers = [Pool(k).decoded(exhausted=True, bound=-np.inf) for _ in contexts]
    asked = [query for query, count in enumerate(allowed) if count]
    most = index.most_sequences if isinstance(index, RowSequences) else 1
    draws = k
    while asked:
        sampler = _Sampler(model, index, settings, [subsets[query] for query in asked], draws)
        drawn = sampler.run([contexts[query] for query in asked], [seeds[query] for query in asked])
        for query, leaves in zip(asked, drawn, strict=True):
            answers[query] = _decoded(leaves, k, allowed[query] < k)
        asked = [query for query in asked if len(answers[query]) < min(k, allowed[query])]
        if draws >= k * most:  # so many identifiers name k items
            break
        draws = min(2 * draws, k * most)
    return answers


@dataclass(frozen=True)
class _Leaf:
    """An identifier that stays among the k best; `perturbed` is its Gumbel number."""

    perturbed: float
    log_probability: float
    tokens: tuple[int, ...]
    rows: Int


def _decoded(leaves: list[_Leaf], k: int, exhausted: bool) -> Decoded:
    first: dict[int, _Leaf] = {}
    for leaf in leaves:
        for row in leaf.rows.tolist():
            first.setdefault(row, leaf)
    pairs = [(leaf, row) for row, leaf in first.items()][:k]
    return Decoded(
        np.array([row for _, row in pairs], dtype=np.int64),
        np.array([leaf.log_probability for leaf, _ in pairs], dtype=np.float64),
        [leaf.tokens for leaf, _ in pairs],
        exhausted,
        scores=np.array([leaf.perturbed for leaf, _ in pairs], dtype=np.float64),
    )


@dataclass
class _Sampler(Generic[Context, State]):
    """Run one batch. Arrays are (queries, width); a beam's number is its place in its query."""

    model: LanguageModel[Context, State]
    index: ConstraintIndex
    settings: SampleSettings
    subsets: list[Subset | None]
    k: int
    leaves: list[list[_Leaf]] = field(default_factory=list)

    def run(self, contexts: list[Context], seeds: list[int]) -> list[list[_Leaf]]:
        """Draw until every identifier is whole."""
        queries = len(contexts)
        self.draws = [generator(seed, "stochastic beam search") for seed in seeds]
        self.leaves = [[] for _ in range(queries)]
        self.beams = self.index.start(queries)
        self.scores = np.zeros((queries, 1))  # log-probability under the full softmax
        self.shares = np.zeros((queries, 1))  # log-probability of the draw: tempered, shared out among the children
        self.perturbed = np.array([[draw.gumbel()] for draw in self.draws])
        self.tokens: list[list[tuple[int, ...]]] = [[()] for _ in range(queries)]
        state, logits = self.model.prefill(contexts)
        rows = np.arange(queries)[:, None]
        while self.beams.alive.any():
            found = self._children(logits, rows)
            picks = self._pick(found)
            parents = np.take_along_axis(found.parents, np.maximum(picks, 0), axis=1)
            tokens = np.take_along_axis(found.tokens, np.maximum(picks, 0), axis=1)
            self.beams = self.index.advance(found, picks)
            query, beam = np.nonzero(picks >= 0)
            before = rows[query, parents[query, beam]]
            rows = np.full(picks.shape, -1, dtype=np.int64)
            rows[query, beam] = np.arange(len(query))
            if len(query):
                state, logits = self.model.step(state, before, tokens[query, beam])
        return self.leaves

    def _children(self, logits: npt.NDArray[np.float32], rows: Int) -> Candidates:
        """List all allowed children of all beams."""
        alive = self.beams.alive
        counts = np.zeros(alive.shape, dtype=np.int64)
        for query, beam in np.argwhere(alive).tolist():
            tokens, _ = self.index.children(self.beams.states[query, beam], self.subsets[query])
            counts[query, beam] = len(tokens)
        subsets = self.subsets if any(subset is not None for subset in self.subsets) else None
        most = max(1, int(counts.sum(axis=1).max()))
        found = self.index.candidates(
            self.beams, logits, self.scores, most, subsets, "full_softmax", np.where(alive, rows, -1)
        )
        return found

    def _pick(self, found: Candidates) -> Int:
        """Keep the k best of children and finished identifiers; give the open ones among them, best first."""
        queries = len(found.count)
        temperature = self.settings.at(self.beams.depth)
        kept: list[Int] = []
        fresh: list[tuple[Float, Float]] = []
        for query in range(queries):
            shares, perturbed = self._perturb(found, query, temperature)
            fresh.append((shares, perturbed))
            kept.append(self._keep(found, query, perturbed))
        width = max(1, *map(len, kept))
        picks = np.full((queries, width), -1, dtype=np.int64)
        scores, numbers, draws = (np.full((queries, width), -np.inf) for _ in range(3))
        for query, places in enumerate(kept):
            at = np.arange(len(places))
            picks[query, at] = places
            scores[query, at] = found.scores[query, places]
            numbers[query, at], draws[query, at] = (values[places] for values in fresh[query])
            written = self.tokens[query]
            self.tokens[query] = [
                (*written[found.parents[query, place]], int(found.tokens[query, place])) for place in places.tolist()
            ]
        self.scores, self.shares, self.perturbed = scores, numbers, draws
        return picks

    def _perturb(self, found: Candidates, query: int, temperature: float) -> tuple[Float, Float]:
        """Give each child its share of the probability, and a Gumbel number below its parent's."""
        count = int(found.count[query])
        parents = found.parents[query, :count]
        order = np.lexsort((found.tokens[query, :count], parents))  # draws follow the tree, not the model's order
        noise = np.empty(count)
        noise[order] = self.draws[query].gumbel(size=count)
        with np.errstate(invalid="ignore"):
            own = (found.scores[query, :count] - self.scores[query, parents]) / temperature
            own = np.where(np.isnan(own), -np.inf, own)
            shares = self.shares[query, parents] + own - _by_parent(own, parents, np.logaddexp)[parents]
            shares = np.where(np.isnan(shares), -np.inf, shares)
            drawn = shares + noise
            highest = _by_parent(drawn, parents, np.maximum)[parents]
            return shares, _below(self.perturbed[query, parents], drawn, highest)

    def _keep(self, found: Candidates, query: int, perturbed: Float) -> Int:
        """Merge children into the k best of a query; finished ones become leaves, places of the others come back."""
        earlier = self.leaves[query]
        numbers = np.concatenate([[leaf.perturbed for leaf in earlier], perturbed])
        best = np.argsort(-numbers, kind="stable")[: self.k]
        self.leaves[query] = []
        still_open = []
        for place in best.tolist():
            child = place - len(earlier)
            if child < 0:
                self.leaves[query].append(earlier[place])
            elif found.complete[query, child]:
                self.leaves[query].append(self._leaf(found, query, child, float(perturbed[child])))
            else:
                still_open.append(child)
        return np.array(still_open, dtype=np.int64)

    def _leaf(self, found: Candidates, query: int, child: int, perturbed: float) -> _Leaf:
        tokens = (*self.tokens[query][found.parents[query, child]], int(found.tokens[query, child]))
        rows = self.index.items(found.states[query, child], self.subsets[query])
        return _Leaf(perturbed, float(found.scores[query, child]), tokens, rows)


def _by_parent(values: Float, parents: Int, combine: np.ufunc) -> Float:
    """Fold the values of each parent's children into one."""
    folded = np.full(int(parents.max(initial=0)) + 1, -np.inf)
    combine.at(folded, parents, values)
    return folded


def _below(parent: Float, drawn: Float, highest: Float) -> Float:
    """Shift Gumbel numbers so that the highest child of each parent has the parent's number.

    Source: appendix B.3 of Kool et al. 2019; stable where differences are tiny or huge.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gap = drawn - highest  # 0 or less
        log_rest = np.where(gap > -np.log(2), np.log(-np.expm1(gap)), np.log1p(-np.exp(gap)))
        shift = parent - drawn + log_rest
        number = parent - np.maximum(0.0, shift) - np.log1p(np.exp(-np.abs(shift)))
    return np.where(np.isneginf(drawn) | np.isneginf(parent), -np.inf, number)
