"""Training of the native model on histories, queries, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.errors import SettingsError
from genrail.models.native import NativeContext, NativeModel
from genrail.models.native_network import NativeNetwork, Nodes
from genrail.rng import generator
from genrail.training.figures import next_item_figures
from genrail.training.loop import LoopReport, Progress, run
from genrail.training.native_settings import TrainingSettings
from genrail.training.pairs import ContextBatch, QueryPairs, Windows, windows

__all__ = ["TrainingReport", "rails_loss", "train_native"]

Int = npt.NDArray[np.int64]
_CUTOFF = 10


@dataclass(frozen=True)
class TrainingReport:
    """Hold what training the native model gave.

    Args:
        loop: Epochs, the best validation, seconds.
        targets: Next items that were learnt from, in each epoch.
        queries: Queries that were learnt from.
        held_out_users: Users whose last item was kept from training.
        parameters: Weights trained.
        seed: The seed.
    """

    loop: LoopReport
    targets: int
    queries: int
    held_out_users: int
    parameters: int
    seed: int

    def summary(self) -> dict[str, str]:
        """Say in a few lines what happened, for tables."""
        best = ", ".join(f"{name} {value:.4f}" for name, value in self.loop.best.items())
        return {
            "next items": f"{self.targets:,}",
            "queries": f"{self.queries:,}",
            "weights": f"{self.parameters:,}",
            "epochs": f"{len(self.loop.history)}, best {self.loop.best_epoch} (stopped: {self.loop.stopped})",
            "validation": best or "none: nothing was held out",
            "seconds": f"{self.loop.seconds:.1f}",
            "seed": str(self.seed),
        }

    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain values for JSON."""
        return {
            "targets": self.targets,
            "queries": self.queries,
            "held_out_users": self.held_out_users,
            "parameters": self.parameters,
            "seed": self.seed,
            "epochs": len(self.loop.history),
            "best_epoch": self.loop.best_epoch,
            "validation": dict(self.loop.best),
            "stopped": self.loop.stopped,
            "seconds": self.loop.seconds,
            "steps": self.loop.steps,
            "history": [
                {"epoch": record.epoch, "seconds": record.seconds, "loss": record.loss, **record.metrics}
                for record in self.loop.history
            ],
        }


def train_native(
    model: NativeModel,
    sequences: tuple[Int, Int] | None = None,
    queries: QueryPairs | None = None,
    settings: TrainingSettings | None = None,
    *,
    validation: Sequence[tuple[Sequence[int], int]] | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
) -> TrainingReport:
    """Train a native model in place and leave the best weights by validation in it.

    The loss is the cross-entropy of each code over the children of the true prefix ("training on rails"): impossible
    codes get no gradient, and a prefix with one child costs nothing. All positions of a sequence are trained at once.

    Args:
        model: From `NativeModel.create`, or trained before.
        sequences: Item rows of all users one after the other and where each user's begin, `(rows, offsets)`; users'
            items oldest first.
        queries: Encoded queries and their items.
        settings: Default: `TrainingSettings.for_size`.
        validation: Histories (item rows, oldest first) and the item that came next, none of which is in `sequences`.
            Without it, some users' last items are kept from training, see `TrainingSettings.held_out_users`.
        seed: Of held-out users, batches and dropout.
        progress: Called after each step.
        checkpoint: See `loop.run`.

    Raises:
        SettingsError: Nothing to learn from.

    Cost: about 400 logits a target on 12,000 items (the children of the prefixes on the way) instead of one per item.
    """
    rows, offsets = sequences if sequences is not None else (np.zeros(0, np.int64), np.zeros(1, np.int64))
    if settings is None:
        settings = TrainingSettings.for_size(model.items, max(0, len(rows) - len(offsets) + 1))
    task = _NativeTask(model, _Data.split(model, rows, offsets, queries, validation, settings, seed), settings, seed)
    try:
        report = run(task, settings.loop, seed, progress, checkpoint)
    finally:
        model.changed()
    data = task.data
    parameters = sum(parameter.numel() for parameter in model.network.parameters() if parameter.requires_grad)
    return TrainingReport(report, data.events.targets, len(data.queries or ()), data.held_out, parameters, seed)


@dataclass(frozen=True, eq=False)
class _Data:
    """Hold what is learnt from and what is validated on."""

    events: Windows
    queries: QueryPairs | None
    held_out: int
    histories: list[tuple[NativeContext, int]] = field(default_factory=list)  # for validation: context, item
    questions: list[tuple[NativeContext, int]] = field(default_factory=list)

    @classmethod
    def split(
        cls,
        model: NativeModel,
        rows: npt.ArrayLike,
        offsets: npt.ArrayLike,
        queries: QueryPairs | None,
        validation: Sequence[tuple[Sequence[int], int]] | None,
        settings: TrainingSettings,
        seed: int,
    ) -> _Data:
        items, edges = np.asarray(rows, dtype=np.int64), np.asarray(offsets, dtype=np.int64)
        random = generator(seed, "native training", "validation users")
        if validation is None:
            users = np.flatnonzero(np.diff(edges) >= 3)  # two to learn from and one to check
            chosen = random.permutation(users)[: settings.held_out_users]
            ends = edges[chosen + 1] - 1
            cases = [
                (items[edges[user] : end].tolist(), int(items[end]))
                for user, end in zip(chosen[: settings.validation_users], ends, strict=False)
            ]
        else:
            ends = np.zeros(0, dtype=np.int64)
            measured = random.permutation(len(validation))[: settings.validation_users]
            cases = [(list(validation[place][0]), int(validation[place][1])) for place in measured]
        kept = np.ones(len(items), dtype=bool)
        kept[ends] = False
        events = windows(items[kept], np.r_[0, np.cumsum(kept)][edges], model.settings.history)
        histories = [(model.context(history=history), row) for history, row in cases]
        learnt, questions = _split_queries(model, queries, settings, seed)
        if events.targets == 0 and not learnt:
            raise SettingsError("nothing to learn from: give sequences of two items or more, or queries")
        return cls(events, learnt, len(ends), histories, questions)


