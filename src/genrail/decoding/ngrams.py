"""Beam search for n-grams: what a model writes on a substring index, every beginning of it included, and what it gives.

A beam never has to end: each of its beginnings is an n-gram of some document, so all of them are kept with the
probability that the model gives them. What is given by the caller (the words of the query) is scored by the same model
in one packed call.

Source: Bevilacqua et al. 2022, Autoregressive Search Engines (SEAL, arXiv 2204.10628), section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from genrail.constraints.index import Candidates, Subset
from genrail.constraints.substring import SubstringIndex
from genrail.decoding.scoring import score_sequences
from genrail.decoding.tails import TailModel
from genrail.errors import LogitsError, SettingsError, ShapeError
from genrail.models.language_model import LanguageModel
from genrail.models.log_softmax import log_softmax

__all__ = ["NgramSettings", "Written", "write_ngrams"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Ngram = tuple[int, ...]

RAREST = -30.0  # log-probability below which a first token is not told apart


@dataclass(frozen=True)
class NgramSettings:
    """Say how n-grams are written.

    Args:
        width: Beams for each query; twice as many n-grams are kept at each length.
        length: Tokens of an n-gram at most, those that it begins with by rule not counted.
        enough: An n-gram of at most so many occurrences is not continued. With 1 no document is told apart any less:
            a longer n-gram stands in the same place, and is less probable.
        logits_bytes: Queries are split into batches so that one step's float32 logits stay below this.
    """

    width: int = 15  # SEAL
    length: int = 10  # SEAL
    enough: int = 1
    logits_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        for name in ("width", "length", "logits_bytes"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.enough < 0:
            raise SettingsError(f"enough is {self.enough}; give 0 or more")


@dataclass(frozen=True, eq=False)
class Written:
    """Hold the n-grams of one query.

    Args:
        ngrams: Each once.
        log_probabilities: Of each under the model's full softmax, given the query, float64.
        first: Log-probability of each token as the first one, float32, (V,).
        anyway: The same without a query, float32, (V,); None where that was not told.
        begins: Tokens that every n-gram begins with by rule.
        calls: Calls of the model that the query took part in.
    """

    ngrams: tuple[Ngram, ...]
    log_probabilities: Float
    first: Float32
    anyway: Float32 | None
    begins: int
    calls: int

    @property
    def gains(self) -> Float | None:
        """Say how much the query raises the log-probability of each n-gram's first token; None where not told."""
        if self.anyway is None:
            return None
        heads = np.array([ngram[self.begins] for ngram in self.ngrams], dtype=np.int64)
        return (self.first[heads] - self.anyway[heads]).astype(np.float64)

    @property
    def nbytes(self) -> int:
        """Count the bytes held, about; for caches with a bound."""
        return 8 * sum(map(len, self.ngrams)) + self.log_probabilities.nbytes + self.first.nbytes


