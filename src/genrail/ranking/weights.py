"""Weights of a fusion, learnt from graded judgements: arrays side by side make thousands of weightings cheap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["GradedShares", "ascend"]

Float = npt.NDArray[np.float64]

FACTORS = (0.0, 0.25, 0.5, 0.7, 0.85, 1.2, 1.4, 2.0, 4.0)  # what a weight is multiplied by in turn
REVIVED = 0.1  # a weight of 0 is tried as this times the factor
MOST_ROUNDS = 20


@dataclass(frozen=True, eq=False)
class GradedShares:
    """Hold what each source adds to each item of each query, with the items' gains.

    Args:
        values: Before weights, (queries, items, sources); queries with fewer items are filled up at the end.
        gains: Of each item, 0 where it is not judged, (queries, items).
        real: Which places hold an item, (queries, items).
        ideal: Highest discounted gain that a query can have at the cutoff, (queries,).
        counts: How often each query counts, (queries,).
        cutoff: Of nDCG.
    """

    values: npt.NDArray[np.float32]
    gains: npt.NDArray[np.float32]
    real: npt.NDArray[np.bool_]
    ideal: Float
    counts: Float
    cutoff: int

    def sums(self, weights: Float) -> npt.NDArray[np.float32]:
        """Add up what the sources say of each item, (queries, items)."""
        found: npt.NDArray[np.float32] = self.values @ weights.astype(np.float32)
        return found

    def by_query(self, weights: Float) -> Float:
        """Give each query's nDCG under some weights, (queries,)."""
        return self.by_scores(self.sums(weights))

    def by_scores(self, scores: npt.NDArray[np.floating]) -> Float:
        """Give each query's nDCG when its items are ranked by scores, (queries, items); result (queries,)."""
        sums = np.where(self.real, scores, -np.inf)
        best = np.argpartition(-sums, self.cutoff - 1, axis=1)[:, : self.cutoff]
        order = np.argsort(-np.take_along_axis(sums, best, axis=1), axis=1, kind="stable")
        ranked = np.take_along_axis(best, order, axis=1)
        gains = np.take_along_axis(self.gains, ranked, axis=1)
        found: Float = (gains / np.log2(np.arange(self.cutoff) + 2.0)).sum(axis=1) / self.ideal
        return found

    def ndcg(self, weights: Float) -> float:
        """Average nDCG over the queries, each as often as it counts."""
        return float(self.by_query(weights) @ self.counts / self.counts.sum())


def ascend(shares: GradedShares, start: Float | None = None) -> tuple[Float, float]:
    """Climb to weights of a high nDCG, one weight at a time, from equal ones.

    Args:
        shares: What the sources add.
        start: Further weights to begin from, (sources,), if they are better than equal ones.

    Returns:
        Weights that add up to 1, (sources,), and their nDCG. The best single source is never better.

    Cost: about 9 x sources x rounds measurements; 5 to 10 rounds are usual.
    """
    size = shares.values.shape[-1]
    starts = [np.ones(size) / size, *np.eye(size), *([] if start is None else [start])]
    weights = max(starts, key=shares.ndcg)
    best = shares.ndcg(weights)
    for _ in range(MOST_ROUNDS):
        before = best
        for place in range(size):
            for tried in _steps(weights, place):
                found = shares.ndcg(tried)
                if found > best:
                    weights, best = tried, found
        if best <= before:
            break
    return weights, best


def _steps(weights: Float, place: int) -> list[Float]:
    """Multiply one weight by each factor, keeping the sum at 1."""
    tried = []
    for factor in FACTORS:
        step = weights.copy()
        step[place] = step[place] * factor if step[place] > 0.0 else REVIVED * factor
        if step.sum() > 0.0:
            tried.append(step / step.sum())
    return tried
