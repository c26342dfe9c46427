"""Reinforcement of the native model: GRPO on rails, where no rollout can be invalid and none comes twice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.decoding.sampling import SampleSettings, sample_search
from genrail.errors import SettingsError
from genrail.models.native import NativeContext, NativeModel
from genrail.training.figures import next_item_figures
from genrail.training.grpo import Rewarded, improved
from genrail.training.loop import LoopReport, LoopSettings, Progress
from genrail.training.native import log_likelihood
from genrail.training.rewards import ReinforcementSettings, Reward, Rollouts, liked_of, reward_of, side_by_side

__all__ = ["NativeCase", "ReinforcementReport", "reinforce"]

Int = npt.NDArray[np.int64]
_CUTOFF = 10


class NativeCase(NamedTuple):
    """Hold a request, the item that was right for it, and perhaps what a teacher lists for it: rows and shares."""

    context: NativeContext
    row: int
    liked: tuple[Sequence[int], Sequence[float]] | None = None


@dataclass(frozen=True)
class ReinforcementReport:
    """Hold what learning from rewards gave.

    Args:
        loop: Epochs, the best validation, seconds.
        start: The validation of the model as it was before.
        kept: Whether the model got better by it; if not, it was left as it was.
        requests: To learn from.
        settings: How it learnt.
    """

    loop: LoopReport
    start: dict[str, float]
    kept: bool
    requests: int
    settings: ReinforcementSettings

    def summary(self) -> dict[str, str]:
        """Say in a few lines what happened, for tables."""

        def said(figures: Mapping[str, float]) -> str:
            return ", ".join(f"{name} {value:.4f}" for name, value in figures.items()) or "none: nothing was held out"

        return {
            "requests": f"{self.requests:,}, {self.settings.rollouts} rollouts each, reward {self.settings.reward}",
            "validation before": said(self.start),
            "validation after": said(self.loop.best) + ("" if self.kept else "; no better: left as it was"),
            "epochs": f"{len(self.loop.history)}, best {self.loop.best_epoch} (stopped: {self.loop.stopped})",
            "seconds": f"{self.loop.seconds:.1f}",
        }

    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain values for JSON."""
        told = {
            "start": self.start,
            "kept": self.kept,
            "requests": self.requests,
            "settings": asdict(self.settings.kept()),
        }
        return {**told, **self.loop.to_dict()}


def reinforce(
    model: NativeModel,
    cases: Sequence[NativeCase],
    settings: ReinforcementSettings | None = None,
    *,
    validation: Sequence[NativeCase] = (),
    max_seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> ReinforcementReport:
    """Raise the rewards of what a trained model writes, in place; it stays as it was where validation gets no better.

    For each request a group of items is written under constraint, without those of its history, see `Rewarded`. Dropout
    is off: what is rated is what is served.

    Args:
        model: Trained before.
        cases: Requests, from `NativeModel.context`, and the item that was right for each. The reward `teacher` also
            wants what a teacher lists; where it lists nothing, what was right is worth 1.
        settings: How.
        validation: Likewise, not among `cases`; nDCG@10 of what is written for them decides which epoch is kept.
        max_seconds: Stop after this long.
        seed: Of batches and draws.
        progress: Called after each step.

    Raises:
        SettingsError: No case.
        ShapeError: The reward function gives another shape, or numbers that are not finite.

    Cost: for each request a search with `rollouts` beams, and the loss of so many targets.
    """
    settings = settings or ReinforcementSettings()
    if not cases:
        raise SettingsError("nothing to learn from: give histories or queries with the item that was right")
    task = _Reinforcement(model, list(cases), list(validation), settings, reward_of(settings.reward), seed)
    loop = LoopSettings(settings.epochs, settings.learning_rate, 10, 0.0, averaging=0.9, max_seconds=max_seconds)
    report, start, kept = improved(task, loop, seed, progress)
    model.changed()
    return ReinforcementReport(report, start, kept, len(cases), settings)


class _Reinforcement(Rewarded[NativeCase]):
    """Let the native model write, and learn from it."""

    def __init__(
        self,
        model: NativeModel,
        cases: list[NativeCase],
        validation: list[NativeCase],
        settings: ReinforcementSettings,
        reward: Reward,
        seed: int,
    ) -> None:
        super().__init__(cases, settings, reward, settings.requests, settings.batch, seed)
        self.model = model
        self.reference = copy.deepcopy(model.network).eval()
        self.validation = validation
        self.trie = Trie.from_matrix(model.table.codes(), model.vocab_size)
        leaves = model.network.slot_vectors[model.nodes.slot[model.nodes.path[:, -1]]]
        self.vectors = nn.functional.normalize(leaves, dim=1).numpy()

    @property
    def module(self) -> nn.Module:
        return self.model.network

    def written(self, cases: Sequence[NativeCase], count: int, seeds: Sequence[int] | None = None) -> Rollouts:
        self.model.changed()
        contexts = [case.context for case in cases]
        subsets = [self.trie.without(context.history) if context.history else None for context in contexts]
        if seeds is not None:
            drawn = SampleSettings(self.settings.temperature)
            answers = sample_search(self.model, contexts, self.trie, drawn, subsets, count, seeds)
        else:
            answers = beam_search(self.model, contexts, self.trie, BeamSettings(width=count), subsets, count)
        targets = np.array([case.row for case in cases], dtype=np.int64)
        liked = liked_of([case.liked or ([case.row], [1.0]) for case in cases])
        return Rollouts(side_by_side([answer.rows for answer in answers], count), targets, self.vectors, liked)

    def log_probabilities(self, cases: Sequence[NativeCase], owner: Int, rows: Int, reference: bool = False) -> Tensor:
        network: Any = self.reference if reference else self.model.network
        nodes = self.model.nodes
        tokens, ends, queries = self.model.batch([case.context for case in cases])
        representations = network.node_representations(nodes)
        hidden = network.encode(nodes, representations, tokens, queries)[torch.arange(len(cases)), ends]
        direct = None if queries is None else network.query_direct(queries)[owner]
        return log_likelihood(network, nodes, representations, hidden[owner], torch.from_numpy(rows), direct)

    def validate(self) -> dict[str, float]:
        """Rank all items for each case; mean nDCG@10, Recall@10 and reward of the ten best."""
        if not self.validation:
            return {}
        ranks: list[int] = []
        rewards: list[float] = []
        for first in range(0, len(self.validation), 256):
            rollouts = self.written(self.validation[first : first + 256], max(_CUTOFF, self.settings.rollouts))
            hits = rollouts.hits
            ranks += np.where(hits.any(axis=1), hits.argmax(axis=1), -1).tolist()
            rewards += self.gained(rollouts)
        ndcg, recall = next_item_figures(ranks, _CUTOFF)
        return {"NDCG@10": ndcg, "Recall@10": recall, "reward": float(np.mean(rewards))}
