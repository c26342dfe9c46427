"""Mix what a first stage says of some items with what a ranker says, by a weight that is learnt and shrunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genrail.rng import generator

__all__ = ["WEIGHTS", "Look", "cross_fitted", "learnt_weight", "mixed", "scaled"]

Float = npt.NDArray[np.float64]

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)  # that are tried


@dataclass(frozen=True, eq=False)
class Look:
    """Hold what both said of one query's items.

    Args:
        first: Scores of the first stage, best first, (items,).
        second: Scores of the ranker, (items,).
        gains: Of each item, 0 where it is not right, (items,).
        ideal: Highest discounted gain that this query can have at the cutoff, also by items that were not found.
        cutoff: Of nDCG.
    """

    first: Float
    second: Float
    gains: Float
    ideal: float
    cutoff: int = 10

    @classmethod
    def of(cls, first: Float, second: Float, gains: Float, judged: Sequence[float], cutoff: int = 10) -> Look:
        """Make one from the grades of all judged items of the query."""
        best = np.sort(np.maximum(0.0, np.array(judged)))[::-1][:cutoff]
        return cls(first, second, gains, float((best / np.log2(np.arange(len(best)) + 2.0)).sum()), cutoff)

    def ndcg(self, weight: float) -> float:
        """Give the nDCG of the mixture."""
        order = np.argsort(-mixed(self.first, self.second, weight), kind="stable")[: self.cutoff]
        return float((self.gains[order] / np.log2(np.arange(len(order)) + 2.0)).sum() / self.ideal)


def mixed(first: Float, second: Float, weight: float) -> Float:
    """Add both scores, each brought to 0 to 1 among the items: 0 is the first stage alone, 1 the ranker alone.

    >>> mixed(np.array([3.0, 2.0, 1.0]), np.array([-5.0, -1.0, -3.0]), 0.5).tolist()
    [0.5, 0.75, 0.25]
    """
    return (1.0 - weight) * scaled(first) + weight * scaled(second)


def scaled(scores: Float) -> Float:
    """Bring scores to 0 to 1; equal ones to 0."""
    spread = float(np.ptp(scores)) if len(scores) else 0.0
    return (scores - scores.min()) / spread if spread > 0.0 else np.zeros(len(scores))


def learnt_weight(looks: Sequence[Look]) -> float:
    """Choose how much a ranker counts: the smallest weight that is not surely worse than the best one.

    So a ranker that has not proved itself counts nothing, and the first stage's order stays.

    Args:
        looks: Judged queries, one at least.

    Source: the rule of one standard error, Breiman et al. 1984, here for the paired difference of nDCG.
    """
    table = np.array([[look.ndcg(weight) for weight in WEIGHTS] for look in looks])
    return WEIGHTS[_chosen(table)]


def _chosen(table: Float) -> int:
    best = int(table.mean(axis=0).argmax())
    behind = table[:, [best]] - table
    error = behind.std(axis=0, ddof=1 if len(table) > 1 else 0) / np.sqrt(len(table))
    return int(np.flatnonzero(behind.mean(axis=0) <= error)[0])


def cross_fitted(looks: Sequence[Look], folds: int = 5, seed: int = 0) -> tuple[Float, list[float]]:
    """Measure the mixture on judged queries without flattering it.

    Returns:
        The nDCG of each query, (queries,), under the weight that was learnt on the other folds; these weights.
    """
    table = np.array([[look.ndcg(weight) for weight in WEIGHTS] for look in looks])
    order = generator(seed, "folds").permutation(len(table))
    found, weights = np.zeros(len(table)), []
    for fold in np.array_split(order, min(folds, len(table))):
        place = _chosen(table[np.setdiff1d(order, fold)]) if len(fold) < len(table) else 0
        found[fold] = table[fold, place]
        weights.append(WEIGHTS[place])
    return found, weights
