"""GRPO on rails, for whatever writes identifiers: no rollout can be invalid, and none comes twice."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from genrail.rng import generator
from genrail.training.loop import LoopReport, LoopSettings, Progress, run
from genrail.training.processes import Processes
from genrail.training.rewards import Reward, Rollouts, RolloutSettings, advantages

__all__ = ["Rewarded", "grpo_loss", "improved"]

Int = npt.NDArray[np.int64]
Case = TypeVar("Case")


def grpo_loss(chosen: Tensor, reference: Tensor, advantage: Tensor, kl: float) -> Tensor:
    """Compute GRPO's loss of rollouts that the model has just written.

    Args:
        chosen: Log-probability of each rollout, with gradient, (rollouts,).
        reference: The same under the model that it is held to, (rollouts,).
        advantage: Of each rollout over its group, (rollouts,).
        kl: Weight of the divergence, estimated by ``exp(d) - d - 1`` with ``d = reference - chosen``, which is never
            below 0 (Schulman 2020).

    Returns:
        Mean over the rollouts, a scalar.
    """
    ratio = (chosen - chosen.detach()).exp()  # 1, with the gradient of the log-probability
    apart = reference - chosen
    divergence = apart.exp() - apart - 1.0
    return (kl * divergence - advantage * ratio).sum() / max(len(chosen), 1)


class Rewarded(ABC, Generic[Case]):
    """Bring batches and loss of learning from rewards to the loop; what writes says how it writes.

    For each request a group of items is written under constraint. Each is compared with its group (`advantages`), and
    its log-probability is raised or lowered accordingly: GRPO (Shao et al. 2024) with one step for each group, so that
    no ratio needs clipping.

    Args:
        cases: Requests with what was right for them.
        settings: What is written, and how it is learnt from.
        reward: What each rollout is worth.
        requests: Of an epoch, at most; drawn by the seed.
        batch: Requests in a step.
        seed: Of batches and draws.
    """

    def __init__(
        self, cases: Sequence[Case], settings: RolloutSettings, reward: Reward, requests: int, batch: int, seed: int
    ) -> None:
        self.cases, self.settings, self.reward = list(cases), settings, reward
        self._requests, self._batch, self._seed = requests, batch, seed

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """Give the weights to train, in place."""

    @abstractmethod
    def written(self, cases: Sequence[Case], count: int, seeds: Sequence[int] | None = None) -> Rollouts:
        """Let the model write so many items for each case; by the best beams where no seeds are given."""

    @abstractmethod
    def log_probabilities(self, cases: Sequence[Case], owner: Int, rows: Int, reference: bool = False) -> Tensor:
        """Compute the log-probability of rows, each under the request of its owner, (rows,).

        Args:
            cases: Requests.
            owner: Place of the request of each row, ascending, (rows,).
            rows: Items, (rows,).
            reference: Under the model that this one is held to.
        """

    @abstractmethod
    def validate(self) -> Mapping[str, float]:
        """Measure the model as it stands, see `loop.Task`."""

    @property
    def data(self) -> str:
        """Identify what is learnt from, by content."""
        return hashlib.sha256(repr((self.cases, self.settings)).encode()).hexdigest()

    def epoch(self, number: int) -> list[Int]:
        """Draw cases, each with the seed of its rollouts, (2, cases) in a batch."""
        random = generator(self._seed, "reinforcement", "epoch", number)
        order = random.permutation(len(self.cases))[: self._requests]
        drawn = np.stack([order, random.integers(2**31, size=len(order))])
        return [drawn[:, first : first + self._batch] for first in range(0, len(order), self._batch)]

    def cut(self, batch: Int, pieces: int) -> list[tuple[Int, float]]:
        """Cut a batch into pieces, each with its share of the requests."""
        parts = np.array_split(batch, min(pieces, batch.shape[1]), axis=1)
        return [(part, part.shape[1] / batch.shape[1]) for part in parts]

    def loss(self, batch: Int) -> Tensor:
        """Write items for a batch, and compute the loss of what they are worth."""
        self.module.eval()  # what is rated is what is served: without dropout
        cases = [self.cases[number] for number in batch[0].tolist()]
        seeds = batch[1].tolist() if self.settings.sampler == "sample" else None
        rollouts = self.written(cases, self.settings.rollouts, seeds)
        gained = advantages(self.reward(rollouts), rollouts.rows, self.settings.scaled)
        owner, place = np.nonzero(rollouts.rows >= 0)
        rows = rollouts.rows[owner, place]
        chosen = self.log_probabilities(cases, owner, rows)
        with torch.no_grad():
            reference = self.log_probabilities(cases, owner, rows, reference=True)
        advantage = torch.from_numpy(gained[owner, place].astype(np.float32)).to(chosen.device)
        return grpo_loss(chosen, reference, advantage, self.settings.kl)

    def gained(self, rollouts: Rollouts) -> list[float]:
        """Add up the rewards of each request's rollouts, (requests,)."""
        given = np.where(rollouts.rows >= 0, self.reward(rollouts), 0.0)
        totals: list[float] = given[:, : self.settings.rollouts].sum(axis=1).tolist()
        return totals


def improved(
    task: Rewarded[Any],
    loop: LoopSettings,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | None = None,
    curve: str | None = None,
) -> tuple[LoopReport, dict[str, float], bool]:
    """Run the loop, and put the weights back where validation got no better by it.

    Args:
        task: What learns.
        loop, seed, progress, checkpoint, curve: See `loop.run`.

    Returns:
        What the loop gave, the validation before it, and whether the weights were kept.
    """
    weights = {name: one for name, one in task.module.named_parameters() if one.requires_grad}
    before = {name: one.detach().clone() for name, one in weights.items()}
    task.module.eval()
    processes = Processes.here()
    start = processes.told(task.validate() if processes.first else None)
    report = run(task, loop, seed, progress, checkpoint, curve)
    kept = not start or next(iter(report.best.values())) > next(iter(start.values()))
    if not kept:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(before[name])
    return report, start, kept
