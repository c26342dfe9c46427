"""Score given texts for a query with the engine's own model, in the shape that rerank clients know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from genrail.errors import SettingsError
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.finding import Finder

__all__ = ["rerank"]


def rerank(finder: Finder, query: str, documents: Sequence[str]) -> JsonObject:
    """Score each document: the cosine of the text encoder's vectors, brought to 0 ... 1.

    Args:
        finder: Of an engine with a text encoder.
        query: What is wanted.
        documents: The texts.

    Returns:
        `scores`, one for each document, and `tokens`, an estimate of what was read (four characters each).

    Raises:
        SettingsError: The engine has no text encoder.
    """
    if finder.encoder is None:
        raise SettingsError(
            f"{finder.name} has no text encoder to compare texts with; serve an engine that reads texts by one, "
            "such as the default, or search instead"
        )
    vectors = np.asarray(finder.encoder.encode([query, *documents]), dtype=np.float64)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    cosines = (vectors[1:] @ vectors[0]) / (lengths[1:] * lengths[0])
    tokens = sum(map(len, [query, *documents])) // 4
    return {"scores": np.clip((cosines + 1) / 2, 0, 1).tolist(), "tokens": tokens}
