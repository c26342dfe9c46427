"""Beam search that calls the model as often as identifiers branch, and asks its output layer for allowed tokens only.

The answer is that of `beam_search`, step by step: what must follow has probability 1 on the rails and decides nothing,
so the model reads a whole run of such tokens together with the branching behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from genrail.constraints.compressed import ROOT, CompressedTrie
from genrail.constraints.step import NanNotice
from genrail.decoding.answers import Decoded, Pool
from genrail.decoding.rails_trace import RailsRecorder
from genrail.decoding.settings import BeamSettings
from genrail.decoding.trace import DecodeTrace, TracedBeam
from genrail.errors import LogitsError

__all__ = ["Prior", "AnyRunModel", "RunModel", "branch_log_probabilities", "rails_search", "reads_runs"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

# Forced tokens that all beams together read at once, and each at least, where each costs a sum over the vocabulary: a
# beam may still be lost.
READ_TOGETHER, READ_AHEAD = 40, 4


ContextIn = TypeVar("ContextIn", contravariant=True)
Runs = TypeVar("Runs")
Hidden = TypeVar("Hidden")


@runtime_checkable
class RunModel(Protocol[ContextIn, Runs, Hidden]):
    """Read several tokens at once, and give single logits. A `LanguageModel` may offer this.

    Hidden states are opaque, one for each token read; they are asked for single logits, or for the log-sum-exp of all.
    """

    @property
    def reads_runs(self) -> bool:
        """Tell whether the other methods may be called."""
        ...

    def open_runs(self, contexts: Sequence[ContextIn]) -> tuple[Runs, Hidden]:
        """Read each context; give the state and the hidden state behind each, (contexts,)."""
        ...

    def read_runs(self, state: Runs, parents: Int, runs: Sequence[Int]) -> tuple[Runs, Hidden]:
        """Append a run of tokens, perhaps none, to each row; give the state, and the hidden states of all tokens."""
        ...

    def logits_of(self, hidden: Hidden, rows: Int, tokens: Int) -> npt.NDArray[np.float32]:
        """Give the logit of each token behind the hidden state of its row, both (pairs,)."""
        ...

    def log_sums(self, hidden: Hidden, rows: Int) -> Float:
        """Give the log-sum-exp over the whole vocabulary behind some hidden states."""
        ...

    def join(self, states: Sequence[Runs]) -> tuple[Runs, list[int]]:
        """Put the rows of several states of one `open_runs` into one; give it, and where each of them begins."""
        ...


AnyRunModel: TypeAlias = RunModel[Any, Any, Any]
"""A model into whose states those who search do not look."""


def reads_runs(model: object) -> bool:
    """Tell whether a model is a `RunModel`."""
    return bool(getattr(model, "reads_runs", False))


@dataclass(frozen=True)
class Prior:
    """Hold how probable each edge is whatever was asked, to be taken off while searching.

    Args:
        trie: Whose edges these are.
        log_probabilities: Of each edge's token under an empty request, on the rails, (edges,).
        weight: How much of it is taken off.
    """

    trie: CompressedTrie
    log_probabilities: Float
    weight: float = 1.0
    gains: Float = field(init=False, repr=False)  # most that may still be won below each edge
    identifiers: Float = field(init=False, repr=False)  # log-probability of each identifier

    def __post_init__(self) -> None:
        totals = self.trie.spread(self.log_probabilities)
        object.__setattr__(self, "identifiers", totals)
        object.__setattr__(self, "gains", np.zeros(0))
        if not len(self.log_probabilities):
            return
        parent, node = self.trie.edge_parent, self.trie.edge_node
        upto = self.log_probabilities.copy()
        for edges in _levels(self.trie):
            upto[edges] += _arriving(self.trie, upto)[parent[edges]] if parent[edges[0]] != ROOT else 0.0
        ends = np.where(node >= 0, self.trie.edge_high, self.trie.edge_low + 1)
        least = np.minimum.reduceat(np.append(totals, np.inf), np.stack([self.trie.edge_low, ends], 1).ravel())[::2]
        with np.errstate(invalid="ignore"):
            gain = np.where(upto > -np.inf, self.weight * (upto - least), np.inf)
        object.__setattr__(self, "gains", np.nan_to_num(gain, nan=np.inf, posinf=np.inf))


def _levels(trie: CompressedTrie) -> list[Int]:
    """List the edges in an order in which each comes after the one above it: nodes are numbered level by level."""
    levels, nodes = [], np.array([ROOT])
    while len(nodes):
        edges = np.concatenate([np.arange(trie.first_edge[node], trie.first_edge[node + 1]) for node in nodes])
        levels.append(edges)
        nodes = trie.edge_node[edges]
        nodes = nodes[nodes >= 0]
    return levels


def _arriving(trie: CompressedTrie, values: Float) -> Float:
    """Give each node the value of the edge that ends at it, (nodes,)."""
    found = np.zeros(len(trie.depth))
    inner = trie.edge_node >= 0
    found[trie.edge_node[inner]] = values[inner]
    return found


def branch_log_probabilities(
    logits: npt.NDArray[np.float32], starts: Int, sums: Float | None = None, notice: NanNotice | None = None
) -> Float:
    """Turn the logits of children into log-probabilities, by the rules of the index.

    Args:
        logits: Of the children of several nodes, one node after the other, (children,). NaN counts as -inf.
        starts: Where each node's children begin, (nodes,); every node has some.
        sums: Log-sum-exp over the whole vocabulary, (nodes,); default: over the children.
        notice: Logs NaN, once.

    Raises:
        LogitsError: A logit is +inf.
    """
    values = logits.astype(np.float64)
    broken = np.isnan(values)
    if broken.any():
        (notice or NanNotice()).give(int(broken.sum()))
        values[broken] = -np.inf
    if np.isposinf(values).any():
        raise LogitsError("the logit of an allowed token is +inf; the model's weights or precision are broken")
    counts = np.diff(np.append(starts, len(values)))
    if sums is None:
        top = np.maximum.reduceat(values, starts)
        safe = np.where(top > -np.inf, top, 0.0)
        with np.errstate(divide="ignore"):
            sums = safe + np.log(np.add.reduceat(np.exp(values - np.repeat(safe, counts)), starts))
    total = np.repeat(sums, counts)
    with np.errstate(invalid="ignore"):
        return np.where(total > -np.inf, values - total, -np.inf)


@dataclass(eq=False, slots=True)
class _Beam:
    """Follow one edge of the trie.

    `read` tokens of the identifier are behind the model's row (`state`, `row`); `steps` are the log-probabilities of
    the edge's forced tokens as far as known, `children` those of the node's edges once it was read.
    """

    score: float
    log_probability: float
    edge: int
    start: int  # tokens before the first forced one of this edge
    end: int
    node: int
    state: object
    row: int
    read: int
    gain: float
    steps: list[float]
    children: Float | None = None


class _Query:
    """Search for one query."""

    def __init__(self, trie: CompressedTrie, settings: BeamSettings, k: int, allowed: Int | None, longest: int) -> None:
        self.trie, self.settings, self.width = trie, settings, settings.width
        self.pool, self.bound = Pool(k), -np.inf
        self.full = settings.meaning == "full_softmax"
        self.allowed, self.longest = allowed, longest
        self.rows: npt.NDArray[np.bool_] | None = None
        self.prior: Prior | None = None
        self.recorder: RailsRecorder | None = None
        self.depth = 0
        self.beams: list[_Beam] = []

    def begin(self, state: object, row: int) -> None:
        """Place the one beam at the beginning."""
        end, node = len(self.trie.beginning), ROOT if len(self.trie.depth) else -1
        self.beams = [_Beam(0.0, 0.0, -1, 0, end, node, state, row, 0, 0.0, [])]

    def run_of(self, beam: _Beam) -> Int:
        """Give the tokens that the model should read next for a beam."""
        most = beam.end if beam.node >= 0 else beam.end - 1
        if self.full:
            ahead = max(READ_AHEAD, READ_TOGETHER // max(1, len(self.beams)))
            most = min(most, max(beam.read, self.depth) + ahead)
        begin = self.trie.offsets[self.trie.edge_low[beam.edge]] if beam.edge >= 0 else 0
        return self.trie.tokens[begin + beam.read : begin + max(most, beam.read)]

    def token_at(self, beam: _Beam, place: int) -> int:
        """Give one token of a beam's edge."""
        begin = self.trie.offsets[self.trie.edge_low[beam.edge]] if beam.edge >= 0 else 0
        return int(self.trie.tokens[begin + place])

    def waits(self, beam: _Beam) -> bool:
        """Tell whether a beam cannot go on before the model has read more."""
        if self.depth == beam.end:
            return beam.node >= 0 and beam.children is None
        return self.full and self.depth - beam.start >= len(beam.steps)

    def wants(self, beam: _Beam) -> bool:
        """Tell whether the model may as well read for a beam, now that it reads for others."""
        if beam.node >= 0 and beam.children is None:
            return True
        return self.full and beam.start + len(beam.steps) < beam.end

    def advance(self) -> list[_Beam]:
        """Go on until the model is needed; give the beams it should read for, none when the search is over."""
        while self.beams:
            if not self.full and self.recorder is None:  # nothing happens before some beam branches or ends
                self.depth = max(self.depth, min(beam.end - (beam.node < 0) for beam in self.beams))
            if any(self.waits(beam) for beam in self.beams):
                return [beam for beam in self.beams if self.wants(beam)]
            self._step()
        return []

    def _step(self) -> None:
        """Do one step of the beam search: all beams become one token longer."""
        scores, parents, edges = self._candidates()
        traced = self._traced(scores, parents, edges) if self.recorder is not None else []
        count = 2 * self.width
        order = np.argsort(-scores, kind="stable")[:count]
        found = [self._grown(self.beams[parents[place]], int(edges[place]), float(scores[place])) for place in order]
        self.depth += 1
        complete = [beam.node < 0 and beam.end == self.depth for beam in found]
        self._finish(found, complete)
        kept = [beam for beam, done in zip(found, complete, strict=True) if not done]
        self._keep(kept)
        if len(found) == count:  # more candidates may exist, none better than the last
            self._drop(found[-1:])
        if self.recorder is not None:
            self.recorder.step(traced, [self.recorder.prefix(beam.edge, self.depth) for beam in self.beams])

    def _traced(self, scores: Float, parents: Int, edges: Int) -> list[TracedBeam]:
        """Tell what each beam may become."""
        assert self.recorder is not None
        told = []
        for place, beam in enumerate(self.beams):
            own = np.flatnonzero(parents == place)
            here, after = edges[own], scores[own]
            if beam.end > self.depth:
                step = float(after[0]) - beam.score
                told.append(self.recorder.forced(beam.edge, self.depth, beam.log_probability, beam.score, step))
                continue
            assert beam.children is not None
            values = beam.children[here - self.trie.first_edge[beam.node]]
            told.append(self.recorder.branching(beam.edge, self.depth, beam.log_probability, here, values, after))
        return told

    def _candidates(self) -> tuple[Float, Int, Int]:
        """List all continuations in the order of beams and tokens: scores, beams, edges (-1: the beam goes on)."""
        scores: list[Float | list[float]] = []
        parents: list[Int | list[int]] = []
        edges: list[Int | list[int]] = []
        trie = self.trie
        for place, beam in enumerate(self.beams):
            if beam.end > self.depth:
                step = beam.steps[self.depth - beam.start] if self.full else 0.0
                scores.append([beam.score + step])
                parents.append([place])
                edges.append([-1])
                continue
            assert beam.children is not None
            here = np.arange(trie.first_edge[beam.node], trie.first_edge[beam.node + 1])
            added = beam.children
            if self.prior is not None:
                with np.errstate(invalid="ignore"):
                    added = added - self.prior.weight * self.prior.log_probabilities[here]
                added = np.where(beam.children > -np.inf, added, -np.inf)
            if self.allowed is not None:
                left = self.allowed[trie.edge_high[here]] > self.allowed[trie.edge_low[here]]
                here, added = here[left], added[left]
            scores.append(beam.score + added)
            parents.append(np.full(len(here), place))
            edges.append(here)
        return np.concatenate(scores), np.concatenate(parents), np.concatenate(edges)

    def _grown(self, beam: _Beam, edge: int, score: float) -> _Beam:
        """Give a candidate as a beam."""
        if edge < 0:
            if self.full:
                beam.score = beam.log_probability = score
            return beam
        assert beam.children is not None
        trie, depth = self.trie, beam.end
        added = float(beam.children[edge - trie.first_edge[beam.node]])
        gain = 0.0 if self.prior is None else float(self.prior.gains[edge])
        return _Beam(
            score,
            beam.log_probability + added,
            edge,
            depth + 1,
            int(trie.edge_end[edge]),
            int(trie.edge_node[edge]),
            beam.state,
            beam.row,
            depth,
            gain,
            [],
        )

    def _finish(self, found: list[_Beam], complete: list[bool]) -> None:
        """Move complete candidates to the pool, best first."""
        for place, (beam, done) in enumerate(zip(found, complete, strict=True)):
            if not done:
                continue
            if self.settings.finish == "width" and place >= self.width:
                self._drop([beam])
                continue
            score = beam.score / self.depth**self.settings.length_normalisation
            if not self.pool.admits(score):
                return
            identifier = int(self.trie.edge_low[beam.edge]) if beam.edge >= 0 else 0
            rows = self.trie.rows_of(identifier)
            if self.rows is not None:
                rows = rows[self.rows[rows]]
            tokens = tuple(self.trie.sequence(identifier).tolist())
            self.pool.add(score, beam.log_probability, tokens, rows)

    def _keep(self, open_beams: list[_Beam]) -> None:
        """Make the best open candidates the next beams: those that may still enter the best k."""
        threshold = self.pool.threshold
        worthy = [threshold is None or self._best_possible(beam) > threshold for beam in open_beams[: self.width]]
        if self.recorder is not None and any(worthy):
            worthy = [True] * len(worthy)  # people follow beams to the end of the search
        self.beams = [beam for beam, kept in zip(open_beams, worthy, strict=False) if kept]
        self._drop([beam for beam, kept in zip(open_beams, worthy, strict=False) if not kept])
        self._drop(open_beams[self.width :])

    def _best_possible(self, beam: _Beam) -> float:
        """Bound the score that a beam can end with: log-probabilities only fall, but for what calibration may add."""
        best, power = beam.score + beam.gain, self.settings.length_normalisation
        return best / self.longest**power if power and best < 0 else best

    def _drop(self, beams: list[_Beam]) -> None:
        self.bound = max([self.bound, *(self._best_possible(beam) for beam in beams)])


