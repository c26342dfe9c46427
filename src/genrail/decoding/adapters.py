"""Rails for other people's loops: what `generate` of Hugging Face transformers can be given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.constraints.index import Beams, ConstraintIndex, Subset
from genrail.errors import SettingsError, StateError

if TYPE_CHECKING:
    import torch

__all__ = ["AllowedTokens", "RailsLogitsProcessor", "prefix_allowed_tokens"]

Int = npt.NDArray[np.int64]


class AllowedTokens:
    """Say which tokens may follow a prefix. Walks from the root each time, remembering the prefixes it has seen.

    Args:
        index: A `ConstraintIndex` that also offers ``children(state, subset)``.
        end_token: Allowed behind a complete identifier, so that foreign loops, which write on, stay on the rails.
        subset: The items allowed to this request.
        remember: Prefixes kept in memory; the oldest leave.

    Cost: one step of the index for each new token; exact, but far slower than `beam_search`.

    >>> from genrail.constraints import Trie
    >>> allowed = AllowedTokens(Trie.from_sequences([[1, 2], [1, 3]], vocab_size=4), end_token=0)
    >>> allowed([]).tolist(), allowed([1]).tolist(), allowed([1, 3]).tolist()
    ([1], [2, 3], [0])
    """

    def __init__(
        self, index: ConstraintIndex, end_token: int, subset: Subset | None = None, remember: int = 100_000
    ) -> None:
        self._index = index
        self._end_token = end_token
        self._subset = subset
        self._remember = remember
        start = index.start(1)
        self._root: Beams | None = start if start.alive.all() else None
        self._states: dict[tuple[int, ...], Beams | None] = {}

    def __call__(self, written: Sequence[int]) -> Int:
        """List the allowed tokens in order, never none.

        Raises:
            StateError: The tokens written so far are not inside the index: somebody left the rails.
        """
        prefix = tuple(int(token) for token in written)
        inside = prefix
        while self._beams(inside) is None:
            if not inside:
                raise StateError("the index allows no identifier at all; check for that before the loop")
            inside = inside[:-1]
        beams = self._beams(inside)
        assert beams is not None
        children, _ = self._index.children(beams.states[0, 0], self._subset)
        if len(children) == 0:
            return np.array([self._end_token])  # complete; whatever follows is padding
        if inside != prefix:
            raise StateError(f"the tokens {list(written)} do not begin any allowed identifier")
        return np.asarray(children)

    def or_end(self, written: Sequence[int]) -> list[int]:
        """List the allowed tokens, or the end token alone behind a prefix that is off the rails.

        The beam search of ``generate`` fills its beams with forbidden tokens (score -inf) where it finds too few; those
        beams stay at -inf and end at once.
        """
        try:
            tokens: list[int] = self(written).tolist()
        except StateError:
            return [self._end_token]
        return tokens

    def _beams(self, prefix: tuple[int, ...]) -> Beams | None:
        """Find the state of a prefix; None outside the index."""
        if not prefix:
            return self._root
        if prefix not in self._states:
            before = self._beams(prefix[:-1])
            if len(self._states) >= self._remember:
                self._states.pop(next(iter(self._states)))
            self._states[prefix] = self._child(before, prefix[-1]) if before is not None else None
        return self._states[prefix]

    def _child(self, beams: Beams, token: int) -> Beams | None:
        children, _ = self._index.children(beams.states[0, 0], self._subset)
        if token not in children:
            return None
        logits = np.full((1, self._index.vocab_size), -np.inf, dtype=np.float32)
        logits[0, token] = 0.0
        subsets = [self._subset] if self._subset is not None else None
        found = self._index.candidates(beams, logits, np.zeros((1, 1)), 1, subsets)
        after: Beams = self._index.advance(found, np.zeros((1, 1), dtype=np.int64))
        return after


def prefix_allowed_tokens(
    index: ConstraintIndex, prompt_length: int, end_token: int, subset: Subset | None = None
) -> Callable[[int, torch.Tensor], list[int]]:
    """Make a ``prefix_allowed_tokens_fn`` for ``generate``.

    Args:
        index: The identifiers that may be written.
        prompt_length: Tokens before the answer, counted where the prompt is made: of a causal model the prompt (with
            its padding), of an encoder-decoder its start tokens.
        end_token: Of the model.
        subset: The items allowed.

    Source: the way of GENRE (De Cao et al. 2021).
    """
    allowed = AllowedTokens(index, end_token, subset)

    def following(_: int, ids: torch.Tensor) -> list[int]:
        return allowed.or_end(ids[prompt_length:].tolist())

    return following


class RailsLogitsProcessor:
    """Keep ``generate`` on the rails as a ``LogitsProcessor``; also for sampling.

    Args:
        index: The identifiers that may be written.
        prompt_length: See `prefix_allowed_tokens`.
        end_token: Of the model.
        subsets: Items allowed to each query of the batch, or None for all.
        rows_per_query: Beams (or samples) that ``generate`` keeps of each query.

    Raises:
        SettingsError: rows_per_query below 1.
    """

    supports_continuous_batching = False

    def __init__(
        self,
        index: ConstraintIndex,
        prompt_length: int,
        end_token: int,
        subsets: Sequence[Subset | None] | None = None,
        rows_per_query: int = 1,
    ) -> None:
        if rows_per_query < 1:
            raise SettingsError(f"rows_per_query is {rows_per_query}; give 1 or more")
        self._prompt_length = prompt_length
        self._rows_per_query = rows_per_query
        self._allowed = [AllowedTokens(index, end_token, subset) for subset in subsets or [None]]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Set the scores of all other tokens to -inf."""
        masked = scores.new_full(scores.shape, -float("inf"))
        for row, ids in enumerate(input_ids[:, self._prompt_length :].tolist()):
            query = min(row // self._rows_per_query, len(self._allowed) - 1)
            tokens = self._allowed[query].or_end(ids)
            masked[row, tokens] = scores[row, tokens]
        return masked
