"""From judged queries and a catalogue's own texts to a model that writes the n-grams of what is asked for."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from genrail.errors import SettingsError
from genrail.finders.fine_tuning import FineTuningReport, pairs_of
from genrail.finders.passages import word_ngrams
from genrail.finding import Data, Progress
from genrail.models.adapters import Adapter, merge_lora
from genrail.models.causal import CausalModel
from genrail.training.fine_tuning import Learner, Reader
from genrail.training.pairs import Pair
from genrail.training.spans import SpanLesson, Spans, train_spans

if TYPE_CHECKING:
    from genrail.finders.seal import Seal, SealRecipe
    from genrail.training.loop import Progress as LoopProgress

__all__ = ["taught"]


def taught(
    finder: Seal, recipe: SealRecipe, data: Data, progress: Progress
) -> tuple[CausalModel, Adapter | None, FineTuningReport]:
    """Teach a copy of a finder's causal language model.

    Args:
        finder: Stays as it is.
        recipe: How it is taught.
        data: Judged queries, histories; queries made up of the texts, as the recipe says.
        progress: Called with (stage, done, total); the training counts seconds, so that its time left is known.

    Returns:
        The model, ready to answer; what LoRA learnt, merged into it already; and what happened.

    Raises:
        SettingsError: The model cannot be taught so, or there is nothing to learn from.
    """
    given, tuning = finder.model, recipe.tuning
    if not isinstance(given, CausalModel):
        raise SettingsError(
            f"{given.name} is no causal language model of transformers; n-grams are taught to those only"
        )
    if tuning.recipe not in ("sft", "distill"):
        raise SettingsError(f"n-grams are taught by recipe='sft' or 'distill'; {tuning.recipe!r} is for other finders")
    learnt, held = pairs_of(data, tuning, recipe.max_history)
    lessons, held_out = _lessons(learnt, finder, data), _lessons(held, finder, data)
    module = copy.deepcopy(given.model).float()
    learner = Learner(module, tuning, seed=data.seed)
    model = CausalModel(module, given.tokenizer, given.name, given.attention, given.prompts_together)

    def told(now: LoopProgress) -> None:
        progress("learning n-grams, seconds", int(now.seconds), int(now.seconds + now.seconds_left) + 1)

    report = train_spans(
        Reader(module, model.body, model.output, model.sees if model.reads_runs else None),
        lessons,
        Spans(finder.index, finder.speller.begins_word, recipe.spans, recipe.writing.length),
        tuning,
        held_out=held_out,
        seed=data.seed,
        progress=told,
    )
    weights = learner.close()
    adapter = None
    if learner.wrapped is not None:
        module, adapter = merge_lora(learner.wrapped, given.fingerprint, given.name)
    module = module.requires_grad_(True).to(given.model.dtype)
    final = CausalModel(module, given.tokenizer, given.name, given.attention, given.prompts_together)
    sources = dict(Counter(pair.source for pair in learnt))
    return final, adapter, FineTuningReport(report, sources, len(held), weights)


def _lessons(pairs: Sequence[Pair], finder: Seal, data: Data) -> list[SpanLesson]:
    """Render prompts as the finder does, one lesson for each right item; those that the model cannot read are left out.

    An item without words has nothing to learn from.
    """
    room, length = finder.model.context_size, finder.recipe.writing.length
    titles, passages = data.catalog.titles, finder.passages
    lessons = []
    for pair in pairs:
        prompts = {
            name: one.render(pair.text, [titles[row] for row in pair.history]) for name, one in finder.prompts.items()
        }
        if room is not None and max(map(len, prompts.values())) + length > room:
            continue
        spelled = finder.speller.tokens([f" {word}" for word in word_ngrams(pair.text or "", 1)])
        words = frozenset(token for tokens in spelled for token in tokens)
        for row, weight in zip(pair.rows, pair.weights, strict=True):
            own = range(int(passages.begins[row]), int(passages.begins[row + 1]))
            lessons.append(SpanLesson(prompts.get("ngrams"), prompts.get("titles"), words, own, weight))
    return lessons