def rails_search(
    model: AnyRunModel,
    contexts: Sequence[object],
    trie: CompressedTrie,
    settings: BeamSettings,
    subsets: Sequence[Int | None] | None = None,
    k: int = 10,
    prior: Prior | None = None,
    before_step: Callable[[], None] | None = None,
    several: bool = False,
    traces: Sequence[DecodeTrace] | None = None,
) -> list[Decoded]:
    """Find the k best items of each query; the answers of `beam_search` with fewer and smaller calls of the model.

    Where the meaning is `renormalised`, a token that must follow counts as certain, also one whose logit is NaN or
    -inf: it is not looked at.

    Args:
        model: A `RunModel`.
        contexts: One per query.
        trie: The identifiers, with one item at least.
        settings: `jump_tails` and `jump_tokens` have no meaning here, and `trace` is told by `traces`.
        subsets: Catalogue rows allowed to each query, None for all.
        k: Items wanted.
        prior: Take this off each score while searching, instead of ranking again afterwards: beams then live that
            would be lost behind whatever is probable anyway. Only with ``meaning="renormalised"``.
        before_step: Called before each call of the model.
        several: Items may have several identifiers; each counts as its best one.
        traces: To be filled, one for each query.

    Cost: as many calls of the model as identifiers branch on their way, usually 3 to 6. Where the meaning is
    `renormalised`, runs up to the last branching are read, and one row of the output layer for each allowed child;
    where it is `full_softmax`, all tokens are read, with the whole output layer behind each.
    """
    allowed = subsets or [None] * len(contexts)
    queries = [_query(trie, settings, k, prior, rows, several) for rows in allowed]
    for query, rows, trace in zip(queries, allowed, traces or (), strict=False):
        query.recorder = RailsRecorder(trie, trace, rows)
    together = max(1, int(getattr(model, "prompts_together", len(contexts)) or 1))
    for first in range(0, len(queries), together):
        group = queries[first : first + together]
        if before_step is not None:
            before_step()
        state, hidden = model.open_runs(contexts[first : first + together])
        for row, query in enumerate(group):
            query.begin(state, row)
        _open(model, hidden, group)
        while waiting := [(query, beam) for query in group for beam in query.advance()]:
            if before_step is not None:
                before_step()
            _read(model, waiting)
    return [
        query.pool.decoded(False, float(query.bound), None if query.recorder is None else query.recorder.trace)
        for query in queries
    ]


