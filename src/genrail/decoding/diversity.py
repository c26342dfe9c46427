"""Diversity: an answer whose items differ from each other, by their identifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from genrail.decoding.answers import Decoded
from genrail.errors import SettingsError

__all__ = ["Likeness", "diversify"]

Likeness = Literal["prefix", "tokens"]

Identifier = tuple[int, ...]


def diversify(
    answers: Sequence[Decoded], k: int = 10, relevance: float = 0.7, likeness: Likeness = "prefix"
) -> list[Decoded]:
    """Choose k items of each answer one after the other: good ones, and unlike those chosen before.

    The next item has the greatest ``relevance * r - (1 - relevance) * s``, where r is its score, brought to 0..1 within
    the answer, and s its greatest likeness to an item already chosen. Only the items of the answers take part, so ask
    the search for several times k.

    Args:
        answers: From a search.
        k: Items to keep of each.
        relevance: 1 leaves the order, 0 looks at likeness alone.
        likeness: `prefix`: the part of the longer identifier that both begin with, right for Semantic IDs, whose first
            codes are the coarse ones. `tokens`: the share of common tokens (Jaccard), right for titles.

    Returns:
        Answers whose `scores` are the values above, falling; `log_probabilities` stay. An answer is no longer called
        exact, unless `relevance` is 1.

    Raises:
        SettingsError: A value outside its range.

    Cost: k comparisons for each item of an answer.

    Source: Carbonell and Goldstein 1998, The Use of MMR, Diversity-Based Reranking for Reordering Documents.
    """
    if k < 1:
        raise SettingsError(f"k is {k}; ask for 1 item or more")
    if not 0 <= relevance <= 1:
        raise SettingsError(f"relevance is {relevance}; give 0 to 1")
    if likeness not in ("prefix", "tokens"):
        raise SettingsError(f"likeness is {likeness!r}; give 'prefix' or 'tokens'")
    like = _shared_prefix if likeness == "prefix" else _shared_tokens
    chosen = []
    for answer in answers:
        order, values = _order(answer, k, relevance, like)
        chosen.append(
            replace(
                answer,
                rows=answer.rows[order],
                log_probabilities=answer.log_probabilities[order],
                tokens=[answer.tokens[place] for place in order],
                scores=values,
                bound=-np.inf if relevance == 1 and answer.bound == -np.inf and len(order) == len(answer) else np.inf,
                exhausted=answer.exhausted and len(answer) < k,
            )
        )
    return chosen


def _order(
    answer: Decoded, k: int, relevance: float, like: Callable[[Identifier, Identifier], float]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Choose greedily; equal values keep the order of the answer."""
    good = _zero_to_one(answer.scores)
    nearest = np.zeros(len(good))
    left = np.ones(len(good), dtype=np.bool_)
    order, values = [], []
    for _ in range(min(k, len(good))):
        value = np.where(left, relevance * good - (1 - relevance) * nearest, -np.inf)
        place = int(value.argmax())
        order.append(place)
        values.append(float(value[place]))
        left[place] = False
        for other in np.flatnonzero(left).tolist():
            nearest[other] = max(nearest[other], like(answer.tokens[place], answer.tokens[other]))
    return np.array(order, dtype=np.int64), np.array(values, dtype=np.float64)


def _shared_prefix(one: Identifier, other: Identifier) -> float:
    same = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        same += 1
    return same / max(len(one), len(other))


def _shared_tokens(one: Identifier, other: Identifier) -> float:
    """Compare as sets; the token that ends both says nothing."""
    left, right = set(one), set(other)
    if one[-1] == other[-1]:
        left, right = left - {one[-1]}, right - {one[-1]}
    return len(left & right) / len(left | right) if left | right else 1.0


def _zero_to_one(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bring the finite scores to 0..1; what is impossible is 0, and a single value is 1."""
    finite = np.isfinite(scores)
    if not finite.any():
        return np.zeros(len(scores))
    low, high = scores[finite].min(), scores[finite].max()
    spread = high - low
    if spread == 0:
        return finite.astype(np.float64)
    return np.where(finite, (np.where(finite, scores, low) - low) / spread, 0.0)
