"""Constrained beam search: any language model, any constraint index, one loop for all lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, cast

import numpy as np
import numpy.typing as npt

from genrail.constraints.compressed import compressed
from genrail.constraints.index import Candidates, ConstraintIndex, RowSequences, Subset
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.decoding.answers import Decoded, Pool
from genrail.decoding.rails import AnyRunModel, Prior, rails_search, reads_runs
from genrail.decoding.settings import BeamSettings
from genrail.decoding.tails import Tail, TailIndex, TailModel, empty_candidates, merge_tails
from genrail.decoding.trace import DecodeTrace
from genrail.errors import LogitsError, SettingsError, ShapeError
from genrail.models.language_model import AnyModel, Context, LanguageModel, State

__all__ = ["beam_search", "on_compressed_rails"]

Int = npt.NDArray[np.int64]


def beam_search(
    model: LanguageModel[Context, State],
    contexts: Sequence[Context],
    index: ConstraintIndex,
    settings: BeamSettings | None = None,
    subsets: Sequence[Subset | None] | None = None,
    k: int = 10,
    before_step: Callable[[], None] | None = None,
    prior: Prior | None = None,
) -> list[Decoded]:
    """Find the k most probable items of each query, writing identifiers token by token inside the index.

    Only live, allowed items come out, and min(k, allowed) of them always. A score is the sum of log-probabilities of
    the identifier's tokens under the model's full softmax, before the constraint. Equal scores come in the order in
    which they finished (shorter identifiers first, then parent beam, then token); items that share an identifier in
    catalogue order. An item with several identifiers counts as the best one found. Answers do not depend on what else
    is in the batch, as far as the model's own rows do not.

    Args:
        model: A `LanguageModel`.
        contexts: One per query, as the model reads them.
        index: The identifiers that may be written.
        settings: Default `BeamSettings()`.
        subsets: Items allowed to each query, None for all; a query whose subset is empty costs no model call.
        k: Items wanted for each query, 1 or more.
        before_step: Called before each step; what it raises ends the search, so that nobody works for callers who left.
        prior: See `rails_search`; only where `on_compressed_rails` but for a trace, which then tells of that search.

    Returns:
        One answer per query, in order.

    Raises:
        SettingsError: k below 1.
        ShapeError: Another number of subsets than contexts.
        LogitsError: The model gave +inf, or fewer logits than the index has tokens.

    Cost: one model call per token of the longest identifier reached, on at most width rows for each query. The search
    of a query ends as soon as no open beam can enter its top k (log-probabilities only fall). Where items have several
    identifiers and these took all places of the beam, the query is searched again with one of twice the width.

    Source: De Cao et al. 2021, Autoregressive Entity Retrieval, for beam search on a trie.

    >>> from genrail.constraints import Trie
    >>> from genrail.models.tiny_lm import UniformModel
    >>> trie = Trie.from_sequences([[1, 2], [1, 3], [0, 3]], vocab_size=4)
    >>> [answer] = beam_search(UniformModel(4), [[0]], trie, subsets=[trie.only([0, 2])], k=2)
    >>> sorted(answer.rows.tolist()), answer.log_probabilities.round(3).tolist()
    ([0, 2], [-2.773, -2.773])
    """
    settings = settings or BeamSettings()
    subsets = [None] * len(contexts) if subsets is None else list(subsets)
    _check(model, contexts, index, subsets, k)
    allowed = [len(index) if subset is None else len(subset) for subset in subsets]
    answers = [Pool(k).decoded(exhausted=True, bound=-np.inf) for _ in contexts]
    asked = [query for query in range(len(contexts)) if allowed[query] > 0]
    most = index.most_sequences if isinstance(index, RowSequences) else 1
    width = max(settings.width, min(k, max(allowed, default=0)))
    while asked:
        chosen = replace(settings, width=width)
        reading, within = [contexts[query] for query in asked], [subsets[query] for query in asked]
        if isinstance(index, Trie | LiveTrie) and (prior is not None or on_compressed_rails(model, index, settings)):
            found = _by_branchings(cast("AnyRunModel", model), reading, index, chosen, within, k, before_step, prior)
        else:
            found = _by_steps(model, reading, index, chosen, within, k, before_step, most)
        for query, answer in zip(asked, found, strict=True):
            answers[query] = replace(answer, exhausted=allowed[query] < k)
        asked = [query for query in asked if len(answers[query]) < min(k, allowed[query])]
        if width >= k * most:  # so many identifiers name k items
            break
        width = min(2 * width, k * most)
    return answers


def _check(
    model: AnyModel, contexts: Sequence[object], index: ConstraintIndex, subsets: Sequence[Subset | None], k: int
) -> None:
    if k < 1:
        raise SettingsError(f"k is {k}; ask for 1 item or more")
    if len(subsets) != len(contexts):
        raise ShapeError(f"{len(contexts)} contexts but {len(subsets)} subsets; give one subset (or None) per context")
    if model.vocab_size < index.vocab_size:
        raise LogitsError(
            f"the model has {model.vocab_size} tokens but the index has {index.vocab_size}; "
            "build the index with this model's tokenizer"
        )


def _by_branchings(
    model: AnyRunModel,
    contexts: Sequence[Context],
    index: Trie | LiveTrie,
    settings: BeamSettings,
    subsets: Sequence[Subset | None],
    k: int,
    before_step: Callable[[], None] | None,
    prior: Prior | None,
) -> list[Decoded]:
    """Call the model once for each branching of the compressed trie."""
    rows = [None if subset is None else index.items(_root(index), subset) for subset in subsets]
    steps = [DecodeTrace(index, subset, settings.meaning) for subset in subsets] if settings.trace else None
    several, trie = index.most_sequences > 1, compressed(index)
    return rails_search(model, contexts, trie, settings, rows, k, prior, before_step, several, steps)


def _by_steps(
    model: LanguageModel[Context, State],
    contexts: Sequence[Context],
    index: ConstraintIndex,
    settings: BeamSettings,
    subsets: Sequence[Subset | None],
    k: int,
    before_step: Callable[[], None] | None,
    most: int,
) -> list[Decoded]:
    """Call the model once for each token, for as many queries together as their logits have room."""
    together = max(1, settings.logits_bytes // (4 * settings.width * model.vocab_size))
    found: list[Decoded] = []
    for first in range(0, len(contexts), together):
        chunk = slice(first, first + together)
        search = _Search(model, index, settings, subsets[chunk], k, most)
        found += search.run(contexts[chunk], before_step or _go_on)
    return found


def _go_on() -> None:
    pass


def on_compressed_rails(model: AnyModel, index: ConstraintIndex, settings: BeamSettings) -> bool:
    """Tell whether model and index allow the search by branchings; the steps that a trace shows need the other one."""
    return settings.jump_tails and not settings.trace and reads_runs(model) and isinstance(index, Trie | LiveTrie)


def _root(index: ConstraintIndex) -> Int:
    state: Int = index.start(1).states[0, 0]
    return state


class _Search(Generic[Context, State]):
    """Run one batch. Arrays are (queries, width) unless said otherwise; dead beams stay as padding."""

    def __init__(
        self,
        model: LanguageModel[Context, State],
        index: ConstraintIndex,
        settings: BeamSettings,
        subsets: Sequence[Subset | None],
        k: int,
        most: int,
    ) -> None:
        self.model = model  # a LanguageModel, perhaps a TailModel
        self.index = index  # a ConstraintIndex, perhaps a TailIndex
        self.settings = settings
        self.subsets = subsets if any(subset is not None for subset in subsets) else None
        queries = len(subsets)
        self.pools = [Pool(k, several=most > 1) for _ in range(queries)]
        self.bounds = np.full(queries, -np.inf)
        self.traces = [DecodeTrace(index, subset, settings.meaning) for subset in subsets] if settings.trace else None
        # A renormalised forced token has probability 1: nothing to score. `rails_search` does not even read it.
        plain = settings.trace or settings.meaning == "renormalised" or not settings.jump_tails
        self.jumps = not plain and isinstance(index, TailIndex) and isinstance(model, TailModel)
        self.each = np.arange(queries)[:, None]  # takes along the second axis, in a quarter of numpy's own time
        self.beams = index.start(queries)
        self.scores = np.zeros((queries, 1))
        self.tokens = np.zeros((queries, 1, 0), dtype=np.int64)  # (queries, width, depth): what each beam has written
        self.tails: list[list[Tail | None]] = [[None] for _ in range(queries)]

    def run(self, contexts: Sequence[Context], before_step: Callable[[], None]) -> list[Decoded]:
        """Search until every query is done."""
        before_step()
        self.state, self.logits = self.model.prefill(contexts)
        self.rows = np.where(self.beams.alive, np.arange(len(contexts))[:, None], -1)  # row of the model, -1: none
        while self.beams.alive.any():
            before_step()
            found = self._candidates()
            self._finish(found)
            picks = self._survivors(found)
            if self.traces is not None:
                self._record(found, picks)
            self._advance(found, picks)
        return [
            pool.decoded(False, float(self.bounds[query]), self.traces[query] if self.traces else None)
            for query, pool in enumerate(self.pools)
        ]

    def _candidates(self) -> Candidates:
        """Rank the continuations of all beams, 2 * width of each query.

        Of 2 * width candidates either more than width are open, or at least width are complete, or they are all there
        is: so nobody with k <= width items ever gets fewer than k.
        """
        count = 2 * self.settings.width
        open_beams = self.rows >= 0
        if open_beams.any():
            found = self.index.candidates(
                replace(self.beams, alive=open_beams),
                self.logits,
                self.scores,
                count,
                self.subsets,
                self.settings.meaning,
                self.rows,
            )
        else:
            found = empty_candidates(len(self.rows), count, self.beams.states.shape[2], self.beams.depth + 1)
        if self.jumps and any(tail is not None for row in self.tails for tail in row):
            found = merge_tails(found, self.tails, self.beams.states, self.scores)
        return found

    def _finish(self, found: Candidates) -> None:
        """Move complete candidates to the pools."""
        done = found.complete & self._real(found)
        if self.settings.finish == "width":
            inside = np.arange(done.shape[1]) < self.settings.width
            self._drop(found, done & ~inside)
            done &= inside
        for query in np.flatnonzero(done.any(axis=1)).tolist():
            self._finish_query(found, query, np.flatnonzero(done[query]).tolist())

    def _finish_query(self, found: Candidates, query: int, places: list[int]) -> None:
        """Move complete candidates of one query to its pool, best first."""
        subset = self.subsets[query] if self.subsets is not None else None
        for place in places:
            log_probability = float(found.scores[query, place])
            score = log_probability / found.depth**self.settings.length_normalisation
            if not self.pools[query].admits(score):
                return  # nor the ones behind it: they have as many tokens, and are no better
            parent = found.parents[query, place]
            tokens = (*self.tokens[query, parent].tolist(), int(found.tokens[query, place]))
            rows = self.index.items(found.states[query, place], subset)
            self.pools[query].add(score, log_probability, tokens, rows)

    def _survivors(self, found: Candidates) -> Int:
        """Pick the best open candidates, (queries, width or fewer), -1 where there is none; none when it is done."""
        open_ones = self._real(found) & ~found.complete
        place = np.cumsum(open_ones, axis=1) - 1  # rank among the open ones
        kept = open_ones & (place < self.settings.width)
        for query in np.flatnonzero(kept.any(axis=1)):
            threshold = self.pools[query].threshold
            best = self._best_possible(found.scores[query, kept[query]][:1])
            if threshold is not None and best[0] <= threshold:
                kept[query] = False  # no open beam can enter the top k any more
        self._drop(found, open_ones & ~kept)
        full = found.count == found.scores.shape[1]  # then more candidates may exist, none better than the last
        self._drop(found, full[:, None] & (np.arange(found.scores.shape[1]) == found.scores.shape[1] - 1))
        picks = np.full((len(kept), max(1, int(kept.sum(axis=1).max(initial=0)))), -1, dtype=np.int64)
        queries, places = np.nonzero(kept)
        picks[queries, place[queries, places]] = places
        return picks

    @staticmethod
    def _real(found: Candidates) -> npt.NDArray[np.bool_]:
        return np.arange(found.scores.shape[1]) < found.count[:, None]

    def _best_possible(self, log_probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Bound the score that an unfinished beam can end with: log-probabilities only fall."""
        power = self.settings.length_normalisation
        if power == 0:
            return log_probabilities
        longest = getattr(self.index, "max_length", None)  # dividing by the greatest length lifts most
        if longest is None:
            return np.where(log_probabilities > -np.inf, 0.0, -np.inf)
        return np.asarray(log_probabilities / longest**power)

    def _drop(self, found: Candidates, dropped: npt.NDArray[np.bool_]) -> None:
        """Remember how good whatever was dropped could still become."""
        best = np.where(dropped, found.scores, -np.inf).max(axis=1, initial=-np.inf)
        self.bounds = np.maximum(self.bounds, self._best_possible(best))

    def _record(self, found: Candidates, picks: Int) -> None:
        """Write this step into the traces of the queries that took part in it."""
        assert self.traces is not None
        for query in np.flatnonzero(self.beams.alive.any(axis=1)):
            beams = np.flatnonzero(self.beams.alive[query])
            self.traces[query].add(
                prefixes=[tuple(row) for row in self.tokens[query, beams].tolist()],
                states=self.beams.states[query, beams],
                scores=self.scores[query, beams],
                logits=self.logits[self.rows[query, beams]],
                kept=[
                    (*self.tokens[query, found.parents[query, pick]].tolist(), int(found.tokens[query, pick]))
                    for pick in picks[query][picks[query] >= 0]
                ],
            )

    def _advance(self, found: Candidates, picks: Int) -> None:
        """Make the picked candidates the next beams, and run the model on those that are open."""
        at = np.maximum(picks, 0)
        parents = np.maximum(found.parents[self.each, at], 0)
        tokens = found.tokens[self.each, at]
        alive = picks >= 0
        self.beams = self.index.advance(found, picks)
        self.scores = np.where(alive, found.scores[self.each, at], -np.inf)
        written = self.tokens[self.each, parents]
        self.tokens = np.concatenate([written, tokens[:, :, None]], axis=2)
        forced = self._follow_tails(parents, alive) if self.jumps else np.zeros_like(alive)
        queries, beams = np.nonzero(alive & ~forced)
        rows = self.rows[queries, parents[queries, beams]]
        self.rows = np.full(picks.shape, -1, dtype=np.int64)
        if len(queries):
            self._forward(queries, beams, rows, tokens[queries, beams])

    def _follow_tails(self, parents: Int, alive: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Hand the known ends of the parents down to the new beams, and tell which beams have one."""
        self.tails = [
            [self.tails[query][parent] if lives else None for parent, lives in zip(row, row_alive, strict=True)]
            for query, (row, row_alive) in enumerate(zip(parents.tolist(), alive.tolist(), strict=True))
        ]
        return np.array([[tail is not None for tail in row] for row in self.tails])

    def _tails(self, queries: Int, beams: Int) -> list[Int]:
        """Find the tails worth reading now: each query fills the call up to its limit, best beams first."""
        tails = cast("TailIndex", self.index).tails(self.beams.states[queries, beams])
        left = self.settings.jump_tokens - np.bincount(queries, minlength=len(self.pools))
        for place, query in enumerate(queries.tolist()):  # beams of a query stand in the order of their scores
            left[query] -= max(0, len(tails[place]) - 1)  # the first token is read in any case
            if left[query] < 0:
                tails[place] = tails[place][:0]
        return tails

    def _forward(self, queries: Int, beams: Int, parents: Int, tokens: Int) -> None:
        """Append a token to each open beam; where one identifier is left, read all of it."""
        tails = self._tails(queries, beams) if self.jumps else []
        if not any(len(tail) for tail in tails):
            self.state, self.logits = self.model.step(self.state, parents, tokens)
            self.rows[queries, beams] = np.arange(len(queries))
            return
        model = cast("TailModel[State]", self.model)
        self.state, self.logits, scores = model.step_tails(self.state, parents, tokens, tails)
        open_rows = 0
        for query, beam, tail, score in zip(queries.tolist(), beams.tolist(), tails, scores, strict=True):
            if len(tail):
                self.tails[query][beam] = Tail(tail, score, self.beams.depth)
            else:
                self.rows[query, beam] = open_rows
                open_rows += 1
