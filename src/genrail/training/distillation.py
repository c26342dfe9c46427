"""Distillation: the rankings of a teacher as targets of a student that writes identifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genrail.errors import ShapeError
from genrail.models.native_network import QUERY
from genrail.training.pairs import ContextBatch, Likes

__all__ = ["Lessons", "shares_of"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lessons:
    """Hold requests, and what a teacher would answer.

    Args:
        histories: Item rows of each request, oldest first; the latest that the student is to read.
        rows: What the teacher lists for each, padded with any row, (requests, k).
        shares: How probable it finds each, 0 for padding, (requests, k); rows add up to 1.
        queries: Vector of each request's words, (requests, dimensions), or None for histories alone.

    Raises:
        ShapeError: Arrays that do not fit.
    """

    histories: Sequence[Sequence[int]]
    rows: Int
    shares: Float
    queries: Float | None = None

    def __post_init__(self) -> None:
        count = len(self.histories)
        if self.rows.shape != self.shares.shape or len(self.rows) != count:
            raise ShapeError(
                f"{count} requests, rows {self.rows.shape}, shares {self.shares.shape}; give one per request"
            )
        if self.queries is not None and len(self.queries) != count:
            raise ShapeError(f"{count} requests but {len(self.queries)} query vectors; give one per request")

    def __len__(self) -> int:
        return len(self.histories)

    def batches(self, size: int, random: np.random.Generator) -> list[ContextBatch]:
        """Lay out one epoch: requests of about equal length together, batches in random order.

        Of each request one item is drawn by its share, and the others stand beside it. The loss along the drawn item's
        way has the expectation of the cross-entropy with the whole distribution over identifiers, at the cost of one
        identifier instead of `k`; at each node the whole distribution over its children is learnt.

        Args:
            size: Requests in a batch.
            random: Draws order and items.
        """
        lengths = np.array([len(history) for history in self.histories])
        order = np.argsort(lengths + 2.0 * random.random(len(lengths)), kind="stable")
        pieces = [order[first : first + size] for first in range(0, len(order), size)]
        return [self._batch(pieces[number], random) for number in random.permutation(len(pieces))]

    def _batch(self, chosen: Int, random: np.random.Generator) -> ContextBatch:
        shares, rows = self.shares[chosen], self.rows[chosen]
        ends = np.cumsum(shares, axis=1, dtype=np.float64)
        drawn = (ends < (random.random(len(chosen)) * ends[:, -1])[:, None]).sum(axis=1)
        contexts = [[*self.histories[number], *([] if self.queries is None else [QUERY])] for number in chosen]
        tokens = np.zeros((len(chosen), max(map(len, contexts))), dtype=np.int64)
        targets = np.full(tokens.shape, -1, dtype=np.int64)
        for place, context in enumerate(contexts):
            tokens[place, : len(context)] = context
            targets[place, len(context) - 1] = rows[place, drawn[place]]
        queries = None if self.queries is None else self.queries[chosen]
        return ContextBatch(tokens, targets, queries, Likes(rows, shares))


def shares_of(scores: Sequence[npt.NDArray[np.floating]], temperature: float, width: int) -> Float:
    """Turn a teacher's scores into probabilities: softmax of how far each stands out among those listed.

    Scores are divided by their standard deviation in each list, so that a temperature means the same for any teacher,
    whatever its unit.

    Args:
        scores: Of the items that the teacher listed for each request, at most `width` each.
        temperature: Above 0; more is more even.
        width: Of the array.

    Returns:
        Probabilities, 0 where nothing was listed, (requests, width).

    >>> print(shares_of([np.array([3.0, 1.0]), np.array([5.0])], temperature=1.0, width=2).round(3))
    [[0.881 0.119]
     [1.    0.   ]]
    """
    shares = np.zeros((len(scores), width), dtype=np.float32)
    for number, one in enumerate(scores):
        if len(one):
            spread = max(float(np.std(one)), 1e-12)
            tempered = np.exp((one - one.max()) / spread / temperature)
            shares[number, : len(one)] = tempered / tempered.sum()
    return shares