def _query(
    trie: CompressedTrie, settings: BeamSettings, k: int, prior: Prior | None, rows: Int | None, several: bool
) -> _Query:
    longest = int(np.diff(trie.offsets).max())
    query = _Query(trie, settings, k, None if rows is None else trie.allowed(rows), longest)
    query.prior, query.pool = prior, Pool(k, several)
    if rows is not None:
        query.rows = np.zeros(int(max(trie.rows.max(), rows.max(initial=0))) + 1, dtype=np.bool_)
        query.rows[rows] = True
    return query


def _open(model: AnyRunModel, hidden: object, group: Sequence[_Query]) -> None:
    """Use what was seen behind the prompts: the first branching, or the first token that must follow."""
    begun = [(query, query.beams[0], row) for row, query in enumerate(group)]
    _branch(model, hidden, [one for one in begun if one[1].end == 0])
    forced = [(query, beam, np.array([row])) for query, beam, row in begun if beam.end > 0 and query.full]
    _score_runs(model, hidden, forced)


def _read(model: AnyRunModel, waiting: Sequence[tuple[_Query, _Beam]]) -> None:
    """Read on for some beams in one call of the model."""
    states = list({id(beam.state): beam.state for _, beam in waiting}.values())
    state, firsts = (states[0], [0]) if len(states) == 1 else model.join(states)
    offset = {id(one): first for one, first in zip(states, firsts, strict=True)}
    parents = np.array([offset[id(beam.state)] + beam.row for _, beam in waiting])
    runs = [query.run_of(beam) for query, beam in waiting]
    after, hidden = model.read_runs(state, parents, runs)
    ends = np.cumsum([len(run) for run in runs])
    arrived, scored = [], []
    for row, ((query, beam), run, end) in enumerate(zip(waiting, runs, ends, strict=True)):
        beam.state, beam.row = after, row
        beam.read += len(run)
        if beam.node >= 0 and beam.read == beam.end:
            arrived.append((query, beam, int(end) - 1))
        if query.full:
            scored.append((query, beam, np.arange(end - len(run), end)))
    _score_runs(model, hidden, scored)
    _branch(model, hidden, arrived)


