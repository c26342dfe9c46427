"""Which events are likes: a low or negative rating is none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.columns import plain_name

__all__ = ["RATING_NAMES", "WEIGHT_NAMES", "liked"]

RATING_NAMES = ("rating", "stars", "star_rating", "overall", "score", "user_rating", "review_score", "grade", "like")
WEIGHT_NAMES = ("weight", "strength", "preference", "count", "quantity", "qty", "plays", "play_count")

_WEIGHTS = frozenset(map(plain_name, WEIGHT_NAMES))
_LIKED_FROM = 0.5  # share of the highest rating: 3, 4 and 5 of five stars; 1 of 0 and 1; all above 0 of -1 and 1


def liked(values: pl.Series, name: str, min_rating: float | None = None) -> tuple[npt.NDArray[np.bool_], str] | None:
    """Mark the events that are likes.

    Of ratings these are the ones above 0 that reach half of the highest; of weights and counts those above 0. An event
    without a value counts.

    Args:
        values: Numbers.
        name: Of their column.
        min_rating: The lowest that counts, instead.

    Returns:
        A mask over the events, and the rule in words; None where there are no numbers.

    >>> liked(pl.Series([5.0, 2.0, -1.0, None]), "rating")[0].tolist()
    [True, False, False, True]
    >>> liked(pl.Series([5.0, 2.0, -1.0, None]), "weight")[0].tolist()
    [True, True, False, True]
    """
    known = values.drop_nulls() if values.dtype.is_numeric() else values.head(0)
    if known.is_empty():
        return None
    highest = float(known.max())  # type: ignore[arg-type]
    if min_rating is not None:
        marks, rule = values >= min_rating, f"of {min_rating:g} or more"
    elif plain_name(name) in _WEIGHTS:
        marks, rule = values > 0, "above 0"
    else:
        least = _LIKED_FROM * highest
        marks, rule = (values > 0) & (values >= least), f"of {least:g} or more (half of the highest) and above 0"
    keep = marks.fill_null(True).to_numpy()
    left = int((~keep).sum())
    return keep, f'by the column "{name}", events {rule} are likes; {left:,} others were left out'
