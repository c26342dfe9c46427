"""What a validation of next items reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["graded_figures", "next_item_figures"]


def next_item_figures(ranks: npt.ArrayLike, cutoff: int = 10) -> tuple[float, float]:
    """Compute nDCG and recall where each case has one right item.

    Args:
        ranks: Items before the right one, (cases,); -1 where it did not come out.
        cutoff: Ranks below this count.

    >>> next_item_figures([0, -1, 25])
    (0.3333333333333333, 0.3333333333333333)
    """
    rank = np.asarray(ranks)
    found = (rank >= 0) & (rank < cutoff)
    gains = np.where(found, 1.0 / np.log2(np.maximum(rank, 0) + 2.0), 0.0)
    return float(gains.mean()), float(found.mean())


def graded_figures(
    found: Sequence[npt.NDArray[np.int64]], right: Sequence[Mapping[int, float]], cutoff: int = 10
) -> tuple[float, float]:
    """Compute nDCG and recall where each case has several right items with gains of their own.

    Args:
        found: Rows of each case, best first.
        right: Row to gain, above 0, one or more for each case.
        cutoff: Ranks below this count.

    >>> graded_figures([np.array([4, 2])], [{2: 1.0}])
    (0.6309297535714575, 1.0)
    """
    discounts = 1.0 / np.log2(np.arange(cutoff) + 2.0)
    ndcg, recall = [], []
    for rows, gains in zip(found, right, strict=True):
        own = np.array([gains.get(int(row), 0.0) for row in rows[:cutoff]])
        ideal = np.sort(list(gains.values()))[::-1][:cutoff]
        ndcg.append(float((own * discounts[: len(own)]).sum() / (ideal * discounts[: len(ideal)]).sum()))
        recall.append(float((own > 0).sum()) / len(gains))
    return float(np.mean(ndcg)), float(np.mean(recall))
