"""Teach a text encoder which items answer which queries: two towers, in-batch and mined negatives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrail.errors import SettingsError, ShapeError
from genrail.models.plain_text import plain_texts
from genrail.models.text_encoder import Encoder, TextEncoder
from genrail.rng import generator
from genrail.training.loop import LoopReport, LoopSettings, Progress, run
from genrail.training.tower_files import Towers, write_towers
from genrail.types import Json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Learnt", "TwoTowerReport", "TwoTowerSettings", "learn_two_towers", "train_two_tower"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
_CUTOFF = 10


@dataclass(frozen=True)
class TwoTowerSettings:
    """Say how two towers learn.

    Args:
        loop: Epochs, learning rate and stopping of one round.
        train: "head": a linear map behind the query tower learns, in seconds; "query": the query tower itself learns;
            with both of these item vectors stay what they are, so that nothing is encoded again. "both": one tower for
            queries and items learns from both sides, and all items are encoded at the end.
        temperature: What cosines are divided by.
        batch_size: Pairs in a step; the items of the other pairs are negatives.
        hard_negatives: Mined items that are added for each pair.
        rounds: How often negatives are mined with the encoder as it is by then.
        mined_depth: Hard negatives are drawn out of so many best wrong items.
        frozen_layers: Lower transformer blocks that do not learn; the embeddings never do.
        max_item_tokens: Items are cut there while "both" learn; the final vectors are cut where the encoder cuts.
        held_out: Share of the queries that is kept from learning, to choose on.
        kept: Shares of the learnt change that are tried at the end, on the held-out queries; 0 is the encoder as it
            was.

    Raises:
        SettingsError: A value outside its range.
    """

    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(epochs=12, learning_rate=1e-3, warm_up=20, patience=4)
    )
    train: Literal["head", "query", "both"] = "head"
    temperature: float = 0.05  # 20 x cosine, as MiniLM itself was trained
    batch_size: int = 32
    hard_negatives: int = 64
    rounds: int = 2  # ANCE mines anew while it learns; after the second round little changes
    mined_depth: int = 100
    frozen_layers: int = 0
    max_item_tokens: int = 128
    held_out: float = 0.15
    kept: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)  # between old and new weights (Wortsman et al. 2022)

    @classmethod
    def whole(cls, train: Literal["query", "both"], seconds: float | None = None) -> TwoTowerSettings:
        """Fine-tune the transformer itself, with the low learning rate that needs.

        Args:
            train: Which tower.
            seconds: See `LoopSettings.max_seconds`, for each round.
        """
        loop = LoopSettings(epochs=6, learning_rate=5e-5, warm_up=20, weight_decay=0.01, max_seconds=seconds)
        return cls(loop=loop, train=train, hard_negatives=4 if train == "both" else 64)

    def __post_init__(self) -> None:
        if self.train not in ("head", "query", "both"):
            raise SettingsError(f'train is {self.train!r}; give "head", "query" or "both"')
        for name in ("batch_size", "rounds", "mined_depth"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.hard_negatives < 0 or self.frozen_layers < 0 or self.max_item_tokens < 3:
            raise SettingsError("hard_negatives and frozen_layers must be 0 or more, max_item_tokens 3 or more")
        if not self.temperature > 0.0 or not 0.0 < self.held_out < 1.0:
            raise SettingsError(f"temperature is {self.temperature} and held_out {self.held_out}; give > 0, and 0 to 1")
        if not self.kept or not all(0.0 <= share <= 1.0 for share in self.kept):
            raise SettingsError(f"kept is {self.kept}; give one or more shares from 0 to 1")


@dataclass(frozen=True)
class TwoTowerReport:
    """Hold what training gave.

    Args:
        pairs: Query and item pairs learnt from.
        held_out: Queries chosen on.
        before: nDCG@10 of the held-out queries with the encoder as it was.
        by_share: The same for each share of the learnt change that was tried.
        kept: The share that was chosen.
        rounds: One report of the loop for each round.
    """

    pairs: int
    held_out: int
    before: float
    by_share: Mapping[float, float]
    kept: float
    rounds: tuple[LoopReport, ...]

    def summary(self) -> dict[str, str]:
        """Give a few lines for people."""
        return {
            "pairs": f"{self.pairs:,}",
            "held-out queries": f"{self.held_out:,}",
            "nDCG@10": f"{self.before:.4f} before, {self.by_share[self.kept]:.4f} now",
            "kept": f"{self.kept:.0%} of what was learnt",
        }

    def to_dict(self) -> dict[str, Json]:
        """Turn the report into plain values for JSON."""
        return {
            "pairs": self.pairs,
            "held_out": self.held_out,
            "before": self.before,
            "by_share": {str(share): value for share, value in self.by_share.items()},
            "kept": self.kept,
            "seconds": sum(found.seconds for found in self.rounds),
            "rounds": [{"best_epoch": found.best_epoch, "best": dict(found.best)} for found in self.rounds],
        }


@dataclass(frozen=True, eq=False)
class Learnt:
    """Hold what two towers learnt.

    Args:
        head: What is added to a query's vector, before it is scaled to length 1 again: ``v + head @ v``, (dimensions,
            dimensions); only of "head".
        model: The tower as a SentenceTransformer; of the others.
    """

    head: Float | None
    model: SentenceTransformer


def train_two_tower(
    encoder: TextEncoder,
    texts: Sequence[str],
    queries: Mapping[str, str],
    relevant: Mapping[str, Sequence[int]],
    folder: str | Path,
    settings: TwoTowerSettings | None = None,
    *,
    vectors: Float | None = None,
    seed: int = 0,
    progress: Callable[[int, Progress], None] | None = None,
) -> tuple[Towers, TwoTowerReport]:
    """Fine-tune an encoder on judged queries and write the towers into a folder.

    The loss is the cross-entropy of the right item among the batch's items and mined ones, over cosines divided by a
    temperature. Items that are right for a query are never its negatives. Part of the queries is kept back; on them
    the best epoch is chosen, and how much of the learnt change is kept.

    Args:
        encoder: Where both towers start; not changed.
        texts: Of the items, one per row.
        queries: Query id to words.
        relevant: Query id to the rows of its right items; queries without any are left out.
        folder: Where the towers are written, as sentence-transformers checkpoints.
        settings: How.
        vectors: The items' vectors by `encoder` where they are at hand, (rows, dimensions).
        seed: Of held-out queries, batches and negatives.
        progress: Called with (round, progress of the loop) after each step.

    Returns:
        The towers, for `genrail.finders.Dense(catalog, towers.items, query_encoder=towers.queries)`, and the report.

    Raises:
        SettingsError: Fewer than four queries with a right item.
        ShapeError: A row that does not exist, or another number of vectors than texts.

    Cost: with "head" some milliseconds a step, with "query" a second for 32 sentences on one core (MiniLM), with "both"
    a minute for their items and negatives.
    Source: Karpukhin et al. 2020 (DPR) for in-batch negatives, Xiong et al. 2021 (ANCE) for mined ones, Wortsman et al.
        2022 (WiSE-FT) for keeping a share of the change.
    """
    settings = settings or TwoTowerSettings()
    task, report = _learn(encoder, texts, queries, relevant, settings, vectors=vectors, seed=seed, progress=progress)
    towers = write_towers(folder, encoder, task.tower(), shared=settings.train == "both")
    return towers, report


def learn_two_towers(
    encoder: Encoder,
    texts: Sequence[str],
    queries: Mapping[str, str],
    relevant: Mapping[str, Sequence[int]],
    settings: TwoTowerSettings,
    *,
    vectors: Float,
    seed: int = 0,
    progress: Callable[[int, Progress], None] | None = None,
) -> tuple[Learnt, TwoTowerReport]:
    """Learn as `train_two_tower` does, without writing anything; a "head" learns over any encoder.

    Raises:
        SettingsError: Fewer than four queries with a right item, or a tower is to learn whose weights cannot.
        ShapeError: A row that does not exist, or another number of vectors than texts.
    """
    task, report = _learn(encoder, texts, queries, relevant, settings, vectors=vectors, seed=seed, progress=progress)
    return Learnt(task.head(), None) if settings.train == "head" else Learnt(None, task.tower()), report


def _learn(
    encoder: Encoder,
    texts: Sequence[str],
    queries: Mapping[str, str],
    relevant: Mapping[str, Sequence[int]],
    settings: TwoTowerSettings,
    *,
    vectors: Float | None,
    seed: int,
    progress: Callable[[int, Progress], None] | None,
) -> tuple[_Task, TwoTowerReport]:
    if settings.train != "head" and not isinstance(encoder, TextEncoder):
        raise SettingsError(f'{encoder.name} has no weights that learn; give train="head", or a checkpoint')
    asked = {query_id: np.unique(rows) for query_id, rows in relevant.items() if len(rows) and query_id in queries}
    if len(asked) < 4:
        raise SettingsError(f"{len(asked)} queries have a right item; give 4 or more to learn from and to choose on")
    if any(rows[0] < 0 or rows[-1] >= len(texts) for rows in asked.values()):
        raise ShapeError(f"a right item is not among the {len(texts)} rows; give rows of this catalogue")
    vectors = encoder.encode(texts) if vectors is None else vectors
    if len(vectors) != len(texts):
        raise ShapeError(f"{len(vectors)} vectors for {len(texts)} texts; give one for each")
    order = generator(seed, "two towers", "held out").permutation(len(asked))
    ids, held = list(asked), max(1, round(settings.held_out * len(asked)))
    task = _Task(
        encoder,
        texts,
        vectors,
        _Judged.of([ids[place] for place in order[held:]], queries, asked),
        _Judged.of([ids[place] for place in order[:held]], queries, asked),
        settings,
        seed,
    )
    before = task.validate()[f"nDCG@{_CUTOFF}"]
    original = {name: value.detach().clone() for name, value in task.module.state_dict().items()}
    reports = []
    for number in range(settings.rounds):
        task.mine(number)
        told = None if progress is None else _in_round(progress, number)
        reports.append(run(task, settings.loop, seed + number, told))
    by_share = task.choose(original, settings.kept)
    kept = max(by_share, key=lambda share: (by_share[share], -share))
    task.blend(original, kept)
    return task, TwoTowerReport(len(task.pairs), held, before, by_share, kept, tuple(reports))


def _in_round(progress: Callable[[int, Progress], None], number: int) -> Callable[[Progress], None]:
    return lambda now: progress(number, now)


@dataclass(frozen=True, eq=False)
class _Judged:
    """Hold queries with the rows of their right items."""

    texts: list[str]
    rows: list[Int]

    @classmethod
    def of(cls, ids: Sequence[str], queries: Mapping[str, str], relevant: Mapping[str, Int]) -> _Judged:
        return cls([queries[query_id] for query_id in ids], [relevant[query_id] for query_id in ids])


@dataclass(frozen=True, eq=False)
class _Batch:
    """Hold one step: queries, the items side by side, and which are right."""

    queries: list[str]
    rows: Int  # distinct items, (items,)
    own: Int  # place of each query's item among them, (queries,)
    barred: npt.NDArray[np.bool_]  # other right items of a query, which are no negatives, (queries, items)


class _Task:
    """Bring pairs, negatives, loss and validation to the loop."""

    def __init__(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        vectors: Float,
        learnt: _Judged,
        held_out: _Judged,
        settings: TwoTowerSettings,
        seed: int,
    ) -> None:
        self._encoder = encoder
        self._model: Any = nn.Module()
        if isinstance(encoder, TextEncoder) and settings.train != "head":
            self._model = copy.deepcopy(encoder.model)
            _freeze(self._model, settings.frozen_layers)
        self._change = nn.Linear(vectors.shape[1], vectors.shape[1], bias=False)  # what the head adds to a vector
        nn.init.zeros_(self._change.weight)
        self._known: dict[str, Tensor] = {}
        self.settings = settings
        self.seed = seed
        self.texts = texts
        self.vectors = torch.from_numpy(np.array(vectors, dtype=np.float32))  # a copy: the caller's may be read-only
        self.learnt = learnt
        self.held_out = held_out
        self.pairs = [(place, int(row)) for place, rows in enumerate(learnt.rows) for row in rows]
        self.negatives: list[Int] = []
        self._pool = self._candidates()

    @property
    def module(self) -> nn.Module:
        found: nn.Module = self._change if self.settings.train == "head" else self._model
        return found

    def head(self) -> Float:
        """Give what is added to a query's vector, (dimensions, dimensions)."""
        found: Float = self._change.weight.detach().numpy().copy()
        return found

    def tower(self) -> SentenceTransformer:
        """Give the tower of the queries as a SentenceTransformer."""
        if self.settings.train != "head":
            return self._model
        model: Any = copy.deepcopy(getattr(self._encoder, "model", None))
        from sentence_transformers.sentence_transformer.modules import Dense, Normalize

        width = self._change.in_features
        weight = torch.eye(width) + self._change.weight.detach()
        head = Dense(width, width, bias=False, activation_function=nn.Identity(), init_weight=weight)
        return type(model)(modules=[*model, Normalize(), head, Normalize()], device="cpu")

    def mine(self, number: int) -> None:
        """Find the best wrong items of each query with the encoder as it is now."""
        self._model.eval()
        if number and self.settings.train == "both":
            self.vectors = self._encode(self.texts, self.settings.max_item_tokens)
        depth = min(self.settings.mined_depth, len(self.texts))
        scores = self._asked(self.learnt.texts) @ self.vectors.T  # (queries, rows)
        best = torch.topk(scores, depth, dim=1).indices.numpy()
        self.negatives = [found[~np.isin(found, rows)] for found, rows in zip(best, self.learnt.rows, strict=True)]

    def epoch(self, number: int) -> Sequence[_Batch]:
        random = generator(self.seed, "two towers", "epoch", number)
        order = random.permutation(len(self.pairs))
        size = self.settings.batch_size
        return [self._batch(order[first : first + size], random) for first in range(0, len(order), size)]

    def _batch(self, chosen: Int, random: np.random.Generator) -> _Batch:
        pairs = [self.pairs[place] for place in chosen]
        mined = [random.permutation(self.negatives[query])[: self.settings.hard_negatives] for query, _ in pairs]
        own = np.array([row for _, row in pairs], dtype=np.int64)
        rows = np.unique(np.concatenate([own, *mined]))
        right = np.array([np.isin(rows, self.learnt.rows[query]) for query, _ in pairs])
        place = np.searchsorted(rows, own)
        right[np.arange(len(pairs)), place] = False
        return _Batch([self.learnt.texts[query] for query, _ in pairs], rows, place, right)

    def loss(self, batch: _Batch) -> Tensor:
        queries = self._ask(batch.queries)
        if self.settings.train == "both":
            items = self._forward([self.texts[row] for row in batch.rows], self.settings.max_item_tokens)
        else:
            items = self.vectors[torch.from_numpy(batch.rows)]
        logits = queries @ items.T / self.settings.temperature  # (queries, items)
        logits = logits.masked_fill(torch.from_numpy(batch.barred), -torch.inf)
        return F.cross_entropy(logits, torch.from_numpy(batch.own))

    def validate(self) -> dict[str, float]:
        """Measure the held-out queries over all items, or over the hardest ones where items have to be encoded."""
        self._model.eval()
        if self._pool is None:
            items, rows = self.vectors, np.arange(len(self.texts))
        else:
            items, rows = (
                self._encode([self.texts[row] for row in self._pool], self.settings.max_item_tokens),
                self._pool,
            )
        scores = (self._asked(self.held_out.texts) @ items.T).numpy()
        gains = [
            _ndcg(rows[np.argsort(-line, kind="stable")], own)
            for line, own in zip(scores, self.held_out.rows, strict=True)
        ]
        return {f"nDCG@{_CUTOFF}": float(np.mean(gains))}

    def _candidates(self) -> Int | None:
        if self.settings.train != "both":
            return None
        self._model.eval()
        depth = min(2 * _CUTOFF, len(self.texts))
        best = torch.topk(self._asked(self.held_out.texts) @ self.vectors.T, depth, dim=1).indices.numpy()
        return np.unique(np.concatenate([best.ravel(), *self.held_out.rows]))

    def choose(self, original: Mapping[str, Tensor], shares: Sequence[float]) -> dict[float, float]:
        """Measure each share of the learnt change; the module is left as it was learnt."""
        learnt = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        found = {}
        for share in shares:
            self.blend(original, share)
            found[share] = self.validate()[f"nDCG@{_CUTOFF}"]
            self.module.load_state_dict(learnt)
        return found

    def blend(self, original: Mapping[str, Tensor], share: float) -> None:
        """Put the module between the original weights (0) and its own (1)."""
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(original[name], 1.0 - share)

    def _ask(self, texts: Sequence[str]) -> Tensor:
        """Encode queries with gradients, (texts, dimensions)."""
        if self.settings.train != "head":
            return self._forward(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, torch.from_numpy(self._encoder.encode(new)), strict=True))
        vectors = torch.stack([self._known[text] for text in texts])
        return F.normalize(vectors + self._change(vectors), dim=1)

    @torch.no_grad()
    def _asked(self, texts: Sequence[str]) -> Tensor:
        """Encode queries without gradients."""
        return self._ask(texts) if self.settings.train == "head" else self._encode(texts)

    def _forward(self, texts: Sequence[str], max_tokens: int | None = None) -> Tensor:
        """Encode texts with gradients, (texts, dimensions), of length 1."""
        features = self._model.preprocess(plain_texts(self._model.tokenizer, list(texts)))
        if max_tokens is not None:
            features = {
                name: value[:, :max_tokens] if isinstance(value, Tensor) and value.dim() == 2 else value
                for name, value in features.items()
            }
        return F.normalize(self._model(features)["sentence_embedding"], dim=1)

    @torch.no_grad()
    def _encode(self, texts: Sequence[str], max_tokens: int | None = None) -> Tensor:
        """Encode texts without gradients, longest first so that little is padded."""
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        out = torch.empty(len(texts), self.vectors.shape[1])
        for first in range(0, len(order), 32):
            chosen = order[first : first + 32]
            out[chosen] = self._forward([texts[place] for place in chosen], max_tokens)
        return out


def _freeze(model: SentenceTransformer, layers: int) -> None:
    """Keep the embeddings and the lowest blocks as they are."""
    network = model[0].auto_model
    blocks = getattr(getattr(network, "encoder", None), "layer", ())
    for part in [getattr(network, "embeddings", None), *blocks[:layers]]:
        for parameter in part.parameters() if part is not None else ():
            parameter.requires_grad_(False)


def _ndcg(ranked: Int, right: Int) -> float:
    places = np.flatnonzero(np.isin(ranked[:_CUTOFF], right))
    ideal = (1.0 / np.log2(np.arange(min(len(right), _CUTOFF)) + 2.0)).sum()
    return float((1.0 / np.log2(places + 2.0)).sum() / ideal)
