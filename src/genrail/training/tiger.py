"""How TIGER learns: every prefix of every sequence, the whole identifier of the next item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.errors import SettingsError
from genrail.models.tiger import TigerModel
from genrail.rng import generator
from genrail.training.figures import next_item_figures
from genrail.training.loop import LoopReport, LoopSettings, Progress, run

__all__ = ["TigerTraining", "train_tiger"]

Int = npt.NDArray[np.int64]
Case = tuple[list[int], int]
"""A history and the row of what came next."""

_POOL = 64  # batches that are sorted by length together: less padding, batches still mixed


@dataclass(frozen=True)
class TigerTraining:
    """Say how TIGER learns.

    Args:
        loop: Epochs, learning rate, stopping. The paper's inverse square root from 0.01 is unstable with AdamW; careful
            reproductions use 3e-4, falling along a cosine, weight decay 0.035 and a warm-up of 10,000 steps.
        batch: Histories in a step.
        steps_per_epoch: Updates that count as an epoch, after which it is validated; None for a pass over the data.
        label_smoothing: Share of the probability that is spread evenly over the vocabulary.
        validation_users: At most so many users are measured after an epoch.
        validation_beam: Beam width of a validation.

    Raises:
        SettingsError: A value outside its range.
    """

    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            epochs=200, learning_rate=3e-4, warm_up=10_000, weight_decay=0.035, averaging=0.999, patience=10
        )
    )
    batch: int = 256
    steps_per_epoch: int | None = None
    label_smoothing: float = 0.0
    validation_users: int = 1000
    validation_beam: int = 20

    def __post_init__(self) -> None:
        for name in ("batch", "validation_users", "validation_beam"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise SettingsError(f"steps_per_epoch is {self.steps_per_epoch}; give 1 or more, or None")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise SettingsError(f"label_smoothing is {self.label_smoothing}; give 0 to below 1")


def train_tiger(
    model: TigerModel,
    sequences: tuple[Int, Int],
    settings: TigerTraining | None = None,
    validation: list[Case] | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
) -> LoopReport | None:
    """Train a TIGER model, in place, on the device where it is.

    Args:
        model: What to train.
        sequences: Rows of all events and offsets, as `windows` takes them.
        settings: How.
        validation: Histories with what came next; the epoch with the highest nDCG@10 there is kept.
        seed: Of batches and dropout.
        progress: Called after each step.
        checkpoint: See `genrail.training.loop.run`.

    Returns:
        What training gave; None where no sequence has two events, so that there is nothing to learn.

    Cost: six multiplications per weight and token read, all prefixes one by one: an encoder-decoder cannot learn all
    positions of a sequence at once. On a CUDA device in bfloat16.
    """
    task = _Task(model, sequences, settings or TigerTraining(), validation or [], seed)
    if not len(task.ends):
        return None
    report = run(task, task.settings.loop, seed, progress, checkpoint)
    vars(model).pop("fingerprint", None)  # the weights are others now
    return report


class _Task:
    """Bring batches, loss and validation of TIGER to the loop."""

    def __init__(
        self, model: TigerModel, sequences: tuple[Int, Int], settings: TigerTraining, validation: list[Case], seed: int
    ) -> None:
        self.model = model
        self.settings = settings
        self.seed = seed
        self.trie = Trie.from_matrix(model.tokens, model.pad)
        self.rows, offsets = (np.asarray(array, dtype=np.int64) for array in sequences)
        lengths = np.diff(offsets)
        place = np.arange(len(self.rows)) - np.repeat(offsets[:-1], lengths)  # within the sequence
        self.ends = np.flatnonzero(place > 0)  # the event to foresee
        self.past = np.minimum(place[self.ends], model.settings.history)  # events before it that are read
        chosen = generator(seed, "TIGER", "validation").permutation(len(validation))[: settings.validation_users]
        self.validation = [validation[number] for number in chosen.tolist()]

    @property
    def module(self) -> nn.Module:
        network: nn.Module = self.model.model
        return network

    def epoch(self, number: int) -> list[Int]:
        """Mix the samples; samples of about the same length share a batch."""
        rng = generator(self.seed, "TIGER", "epoch", number)
        order = rng.permutation(len(self.ends))
        size = self.settings.batch
        if self.settings.steps_per_epoch is not None:
            order = order[: self.settings.steps_per_epoch * size]
        batches: list[Int] = []
        for first in range(0, len(order), _POOL * size):
            pool = order[first : first + _POOL * size]
            pool = pool[np.argsort(self.past[pool], kind="stable")]
            batches += [pool[begin : begin + size] for begin in range(0, len(pool), size)]
        return [batches[place] for place in rng.permutation(len(batches))]

    def loss(self, batch: Int) -> Tensor:
        past, ends = self.past[batch], self.ends[batch]
        events = ends[:, None] - past[:, None] + np.arange(int(past.max()))
        real = np.arange(int(past.max())) < past[:, None]
        tokens = self.model.tokens[self.rows[np.where(real, events, 0)]]  # (batch, items, levels)
        mask = np.repeat(real, tokens.shape[2], axis=1)
        ids = np.where(mask, tokens.reshape(len(batch), -1), self.model.pad)
        labels = self.model.tokens[self.rows[ends]]
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = self.model.model(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device).long(),
                labels=torch.from_numpy(labels).to(device),
            ).logits
        return nn.functional.cross_entropy(
            logits.float().flatten(0, 1),
            torch.from_numpy(labels).to(device).flatten(),
            label_smoothing=self.settings.label_smoothing,
        )

    def validate(self) -> dict[str, float]:
        """Rank all items for each user, those of the history left out."""
        if not self.validation:
            return {}
        ranks: list[int] = []
        for first in range(0, len(self.validation), 64):
            part = self.validation[first : first + 64]
            answers = beam_search(
                self.model,
                [self.model.context(history) for history, _ in part],
                self.trie,
                BeamSettings(width=self.settings.validation_beam),
                [self.trie.without(np.asarray(history)) for history, _ in part],
            )
            for answer, (_, row) in zip(answers, part, strict=True):
                place = np.flatnonzero(answer.rows == row)
                ranks.append(int(place[0]) if len(place) else -1)
        ndcg, recall = next_item_figures(ranks)
        return {"NDCG@10": ndcg, "Recall@10": recall}
