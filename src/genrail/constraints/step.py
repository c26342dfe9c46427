"""What every step checks and prepares once, whichever index answers it: shapes, types, queries by subset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints import kernels
from genrail.constraints.index import Beams, Candidates, ScoreMeaning, Subset
from genrail.errors import LogitsError, SettingsError, ShapeError, StateError

__all__ = ["NanNotice", "Step", "empty_candidates", "made_candidates", "pick"]


_log = logging.getLogger(__name__)


class Step(NamedTuple):
    """Hold the checked input of one step, as kernels take it.

    Args:
        beams: (states, alive, scores, row of `logits` of each beam); no rows: they are in order.
        logits: float32, contiguous, (any, V).
        renormalised: The denominator is over the beam's children.
    """

    beams: tuple[Array, Array, Array, Array]
    logits: Array
    renormalised: bool

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
        """Check shapes and types."""
        if count < 1:
            raise SettingsError(f"count is {count}; ask for at least one continuation per query")
        if meaning not in ("full_softmax", "renormalised"):
            raise SettingsError(f'meaning is {meaning!r}; it is "full_softmax" or "renormalised"')
        alive = _as_kernels_take_it(beams.alive, _BOOL)
        states = _as_kernels_take_it(beams.states, _INT64)
        path_scores = _as_kernels_take_it(scores, _FLOAT64)
        if states.shape != (*alive.shape, state_size) or beams.depth < 0:
            raise StateError(f"states of shape {states.shape} are not of this index: {(*alive.shape, state_size)}")
        if path_scores.shape != alive.shape:
            raise ShapeError(f"scores have shape {path_scores.shape} but the beams {alive.shape}")
        values = _checked_logits(logits, vocab_size)
        given = _checked_rows(alive, rows, len(values))
        return cls((states, alive, path_scores, given), values, meaning == "renormalised")

    def by_subset(self, subsets: Sequence[Subset | None] | None) -> Sequence[tuple[Subset | None, Array]]:
        """Group the queries that share a subset (the same object), so that each group is one call of the kernel."""
        queries = len(self.beams[1])
        if subsets is None:
            return ((None, _all_of(queries)),)
        if len(subsets) != queries:
            raise ShapeError(f"{len(subsets)} subsets for {queries} queries; give one (or None) per query")
        groups: dict[int, list[int]] = {}
        for query, subset in enumerate(subsets):
            groups.setdefault(id(subset), []).append(query)
        return [(subsets[members[0]], np.array(members, dtype=np.int64)) for members in groups.values()]

    def refuse(self, bad: int) -> NoReturn:
        """Raise for the beam that a kernel refused."""
        states, alive, _, rows = self.beams
        query, beam = divmod(bad, alive.shape[1])
        row = int(rows[query, beam]) if rows.size else bad
        where = f"query {query}, beam {beam}"
        if not 0 <= row < len(self.logits):
            raise LogitsError(f"{where} is alive but its row of logits is {row}; there are {len(self.logits)}")
        infinite = np.flatnonzero(np.isposinf(self.logits[row]))
        if len(infinite):
            raise LogitsError(f"{where}: the logit of token {infinite[0]} is +inf, which cannot be ranked")
        raise StateError(f"{where}: {states[query, beam].tolist()} is not a state of this index at this depth")


def made_candidates(out: tuple[Array, Array, Array, Array, Array, Array], depth: int, nan_logits: int) -> Candidates:
    """Wrap what a kernel filled; the constructor of a frozen dataclass takes a tenth of a small step."""
    candidates: Candidates = object.__new__(Candidates)
    scores, parents, tokens, states, complete, count = out
    candidates.__dict__.update(
        scores=scores,
        parents=parents,
        tokens=tokens,
        states=states,
        complete=complete,
        count=count,
        depth=depth,
        nan_logits=nan_logits,
    )
    return candidates


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


# As objects: numpy finds a type by its class a little later, and a small step is a few microseconds in all.
_BOOL, _INT64, _FLOAT32, _FLOAT64 = (np.dtype(name) for name in ("bool", "int64", "float32", "float64"))


@lru_cache(maxsize=64)
def _all_of(queries: int) -> Array:
    """List all queries of a batch; kernels only read it."""
    return np.arange(queries)


def _as_kernels_take_it(values: Array, dtype: npt.DTypeLike) -> Array:
    """Convert to a contiguous, writable array; a read-only one is another type, for which kernels compile anew."""
    array: Array = np.ascontiguousarray(values, dtype=dtype)
    return array if array.flags.writeable else array.copy()


def _checked_logits(logits: Array, vocab_size: int) -> Array:
    if getattr(logits, "dtype", None) is _FLOAT32:
        values = _as_kernels_take_it(logits, _FLOAT32)
    else:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes +inf, which is refused by name
            values = _as_kernels_take_it(logits, _FLOAT32)
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
    given = _as_kernels_take_it(rows, _INT64)
    if given.shape != alive.shape:
        raise ShapeError(f"rows have shape {given.shape} but the beams {alive.shape}")
    return given


class NanNotice:
    """Log that logits are NaN, once: a model that has them has them in every step.

    An index holds one and hands it on to the indexes that come from it.
    """

    def __init__(self) -> None:
        self.given = False

    def give(self, nans: int) -> None:
        """Log it, unless that was done or there are none."""
        if nans and not self.given:
            self.given = True
            _log.warning("%d logits are NaN; they count as -inf, outside the denominator (said once)", nans)


def pick(candidates: Candidates, picks: npt.NDArray[np.int64]) -> Beams:
    """Make picked candidates the next beams."""
    chosen = np.ascontiguousarray(picks, dtype=np.int64)
    if chosen.ndim != 2 or len(chosen) != len(candidates.count):
        raise ShapeError(f"picks have shape {chosen.shape} but the candidates are of {len(candidates.count)} queries")
    states = np.empty((*chosen.shape, candidates.states.shape[2]), dtype=np.int64)
    alive = np.empty(chosen.shape, dtype=np.bool_)
    bad = kernels.pick_beams(candidates.states, candidates.count, chosen, states, alive)
    if bad >= 0:
        raise StateError(f"query {bad} has {candidates.count[bad]} candidates; its picks are {chosen[bad].tolist()}")
    return Beams(states, alive, candidates.depth)
