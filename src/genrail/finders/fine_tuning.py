"""From what a shop knows to a fine-tuned language model: pairs, prompts, validation by decoding, and the report."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from genrail.constraints.compressed import CompressedTrie, compressed
from genrail.decoding import BeamSettings
from genrail.errors import SettingsError
from genrail.finders.lessons import Distillation, on_histories, on_words
from genrail.finding import Data, FindOptions, Progress, Request
from genrail.models.adapters import Adapter, merge_lora
from genrail.models.causal import CausalModel
from genrail.rng import generator
from genrail.training.figures import graded_figures
from genrail.training.fine_tuning import Learner, Reader, fine_tune
from genrail.training.packing import TrainingExample
from genrail.training.pairs import Pair, aligned_pairs, held_out, history_pairs, judged_pairs, of_live, text_pairs

if TYPE_CHECKING:
    from genrail.finders.generative import Generative
    from genrail.training.distillation import Lessons
    from genrail.training.fine_tuning_settings import FineTuning
    from genrail.training.loop import LoopReport
    from genrail.training.loop import Progress as LoopProgress

__all__ = ["FineTuned", "FineTuningReport", "fine_tuned", "pairs_of", "shown", "taught_pairs"]

CUTOFF = 10
VARIANTS = 4  # made-up queries of each item: one of each kind


@dataclass(frozen=True)
class FineTuningReport:
    """Hold what a fine-tuning gave.

    Args:
        loop: Epochs, the best validation, seconds.
        pairs: Requests that were learnt from, by where they are from.
        held_out: Requests that the weights were chosen by.
        weights: How many learnt.
        shortened: Prompts that were too long and lost their beginning or their end.
        left_out: Requests that were too long.
        unknown: Judged items that are not in the catalogue.
    """

    loop: LoopReport
    pairs: dict[str, int]
    held_out: int
    weights: int
    shortened: int = 0
    left_out: int = 0
    unknown: int = 0

    def summary(self) -> dict[str, str]:
        """Give a few lines for people."""
        told = {
            "requests": ", ".join(f"{count:,} from {source}" for source, count in self.pairs.items()),
            "held out": f"{self.held_out:,}",
            "weights that learnt": f"{self.weights:,}",
        }
        counted = {"shortened": self.shortened, "left out": self.left_out, "unknown judged items": self.unknown}
        return {**told, **{name: f"{count:,}" for name, count in counted.items() if count}, **self.loop.summary()}

    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class FineTuned:
    """Hold the model after a fine-tuning.

    Args:
        model: Ready to answer.
        adapter: What LoRA learnt, merged into the model already; None where the weights themselves learnt.
        beam: How to search with it: on the rails, where it was taught on them.
        report: What happened.
    """

    model: CausalModel
    adapter: Adapter | None
    beam: BeamSettings
    report: FineTuningReport


def pairs_of(data: Data, tuning: FineTuning, longest: int) -> tuple[list[Pair], list[Pair]]:
    """List what there is to learn from, and what is held out to validate on.

    Held out are the next items that `Data.without_validation` keeps back, and a fifth of the judged queries at most; of
    made-up queries only where there is nothing else.

    Args:
        data: The catalogue, and perhaps interactions and judged queries.
        tuning: What to learn from.
        longest: Items of a history that the model reads.

    Raises:
        SettingsError: Nothing of the data fits the catalogue.
    """
    catalog, blind = data.catalog, data.without_validation
    grades = {
        query_id: dict(zip(catalog.rows(list(judged)).tolist(), judged.values(), strict=True))
        for query_id, judged in data.judged.items()
    }
    judged = of_live(judged_pairs(data.queries or {}, grades), catalog.live)
    pasts: list[Pair] = []
    if blind.sequences is not None:
        rows, offsets = np.asarray(blind.sequences.rows, np.int64), np.asarray(blind.sequences.offsets, np.int64)
        pasts = of_live(history_pairs(rows, offsets, longest, tuning.next_items, data.seed), catalog.live)
    made = tuning.pseudo_queries
    if made is None:
        made = 0 if pasts and not judged else VARIANTS
    texts = of_live(text_pairs(catalog.titles, catalog.texts(), made, data.seed), catalog.live)
    if tuning.made_up is not None and tuning.made_up < len(texts):
        drawn = generator(data.seed, "made-up queries").permutation(len(texts))[: tuning.made_up]
        texts = [texts[place] for place in np.sort(drawn)]
    words, held = held_out(judged, tuning.validation, seed=data.seed)
    withheld = blind.held_back
    if withheld is not None and len(withheld) and tuning.validation:
        cases = withheld.sample(tuning.validation, data.seed).cases()
        held += [Pair(None, tuple(past), (row,), source="history") for past, row in cases if catalog.live[row]]
    if not judged and not pasts:
        texts, held = held_out(texts, tuning.validation, seed=data.seed)
    learnt = [*words, *pasts, *texts]
    if tuning.recipe == "align":
        learnt += of_live(aligned_pairs(learnt, catalog.titles, data.seed), catalog.live)
    return learnt, held


def taught_pairs(
    pairs: Sequence[Pair], data: Data, longest: int, settings: Distillation, progress: Progress
) -> list[Pair]:
    """Let a teacher say what is right for made-up queries and for pasts; judged queries stay as they are.

    Args:
        pairs: From `pairs_of`. Pasts among them are replaced by those that the teacher is asked about.
        data: With the teacher.
        longest: Items of a history that the model reads.
        settings: How rankings become shares.
        progress: Called with (stage, done, total).

    Raises:
        SettingsError: There is no teacher.

    Cost: the teacher's, for each request.
    """
    if data.teacher is None:
        raise SettingsError("recipe is 'distill', but nobody teaches; give teacher, an engine over the same catalogue")
    found = [pair for pair in pairs if pair.source not in ("text", "history")]
    texts = [pair for pair in pairs if pair.source == "text"]
    if texts:
        words, rows = [str(pair.text) for pair in texts], np.array([pair.rows[0] for pair in texts])
        found += _told_by(on_words(data.teacher, data, words, None, rows, settings, progress), words)
    if any(pair.source == "history" for pair in pairs):
        lessons = on_histories(data.teacher, data.without_validation, longest, settings, progress)
        found += [] if lessons is None else _told_by(lessons, [None] * len(lessons))
    return of_live(found, data.catalog.live)


def _told_by(lessons: Lessons, words: Sequence[str | None]) -> list[Pair]:
    """Turn what a teacher told into pairs."""
    found = []
    for text, past, rows, shares in zip(words, lessons.histories, lessons.rows, lessons.shares, strict=True):
        right: dict[int, float] = {}
        for row, share in zip(rows.tolist(), shares.tolist(), strict=True):
            if share > 0:
                right[row] = right.get(row, 0.0) + share
        found.append(Pair(text, tuple(past), tuple(right), tuple(right.values()), "teacher"))
    return found


def fine_tuned(
    finder: Generative,
    data: Data,
    tuning: FineTuning,
    progress: Progress,
    copied: bool = True,
    distillation: Distillation | None = None,
) -> FineTuned:
    """Teach a finder's causal language model.

    Args:
        finder: Stays as it is.
        data: What to learn from.
        tuning: How.
        progress: Called with (stage, done, total); the training counts seconds, so that its time left is known.
        copied: Teach a copy of the weights; else those of the finder itself, which nobody uses yet.
        distillation: How to learn from a teacher, with ``recipe="distill"``.

    Raises:
        SettingsError: The model cannot be taught so, or there is nothing to learn from.
    """
    given = finder.spelling.language_model
    module = (copy.deepcopy(given.model) if copied else given.model).float()
    learner = Learner(module, tuning, _code_rows(finder), data.seed)
    model = CausalModel(module, given.tokenizer, given.name, given.attention, given.prompts_together)
    student = finder.replaced(spelling=finder.spelling.with_language_model(model))
    learnt, held = _requests(student, data, tuning, distillation or Distillation(), progress)
    trie = finder.spelling.in_words(compressed(finder.index))
    examples, counts = _examples(learnt, student, trie, tuning, progress)
    report = fine_tune(
        Reader(module, model.body, model.output, model.sees if model.reads_runs else None),
        [example for example, _ in examples],
        _groups([pair for _, pair in examples]),
        trie,
        tuning,
        validate=_validation(student, held, tuning.validation_beams),
        focus=None if tuning.focus is None else data.catalog.where(tuning.focus),
        seed=data.seed,
        progress=_told(progress),
    )
    weights, adapter = learner.close(), None
    if learner.wrapped is not None:
        module, adapter = merge_lora(learner.wrapped, given.fingerprint, given.name)
    module = module.requires_grad_(True).to(given.model.dtype)
    final = CausalModel(module, given.tokenizer, given.name, given.attention, given.prompts_together)
    known = dict(Counter(pair.source for _, pair in examples))
    told = FineTuningReport(report, known, len(held), weights, unknown=_unknown(data), **counts)
    meaning = "renormalised" if tuning.loss == "rails" else finder.beam.meaning
    return FineTuned(final, adapter, replace(finder.beam, meaning=meaning), told)


def _requests(
    student: Generative, data: Data, tuning: FineTuning, settings: Distillation, progress: Progress
) -> tuple[list[Pair], list[Pair]]:
    """List what is learnt and what is held out, as a teacher sees it where there is one."""
    longest = student.spelling.longest_history
    learnt, held = pairs_of(data, tuning, longest)
    if tuning.recipe == "distill":
        learnt = taught_pairs(learnt, data, longest, settings, progress)
        texts = [pair for pair in held if pair.source == "text"]
        held = [pair for pair in held if pair.source != "text"]
        held += taught_pairs(texts, data, longest, settings, progress)
    return learnt, held


def _code_rows(finder: Generative) -> range | None:
    """Give the tokens of codes; None where identifiers are words."""
    tokens = getattr(finder.spelling.model, "tokens", None)
    return None if tokens is None else range(tokens.first, tokens.first + tokens.levels * tokens.codes)


def shown(finder: Generative, data: Data, tuning: FineTuning, count: int) -> list[dict[str, Any]]:
    """Show some examples of each source, drawn by seed: prompt as text, and the right items."""
    learnt, _ = pairs_of(data, tuning, finder.spelling.longest_history)
    order = generator(data.seed, "examples to show").permutation(len(learnt))
    taken: Counter[str] = Counter()
    found = []
    for pair in (learnt[place] for place in order):
        taken[pair.source] += 1
        if taken[pair.source] <= count:
            items = [
                {"item_id": data.catalog.item_ids[row], "title": data.catalog.titles[row], "share": weight}
                for row, weight in zip(pair.rows, pair.weights, strict=True)
            ]
            prompt = cast("CausalModel", finder.spelling.model).tokenizer.decode(_prompt(finder, pair)[0])
            found.append({"source": pair.source, "prompt": prompt, "items": items})
    return sorted(found, key=lambda one: str(one["source"]))


def _told(progress: Progress) -> Callable[[LoopProgress], None]:
    def told(now: LoopProgress) -> None:
        progress("fine-tuning, seconds", int(now.seconds), int(now.seconds + now.seconds_left) + 1)

    return told


def _unknown(data: Data) -> int:
    """Count judged items that the catalogue does not have."""
    known = data.queries or {}
    judged = (items for query_id, items in (data.qrels or {}).items() if query_id in known)
    return sum(item_id not in data.catalog for items in judged for item_id in items)


def _groups(pairs: Sequence[Pair]) -> list[int]:
    """Give the events of one user, which stand one after the other, the same number."""
    numbers, number = [], 0
    for place, pair in enumerate(pairs):
        before = pairs[place - 1].history[:1] if place else ()
        number += not (pair.history and before == pair.history[:1])
        numbers.append(number)
    return numbers


def _examples(
    pairs: Sequence[Pair], finder: Generative, trie: CompressedTrie, tuning: FineTuning, progress: Progress
) -> tuple[list[tuple[TrainingExample, Pair]], dict[str, int]]:
    """Render prompts as the finder does; count those that are too long."""
    room = min(filter(None, (tuning.longest, finder.spelling.language_model.context_size)), default=None)
    longest = int(np.diff(trie.offsets).max(initial=0))
    found, shortened, left_out = [], 0, 0
    for place, pair in enumerate(pairs):
        if place % 1000 == 0:
            progress("prompts", place, len(pairs))
        fitting: Pair | None = pair
        prompt, text = _prompt(finder, pair)
        answer = len(text) or longest
        if room is not None and len(prompt) + answer > room:
            fitting = None if tuning.too_long == "leave out" else _shortened(finder, pair, room - answer)
            shortened, left_out = shortened + (fitting is not None), left_out + (fitting is None)
            prompt, text = ([], []) if fitting is None else _prompt(finder, fitting)
        if fitting is not None:
            found.append((TrainingExample(prompt, pair.rows, pair.weights, text), fitting))
    progress("prompts", len(pairs), len(pairs))
    return found, {"shortened": shortened, "left_out": left_out}


def _prompt(finder: Generative, pair: Pair) -> tuple[list[int], list[int]]:
    """Render a request as the finder asks; give what should follow too, where that is no item."""
    if pair.coded or pair.named:
        return finder.spelling.aligned(pair, finder.catalog, finder.table)
    return cast("list[int]", finder.spelling.contexts([_request(finder, pair)], finder.catalog)[0]), []


def _request(finder: Generative, pair: Pair) -> Request:
    """Ask for what is right: any live item but those of the past."""
    past, live = np.array(pair.history, dtype=np.int64), finder.catalog.live
    allowed = live.copy()
    allowed[past] = False
    return Request(pair.text, past, allowed, (), live, excluded=past)


def _shortened(finder: Generative, pair: Pair, room: int) -> Pair | None:
    """Drop the oldest titles of a request until its prompt fits, then the last words; None where nothing is left."""
    while True:
        words = (pair.text or "").split()
        if len(pair.history) > (0 if words else 1):
            pair = replace(pair, history=pair.history[1:])
        elif len(words) > 1:
            pair = replace(pair, text=" ".join(words[:-1]))
        else:
            return None
        if len(_prompt(finder, pair)[0]) <= room:
            return pair


def _validation(student: Generative, held: Sequence[Pair], beams: int) -> Callable[[], dict[str, float]] | None:
    """Make what asks the student the held-out requests, and compares its answers with what is right."""
    if not held:
        return None
    requests = [_request(student, pair) for pair in held]
    right = [dict(zip(pair.rows, pair.weights, strict=True)) for pair in held]
    decoder = BeamSettings(width=max(beams, CUTOFF), meaning="renormalised")

    def validate() -> dict[str, float]:
        student.spelling.changed()
        found = student.find(requests, CUTOFF, FindOptions(decoder=decoder))
        ndcg, recall = graded_figures([one.rows for one in found], right, CUTOFF)
        return {f"nDCG@{CUTOFF}": ndcg, f"R@{CUTOFF}": recall}

    return validate
