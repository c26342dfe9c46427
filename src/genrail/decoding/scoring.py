"""Teacher-forced scores: how probable a model finds identifiers that are given, with no search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.errors import LogitsError, ShapeError
from genrail.models.language_model import Context, LanguageModel, State
from genrail.models.log_softmax import log_softmax

__all__ = ["SequenceTable", "score_sequences"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


class SequenceTable(Protocol):
    """Hold one token sequence per row, as `IdentifierTable` does."""

    def __len__(self) -> int:
        """Count the rows."""
        ...

    def sequence(self, row: int) -> Array:
        """Give the tokens of one row."""
        ...


def score_sequences(
    model: LanguageModel[Context, State],
    context: Context,
    sequences: SequenceTable | Sequence[Sequence[int]],
    rows_at_once: int = 256,
) -> Float:
    """Give the log-probability of each sequence after the context, under the model's full softmax.

    No constraint takes part and nothing is pruned: this is what every search is checked against, and the way to score a
    small catalogue completely. Sequences that begin alike share the model's work.

    Args:
        model: A `LanguageModel`.
        context: One context, as the model reads them.
        sequences: A table of identifiers, or a list of token sequences; each with a token at least.
        rows_at_once: Sequences scored together; bounds the memory to rows_at_once * V logits.

    Returns:
        float64, one for each sequence: the sum over its tokens.

    Raises:
        ShapeError: A sequence is empty.
        LogitsError: A token is outside the model's vocabulary, or a logit is +inf.

    Cost: one context read for each `rows_at_once` sequences, and one row of the model for each distinct prefix.

    >>> from genrail.models.tiny_lm import UniformModel
    >>> score_sequences(UniformModel(10), [1], [[3], [3, 4]]).round(3).tolist()
    [-2.303, -4.605]
    """
    lookup = sequences.sequence if hasattr(sequences, "sequence") else sequences.__getitem__
    tokens = [tuple(int(token) for token in lookup(row)) for row in range(len(sequences))]
    _check(tokens, model.vocab_size)
    scores = np.zeros(len(tokens))
    order = sorted(range(len(tokens)), key=tokens.__getitem__)  # neighbours share prefixes
    for first in range(0, len(order), rows_at_once):
        chunk = order[first : first + rows_at_once]
        scores[chunk] = _score_sorted(model, context, [tokens[row] for row in chunk])
    return scores


def _check(tokens: list[tuple[int, ...]], vocab_size: int) -> None:
    for row, sequence in enumerate(tokens):
        if not sequence:
            raise ShapeError(f"sequence {row} is empty; a sequence needs a token at least")
        if not 0 <= min(sequence) <= max(sequence) < vocab_size:
            raise LogitsError(f"sequence {row} has a token outside the model's {vocab_size}: {sequence}")


def _score_sorted(model: LanguageModel[Context, State], context: Context, tokens: list[tuple[int, ...]]) -> Float:
    """Score sorted sequences level by level; one row of the model for each distinct prefix."""
    scores = np.zeros(len(tokens))
    state, logits = model.prefill([context])
    at = np.zeros(len(tokens), dtype=np.int64)  # row of the model in which each sequence stands
    for depth in range(max(map(len, tokens))):
        longer = np.array([row for row, sequence in enumerate(tokens) if len(sequence) > depth])
        following = np.array([tokens[row][depth] for row in longer])
        scores[longer] += log_softmax(logits)[at[longer], following]
        goes_on = np.array([len(tokens[row]) > depth + 1 for row in longer])
        if not goes_on.any():
            break
        longer, following = longer[goes_on], following[goes_on]
        pairs, place = np.unique(np.stack([at[longer], following], axis=1), axis=0, return_inverse=True)
        state, logits = model.step(state, pairs[:, 0], pairs[:, 1])
        at[longer] = place.reshape(-1)
    return scores
