"""SASRec: a causal transformer over the items of a history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genrail.baselines.answers import Answers, Request, tie_order
from genrail.baselines.popularity import NO_WORDS, event_counts, load_counts, popular_first
from genrail.baselines.sasrec_network import SASRecNetwork, softmax_loss
from genrail.baselines.saved import load_array, load_settings, save_settings
from genrail.errors import DamagedError, SettingsError
from genrail.rng import generator
from genrail.training.figures import next_item_figures
from genrail.training.loop import LoopReport, LoopSettings, Progress, run
from genrail.training.pairs import ContextBatch, windows
from genrail.types import Query, Ranking

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences, HeldOut

__all__ = ["SASRec", "SASRecSettings"]

_CUTOFF = 10  # of the validation's nDCG and recall
_USERS_AT_ONCE = 256


@dataclass(frozen=True)
class SASRecSettings:
    """Say how large the network is and how it learns.

    Args:
        width: Of item vectors and layers.
        layers: Transformer blocks.
        heads: Attention heads of each; they divide the width.
        history: How many of the last items are read.
        dropout: On inputs and within the blocks; 0.5 as in the paper for sparse data.
        scale: Cosines between expectation and items are multiplied by it at the start; it is learned.
        label_smoothing: Share of the probability that is spread evenly over all items.
        batch_targets: About so many next items in a step.
        validation_users: At most so many users are measured after an epoch.
        loop: Epochs, learning rate, stopping.

    Raises:
        SettingsError: A setting outside its range.
    """

    width: int = 64
    layers: int = 2
    heads: int = 2
    history: int = 20
    dropout: float = 0.5
    scale: float = 10.0
    label_smoothing: float = 0.0
    batch_targets: int = 1024
    validation_users: int = 5000
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(epochs=20, learning_rate=3e-3))

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "history", "batch_targets", "validation_users"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.width % self.heads:
            raise SettingsError(f"width {self.width} cannot be shared by {self.heads} heads; give a multiple")
        if not (0.0 <= self.dropout < 1.0 and 0.0 <= self.label_smoothing < 1.0 and self.scale > 0.0):
            raise SettingsError(
                f"dropout is {self.dropout}, label_smoothing {self.label_smoothing} and scale {self.scale}; "
                "give 0 to below 1, and a scale above 0"
            )

    @classmethod
    def for_size(cls, targets: int, max_seconds: float | None = None) -> SASRecSettings:
        """Choose settings for so many next items to learn from.

        Args:
            targets: Next items, over all sequences.
            max_seconds: See `LoopSettings`.
        """
        if targets > 50_000:
            return cls(loop=LoopSettings(epochs=20, learning_rate=3e-3, max_seconds=max_seconds))
        # A small set has few steps in an epoch: more epochs, smaller steps.
        loop = LoopSettings(epochs=40, learning_rate=3e-3, warm_up=30, validate_every=2, max_seconds=max_seconds)
        return cls(batch_targets=256, loop=loop)


class SASRec:
    """Rank items by what a causal transformer expects next (Kang and McAuley 2018), trained by a full softmax.

    It differs from the paper where later work found better: the loss is the cross-entropy over the whole catalogue
    instead of one drawn negative (Klenitskiy and Vasilev 2023), scores are cosines times a learned scale, and positions
    are told apart by a learned bias per distance. All positions of a sequence are trained at once.

    Words are not read: a query with words only is answered by popularity, with a warning. So is every query where no
    sequence has two events, because there is nothing to learn from.

    Args:
        catalog: The items.
        sequences: The training events, rows of this catalogue, each user's in order.
        settings: How large, and how it learns.
        validation: Histories and withheld next items; the epoch with the highest nDCG@10 there is kept (items of the
            history left out). Without it the last epoch is kept.
        seed: Of initial weights, batches, dropout, and of the order between equal scores.
        progress: Called after each step.

    Raises:
        ShapeError: Events outside the catalogue.

    Cost: of an epoch, 6 x targets x items x width multiplications, and memory for `batch_targets` x items
    scores; a query costs O(items x width).

    >>> from genrail.catalog import Catalog
    >>> from genrail.evaluation import Training
    >>> shop = Catalog.from_items([{"id": name, "title": name} for name in "abcd"])
    >>> events = Training(["u", "v"], np.array([0, 3, 6]), np.array([0, 1, 2, 0, 1, 2]))
    >>> small = SASRecSettings(width=8, loop=LoopSettings(epochs=60, learning_rate=0.02, warm_up=5))
    >>> SASRec(shop, events, small).search_batch([Query(history=["a", "b"])], k=1)[0].item_ids
    ['c']
    """

    name = "SASRec"

    def __init__(
        self,
        catalog: Catalog,
        sequences: FlatSequences,
        settings: SASRecSettings | None = None,
        *,
        validation: HeldOut | None = None,
        seed: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        settings = settings or SASRecSettings()
        counts = event_counts(sequences, len(catalog))
        network = _network(len(catalog), settings, seed)
        task = _Task(network, sequences, settings, validation, seed)
        report = run(task, settings.loop, seed, progress) if task.events.targets else None
        self._set(catalog, settings, counts, network, report, seed)

    def _set(
        self,
        catalog: Catalog,
        settings: SASRecSettings,
        counts: npt.NDArray[np.int64],
        network: SASRecNetwork,
        report: LoopReport | None,
        seed: int,
    ) -> None:
        self.catalog = catalog
        self.settings = settings
        self.counts = counts
        self.seed = seed
        self.report = report
        self._network = network.eval()
        with torch.no_grad():
            self._vectors = network.item_vectors().contiguous().numpy()
        self._answers = Answers(catalog, precedence=popular_first(counts, tie_order(len(catalog), seed)))

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
            FilterError: A filter that does not parse or names an unknown field.
        """
        return [
            self._answers.ranking(request, self._scores(request), k) for request in self._answers.requests(queries, k)
        ]

    def _scores(self, request: Request) -> npt.NDArray[np.floating[Any]]:
        if request.text and not len(request.history):
            request.warnings.append(NO_WORDS)
        elif request.text:
            request.warnings.append("this method does not read words: the answer is by the history alone")
        if self.report is None or not len(request.history):
            return self.counts.astype(np.float64)
        # One history at a time: products of a whole batch round otherwise, and the order would depend on the batch.
        last = request.history[-self.settings.history :]
        with torch.no_grad():
            expected = self._network(torch.from_numpy(last)[None])[0, -1].numpy()
        scores: npt.NDArray[np.float32] = self._vectors @ expected
        return scores

    def save(self, folder: str | Path) -> None:
        """Write settings, counts and weights into a folder."""
        settings = {"seed": self.seed, "trained": self.report is not None, **asdict(self.settings)}
        folder = save_settings(folder, "sasrec", self.catalog, settings)
        np.save(folder / "counts.npy", self.counts)
        for name, weights in self._network.state_dict().items():
            np.save(folder / f"{name}.npy", weights.numpy())

    @classmethod
    def load(cls, folder: str | Path, catalog: Catalog) -> SASRec:
        """Read what `save` wrote.

        Raises:
            DamagedError, FormatError, FingerprintError: A folder that is not whole, not ours, or of another catalogue.
        """
        values = load_settings(folder, "sasrec", catalog)
        seed, trained, loop = values.pop("seed"), values.pop("trained"), values.pop("loop")
        settings = SASRecSettings(**values, loop=LoopSettings(**loop))
        network = _network(len(catalog), settings, seed)
        for name, weights in network.state_dict().items():
            found = load_array(Path(folder) / f"{name}.npy")
            if found.shape != tuple(weights.shape):
                raise DamagedError(f"{folder}/{name}.npy has shape {found.shape}, not {tuple(weights.shape)}")
            weights.copy_(torch.from_numpy(found))
        made = cls.__new__(cls)
        report = LoopReport((), 0, {}, "epochs", 0.0, 0) if trained else None
        made._set(catalog, settings, load_counts(folder, catalog), network, report, seed)
        return made


