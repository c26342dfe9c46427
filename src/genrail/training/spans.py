"""Teach a language model which n-grams to write: spans of the right text that overlap with the request, and titles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from genrail.constraints.substring import SubstringIndex
from genrail.errors import SettingsError
from genrail.rng import generator
from genrail.training.fine_tuning import Reader
from genrail.training.fine_tuning_settings import FineTuning
from genrail.training.loop import LoopReport, Progress, run
from genrail.training.packing import Pack
from genrail.training.rails import hidden_states, token_loss
from genrail.training.span_settings import SpanSettings

__all__ = ["SpanLesson", "Spans", "train_spans"]

Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

COMMON = 0.005  # tokens that are a larger share of all texts begin no span, as stop words in SEAL


@dataclass(frozen=True, eq=False)
class SpanLesson:
    """Hold a request, and the text that is right for it.

    Args:
        ngrams: What the model reads before a free n-gram; None where none is written.
        titles: What it reads before a title; None likewise.
        words: Tokens of the request's words, in both cases.
        passages: Numbers in the index of the right text's passages.
        weight: How much it counts.
    """

    ngrams: Sequence[int] | None
    titles: Sequence[int] | None
    words: frozenset[int]
    passages: Sequence[int]
    weight: float = 1.0


class Spans:
    """Draw spans of passages, the likelier the more they overlap with a request.

    Args:
        index: Of the passages; each begins with a mark.
        begins_word: Which tokens begin a word, (vocabulary,): no span begins elsewhere.
        settings: How many, and how sharply.
        length: Tokens of a span at most.

    Source: Bevilacqua et al. 2022 (SEAL), section 3.4, which draws by the likeness of windows of three words; here by
        the rareness of the tokens that a span shares with the request.
    """

    def __init__(self, index: SubstringIndex, begins_word: Bool, settings: SpanSettings, length: int) -> None:
        self.index, self.settings, self.length = index, settings, length
        tokens, counts = index.children(index.start(1).states[0, 0])
        share = np.ones(index.vocab_size)
        share[tokens] = counts / max(1, index.token_count)
        self._rareness = -np.log(share)
        self._starts = begins_word & (share < COMMON), begins_word, np.ones_like(begins_word)

    def best_passage(self, lesson: SpanLesson) -> int:
        """Choose the passage that shares most with the request, the first of equal ones."""
        shared = [set(self.index.sequence(number).tolist()) & lesson.words for number in lesson.passages]
        return int(lesson.passages[int(np.argmax([self._rareness[list(tokens)].sum() for tokens in shared]))])

    def draw(self, passage: int, words: frozenset[int], random: np.random.Generator) -> list[tuple[int, ...]]:
        """Draw spans of a passage, no two from one place; fewer where there are fewer."""
        text = self.index.sequence(passage)[1:]
        if not len(text):
            return []
        starts = next(found for mask in self._starts if len(found := np.flatnonzero(mask[text])))
        values = np.where(np.isin(text, list(words)), self._rareness[text], 0.0)
        sums = np.concatenate([[0.0], np.cumsum(values)])
        overlap = sums[np.minimum(starts + self.length, len(text))] - sums[starts]
        weights = np.exp(self.settings.sharpness * overlap / max(float(overlap.max()), 1e-9))
        count = min(self.settings.spans, len(starts))
        chosen = random.choice(starts, size=count, replace=False, p=weights / weights.sum())
        return [tuple(text[start : start + self.length].tolist()) for start in np.sort(chosen).tolist()]

    def title(self, passage: int) -> tuple[int, ...]:
        """Give the beginning of a passage with its mark: that is where its title stands."""
        return tuple(self.index.sequence(passage)[: 1 + self.length].tolist())

    def allowed(self, ngram: Sequence[int]) -> Int:
        """List the tokens that may follow an n-gram; none where only one may, which then is certain."""
        tokens, _ = self.index.children(self.index.find(ngram))
        return tokens if len(tokens) > 1 else tokens[:0]


def train_spans(
    reader: Reader,
    lessons: Sequence[SpanLesson],
    spans: Spans,
    settings: FineTuning,
    *,
    held_out: Sequence[SpanLesson] = (),
    validate: Callable[[], Mapping[str, float]] | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> LoopReport:
    """Train in place: behind a request, the model should write spans of the right text, and its title.

    All spans of a request share its prompt, which is read once. With ``loss="rails"`` a token is right among those that
    may follow in some text, and nothing is learnt where only one may: decoding forbids all others.

    Args:
        reader: The model.
        lessons: Requests and their passages.
        spans: Draws what is right.
        settings: How; of its batches, losses, weights that learn, and the loop.
        held_out: Requests whose spans are looked at after each epoch.
        validate: Measures the model as it stands; its first figure chooses the best weights. None lets the spans of
            `held_out` choose; without both the last ones are kept.
        seed: Of batches and spans.
        progress: Called after each step.

    Raises:
        SettingsError: Nothing to learn from.
    """
    task = _SpanTask(reader, [*lessons], [*held_out], spans, settings, seed, validate)
    return run(task, settings.loop, seed, progress, settings.checkpoint, settings.curve)


Draw = tuple[int, SpanLesson]
"""An epoch, and what is learnt from: another epoch draws other spans."""


class _SpanTask:
    """What the training loop asks for."""

    def __init__(
        self,
        reader: Reader,
        lessons: list[SpanLesson],
        held_out: list[SpanLesson],
        spans: Spans,
        settings: FineTuning,
        seed: int,
        validate: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        if not lessons:
            raise SettingsError("there are no requests to learn n-grams from; give queries and qrels, or texts")
        self._reader, self._lessons, self._held = reader, lessons, held_out
        self._spans, self._settings, self._seed, self._measure = spans, settings, seed, validate
        self._places = {id(one): place for place, one in enumerate([*lessons, *held_out])}
        self._passages: dict[int, int] = {}

    @property
    def module(self) -> nn.Module:
        return self._reader.module

    @property
    def data(self) -> str:
        digest = hashlib.sha256()
        for one in self._lessons:
            prompts = [None if prompt is None else list(prompt) for prompt in (one.ngrams, one.titles)]
            digest.update(repr((prompts, list(one.passages), one.weight)).encode())
        return digest.hexdigest()

    def epoch(self, number: int) -> list[list[Draw]]:
        """Lay out a portion of passes over all requests, each pass in an order of its own."""
        total = len(self._lessons)
        size = min(self._settings.epoch or total, total)
        chosen: list[Draw] = []
        for place in range(number * size, (number + 1) * size):
            turn, at = divmod(place, total)
            if at == 0 or not chosen:
                order = generator(self._seed, "pass", turn).permutation(total)
            chosen.append((turn, self._lessons[order[at]]))
        batch = self._settings.batch
        return [chosen[first : first + batch] for first in range(0, size, batch)]

    def cut(self, batch: Sequence[Draw], pieces: int) -> list[tuple[list[Draw], float]]:
        parts = np.array_split(np.arange(len(batch)), min(pieces, len(batch)))
        return [([batch[place] for place in part], len(part) / len(batch)) for part in parts]

    def loss(self, batch: Sequence[Draw]) -> Tensor:
        packs: list[Pack] = []
        allowed: list[dict[int, Int]] = []
        for epoch, lesson in batch:
            for pack, rails in self._packs(lesson, epoch):
                packs.append(pack)
                allowed.append(rails)
        hidden = hidden_states(self._reader.body, packs, self._reader.sees)
        if not any(pack.tokens for pack in packs):
            return hidden.sum() * 0.0  # all is certain: nothing to learn
        rails_only = allowed if self._settings.loss == "rails" else None
        loss = token_loss(hidden, packs, self._reader.output, self._settings.smoothing, rails_only)
        return loss / sum(lesson.weight for _, lesson in batch)

    def _packs(self, lesson: SpanLesson, epoch: int) -> list[tuple[Pack, dict[int, Int]]]:
        """Lay out a lesson: in one pack, or one for each span where the model cannot read tries."""
        place = self._places[id(lesson)]
        if place not in self._passages:
            self._passages[place] = self._spans.best_passage(lesson)
        passage, random = self._passages[place], generator(self._seed, "spans", epoch, place)
        wanted: list[tuple[Sequence[int], tuple[int, ...], int, float]] = []
        if lesson.ngrams is not None:
            drawn = self._spans.draw(passage, lesson.words, random)
            wanted += [(lesson.ngrams, span, 0, lesson.weight / len(drawn)) for span in drawn]
        if lesson.titles is not None:
            wanted.append((lesson.titles, self._spans.title(passage), 1, lesson.weight))
        groups = [wanted] if self._reader.sees is not None else [[one] for one in wanted]
        return [self._pack(group) for group in groups if group]

    def _pack(self, wanted: Sequence[tuple[Sequence[int], tuple[int, ...], int, float]]) -> tuple[Pack, dict[int, Int]]:
        """Write (prompt, n-gram, tokens of it that are not written but given, share) behind one another."""
        pack, allowed = Pack(), dict[int, Int]()
        for prompt, ngram, given, share in wanted:
            slot = pack.put(prompt)
            for place in range(given, len(ngram)):
                if self._settings.loss == "rails":
                    if slot not in allowed:
                        allowed[slot] = self._spans.allowed(ngram[:place])
                    if not len(allowed[slot]):
                        break  # from here on there is one way
                pack.want_token(slot, ngram[place], share)
                slot = pack.put([ngram[place]], slot)
            pack.weight += share
        return pack, {slot: allowed[slot] for slot in pack.tokens if slot in allowed}

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Measure the model, and give the mean log-probability of a held-out request's spans and title."""
        measured = self._measure() if self._measure is not None else {}
        if not self._held:
            return measured
        size = self._settings.batch
        draws: list[Draw] = [(-1, one) for one in self._held]
        portions = [draws[first : first + size] for first in range(0, len(draws), size)]
        total = sum(float(self.loss(portion)) * len(portion) for portion in portions)
        return {**measured, "log-probability of spans": -total / len(draws)}
