"""What a validation of next items reports."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["next_item_figures"]


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
