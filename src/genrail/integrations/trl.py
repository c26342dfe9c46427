"""An engine's language model in trl's GRPOTrainer: what it writes there stays on the rails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from genrail.constraints.compressed import compressed
from genrail.engine import Engine
from genrail.engine.engine import teaching
from genrail.errors import SettingsError
from genrail.finders.titles import TitleWriter
from genrail.finding import Data, Edition
from genrail.finding.finder import with_settings
from genrail.rng import generator
from genrail.types import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genrail.catalog import Interactions
    from genrail.finders.rewarding import LanguageCase

__all__ = ["GrpoRails"]


class GrpoRails:
    """Hand an engine that writes titles to trl's ``GRPOTrainer``: requests, rollouts on the rails, and rewards.

    Every rollout is an item of the catalogue, none comes twice for a request, and only the tokens by which the model
    chose between items are learnt from (``env_mask``). trl's loss reads them among the whole vocabulary, that of
    ``Engine.train(recipe="grpo")`` among what may follow, and reads a prompt once for all its rollouts. Use this for
    what trl brings: its losses, trackers and accelerate.

    Args:
        engine: Its finder writes titles, and should have been taught before. It stays as it is.
        interactions, queries, qrels, teacher, hold_out, seed: See `Engine.train`; a teacher for ``reward="teacher"``.
        progress: Called with (stage, done, total).
        settings: Those of ``recipe="grpo"`` that say which requests there are, how items are written and what they are
            worth: ``pseudo_queries``, ``reward``, ``sampler``, ``temperature``. The number of rollouts is trl's.

    Attributes:
        model: A copy of the weights, for ``GRPOTrainer(model=...)``, which trains them in place.
        tokenizer: For ``processing_class=...``.

    Raises:
        SettingsError: The engine's finder writes no titles, or there is nothing to learn from.

    Source: Shao et al. 2024, DeepSeekMath (arXiv 2402.03300); trl's ``rollout_func`` is experimental.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        interactions: Interactions | None = None,
        queries: Mapping[str, str] | None = None,
        qrels: Mapping[str, Mapping[str, float]] | None = None,
        teacher: Engine | None = None,
        hold_out: bool = True,
        seed: int = 0,
        progress: Progress = silent,
        **settings: object,
    ) -> None:
        from genrail.finders.fine_tuning import rewarded_writer

        finder, catalog = engine.edition.finder, engine.catalog
        if not isinstance(finder, TitleWriter):
            raise SettingsError(f"trl teaches an engine that writes titles; this one is {finder.name}")
        data = Data(catalog, interactions, queries, qrels, finder.encoder, hold_out, seed)
        if teacher is not None:
            data = data.taught_by(teaching(teacher, catalog))
        tuning: Any = with_settings(finder.recipe, {"recipe": "grpo", **settings})
        self._finder, self._catalog, self._seed, self._calls = finder, catalog, seed, 0
        self._held_out = hold_out
        self._causal, self._writer = rewarded_writer(finder, data, tuning.tuning, progress, tuning.distillation)
        self.model, self.tokenizer = self._causal.model, self._causal.tokenizer
        self._cases: dict[str, LanguageCase] = {}
        for case in self._writer.cases:  # what is asked alike has all the right items of both
            text = self.tokenizer.decode(case.prompt)
            known = Counter(dict(zip(case.rows, case.shares, strict=True)))
            if (before := self._cases.get(text)) is not None:
                known.update(dict(zip(before.rows, before.shares, strict=True)))
            self._cases[text] = replace(case, rows=tuple(known), shares=tuple(known.values()))

    def examples(self) -> list[dict[str, str]]:
        """List the requests, each once, for ``datasets.Dataset.from_list``: what trl calls its train dataset."""
        return [{"prompt": text} for text in self._cases]

    def rollouts(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Write items for the prompts of a step, as ``GRPOTrainer(rollout_func=...)`` asks.

        Args:
            prompts: From `examples`; equal ones stand side by side, and each stands for one rollout.
            trainer: Not read: the weights are those of `model`.

        Returns:
            By prompt: its tokens, those of the item, 1 where the model had a choice and 0 where it had none, no
            log-probabilities, and what the item is worth.

        Raises:
            SettingsError: A prompt is none of `examples`.
        """
        unknown = next((text for text in prompts if text not in self._cases), None)
        if unknown is not None:
            raise SettingsError(f"{unknown[:200]!r} is no request of this engine; make the dataset of examples()")
        groups = [(text, len(list(copies))) for text, copies in groupby(prompts)]
        training = self.model.training
        self.model.eval()  # what is rated is what is served: without dropout
        found = self._written([self._cases[text] for text, _ in groups], [copies for _, copies in groups])
        self.model.train(training)
        return {**found, "logprobs": None}

    def _written(self, cases: list[LanguageCase], counts: list[int]) -> dict[str, list[Any]]:
        writer, answers = self._writer, self._writer.answers
        seeds = None
        if writer.settings.sampler == "sample":
            self._calls += 1
            seeds = generator(self._seed, "trl", "rollouts", self._calls).integers(2**31, size=len(cases)).tolist()
        rollouts = writer.written(cases, max(2, *counts), seeds)
        worth = writer.reward(rollouts)
        found: dict[str, list[Any]] = {"prompt_ids": [], "completion_ids": [], "env_mask": [], "worth": []}
        for row, (case, count) in enumerate(zip(cases, counts, strict=True)):
            there = np.flatnonzero(rollouts.rows[row] >= 0)
            for place in np.resize(there, count).tolist():  # where fewer items are allowed, they come again
                identifier = answers.of(int(rollouts.rows[row, place]))[0]
                tokens = answers.trie.sequence(identifier).tolist()
                chosen = {int(answers.trie.depth[node]) for node, _ in answers.path(identifier)}
                found["prompt_ids"].append(list(case.prompt))
                found["completion_ids"].append(tokens)
                found["env_mask"].append([int(depth in chosen) for depth in range(len(tokens))])
                found["worth"].append(float(worth[row, place]))
        return found

    @staticmethod
    def rewards(prompts: Sequence[str], completions: Sequence[str], worth: Sequence[float], **_: object) -> list[float]:
        """Give what `rollouts` found the items worth, as ``GRPOTrainer(reward_funcs=...)`` asks."""
        return list(worth)

    def taught(self, trainer: Any) -> Engine:
        """Make an engine of what was learnt; LoRA is merged, and the weights are saved with the engine.

        Args:
            trainer: After its training.
        """
        from genrail.models.causal import CausalModel

        module = trainer.accelerator.unwrap_model(trainer.model)
        merge = getattr(module, "merge_and_unload", None)
        module = (module if merge is None else merge()).eval()
        before = self._finder.spelling
        given = before.language_model
        model = CausalModel(module.to(given.model.dtype), given.tokenizer, given.name, given.attention)
        held_out = before.held_out and self._held_out
        spelling = replace(before, model=model, source=None, adapter=None, held_out=held_out)
        if before.empty.weight is not None:  # as was chosen for the engine before
            spelling.empty_scores(compressed(self._finder.index))
            spelling.empty.choose(before.empty.weight)
        return Engine(Edition(self._catalog, self._finder.replaced(spelling=spelling)))
