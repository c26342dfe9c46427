"""Score items that have several identifiers by all of them together."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from genrail.constraints.index import RowSequences
from genrail.decoding.answers import Decoded
from genrail.decoding.scoring import score_sequences
from genrail.models.language_model import Context, LanguageModel, State

__all__ = ["Combine", "sum_sequences"]

Combine = Literal["best", "sum"]
"""How several identifiers of an item make one score: that of the most probable one, or their probabilities together."""


def sum_sequences(
    model: LanguageModel[Context, State], context: Context, answer: Decoded, index: RowSequences, k: int
) -> Decoded:
    """Score the items of an answer by all of their identifiers, log(sum of probabilities), and keep the k best.

    Only the items of the answer take part, so ask the search for more than k.

    Args:
        model: The model that was searched with.
        context: Of the query.
        answer: From a search, which scored each item by its best identifier.
        index: Knows the identifiers.
        k: Items to keep.

    Returns:
        The answer in its new order; `tokens` are those of each item's best identifier. It is not called exact.

    Cost: all identifiers of the answer's items are scored.

    Source: Few-Shot GR (Askari et al. 2024) for several identifiers; the sum is that of SEAL's document scores in
        spirit (Bevilacqua et al. 2022).

    >>> from genrail.constraints import Trie
    >>> from genrail.decoding import beam_search
    >>> from genrail.models.tiny_lm import UniformModel
    >>> trie = Trie.from_sequences([[1, 2], [1, 3], [0, 3]], vocab_size=4, owners=[0, 1, 1])
    >>> [found] = beam_search(UniformModel(4), [[0]], trie, k=2)
    >>> summed = sum_sequences(UniformModel(4), [0], found, trie, k=2)
    >>> summed.rows.tolist(), np.exp(summed.scores).round(4).tolist()
    ([1, 0], [0.125, 0.0625])
    """
    if not len(answer):
        return answer
    lists = [[tuple(one.tolist()) for one in index.sequences(row)] for row in answer.rows.tolist()]
    flat = score_sequences(model, context, [one for row in lists for one in row])
    parts = np.split(flat, np.cumsum([len(row) for row in lists])[:-1])
    scores: npt.NDArray[np.float64] = np.array([np.logaddexp.reduce(part) for part in parts])
    best = [row[int(part.argmax())] for row, part in zip(lists, parts, strict=True)]
    order = np.argsort(-scores, kind="stable")[:k]
    return replace(
        answer,
        rows=answer.rows[order],
        log_probabilities=scores[order],
        tokens=[best[place] for place in order],
        scores=scores[order],
        bound=np.inf,
        exhausted=answer.exhausted and len(answer) < k,
    )
