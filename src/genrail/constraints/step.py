"""What every step checks and prepares once, whichever index answers it: shapes, denominators, queries by subset."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from genrail.constraints.index import Beams, ScoreMeaning, Subset
from genrail.constraints.softmax import beam_sums
from genrail.errors import LogitsError, SettingsError, ShapeError, StateError

__all__ = ["Step", "empty_candidates"]

Array = npt.NDArray[Any]

_log = logging.getLogger(__name__)
_warned = False  # a model with NaN logits has them in every step: say it once per process


@dataclass(frozen=True)
class Step:
    """Hold the checked input of one step.

    Args:
        beams: (states, alive, scores, row of `logits` of each beam), as kernels take them.
        logits: float32, contiguous, (any, V).
        sums: Log-sum-exp of the rows in use, float64, (any,).
        renormalised: The denominator is over the beam's children.
        nan_logits: How many NaN were met.
    """

    beams: tuple[Array, Array, Array, Array]
    logits: Array
    sums: Array
    renormalised: bool
    nan_logits: int

    @classmethod
    def prepare(
        cls,
        vocab_size: int,
        state_size: int,
        beams: Beams,
        logits: Array,
        scores: Array,
        count: int,
        meaning: ScoreMeaning,
        rows: Array | None,
    ) -> Step:
        """Check shapes, find each beam's row of logits, and compute the denominators of live beams."""
        if count < 1:
            raise SettingsError(f"count is {count}; ask for at least one continuation per query")
        if meaning not in ("full_softmax", "renormalised"):
            raise SettingsError(f'meaning is {meaning!r}; it is "full_softmax" or "renormalised"')
        alive = np.ascontiguousarray(beams.alive, dtype=np.bool_)
        states = np.ascontiguousarray(beams.states, dtype=np.int64)
        path_scores = np.ascontiguousarray(scores, dtype=np.float64)
        if states.shape != (*alive.shape, state_size) or beams.depth < 0:
            raise StateError(f"states of shape {states.shape} are not of this index: {(*alive.shape, state_size)}")
        if path_scores.shape != alive.shape:
            raise ShapeError(f"scores have shape {path_scores.shape} but the beams {alive.shape}")
        values = _checked_logits(logits, vocab_size)
        used, sums = np.empty(alive.shape, dtype=np.int64), np.empty(len(values))
        given = _checked_rows(alive, rows, len(values))
        nans, bad = beam_sums(values, alive, given, meaning == "full_softmax", used, sums)
        if bad >= 0:
            _refuse(divmod(int(bad), alive.shape[1]), values, used)
        _tell_about_nan(nans)
        return cls((states, alive, path_scores, used), values, sums, meaning == "renormalised", int(nans))

    def by_subset(self, subsets: Sequence[Subset | None] | None) -> Iterator[tuple[Subset | None, Array]]:
        """Group the queries that share a subset (the same object), so that each group is one call of the kernel."""
        queries = len(self.beams[1])
        if subsets is None:
            yield None, np.arange(queries)
            return
        if len(subsets) != queries:
            raise ShapeError(f"{len(subsets)} subsets for {queries} queries; give one (or None) per query")
        groups: dict[int, list[int]] = {}
        for query, subset in enumerate(subsets):
            groups.setdefault(id(subset), []).append(query)
        for members in groups.values():
            yield subsets[members[0]], np.array(members, dtype=np.int64)

    def check_state(self, bad: int) -> None:
        """Raise for the beam that a kernel refused; -1 means none."""
        if bad >= 0:
            query, beam = divmod(int(bad), self.beams[1].shape[1])
            state = self.beams[0][query, beam].tolist()
            raise StateError(f"query {query}, beam {beam}: {state} is not a state of this index at this depth")


def empty_candidates(beams: Beams, count: int, state_size: int) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Allocate (scores, parents, tokens, states, complete, count) for a kernel to fill."""
    queries = len(beams.alive)
    shape = (queries, count)
    return (
        np.empty(shape),
        np.empty(shape, np.int64),
        np.empty(shape, np.int64),
        np.empty((*shape, state_size), np.int64),
        np.empty(shape, np.bool_),
        np.empty(queries, np.int64),
    )


def _checked_logits(logits: Array, vocab_size: int) -> Array:
    values = logits
    if not (isinstance(logits, np.ndarray) and logits.dtype == np.float32 and logits.flags.c_contiguous):
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes +inf, which is refused by name
            values = np.ascontiguousarray(logits, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] < vocab_size:
        raise LogitsError(f"logits have shape {values.shape}; the index needs (rows, {vocab_size} or more)")
    return values


_IN_ORDER: Array = np.zeros((0, 0), dtype=np.int64)


def _checked_rows(alive: Array, rows: Array | None, available: int) -> Array:
    """Check the shape of `rows`, or that there is one row of logits per beam."""
    if rows is None:
        if available != alive.size:
            raise LogitsError(
                f"{available} rows of logits for {alive.size} beams; pass `rows` to say which belongs where"
            )
        return _IN_ORDER
    given = np.ascontiguousarray(rows, dtype=np.int64)
    if given.shape != alive.shape:
        raise ShapeError(f"rows have shape {given.shape} but the beams {alive.shape}")
    return given


def _refuse(place: tuple[int, int], logits: Array, used: Array) -> NoReturn:
    row = int(used[place])
    where = f"query {place[0]}, beam {place[1]}"
    if not 0 <= row < len(logits):
        raise LogitsError(f"{where} is alive but its row of logits is {row}; there are {len(logits)}")
    token = int(np.flatnonzero(np.isposinf(logits[row]))[0])
    raise LogitsError(f"{where}: the logit of token {token} is +inf, which cannot be ranked")


def _tell_about_nan(nans: int) -> None:
    global _warned
    if nans and not _warned:
        _warned = True
        _log.warning("%d logits are NaN; they count as -inf, outside the denominator (said once)", nans)
