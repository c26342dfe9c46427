"""Training of the native model on histories, queries, or both: histories first, then the words beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from genrail.training.distillation import Lessons
from genrail.training.figures import next_item_figures
from genrail.training.loop import LoopReport, LoopSettings, Progress, run
from genrail.training.native_settings import TrainingSettings
from genrail.training.pairs import ContextBatch, QueryPairs, Windows, windows
from genrail.training.pseudo_queries import told_of_written

__all__ = ["TrainingReport", "log_likelihood", "rails_loss", "train_native"]

Int = npt.NDArray[np.int64]
_CUTOFF = 10
_OF_WORDS = ("query_text", "query_direct", "query_weight")  # weights that a history without words never meets


@dataclass(frozen=True)
class TrainingReport:
    """Hold what training the native model gave.

    Args:
        loop: Epochs, the best validation, seconds; of the histories where there were both.
        targets: Next items that were learnt from, in each epoch.
        queries: Queries that were learnt from.
        held_out_users: Users whose last item was kept from training.
        parameters: Weights trained.
        seed: The seed.
        lessons: Requests whose rankings by a teacher were learnt from.
        words: Of the queries, where they were learnt after the histories.
        written: What became of queries that a language model wrote, by name; empty where none did.
    """

    loop: LoopReport
    targets: int
    queries: int
    held_out_users: int
    parameters: int
    seed: int
    lessons: int = 0
    words: LoopReport | None = None
    written: dict[str, int] = field(default_factory=dict)

    @property
    def loops(self) -> tuple[LoopReport, ...]:
        """List what the loop was run for, in order."""
        return (self.loop,) if self.words is None else (self.loop, self.words)

    def summary(self) -> dict[str, str]:
        """Say in a few lines what happened, for tables."""
        best = ", ".join(f"{name} {value:.4f}" for loop in self.loops for name, value in loop.best.items())
        epochs = [f"{len(one.history)}, best {one.best_epoch} (stopped: {one.stopped})" for one in self.loops]
        return {
            "next items": f"{self.targets:,}",
            "queries": f"{self.queries:,}",
            **told_of_written(self.written),
            **({"rankings of the teacher": f"{self.lessons:,}"} if self.lessons else {}),
            "weights": f"{self.parameters:,}",
            "epochs": "; then of words alone: ".join(epochs),
            "validation": best or "none: nothing was held out",
            "seconds": f"{sum(one.seconds for one in self.loops):.1f}",
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
            "lessons": self.lessons,
            **({"written": self.written} if self.written else {}),
            **_told(self.loop),
            **({} if self.words is None else {"words": _told(self.words)}),
        }


def _told(loop: LoopReport) -> dict[str, Any]:
    """Turn the report of one loop into plain values."""
    return {
        "epochs": len(loop.history),
        "best_epoch": loop.best_epoch,
        "validation": dict(loop.best),
        "stopped": loop.stopped,
        "seconds": loop.seconds,
        "steps": loop.steps,
        "history": [
            {"epoch": record.epoch, "seconds": record.seconds, "loss": record.loss, **record.metrics}
            for record in loop.history
        ],
    }


def train_native(
    model: NativeModel,
    sequences: tuple[Int, Int] | None = None,
    queries: QueryPairs | None = None,
    settings: TrainingSettings | None = None,
    *,
    lessons: Sequence[Lessons] = (),
    validation: Sequence[tuple[Sequence[int], int]] | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
) -> TrainingReport:
    """Train a native model in place and leave the best weights by validation in it.

    The loss is the cross-entropy of each code over the children of the true prefix ("training on rails"): impossible
    codes get no gradient, and a prefix with one child costs nothing. All positions of a sequence are trained at once.

    With histories and queries, the histories are learnt first, and then the queries by the weights that read words
    alone. A history is thus answered as if no query had been learnt: where both shared epochs and weights, queries,
    which are soon worn out, had a say in when to stop and in what was learnt (docs/decisions/0040).

    Args:
        model: From `NativeModel.create`, or trained before.
        sequences: Item rows of all users one after the other and where each user's begin, `(rows, offsets)`; users'
            items oldest first.
        queries: Encoded queries and their items.
        settings: Default: `TrainingSettings.for_size`.
        lessons: What a teacher says about histories, about queries, or about both, to be learnt beside these.
        validation: Histories (item rows, oldest first) and the item that came next, none of which is in `sequences`.
            Without it, some users' last items are kept from training, see `TrainingSettings.held_out_users`.
        seed: Of held-out users, batches and dropout.
        progress: Called after each step.
        checkpoint: See `loop.run`. Queries behind histories have a file of their own beside it.

    Raises:
        SettingsError: Nothing to learn from.

    Cost: about 400 logits a target on 12,000 items (the children of the prefixes on the way) instead of one per item.
    """
    rows, offsets = sequences if sequences is not None else (np.zeros(0, np.int64), np.zeros(1, np.int64))
    if settings is None:
        settings = TrainingSettings.for_size(model.items, max(0, len(rows) - len(offsets) + 1))
    data = _Data.split(model, rows, offsets, queries, tuple(lessons), validation, settings, seed)
    parameters = sum(parameter.numel() for parameter in model.network.parameters() if parameter.requires_grad)
    reports = []
    try:
        for number, (part, loop) in enumerate(data.parts(settings)):
            file = None if checkpoint is None else Path(checkpoint)
            if number and file is not None:
                file = file.with_stem(file.stem + "-words")
            with _only_words(model.network, number > 0):
                reports.append(run(_NativeTask(model, part, settings, seed), loop, seed, progress, file))
    finally:
        model.changed()
    return TrainingReport(
        reports[0],
        data.events.targets,
        len(data.queries or ()),
        data.held_out,
        parameters,
        seed,
        sum(map(len, data.lessons)),
        reports[1] if len(reports) > 1 else None,
    )


@contextmanager
def _only_words(network: NativeNetwork, only: bool) -> Iterator[None]:
    """Leave all weights as they are, for a time, but those that read words."""
    frozen = [
        parameter
        for name, parameter in network.named_parameters()
        if only and parameter.requires_grad and name.split(".")[0] not in _OF_WORDS
    ]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


@dataclass(frozen=True, eq=False)
class _Data:
    """Hold what is learnt from and what is validated on."""

    events: Windows
    queries: QueryPairs | None
    lessons: tuple[Lessons, ...]
    held_out: int
    histories: list[tuple[NativeContext, int]] = field(default_factory=list)  # for validation: context, item
    questions: list[tuple[NativeContext, int]] = field(default_factory=list)
    words_alone: bool = False  # events are then no targets, but pasts in front of queries

    @classmethod
    def split(
        cls,
        model: NativeModel,
        rows: npt.ArrayLike,
        offsets: npt.ArrayLike,
        queries: QueryPairs | None,
        lessons: tuple[Lessons, ...],
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
        if events.targets == 0 and not learnt and not any(map(len, lessons)):
            raise SettingsError("nothing to learn from: give sequences of two items or more, or queries")
        return cls(events, learnt, lessons, len(ends), histories, questions)

    def parts(self, settings: TrainingSettings) -> list[tuple[_Data, LoopSettings]]:
        """Part histories from words, where there are both; else give all."""
        of_words = tuple(one for one in self.lessons if one.queries is not None)
        of_pasts = tuple(one for one in self.lessons if one.queries is None)
        pasts = replace(self, queries=None, lessons=of_pasts, questions=[])
        words = replace(self, lessons=of_words, histories=[], words_alone=True)
        if not (self.queries or of_words):
            return [(pasts, settings.loop)]
        if not (self.events.targets or of_pasts):
            return [(words, settings.loop)]
        loops = [settings.loop, settings.words or settings.loop]
        if (seconds := settings.loop.max_seconds) is not None:  # histories are what there is more of
            loops = [replace(loop, max_seconds=share * seconds) for loop, share in zip(loops, (0.8, 0.2), strict=True)]
        return list(zip((pasts, words), loops, strict=True))


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
        """Lay batches of all kinds side by side; the first kind makes the epoch, the others begin anew when through."""
        settings, data = self.settings, self.data
        random = generator(self.seed, "native training", "epoch", number)
        kinds = [] if data.words_alone else [data.events.batches(settings.batch_targets, random)]
        if data.queries is not None:
            events = data.events if len(data.events) else None
            kinds.append(data.queries.batches(settings.batch_queries, random, events, settings.with_history))
        kinds += [lessons.batches(settings.batch_queries, random) for lessons in data.lessons]
        kinds = [batches for batches in kinds if batches]
        return [tuple(batches[step % len(batches)] for batches in kinds) for step in range(len(kinds[0]))]

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
    likes = None if batch.likes is None else (torch.from_numpy(batch.likes.rows), torch.from_numpy(batch.likes.shares))
    told = log_likelihood(
        network, nodes, representations, hidden[wanted], targets[wanted], direct, likes=likes, smoothing=smoothing
    )
    # A tree without a choice, one item say, has nothing to learn and no gradient but that of the second term.
    return -told.mean() if len(told) else hidden.sum() * 0.0


def log_likelihood(
    network: NativeNetwork,
    nodes: Nodes,
    representations: Tensor,
    contexts: Tensor,
    targets: Tensor,
    direct: Tensor | None = None,
    *,
    likes: tuple[Tensor, Tensor] | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Compute the log-probability of items' identifiers, or how well the model agrees with a teacher on their way.

    Args:
        network: The weights.
        nodes: The tree.
        representations: From `network.node_representations`.
        contexts: What each is written from, (targets, width).
        targets: Item rows, (targets,).
        direct: `query_direct` of each target's query, (targets, dimensions), or None.
        likes: Rows (targets, k) and their shares (targets, k), each target among its own. At each node on the way to a
            target, its code is then weighed against those of the rows below this node, by their shares summed for each
            child. With targets drawn by their shares the mean is the cross-entropy with the whole distribution.
        smoothing: Share of the probability that is spread evenly over a node's children.

    Returns:
        Nats, 0 or less, (targets,).
    """
    path = nodes.path.index_select(0, targets)  # (targets, length + 1)
    liked = None if likes is None else nodes.path[likes[0]]  # (targets, k, length + 1)
    states = network.depth_states(representations, contexts, path[:, 1 : nodes.length])
    total = contexts.sum(dim=1) * 0.0
    for level in range(nodes.length):
        choice = nodes.first_child[path[:, level] + 1] - nodes.first_child[path[:, level]] > 1
        rows = torch.nonzero(choice)[:, 0]
        if len(rows) == 0:
            continue
        parents = path[rows, level]
        logits = network.child_logits(
            nodes, representations, states[rows, level], parents, level, None if direct is None else direct[rows]
        )
        begin = logits.first - nodes.first_child[parents]
        if liked is None or likes is None:
            aim = logits.values[begin + path[rows, level + 1]]
        else:
            here = liked[rows, :, level] == parents[:, None]
            shares = likes[1][rows] * here
            places = torch.where(here, begin[:, None] + liked[rows, :, level + 1], 0)
            aim = (logits.values[places] * shares).sum(dim=1) / shares.sum(dim=1).clamp(min=1e-30)
        if smoothing > 0.0:
            aim = (1.0 - smoothing) * aim + smoothing * logits.mean()
        total = total.index_add(0, rows, aim - logits.log_normaliser())
    return total
