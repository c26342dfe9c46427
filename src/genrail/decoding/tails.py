"""Forced tails: where one identifier is left, its remaining tokens are known and need one model call together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.index import Candidates
from genrail.models.language_model import State

__all__ = ["Tail", "TailIndex", "TailModel", "empty_candidates", "merge_tails"]

Int = npt.NDArray[np.int64]


@runtime_checkable
class TailIndex(Protocol):
    """Know where only one identifier is left. A `ConstraintIndex` may offer this."""

    def tails(self, states: Int) -> list[Int]:
        """Give, for each state of shape (n, state_size), the tokens to the end if there is one way only, else nothing.

        Equal identifiers share one way. Subsets do not matter: the way is the only one of the whole index.
        """
        ...


@runtime_checkable
class TailModel(Protocol[State]):
    """Read several known tokens at once. A `LanguageModel` may offer this."""

    def step_tails(
        self, state: State, parents: Int, tokens: Int, tails: Sequence[Int]
    ) -> tuple[State, npt.NDArray[np.float32], list[npt.NDArray[np.float64]]]:
        """Append one token to each row, and score the tail behind it where there is one.

        Args:
            state: From `prefill`, `step` or `step_tails`.
            parents: Row of the earlier state that each new row continues, (rows,).
            tokens: Token that each row appends, (rows,).
            tails: For each row the tokens that must follow, or an empty array for an open row.

        Returns:
            The state and the logits (open rows, V) of the open rows alone, in their order; and for each row the
            log-probabilities (full softmax) of its tail's tokens, empty for open rows.
        """
        ...


@dataclass(frozen=True)
class Tail:
    """Hold the known end of one beam.

    Args:
        tokens: From depth `start` on, to the end of the identifier.
        log_probabilities: Of each of these tokens.
        start: Tokens written before the first of them.
    """

    tokens: Int
    log_probabilities: npt.NDArray[np.float64]
    start: int


def empty_candidates(queries: int, count: int, state_size: int, depth: int) -> Candidates:
    """Make candidates of which none is real."""
    return Candidates(
        np.full((queries, count), -np.inf),
        np.full((queries, count), -1, dtype=np.int64),
        np.full((queries, count), -1, dtype=np.int64),
        np.zeros((queries, count, state_size), dtype=np.int64),
        np.zeros((queries, count), dtype=np.bool_),
        np.zeros(queries, dtype=np.int64),
        depth,
    )


def merge_tails(
    found: Candidates, tails: Sequence[Sequence[Tail | None]], states: Int, scores: npt.NDArray[np.float64]
) -> Candidates:
    """Put the next token of each forced beam among the candidates, in the order that all candidates follow.

    Args:
        found: Candidates of the open beams, (queries, count).
        tails: Tail of each beam, or None for open and dead beams, (queries, width).
        states: Beam states, (queries, width, state_size). A forced beam keeps the state at which it became forced;
            the same items lie below it to the end.
        scores: Log-probability of each beam so far, (queries, width).

    Returns:
        At most `count` candidates for each query: what the search would have found without knowing the tails.
    """
    queries, count = found.scores.shape
    width = states.shape[1]
    forced = empty_candidates(queries, width, states.shape[2], found.depth)
    for query, row in enumerate(tails):
        for beam, tail in enumerate(row):
            if tail is None:
                continue
            place = int(forced.count[query])
            at = found.depth - 1 - tail.start
            forced.scores[query, place] = scores[query, beam] + tail.log_probabilities[at]
            forced.parents[query, place] = beam
            forced.tokens[query, place] = tail.tokens[at]
            forced.states[query, place] = states[query, beam]
            forced.complete[query, place] = at == len(tail.tokens) - 1
            forced.count[query] += 1
    padding = np.concatenate(
        [np.arange(count) >= found.count[:, None], np.arange(width) >= forced.count[:, None]], axis=1
    )

    def together(name: str) -> Array:
        return np.concatenate([getattr(found, name), getattr(forced, name)], axis=1)

    keys = (together("tokens"), together("parents"), -together("scores"), padding)  # the last key sorts first
    order = np.lexsort(keys, axis=-1)[:, :count]
    return Candidates(
        scores=np.take_along_axis(together("scores"), order, axis=1),
        parents=np.take_along_axis(together("parents"), order, axis=1),
        tokens=np.take_along_axis(together("tokens"), order, axis=1),
        states=np.take_along_axis(together("states"), order[:, :, None], axis=1),
        complete=np.take_along_axis(together("complete"), order, axis=1),
        count=np.minimum(found.count + forced.count, count),
        depth=found.depth,
    )
