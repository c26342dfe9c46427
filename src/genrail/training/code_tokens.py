"""Teach a language model to write Semantic IDs: prompts in, codes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from genrail.errors import SettingsError, ShapeError
from genrail.models.code_tokens import CodeModel
from genrail.rng import generator
from genrail.training.loop import LoopReport, LoopSettings, Progress, run

__all__ = ["CodeTrainingSettings", "train_codes"]

Int = npt.NDArray[np.int64]


def _loop() -> LoopSettings:
    return LoopSettings(epochs=10, learning_rate=3e-4, warm_up=20, weight_decay=0.0, averaging=0.0)


@dataclass(frozen=True)
class CodeTrainingSettings:
    """Say how a language model learns codes.

    Args:
        train: `all` weights, or the embeddings of the `codes` alone: fast, and words keep their meaning.
        batch: Prompts in one step.
        held_out: Share of the prompts that choose the best epoch instead of training; 0 keeps the last one.
        loop: Of the training loop. The learning rate, ten epochs and twenty steps of warm-up are those of MiniOneRec
            (Kong et al. 2025).
    """

    train: Literal["all", "codes"] = "all"
    batch: int = 32
    held_out: float = 0.0
    loop: LoopSettings = field(default_factory=_loop)

    def __post_init__(self) -> None:
        if self.train not in ("all", "codes"):
            raise SettingsError(f"train is {self.train!r}; give 'all' or 'codes'")
        if self.batch < 1 or not 0 <= self.held_out < 1:
            raise SettingsError(f"batch is {self.batch} and held_out {self.held_out}; give 1 or more, and 0 to below 1")


def train_codes(
    model: CodeModel,
    prompts: Sequence[Sequence[int]],
    codes: npt.ArrayLike,
    settings: CodeTrainingSettings | None = None,
    *,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
) -> LoopReport:
    """Train in place: after prompt i, the model should write the codes of row i.

    The loss is the cross-entropy of each code among the codes of its level, which is what decoding reads; the words of
    the prompt are not trained on.

    Args:
        model: The language model with its code tokens.
        prompts: Token ids of each request, as `Prompts.render` makes them.
        codes: The right identifier of each, shape (prompts, levels).
        settings: Default `CodeTrainingSettings()`.
        seed: Of held-out prompts, batches and dropout.
        progress: Called after each step.
        checkpoint: See `loop.run`.

    Raises:
        ShapeError: Not one row of codes for each prompt, or not as many levels as the model has.
        SettingsError: Nothing to learn from.

    Source: LC-Rec (Zheng et al. 2024) and MiniOneRec (Kong et al. 2025) for prompts with new tokens; loss on the
    response alone.
    """
    settings = settings or CodeTrainingSettings()
    matrix = np.asarray(codes, dtype=np.int64)
    if matrix.shape != (len(prompts), model.tokens.levels):
        raise ShapeError(f"codes have shape {matrix.shape}; give ({len(prompts)}, {model.tokens.levels})")
    task = _CodeTask(model, [list(prompt) for prompt in prompts], matrix, settings, seed)
    loop = replace(settings.loop, weight_decay=0.0) if settings.train == "codes" else settings.loop
    try:
        return run(task, loop, seed, progress, checkpoint)
    finally:
        task.close()
        model.changed()


class _CodeTask:
    """What the training loop asks for."""

    def __init__(
        self, model: CodeModel, prompts: list[list[int]], codes: Int, settings: CodeTrainingSettings, seed: int
    ) -> None:
        order = generator(seed, "held-out prompts").permutation(len(prompts))
        held = int(len(prompts) * settings.held_out)
        self._held, self._rows = order[:held], np.sort(order[held:])
        if not len(self._rows):
            raise SettingsError("there are no prompts to learn from; give some, and hold out less than all")
        self._model, self._prompts, self._codes, self._settings, self._seed = model, prompts, codes, settings, seed
        self._frozen = [weights for weights in model.full.parameters() if weights.requires_grad]
        self._hooks = self._freeze_words() if settings.train == "codes" else []

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self._model.full
        return module

    def epoch(self, number: int) -> Sequence[Int]:
        order = generator(self._seed, "batches", number).permutation(self._rows)
        return [order[first : first + self._settings.batch] for first in range(0, len(order), self._settings.batch)]

    def loss(self, batch: Int) -> Tensor:
        """Read prompts and codes, padded on the left so that all codes stand at the end."""
        full, tokens = self._model.full, self._model.tokens
        codes = torch.from_numpy(self._codes[batch])
        level = torch.arange(tokens.levels)
        ids = tokens.first + level * tokens.codes + codes
        prompts = [self._prompts[row] for row in batch.tolist()]
        longest = max(map(len, prompts))
        words = torch.zeros((len(batch), longest), dtype=torch.int64)
        mask = torch.ones((len(batch), longest + tokens.levels - 1), dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            words[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, : longest - len(prompt)] = 0
        output = full(
            input_ids=torch.cat([words, ids[:, :-1]], dim=1).to(full.device),
            attention_mask=mask.to(full.device),
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).to(full.device),
            use_cache=False,
        )
        logits = output.logits[:, -tokens.levels :, tokens.first : tokens.first + tokens.levels * tokens.codes]
        table = logits.reshape(*logits.shape[:2], tokens.levels, tokens.codes)[:, level, level]  # (n, levels, codes)
        return cross_entropy(table.flatten(0, 1).float(), codes.to(full.device).flatten())

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Give the mean log-probability of a code of the held-out prompts."""
        if not len(self._held):
            return {}
        size = self._settings.batch
        portions = [self._held[first : first + size] for first in range(0, len(self._held), size)]
        total = sum(float(self.loss(portion)) * len(portion) for portion in portions)
        return {"log-probability of a code": -total / len(self._held)}

    def close(self) -> None:
        """Leave the weights as trainable as they were."""
        for hook in self._hooks:
            hook.remove()
        for weights in self._frozen:
            weights.requires_grad_(True)

    def _freeze_words(self) -> list[Any]:
        """Let gradients reach the rows of the codes alone."""
        full, tokens = self._model.full, self._model.tokens
        for weights in self._frozen:
            weights.requires_grad_(False)
        hooks = []
        tables = {
            id(layer.weight): layer.weight for layer in (full.get_input_embeddings(), full.get_output_embeddings())
        }
        for weights in tables.values():
            keep = torch.zeros((len(weights), 1), dtype=weights.dtype, device=weights.device)
            keep[tokens.first : tokens.first + tokens.levels * tokens.codes] = 1
            weights.requires_grad_(True)
            hooks.append(weights.register_hook(lambda gradient, keep=keep: gradient * keep))
        return hooks
