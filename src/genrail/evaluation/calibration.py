"""Count how often hits are right, by their score: whether scores mean what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genrail.errors import QueryError
from genrail.evaluation.runs import Qrels
from genrail.types import Json

__all__ = ["Calibration", "calibration"]

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Hold how often hits are right, by score.

    Args:
        score: Mean score of each bin, lowest first, (bins,).
        right: Share of right hits in each bin, (bins,).
        hits: Hits in each bin, (bins,).
        expected_error: Mean distance of score and share, weighted by hits; None where scores are no probabilities.
        ordered: Share of pairs of neighbouring bins in which the higher score is right at least as often.
    """

    score: tuple[float, ...]
    right: tuple[float, ...]
    hits: tuple[int, ...]
    expected_error: float | None
    ordered: float

    def to_dict(self) -> dict[str, Json]:
        """Turn the figures into plain values for JSON."""
        return {
            "score": list(self.score),
            "right": list(self.right),
            "hits": list(self.hits),
            "expected_error": self.expected_error,
            "ordered": self.ordered,
        }


def calibration(
    run: Mapping[str, Mapping[str, float]], qrels: Qrels, *, cutoff: int = 10, bins: int = 10
) -> Calibration:
    """Put the first hits of all queries into bins of about equal size by score, and count the right ones.

    Args:
        run: Query id to item id to score, best first.
        qrels: What is relevant (grade 1 or more); queries without a relevant item are left out.
        cutoff: So many first hits of each query.
        bins: At most so many.

    Raises:
        QueryError: No hit of a judged query.

    Source: Naeini, Cooper, Hauskrecht 2015, for the expected error.

    >>> found = calibration({"q": {"a": 0.9, "b": 0.1}}, Qrels({"q": {"a": 1}}), bins=2)
    >>> found.right, round(found.expected_error, 6)
    ((0.0, 1.0), 0.1)
    """
    scores, right = [], []
    for query_id in qrels.answerable:
        relevant = set(qrels.relevant(query_id))
        for item_id, score in list(run.get(query_id, {}).items())[:cutoff]:
            scores.append(score)
            right.append(item_id in relevant)
    if not scores:
        raise QueryError("no judged query has a hit; calibration needs at least one")
    values, hit = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.float64)
    parts = np.array_split(np.argsort(values, kind="stable"), min(bins, len(values)))
    means = np.array([values[part].mean() for part in parts])
    shares = np.array([hit[part].mean() for part in parts])
    counts = np.array([len(part) for part in parts])
    probabilities = values.min() >= 0.0 and values.max() <= 1.0
    error = float(np.abs(means - shares) @ counts / counts.sum()) if probabilities else None
    ordered = float(np.mean(np.diff(shares) >= 0.0)) if len(parts) > 1 else 1.0
    return Calibration(tuple(means.tolist()), tuple(shares.tolist()), tuple(counts.tolist()), error, ordered)
