"""The seam between a model and whoever decodes: contexts in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from genrail.types import Json

__all__ = ["AnyModel", "Context", "LanguageModel", "State"]

State = TypeVar("State")
Context = TypeVar("Context")
ContextIn = TypeVar("ContextIn", contravariant=True)


@runtime_checkable
class LanguageModel(Protocol[ContextIn, State]):
    """Write identifiers token by token.

    `State` is whatever the model must remember (a key-value cache, an encoder output); it is a value: `step` returns a
    new one and leaves the old one usable or not as the implementation says. Contexts are what the lane's renderer makes
    of queries: token ids of a prompt, or vectors.
    """

    @property
    def vocab_size(self) -> int:
        """Give the width of a row of logits."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identify weights and vocabulary, so that parts which do not belong together are refused."""
        ...

    def prefill(self, contexts: Sequence[ContextIn]) -> tuple[State, npt.NDArray[np.float32]]:
        """Read each context once.

        Returns:
            The state of one row per context, and the logits of the first token, (contexts, V), raw: no warper of a
            generation configuration (top_k, top_p, repetition penalty) is ever applied.
        """
        ...

    def step(
        self, state: State, parents: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]
    ) -> tuple[State, npt.NDArray[np.float32]]:
        """Append one token to each row.

        Args:
            state: From `prefill` or `step`.
            parents: Row of the earlier state that each new row continues, (rows,); rows may repeat, drop out or change
                order, and are grouped by context.
            tokens: Token that each row appends, (rows,).

        Returns:
            The new state and the logits of the next token, (rows, V).
        """
        ...

    def describe(self) -> dict[str, Json]:
        """Give name, parameters and settings, for `inspect` and reports."""
        ...


AnyModel: TypeAlias = LanguageModel[Any, Any]
"""A model where those who hold it cannot know what it reads: the contexts come from whoever made the model."""
