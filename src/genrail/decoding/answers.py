"""What a decoder hands back, and the pool in which finished identifiers wait."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from genrail.decoding.trace import DecodeTrace

__all__ = ["Decoded", "Finished", "Pool"]


@dataclass(frozen=True)
class Decoded:
    """Hold the items that one query decoded to, best first.

    Args:
        rows: Catalogue rows, int64, shape (m,), no row twice. Items that share an identifier follow each other in
            catalogue order.
        log_probabilities: Of each item's identifier under the model (natural logarithm), float64, shape (m,).
        tokens: Identifier of each item, m tuples; its best one found, where items have several.
        exhausted: True when fewer than k items are allowed, so that nothing more could come.
        trace: The steps of the decode, when asked for.
        scores: What the order follows: the log-probability, or the length-normalised one. Shape (m,).
        bound: Highest score that an identifier which the search dropped unfinished could have reached; -inf when every
            allowed item was looked at.
    """

    rows: npt.NDArray[np.int64]
    log_probabilities: npt.NDArray[np.float64]
    tokens: list[tuple[int, ...]]
    exhausted: bool
    trace: DecodeTrace | None = None
    scores: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    bound: float = np.inf

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def exact(self) -> bool:
        """Tell whether this is proven to be the true top k: whatever was dropped cannot beat the last item."""
        return self.gap == 0.0

    @property
    def gap(self) -> float:
        """Give the most by which a dropped item could beat the last one of the answer; 0 when the answer is exact."""
        if self.bound == -np.inf:
            return 0.0
        if not len(self.scores):
            return float("inf")
        return max(0.0, float(self.bound - self.scores[-1])) if self.scores[-1] > -np.inf else float("inf")


@dataclass(frozen=True, order=True)
class Finished:
    """Hold one finished identifier; compares by what comes first in an answer."""

    negative_score: float
    order: int
    log_probability: float = field(compare=False)
    tokens: tuple[int, ...] = field(compare=False)
    rows: npt.NDArray[np.int64] = field(compare=False)


class Pool:
    """Keep the best finished identifiers of one query, until k items are together.

    Equal scores keep the order in which they finished: shorter identifiers first, then parent beam, then token.

    Args:
        k: Items wanted.
        several: Items may have several identifiers: an item stays with its best one, and is counted once.
    """

    def __init__(self, k: int, several: bool = False) -> None:
        self._k = k
        self._several = several
        self._entries: list[Finished] = []
        self._added = 0

    @property
    def threshold(self) -> float | None:
        """Give the score of the k-th item, or None while there are fewer."""
        total = 0
        for entry in self._entries:
            total += len(entry.rows)
            if total >= self._k:
                return -entry.negative_score
        return None

    def admits(self, score: float) -> bool:
        """Tell whether an identifier with this score would be among the k best."""
        threshold = self.threshold
        return threshold is None or score > threshold

    def add(self, score: float, log_probability: float, tokens: tuple[int, ...], rows: npt.NDArray[np.int64]) -> None:
        """Add an identifier with its items, in catalogue order, and forget what fell below the k-th item."""
        insort(self._entries, Finished(-score, self._added, log_probability, tokens, rows))
        self._added += 1
        if self._several:
            self._keep_best()
        total = 0
        for place, entry in enumerate(self._entries):
            total += len(entry.rows)
            if total >= self._k:
                del self._entries[place + 1 :]
                break

    def _keep_best(self) -> None:
        """Take the items of better identifiers away from worse ones."""
        seen: set[int] = set()
        kept = []
        for entry in self._entries:
            fresh = [row for row in entry.rows.tolist() if row not in seen]
            seen.update(fresh)
            if len(fresh) == len(entry.rows):
                kept.append(entry)
            elif fresh:
                kept.append(replace(entry, rows=np.array(fresh, dtype=np.int64)))
        self._entries = kept

    def decoded(self, exhausted: bool, bound: float, trace: DecodeTrace | None = None) -> Decoded:
        """Turn the pool into an answer of at most k items."""
        rows: list[int] = []
        log_probabilities, tokens, scores = [], [], []
        for entry in self._entries:
            for row in entry.rows[: self._k - len(rows)].tolist():
                rows.append(row)
                log_probabilities.append(entry.log_probability)
                tokens.append(entry.tokens)
                scores.append(-entry.negative_score)
        return Decoded(
            np.array(rows, dtype=np.int64),
            np.array(log_probabilities, dtype=np.float64),
            tokens,
            exhausted,
            trace,
            np.array(scores, dtype=np.float64),
            bound,
        )
