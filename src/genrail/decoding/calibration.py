"""Calibrated scores: how much a request raises an item's probability over what it has anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from genrail.decoding.answers import Decoded
from genrail.decoding.scoring import score_sequences
from genrail.errors import SettingsError
from genrail.models.language_model import Context, LanguageModel, State

__all__ = ["calibrate"]


def calibrate(
    model: LanguageModel[Context, State],
    answers: Sequence[Decoded],
    empty_context: Context,
    k: int = 10,
    weight: float = 1.0,
) -> list[Decoded]:
    """Re-rank answers by log p(identifier | request) - weight * log p(identifier | empty request).

    A language model finds short and well-known titles probable whatever was asked. The difference removes that: with
    weight 1 it is the pointwise mutual information of request and title. Only the items of the answers take part, so
    ask the search for several times k.

    Args:
        model: The model that made the answers.
        answers: From `beam_search` or `exact_search`.
        empty_context: What the model reads when nothing is asked, such as ``Prompts.empty()``.
        k: Items to keep of each answer.
        weight: 0 leaves the order, 1 is the full correction.

    Returns:
        Answers with calibrated `scores`, best first; equal scores keep their order. `log_probabilities` stay those
        under the request. Their bound is infinite unless the search had seen every allowed item.

    Raises:
        SettingsError: k below 1, or weight outside 0 to 1.

    Cost: one row of the model for each distinct prefix among the identifiers of all answers.

    Source: Zhao et al. 2021, Calibrate Before Use; Holtzman et al. 2021, Surface Form Competition (there: domain
    conditional PMI).
    """
    if k < 1:
        raise SettingsError(f"k is {k}; ask for 1 item or more")
    if not 0 <= weight <= 1:
        raise SettingsError(f"weight is {weight}; give 0 to 1")
    distinct = list(dict.fromkeys(tokens for answer in answers for tokens in answer.tokens))
    anyway = dict(zip(distinct, score_sequences(model, empty_context, distinct).tolist(), strict=True))
    return [_reranked(answer, anyway, k, weight) for answer in answers]


def _reranked(answer: Decoded, anyway: dict[tuple[int, ...], float], k: int, weight: float) -> Decoded:
    prior = np.array([anyway[tokens] for tokens in answer.tokens], dtype=np.float64)
    impossible = np.isneginf(answer.log_probabilities)  # what the request forbids stays last
    with np.errstate(invalid="ignore"):
        scores = np.where(impossible, -np.inf, answer.log_probabilities - weight * prior if weight else 0.0)
    if not weight:
        scores = answer.log_probabilities
    order = np.argsort(-scores, kind="stable")[:k]
    return replace(
        answer,
        rows=answer.rows[order],
        log_probabilities=answer.log_probabilities[order],
        tokens=[answer.tokens[place] for place in order],
        scores=scores[order],
        bound=-np.inf if answer.bound == -np.inf and len(order) == len(answer) else np.inf,
        exhausted=answer.exhausted and len(answer) < k,
    )