class _Task:
    """Bring batches, loss and validation of SASRec to the loop."""

    def __init__(
        self,
        network: SASRecNetwork,
        sequences: FlatSequences,
        settings: SASRecSettings,
        validation: HeldOut | None,
        seed: int,
    ) -> None:
        self.network = network
        self.settings = settings
        self.seed = seed
        rows, offsets = (np.asarray(array, dtype=np.int64) for array in (sequences.rows, sequences.offsets))
        self.events = windows(rows, offsets, settings.history)
        known = validation is not None and len(validation) > 0
        self.held_out = validation.sample(settings.validation_users, seed) if validation is not None and known else None

    @property
    def module(self) -> SASRecNetwork:
        return self.network

    def epoch(self, number: int) -> list[ContextBatch]:
        return self.events.batches(self.settings.batch_targets, generator(self.seed, "SASRec", "epoch", number))

    def loss(self, batch: ContextBatch) -> Tensor:
        targets = torch.from_numpy(batch.targets)
        wanted = targets >= 0
        hidden = self.network(torch.from_numpy(batch.tokens))[wanted]
        return softmax_loss(hidden, self.network.item_vectors(), targets[wanted], self.settings.label_smoothing)

    def validate(self) -> dict[str, float]:
        if self.held_out is None:
            return {}
        with torch.no_grad():
            vectors = self.network.item_vectors()
            users = range(0, len(self.held_out), _USERS_AT_ONCE)
            rank = np.concatenate([self._ranks(vectors, first, self.held_out) for first in users])
        ndcg, recall = next_item_figures(rank, _CUTOFF)
        return {"nDCG@10": ndcg, "R@10": recall}

    def _ranks(self, vectors: Tensor, first: int, held_out: HeldOut) -> npt.NDArray[np.int64]:
        """Count the items before each target, those of the history left out."""
        users = range(first, min(first + _USERS_AT_ONCE, len(held_out)))
        pasts = [held_out.history(user)[-self.settings.history :] for user in users]
        tokens = np.zeros((len(pasts), max(map(len, pasts))), dtype=np.int64)
        for place, past in enumerate(pasts):
            tokens[place, : len(past)] = past
        hidden = self.network(torch.from_numpy(tokens))  # (users, positions, width)
        scores = hidden[torch.arange(len(pasts)), torch.tensor([len(past) - 1 for past in pasts])] @ vectors.T
        for place, past in enumerate(pasts):
            scores[place, torch.from_numpy(past)] = -torch.inf
        targets = torch.from_numpy(held_out.targets[list(users)])
        before: npt.NDArray[np.int64] = (scores > scores.gather(1, targets[:, None])).sum(dim=1).numpy()
        return before


def _network(items: int, settings: SASRecSettings, seed: int) -> SASRecNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "SASRec", "weights").integers(2**62)))
        return SASRecNetwork(
            items,
            settings.width,
            settings.layers,
            settings.heads,
            settings.history,
            settings.dropout,
            settings.scale,
        )