def write_ngrams(
    model: LanguageModel[Any, Any],
    contexts: Sequence[Any],
    index: SubstringIndex,
    settings: NgramSettings | None = None,
    subsets: Sequence[Subset | None] | None = None,
    *,
    behind: Ngram = (),
    never: Sequence[int] = (),
    given: Sequence[Sequence[Ngram]] | None = None,
    anyway: Float32 | None = None,
    least: float = -np.inf,
    before_step: Callable[[], None] | None = None,
) -> list[Written]:
    """Let a model write n-grams of allowed documents, and score those that are given.

    Args:
        model: Any `LanguageModel`; one that reads tails takes the given n-grams in one call.
        contexts: One per query, as the model reads them.
        index: Of the documents.
        settings: Default `NgramSettings()`.
        subsets: Documents allowed to each query, None for all.
        behind: Every n-gram begins with these tokens, such as the mark before each title; they are not scored.
        never: Tokens that are not written, such as that mark.
        given: N-grams to be scored as well, for each query; they too stand behind `behind`.
        anyway: Log-probability of each token as the first one without a query, (V,). Beams then begin with what the
            query makes more probable, not with what is probable anyway; the n-grams' own log-probabilities stay.
        least: N-grams that are written are more probable than this (natural logarithm). Longer ones only become less
            probable, so what could not weigh anything is not continued.
        before_step: Called before each call of the model; what it raises ends the search.

    Returns:
        One answer per query, in order. An answer does not depend on the other queries, as far as the model's own
        rows do not.

    Raises:
        ShapeError: Another number of subsets or given lists than contexts.
        LogitsError: The model gave +inf, or has fewer tokens than the index.

    Cost: one call of the model per token of the longest n-gram, on at most `width` rows for each query, and one more
    where n-grams are given.

    >>> from genrail.models.tiny_lm import UniformModel
    >>> index = SubstringIndex.from_sequences([[1, 2, 3], [2, 3]], vocab_size=4)
    >>> [found] = write_ngrams(UniformModel(4), [[0]], index, NgramSettings(width=2, length=2), given=[[(3,)]])
    >>> found.ngrams
    ((3,), (1,), (2,), (2, 3))
    """
    settings = settings or NgramSettings()
    subsets = [None] * len(contexts) if subsets is None else list(subsets)
    lists = [()] * len(contexts) if given is None else [tuple(one) for one in given]
    if not len(subsets) == len(lists) == len(contexts):
        raise ShapeError(
            f"{len(contexts)} contexts, {len(subsets)} subsets and {len(lists)} lists of n-grams; give one for each"
        )
    if model.vocab_size < index.vocab_size:
        raise LogitsError(
            f"the model has {model.vocab_size} tokens but the index has {index.vocab_size}; "
            "build the index with this model's tokenizer"
        )
    together = max(1, settings.logits_bytes // (4 * settings.width * model.vocab_size))
    found: list[Written] = []
    for first in range(0, len(contexts), together):
        part = slice(first, first + together)
        search = _Search(model, index, settings, subsets[part], behind, never, anyway, least, before_step or _go_on)
        found += search.run(contexts[part], lists[part])
    return found


def _go_on() -> None:
    pass


class _Search:
    """Run one batch. Arrays are (queries, width) unless said otherwise; dead beams stay as padding."""

    def __init__(
        self,
        model: Any,
        index: SubstringIndex,
        settings: NgramSettings,
        subsets: Sequence[Subset | None],
        behind: Ngram,
        never: Sequence[int],
        anyway: Float32 | None,
        least: float,
        before_step: Callable[[], None],
    ) -> None:
        self.model, self.index, self.settings = model, index, settings
        self.subsets = subsets if any(subset is not None for subset in subsets) else None
        self.behind, self.never, self.before_step = behind, np.asarray(never, dtype=np.int64), before_step
        self.anyway, self.least = None if anyway is None else np.maximum(anyway, RAREST), least
        queries = len(subsets)
        self.each = np.arange(queries)[:, None]
        self.beams = index.start_behind(behind, queries)
        self.scores = np.zeros((queries, 1))  # what beams are ranked by
        self.tokens = np.zeros((queries, 1, 0), dtype=np.int64)  # (queries, width, depth)
        self.kept: list[dict[Ngram, float]] = [{} for _ in range(queries)]
        self.calls = np.zeros(queries, dtype=np.int64)

    def run(self, contexts: Sequence[Any], given: Sequence[Sequence[Ngram]]) -> list[Written]:
        self.before_step()
        self.state, self.logits = self.model.prefill(contexts)
        self.calls += 1
        first = log_softmax(self.logits)
        self._score(contexts, given, first)
        if self.anyway is not None:
            self.logits = self.logits - self.anyway
        self.rows = np.where(self.beams.alive, self.each, -1)  # row of the model's logits, -1: none
        for left in range(self.settings.length - 1, -1, -1):
            if not self.beams.alive.any():
                break
            found = self._candidates()
            if self.anyway is not None and not self.tokens.shape[2]:  # rises, without the sum that made them shares
                heads = np.maximum(found.tokens, 0)
                rises = np.take_along_axis(first, heads, axis=1) - self.anyway[heads]
                found = replace(found, scores=np.where(found.tokens < 0, -np.inf, rises))
            real = self._keep(found)
            if left:
                self._advance(found, self._picks(found, real))
        narrow = first.astype(np.float32)
        return [
            Written(
                tuple(kept),
                np.fromiter(kept.values(), np.float64, len(kept)),
                narrow[query],
                self.anyway,
                len(self.behind),
                int(calls),
            )
            for query, (kept, calls) in enumerate(zip(self.kept, self.calls, strict=True))
        ]

    def _score(self, contexts: Sequence[Any], given: Sequence[Sequence[Ngram]], first: Float) -> None:
        """Score the given n-grams: their first tokens are known, all others are read in one call."""
        pairs = [(query, tuple(map(int, ngram))) for query, ngrams in enumerate(given) for ngram in ngrams]
        longer = [pair for pair in pairs if len(pair[1]) > 1]
        rest: dict[tuple[int, Ngram], float] = {}
        if longer and isinstance(self.model, TailModel):
            self.before_step()
            parents = np.array([query for query, _ in longer])
            heads = np.array([ngram[0] for _, ngram in longer])
            tails = [np.array(ngram[1:]) for _, ngram in longer]
            _, _, scores = self.model.step_tails(self.state, parents, heads, tails)
            self.calls[np.unique(parents)] += 1
            rest = {pair: float(score.sum()) for pair, score in zip(longer, scores, strict=True)}
        for query, ngram in pairs:
            if len(ngram) > 1 and (query, ngram) not in rest:
                score = float(score_sequences(self.model, contexts[query], [ngram])[0])
            else:
                score = float(first[query, ngram[0]]) + rest.get((query, ngram), 0.0)
            self.kept[query][*self.behind, *ngram] = score

    def _candidates(self) -> Candidates:
        """Rank the continuations of all beams, 2 * width of each query and as many more as may not be written."""
        count = 2 * self.settings.width + len(self.never)
        alive = replace(self.beams, alive=self.rows >= 0)
        return self.index.candidates(alive, self.logits, self.scores, count, self.subsets, "full_softmax", self.rows)

    def _keep(self, found: Candidates) -> npt.NDArray[np.bool_]:
        """Remember the candidates as n-grams; give those that are ones."""
        scores, heads = found.scores, np.maximum(found.tokens, 0)
        real = (np.arange(scores.shape[1]) < found.count[:, None]) & ~np.isin(found.tokens, self.never)
        if self.anyway is not None:
            if self.tokens.shape[2]:
                heads = self.tokens[self.each, np.maximum(found.parents, 0), 0]
            else:
                real &= scores > 0.0  # what the query does not raise
            scores = scores + self.anyway[heads]
        real &= (scores > -np.inf) & (scores > self.least)
        real &= np.cumsum(real, axis=1) <= 2 * self.settings.width
        for query, place in np.argwhere(real).tolist():
            before = self.tokens[query, max(0, found.parents[query, place])].tolist()
            ngram = (*self.behind, *before, int(found.tokens[query, place]))
            score = float(scores[query, place])
            self.kept[query][ngram] = max(score, self.kept[query].get(ngram, score))
        return real

    def _picks(self, found: Candidates, real: npt.NDArray[np.bool_]) -> Int:
        """Pick the best candidates that may go on, (queries, width or fewer), -1 where there is none."""
        picks = np.full((len(real), self.settings.width), -1, dtype=np.int64)
        open_ones = real & ~found.complete
        for query in range(len(real)):
            chosen = 0
            for place in np.flatnonzero(open_ones[query]).tolist():
                if self.index.count(found.states[query, place]) > self.settings.enough:
                    picks[query, chosen] = place
                    chosen += 1
                if chosen == self.settings.width:
                    break
        return picks[:, : max(1, int((picks >= 0).sum(axis=1).max(initial=0)))]

    def _advance(self, found: Candidates, picks: Int) -> None:
        """Make the picked candidates the next beams, and run the model on them."""
        at, alive = np.maximum(picks, 0), picks >= 0
        parents, tokens = np.maximum(found.parents[self.each, at], 0), found.tokens[self.each, at]
        self.beams = self.index.advance(found, picks)
        self.scores = np.where(alive, found.scores[self.each, at], 0.0)
        self.tokens = np.concatenate([self.tokens[self.each, parents], tokens[:, :, None]], axis=2)
        queries, beams = np.nonzero(alive)
        rows = self.rows[queries, parents[queries, beams]]
        self.rows = np.full(picks.shape, -1, dtype=np.int64)
        if len(queries):
            self.before_step()
            self.state, self.logits = self.model.step(self.state, rows, tokens[queries, beams])
            self.rows[queries, beams] = np.arange(len(queries))
            self.calls[np.unique(queries)] += 1
