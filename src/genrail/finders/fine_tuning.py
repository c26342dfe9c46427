"""From what a shop knows to a fine-tuned language model: pairs, prompts, validation by decoding, and the report."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from genrail.constraints.compressed import CompressedTrie, compressed
from genrail.decoding import BeamSettings
from genrail.errors import SettingsError
from genrail.finders.lessons import Distillation, on_histories, on_words
from genrail.finders.made_up import made_up
from genrail.finders.rewarding import LanguageCase, RewardedWriter
from genrail.finding import Data, FindOptions, Found, Progress, Request
from genrail.memory import give_back_memory
from genrail.models.adapters import Adapter, merge_lora
from genrail.models.causal import CausalModel
from genrail.models.model_card import ModelCard
from genrail.rng import generator
from genrail.training.figures import graded_figures
from genrail.training.fine_tuning import Learner, Reader, fine_tune
from genrail.training.grpo import improved
from genrail.training.packing import TrainingExample
from genrail.training.pairs import (
    MADE_UP,
    Pair,
    aligned_pairs,
    held_out,
    history_pairs,
    judged_pairs,
    made_up_pairs,
    of_live,
)
from genrail.training.pseudo_queries import told_of_written
from genrail.training.rewards import reward_of
from genrail.types import silent

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.finders.generative import Generative
    from genrail.training.distillation import Lessons
    from genrail.training.fine_tuning_settings import FineTuning
    from genrail.training.loop import LoopReport
    from genrail.training.loop import Progress as LoopProgress

__all__ = [
    "CUTOFF",
    "FineTuned",
    "FineTuningReport",
    "Requests",
    "fine_tuned",
    "pairs_of",
    "rewarded_writer",
    "shown",
    "taught_pairs",
    "validation",
]

Rows = npt.NDArray[np.int64]
CUTOFF = 10
TOGETHER = 64  # requests that a student writes for at once
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
        written: What became of queries that a model wrote, by name; empty where none did.
        start: With ``recipe="grpo"``, the validation of the model as it was before.
        kept: Whether the model got better by it; if not, it was left as it was.
    """

    loop: LoopReport
    pairs: dict[str, int]
    held_out: int
    weights: int
    shortened: int = 0
    left_out: int = 0
    unknown: int = 0
    written: dict[str, int] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    kept: bool = True

    def summary(self) -> dict[str, str]:
        """Give a few lines for people."""
        told = {
            "requests": ", ".join(f"{count:,} from {source}" for source, count in self.pairs.items()),
            **told_of_written(self.written),
            "held out": f"{self.held_out:,}",
            "weights that learnt": f"{self.weights:,}",
        }
        if self.start:
            told["validation before"] = ", ".join(f"{name} {value:.4f}" for name, value in self.start.items())
        if not self.kept:
            told["kept"] = "no better: the model was left as it was"
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
        card: The same for those who get the weights.
        held: Requests that were held out, with their right items.
    """

    model: CausalModel
    adapter: Adapter | None
    beam: BeamSettings
    report: FineTuningReport
    card: ModelCard
    held: Sequence[Pair]


class Requests(NamedTuple):
    """Hold what there is to learn from.

    Args:
        learnt: Requests with their right items.
        held: Requests that are held out to validate on.
        written: What became of queries that a model wrote, by name; empty where none did.
    """

    learnt: list[Pair]
    held: list[Pair]
    written: dict[str, int]


def pairs_of(
    data: Data, tuning: FineTuning, longest: int, own: CausalModel | None = None, progress: Progress = silent
) -> Requests:
    """List what there is to learn from, and what is held out to validate on.

    Held out are the next items that `Data.without_validation` keeps back, and a fifth of the judged queries at most; of
    made-up queries only where there is nothing else.

    Args:
        data: The catalogue, and perhaps interactions and judged queries.
        tuning: What to learn from.
        longest: Items of a history that the model reads.
        own: The finder's language model, which may write queries.
        progress: Called with (stage, done, total).

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
    variants = tuning.pseudo_queries
    if variants is None:
        variants = 0 if pasts and not judged else VARIANTS
    made = made_up(data, _described(data, tuning, variants), variants, tuning.making, progress, own)
    texts = made_up_pairs(made.queries, made.rows, made.written)
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
    return Requests(learnt, held, made.counts)


