"""From judged queries and a catalogue's own texts to a model that writes the n-grams of what is asked for."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from genrail.errors import SettingsError
from genrail.finders.fine_tuning import CUTOFF, FineTuningReport, pairs_of, validation
from genrail.finders.passages import word_ngrams
from genrail.finding import Data, Finder, FindOptions, Found, Progress, Request
from genrail.models.adapters import Adapter, merge_lora
from genrail.models.causal import CausalModel
from genrail.training.fine_tuning import Learner, Reader
from genrail.training.pairs import Pair
from genrail.training.spans import SpanLesson, Spans, train_spans

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.constraints.substring import SubstringIndex
    from genrail.finders.passages import Passages, Speller
    from genrail.models.prompts import Prompts
    from genrail.training.fine_tuning_settings import FineTuning
    from genrail.training.loop import Progress as LoopProgress
    from genrail.training.span_settings import SpanSettings

__all__ = ["Teaching", "Writer", "taught"]


class Writer(Protocol):
    """What is needed of a finder to teach it: see `Seal`."""

    catalog: Catalog
    model: Any
    prompts: Mapping[str, Prompts]
    speller: Speller
    passages: Passages
    index: SubstringIndex

    def prompt(self, text: str | None, history: Sequence[int], prompts: Prompts) -> list[int]:
        """Render words and rows of a past for one field."""
        ...

    def replaced(self, **parts: Any) -> Finder:
        """Make the same finder with other parts."""
        ...


@dataclass(frozen=True)
class Teaching:
    """Say how a finder is taught.

    Args:
        tuning: Of the model.
        spans: Which n-grams are right.
        length: Tokens of an n-gram at most.
        longest_history: Items of a history that are read.
    """

    tuning: FineTuning
    spans: SpanSettings
    length: int
    longest_history: int


def taught(
    finder: Writer, teaching: Teaching, data: Data, progress: Progress
) -> tuple[CausalModel, Adapter | None, FineTuningReport]:
    """Teach a copy of a finder's causal language model; the weights that find most held-out requests' items are kept.

    Args:
        finder: Stays as it is.
        teaching: How.
        data: Judged queries, histories; queries made up of the texts, as `tuning` says.
        progress: Called with (stage, done, total); the training counts seconds, so that its time left is known.

    Returns:
        The model, ready to answer; what LoRA learnt, merged into it already; and what happened.

    Raises:
        SettingsError: The model cannot be taught so, or there is nothing to learn from.
    """
    given, tuning = finder.model, teaching.tuning
    if not isinstance(given, CausalModel):
        name = getattr(given, "name", type(given).__name__)
        raise SettingsError(f"{name} is no causal language model of transformers; n-grams are taught to those only")
    if tuning.recipe not in ("sft", "distill"):
        raise SettingsError(f"n-grams are taught by recipe='sft' or 'distill'; {tuning.recipe!r} is for other finders")
    if tuning.loss not in ("rails", "cross-entropy"):
        raise SettingsError(f"n-grams are taught by loss='rails' or 'cross-entropy'; {tuning.loss!r} orders items")
    learnt, held, written = pairs_of(data, tuning, teaching.longest_history, given, progress)
    lessons, held_out = _lessons(learnt, finder, teaching.length), _lessons(held, finder, teaching.length)
    module = copy.deepcopy(given.model).float()
    learner = Learner(module, tuning, seed=data.seed)
    model = CausalModel(module, given.tokenizer, given.name, given.attention, given.prompts_together)

    def find(requests: list[Request]) -> list[Found]:
        student = finder.replaced(model=model)  # which remembers nothing of the weights before
        return student.find(requests, CUTOFF, FindOptions())

    def told(now: LoopProgress) -> None:
        progress("learning n-grams, seconds", int(now.seconds), int(now.seconds + now.seconds_left) + 1)

    report = train_spans(
        Reader(module, model.body, model.output, model.sees if model.reads_runs else None),
        lessons,
        Spans(finder.index, finder.speller.begins_word, teaching.spans, teaching.length),
        tuning,
        held_out=held_out,
        validate=validation(held, data.catalog, find),
        seed=data.seed,
        progress=told,
    )
    weights = learner.close()
    adapter = None
    if learner.wrapped is not None:
        module, adapter = merge_lora(learner.wrapped, given.fingerprint, given.name, not tuning.merged)
    module = module.requires_grad_(True).to(given.model.dtype)
    final = CausalModel(module, given.tokenizer, given.name, given.attention, given.prompts_together)
    sources = dict(Counter(pair.source for pair in learnt))
    return final, adapter, FineTuningReport(report, sources, len(held), weights, written=written)


def _lessons(pairs: Sequence[Pair], finder: Writer, length: int) -> list[SpanLesson]:
    """Render prompts as the finder does, one lesson for each right item; those that the model cannot read are left out.

    An item without words has nothing to learn from.
    """
    room = getattr(finder.model, "context_size", None)
    passages = finder.passages
    lessons = []
    for pair in pairs:
        prompts = {name: finder.prompt(pair.text, pair.history, one) for name, one in finder.prompts.items()}
        if room is not None and max(map(len, prompts.values())) + length > room:
            continue
        spelled = finder.speller.tokens([f" {word}" for word in word_ngrams(pair.text or "", 1)])
        words = frozenset(token for tokens in spelled for token in tokens)
        for row, weight in zip(pair.rows, pair.weights, strict=True):
            own = range(int(passages.begins[row]), int(passages.begins[row + 1]))
            lessons.append(SpanLesson(prompts.get("ngrams"), prompts.get("titles"), words, own, weight))
    return lessons
