"""Weights of a fusion, learnt where each query has one right item: flat arrays make thousands of weightings cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from genrail.errors import QueryError, ShapeError

__all__ = ["Measurable", "Shares", "ascend"]

Float = npt.NDArray[np.float64]

FACTORS = (0.0, 0.25, 0.5, 0.7, 0.85, 1.2, 1.4, 2.0, 4.0)  # what a weight is multiplied by in turn
REVIVED = 0.1  # a weight of 0 is tried as this times the factor
MOST_ROUNDS = 20


class Measurable(Protocol):
    """Tell how good weights are."""

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """Give what is weighted; the last axis counts the retrievers."""
        ...

    def ndcg(self, weights: Float, cutoff: int = 10) -> float:
        """Average nDCG under some weights."""
        ...


@dataclass(frozen=True, eq=False)
class Shares:
    """Hold what each retriever adds to each item of each query, side by side.

    Args:
        values: Before weights, (items of all queries, retrievers).
        query: The query of each item, ascending, (items of all queries,).
        target: The right item's place in `values`, -1 where no retriever found it, (queries,).
    """

    values: npt.NDArray[np.float32]
    query: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[Sequence[Mapping[str, float]]], targets: Sequence[str]) -> Shares:
        """Lay out what was added, for each retriever and query a mapping from item id.

        Raises:
            ShapeError: Another number of targets than queries.
            QueryError: No query, or no retriever found any target.
        """
        if any(len(part) != len(targets) for part in parts):
            raise ShapeError(f"{[len(part) for part in parts]} answers for {len(targets)} targets; give one for each")
        blocks, queries, places, start = [], [], [], 0
        for number, target in enumerate(targets):
            added = [part[number] for part in parts]
            items = list(dict.fromkeys(item for one in added for item in one))
            blocks.append(np.array([[one.get(item, 0.0) for one in added] for item in items], dtype=np.float32))
            places.append(start + items.index(target) if target in items else -1)
            queries.append(np.full(len(items), number, dtype=np.int64))
            start += len(items)
        if max(places, default=-1) < 0:
            raise QueryError("no retriever found any of the targets: there is nothing to learn weights from")
        values = np.concatenate([block.reshape(-1, len(parts)) for block in blocks])
        return cls(values, np.concatenate(queries), np.array(places, dtype=np.int64))

    def ndcg(self, weights: Float, cutoff: int = 10) -> float:
        """Average nDCG at a cutoff under some weights; between equal sums the target comes last.

        Cost: one product of all items with the weights.
        """
        sums = self.values @ weights.astype(np.float32)
        of_target = np.where(self.target >= 0, sums[self.target], np.inf)
        rank = np.bincount(self.query[sums >= of_target[self.query]], minlength=len(self.target))
        counted = (self.target >= 0) & (rank <= cutoff)
        return float(np.where(counted, 1.0 / np.log2(np.maximum(rank, 1) + 1.0), 0.0).mean())


def ascend(shares: Measurable, cutoff: int = 10, start: Float | None = None) -> tuple[Float, float]:
    """Climb to weights of a high nDCG, one weight at a time, from equal ones.

    Args:
        shares: What the retrievers add.
        cutoff: Of nDCG.
        start: Further weights to begin from, (retrievers,), if they are better than equal ones.

    Returns:
        Weights that add up to 1, (retrievers,), and their nDCG. The best single retriever is never better.

    Cost: about 9 x retrievers x rounds measurements; 5 to 10 rounds are usual.
    """
    size = shares.values.shape[-1]
    starts = [np.ones(size) / size, *np.eye(size), *([] if start is None else [start])]
    weights = max(starts, key=lambda start: shares.ndcg(start, cutoff))
    best = shares.ndcg(weights, cutoff)
    for _ in range(MOST_ROUNDS):
        before = best
        for place in range(size):
            for tried in _steps(weights, place):
                found = shares.ndcg(tried, cutoff)
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