def _branch(model: AnyRunModel, hidden: object, arrived: Sequence[tuple[_Query, _Beam, int]]) -> None:
    """Compute the log-probabilities of the children of some nodes."""
    if not arrived:
        return
    children = [query.trie.children(beam.node) for query, beam, _ in arrived]
    counts = np.array([len(one) for one in children])
    rows = np.array([row for _, _, row in arrived])
    starts = np.cumsum(counts) - counts
    logits = model.logits_of(hidden, np.repeat(rows, counts), np.concatenate(children))
    sums = _sums(model, hidden, rows) if arrived[0][0].full else None
    values = branch_log_probabilities(logits, starts, sums, arrived[0][0].trie.notice)
    for (_, beam, _), found in zip(arrived, np.split(values, starts[1:]), strict=True):
        beam.children = found


def _score_runs(model: AnyRunModel, hidden: object, scored: Sequence[tuple[_Query, _Beam, Int]]) -> None:
    """Compute the log-probabilities of tokens that must follow, under the whole vocabulary."""
    rows, tokens, owners = [], [], []
    for query, beam, places in scored:
        first = (
            beam.read - len(places) if beam.edge >= 0 or beam.read else -1
        )  # tokens before the first place, less one
        for offset, place in enumerate(places.tolist()):
            following = first + offset + 1
            if beam.start <= following < beam.end:
                rows.append(place)
                tokens.append(query.token_at(beam, following))
                owners.append(beam)
    if not rows:
        return
    at = np.array(rows)
    logits = model.logits_of(hidden, at, np.array(tokens))
    values = branch_log_probabilities(logits, np.arange(len(at)), _sums(model, hidden, at), scored[0][0].trie.notice)
    for beam, value in zip(owners, values.tolist(), strict=True):
        beam.steps.append(value)


def _sums(model: AnyRunModel, hidden: object, rows: Int) -> Float:
    sums = model.log_sums(hidden, rows)
    if np.isposinf(sums).any():
        raise LogitsError("a logit is +inf; the model's weights or precision are broken")
    return sums