def _split_queries(
    model: NativeModel, queries: QueryPairs | None, settings: TrainingSettings, seed: int
) -> tuple[QueryPairs | None, list[tuple[NativeContext, int]]]:
    """Keep some queries for validation."""
    if queries is None or len(queries) == 0:
        return None, []
    order = generator(seed, "native training", "validation queries").permutation(len(queries))
    held_out = queries.take(order[: min(settings.held_out_queries, len(queries) // 5)])
    questions = [(model.context(vector), int(row)) for vector, row in zip(held_out.vectors, held_out.rows, strict=True)]
    return queries.take(order[len(questions) :]), questions


class _NativeTask:
    """Bring batches, loss and validation of the native model to the loop."""

    def __init__(self, model: NativeModel, data: _Data, settings: TrainingSettings, seed: int) -> None:
        self.model = model
        self.data = data
        self.settings = settings
        self.seed = seed
        self.trie = Trie.from_matrix(model.table.codes(), model.vocab_size)

    @property
    def module(self) -> nn.Module:
        return self.model.network

    def epoch(self, number: int) -> Sequence[tuple[ContextBatch, ...]]:
        """Pair each batch of sequences with one of queries; queries begin anew when they are through."""
        settings = self.settings
        random = generator(self.seed, "native training", "epoch", number)
        sequences = self.data.events.batches(settings.batch_targets, random)
        if self.data.queries is None:
            return [(batch,) for batch in sequences]
        events = self.data.events if len(self.data.events) else None
        questions = self.data.queries.batches(settings.batch_queries, random, events, settings.with_history)
        if not sequences:
            return [(batch,) for batch in questions]
        return [(batch, questions[step % len(questions)]) for step, batch in enumerate(sequences)]

    def loss(self, batch: tuple[ContextBatch, ...]) -> Tensor:
        network, nodes = self.model.network, self.model.nodes
        representations = network.node_representations(nodes)
        parts = [rails_loss(network, nodes, representations, part, self.settings.label_smoothing) for part in batch]
        return torch.stack(parts).sum()

    def validate(self) -> dict[str, float]:
        self.model.changed()
        figures: dict[str, float] = {}
        for name, cases in (("history", self.data.histories), ("query", self.data.questions)):
            if cases:
                recall, ndcg = self._measure(cases)
                figures[f"NDCG@10 ({name})"], figures[f"Recall@10 ({name})"] = ndcg, recall
        if not figures:
            return {}
        deciding = [value for name, value in figures.items() if name.startswith("NDCG")]
        return {"NDCG@10": float(np.mean(deciding)), **figures}

    def _measure(self, cases: list[tuple[NativeContext, int]]) -> tuple[float, float]:
        """Rank all items for each case, those of its history left out; mean Recall@10 and NDCG@10."""
        ranks = []
        for first in range(0, len(cases), 256):
            part = cases[first : first + 256]
            contexts = [context for context, _ in part]
            subsets = [self.trie.without(context.history) if context.history else None for context in contexts]
            settings = BeamSettings(width=self.settings.validation_beam)
            answers = beam_search(self.model, contexts, self.trie, settings, subsets, _CUTOFF)
            for answer, (_, row) in zip(answers, part, strict=True):
                place = np.flatnonzero(answer.rows == row)
                ranks.append(int(place[0]) if len(place) else -1)
        ndcg, recall = next_item_figures(ranks, _CUTOFF)
        return recall, ndcg


def rails_loss(
    network: NativeNetwork, nodes: Nodes, representations: Tensor, batch: ContextBatch, smoothing: float
) -> Tensor:
    """Compute the mean cross-entropy of the targets' identifiers over the children of their prefixes.

    Args:
        network: The weights.
        nodes: The tree.
        representations: From `network.node_representations`.
        batch: Contexts and targets.
        smoothing: See `TrainingSettings.label_smoothing`.

    Returns:
        Nats per target, a scalar.
    """
    tokens, targets = torch.from_numpy(batch.tokens), torch.from_numpy(batch.targets)
    queries = None if batch.queries is None else torch.from_numpy(batch.queries)
    hidden = network.encode(nodes, representations, tokens, queries)
    wanted = targets >= 0
    direct = None
    if queries is not None:
        direct = network.query_direct(queries)[torch.nonzero(wanted)[:, 0]]
    path = nodes.path.index_select(0, targets[wanted])  # (targets, length + 1)
    states = network.depth_states(representations, hidden[wanted], path[:, 1 : nodes.length])
    total = hidden.sum() * 0.0  # a tree without a choice, one item say, has nothing to learn and no gradient but this
    for level in range(nodes.length):
        parents, chosen = path[:, level], path[:, level + 1]
        choice = nodes.first_child[parents + 1] - nodes.first_child[parents] > 1
        rows = torch.nonzero(choice)[:, 0]
        if len(rows) == 0:
            continue
        parents, chosen = parents[rows], chosen[rows]
        logits = network.child_logits(
            nodes, representations, states[rows, level], parents, level, None if direct is None else direct[rows]
        )
        own = logits.values[logits.first + chosen - nodes.first_child[parents]]
        aim = own if smoothing == 0.0 else (1.0 - smoothing) * own + smoothing * logits.mean()
        total = total + (logits.log_normaliser() - aim).sum()
    return total / max(len(path), 1)