def _described(data: Data, tuning: FineTuning, variants: int) -> Rows:
    """List the items that queries are made up for: all live ones, or enough for what is to be written."""
    rows = np.flatnonzero(data.catalog.live)
    if tuning.making.made == "cut" or tuning.made_up is None or tuning.made_up >= variants * len(rows):
        return rows
    items = -(-tuning.made_up // variants)
    return np.sort(generator(data.seed, "items to write about").permutation(rows)[:items])


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
        raise SettingsError("nobody teaches; give a teacher, an engine over the same items")
    found = [pair for pair in pairs if pair.source not in (*MADE_UP, "history")]
    texts = [pair for pair in pairs if pair.source in MADE_UP]
    if texts:
        words, rows = [str(pair.text) for pair in texts], np.array([pair.rows[0] for pair in texts])
        found += _told_by(on_words(data.teacher, data, words, None, rows, settings, progress), words)
    if pasts := sum(pair.source == "history" for pair in pairs):
        fitting = replace(settings, histories=min(settings.histories, pasts))
        lessons = on_histories(data.teacher, data.without_validation, longest, fitting, progress)
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
    if tuning.recipe == "grpo" and not copied:
        raise SettingsError("grpo goes on from a taught model; build with another recipe, then train with this one")
    given = finder.spelling.language_model
    module = (copy.deepcopy(given.model) if copied else given.model).float()
    learner = Learner(module, tuning, _code_rows(finder), data.seed)
    model = CausalModel(module, given.tokenizer, given.name, given.attention, given.prompts_together)
    student = finder.replaced(spelling=finder.spelling.with_language_model(model))
    learnt, held, written = _requests(finder, data, tuning, distillation or Distillation(), progress)
    trie = finder.spelling.in_words(compressed(finder.index))
    examples, counts = _examples(learnt, student, trie, tuning, progress)
    validate = validation(held, data.catalog, _beams_of(student, tuning.validation_beams))
    details: dict[str, Any] = {}
    if tuning.recipe == "grpo":
        task = _rewarded(student, given, trie, examples, held, validate, data, tuning, progress)
        done = improved(task, tuning.loop, data.seed, _told(progress), tuning.checkpoint, tuning.curve)
        report, details["start"], details["kept"] = done
    else:
        report = fine_tune(
            _reader(model),
            [example for example, _ in examples],
            _groups([pair for _, pair in examples]),
            trie,
            tuning,
            validate=validate,
            write=_writer(student, [pair for _, pair in examples], tuning),
            focus=None if tuning.focus is None else data.catalog.where(tuning.focus),
            seed=data.seed,
            progress=_told(progress),
        )
    give_back_memory()  # activations of the longest requests, gigabytes
    weights, adapter = learner.close(), None
    if learner.wrapped is not None:
        module, adapter = merge_lora(learner.wrapped, given.fingerprint, given.name, not tuning.merged)
    module = module.requires_grad_(True).to(given.model.dtype)
    final = CausalModel(module, given.tokenizer, given.name, given.attention, given.prompts_together)
    known = dict(Counter(pair.source for _, pair in examples))
    details |= {**counts, "unknown": _unknown(data)}
    told = FineTuningReport(report, known, len(held), weights, written=written, **details)
    meaning = finder.beam.meaning if tuning.loss == "cross-entropy" else "renormalised"
    card = ModelCard(given.name, len(data.catalog), known, tuning.changed(), told.summary(), data.seed)
    return FineTuned(final, adapter, replace(finder.beam, meaning=meaning), told, card, held)


def rewarded_writer(
    finder: Generative, data: Data, tuning: FineTuning, progress: Progress, distillation: Distillation | None = None
) -> tuple[CausalModel, RewardedWriter]:
    """Let a copy of a finder's model write for requests, to be taught by rewards in somebody else's loop.

    Args:
        finder: Stays as it is.
        data: What to ask for.
        tuning: Which requests, and what rollouts are worth.
        progress: Called with (stage, done, total).
        distillation: How a teacher's lists become rewards.

    Returns:
        The copy, whose weights are to learn, and what writes by them as they stand.

    Raises:
        SettingsError: There is nothing to learn from.
    """
    given = finder.spelling.language_model
    model = CausalModel(copy.deepcopy(given.model).float(), given.tokenizer, given.name, given.attention)
    student = finder.replaced(spelling=finder.spelling.with_language_model(model))
    learnt, held, _ = _requests(finder, data, tuning, distillation or Distillation(), progress)
    trie = finder.spelling.in_words(compressed(finder.index))
    examples, _ = _examples(learnt, student, trie, tuning, progress)
    return model, _rewarded(student, given, trie, examples, held, None, data, tuning, progress)


def _writer(student: Generative, pairs: Sequence[Pair], tuning: FineTuning) -> Callable[[Sequence[int]], list[Rows]]:
    """Let a student write items for some pairs by the weights as they stand: those that are right, and others."""

    def write(numbers: Sequence[int]) -> list[Rows]:
        student.spelling.changed()
        asking = [pairs[number] for number in numbers]
        most = tuning.negatives + max((len(pair.rows) for pair in asking), default=0)
        decoder = BeamSettings(width=max(tuning.validation_beams, most), meaning="renormalised")
        found: list[Rows] = []
        for first in range(0, len(asking), TOGETHER):
            requests = [asked(pair, student.catalog) for pair in asking[first : first + TOGETHER]]
            found += [one.rows for one in student.find(requests, most, FindOptions(decoder=decoder))]
        return found

    return write


def _reader(model: CausalModel) -> Reader:
    return Reader(model.model, model.body, model.output, model.sees if model.reads_runs else None)


def _rewarded(
    student: Generative,
    given: CausalModel,
    trie: CompressedTrie,
    examples: Sequence[tuple[TrainingExample, Pair]],
    held: Sequence[Pair],
    validate: Callable[[], dict[str, float]] | None,
    data: Data,
    tuning: FineTuning,
    progress: Progress,
) -> RewardedWriter:
    """Let a student write items for requests, and learn from what they are worth."""
    if not examples:
        raise SettingsError("there is nothing to learn from; give queries and qrels, interactions, or texts")
    cases = [LanguageCase(one.prompt, asked(pair, data.catalog), pair.rows, pair.weights) for one, pair in examples]
    validation = [
        LanguageCase(_prompt(student, pair)[0], asked(pair, data.catalog), pair.rows, pair.weights) for pair in held
    ]
    wanted = tuning.rewarding.reward == "likeness"
    vectors = data.text_vectors(progress) if wanted else np.zeros((len(data.catalog), 1), dtype=np.float32)
    return RewardedWriter(
        student,
        _reader(student.spelling.language_model),
        _reader(given),
        trie,
        cases,
        tuning,
        reward_of(tuning.rewarding.reward),
        vectors,
        validation,
        validate,
        data.seed,
    )


def _requests(
    finder: Generative, data: Data, tuning: FineTuning, settings: Distillation, progress: Progress
) -> Requests:
    """List what is learnt and what is held out, as a teacher sees it where there is one."""
    longest = finder.spelling.longest_history
    learnt, held, written = pairs_of(data, tuning, longest, finder.spelling.language_model, progress)
    if tuning.asks:
        learnt = taught_pairs(learnt, data, longest, settings, progress)
        texts = [pair for pair in held if pair.source in MADE_UP]
        held = [pair for pair in held if pair.source not in MADE_UP]
        held += taught_pairs(texts, data, longest, settings, progress)
    return Requests(learnt, held, written)


def _code_rows(finder: Generative) -> range | None:
    """Give the tokens of codes; None where identifiers are words."""
    tokens = getattr(finder.spelling.model, "tokens", None)
    return None if tokens is None else range(tokens.first, tokens.first + tokens.levels * tokens.codes)


def shown(
    finder: Generative, data: Data, tuning: FineTuning, count: int, distillation: Distillation
) -> list[dict[str, Any]]:
    """Show some examples of each source, drawn by seed: prompt as text, and the right items."""
    longest, catalog = finder.spelling.longest_history, data.catalog
    if tuning.making.made == "written":  # so many that some are kept
        tuning = replace(tuning, made_up=min(4 * count, tuning.made_up or 4 * count))
    learnt = pairs_of(data, tuning, longest, finder.spelling.language_model).learnt
    order = generator(data.seed, "examples to show").permutation(len(learnt))
    taken: Counter[str] = Counter()
    drawn = []
    for pair in (learnt[place] for place in order):
        taken[pair.source] += 1
        if taken[pair.source] <= count:
            drawn.append(pair)
    if tuning.asks:
        few = replace(distillation, histories=count)
        drawn = taught_pairs(drawn, data, longest, few, silent)
    tokenizer = finder.spelling.language_model.tokenizer
    return [
        {
            "source": pair.source,
            "prompt": tokenizer.decode(_prompt(finder, pair)[0]),
            "items": [
                {"item_id": catalog.item_ids[row], "title": catalog.titles[row], "share": weight}
                for row, weight in zip(pair.rows, pair.weights, strict=True)
            ],
        }
        for pair in sorted(drawn, key=lambda one: one.source)
    ]


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
    return cast("list[int]", finder.spelling.contexts([asked(pair, finder.catalog)], finder.catalog)[0]), []


def asked(pair: Pair, catalog: Catalog) -> Request:
    """Ask for what is right: any live item but those of the past."""
    past, live = np.array(pair.history, dtype=np.int64), catalog.live
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


def validation(
    held: Sequence[Pair], catalog: Catalog, find: Callable[[list[Request]], list[Found]]
) -> Callable[[], dict[str, float]] | None:
    """Make what asks a student the held-out requests, and compares its answers with what is right.

    Args:
        held: Requests and their right items; None is given where there are none.
        catalog: The items.
        find: Gives the best ten for each request by the model as it stands.
    """
    if not held:
        return None
    requests = [asked(pair, catalog) for pair in held]
    right = [dict(zip(pair.rows, pair.weights, strict=True)) for pair in held]

    def validate() -> dict[str, float]:
        ndcg, recall = graded_figures([one.rows for one in find(requests)], right, CUTOFF)
        return {f"nDCG@{CUTOFF}": ndcg, f"R@{CUTOFF}": recall}

    return validate


def _beams_of(student: Generative, beams: int) -> Callable[[list[Request]], list[Found]]:
    """Let a student answer on the rails by the weights as they stand."""
    decoder = BeamSettings(width=max(beams, CUTOFF), meaning="renormalised")

    def find(requests: list[Request]) -> list[Found]:
        student.spelling.changed()
        return student.find(requests, CUTOFF, FindOptions(decoder=decoder))

    return find
