"""SASRec: a causal transformer over the items of a history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genrail.errors import DamagedError, SettingsError
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.sasrec_network import SASRecNetwork, softmax_loss
from genrail.finders.scoring import (
    HistoryScoring,
    Integers,
    Values,
    event_counts,
    grown_rows,
    no_events,
    popular_first,
)
from genrail.finding import finder as seam
from genrail.finding.finder import Change, Finder, Json, Recipe
from genrail.finding.ranks import tie_order
from genrail.rng import generator
from genrail.training.figures import next_item_figures
from genrail.training.loop import LoopReport, LoopSettings, Progress, run
from genrail.training.pairs import ContextBatch, windows
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences, HeldOut
    from genrail.finding.data import Data
    from genrail.finding.requests import Request
    from genrail.models.text_encoder import Encoder

__all__ = ["SASRec", "SASRecRecipe"]

_CUTOFF = 10  # of the validation's nDCG and recall
_USERS_AT_ONCE = 256


class SASRec(HistoryScoring):
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
    >>> from genrail.types import Query
    >>> shop = Catalog.from_items([{"id": name, "title": name} for name in "abcd"])
    >>> events = Training(["u", "v"], np.array([0, 3, 6]), np.array([0, 1, 2, 0, 1, 2]))
    >>> small = SASRecRecipe(width=8, loop=LoopSettings(epochs=60, learning_rate=0.02, warm_up=5))
    >>> SASRec(shop, events, small).search_batch([Query(history=["a", "b"])], k=1)[0].item_ids
    ['c']
    """

    name = "SASRec"

    def __init__(
        self,
        catalog: Catalog,
        sequences: FlatSequences | None,
        settings: SASRecRecipe | None = None,
        *,
        validation: HeldOut | None = None,
        seed: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        settings, sequences = settings or SASRecRecipe(), no_events(sequences)
        size = len(catalog)
        counts = event_counts(sequences, size)
        network = _network(size, settings, seed)
        task = _Task(network, sequences, settings, validation, seed)
        report = run(task, settings.loop, seed, progress) if task.events.targets else None
        self._set(catalog, settings, counts, network, np.arange(size), report is not None, seed)
        self._report = report

    def _set(
        self,
        catalog: Catalog,
        settings: SASRecRecipe,
        counts: Integers,
        network: SASRecNetwork,
        places: Integers,
        trained: bool,
        seed: int,
    ) -> None:
        self.catalog = catalog
        self.settings = settings
        self.recipe: Recipe = settings
        self.counts = counts
        self.seed = seed
        self.trained = trained
        self._report = None
        self._network = network.eval()
        self._places = places  # of each row among the item vectors, -1 for an item that came later; shape (rows,)
        with torch.no_grad():
            self._vectors = network.item_vectors().contiguous().numpy()

    _report: LoopReport | None = None

    @property
    def report(self) -> LoopReport | None:
        """Tell what the training in this process did; None where there was nothing to learn from, or after loading."""
        return self._report

    @property
    def reads_words(self) -> bool:
        """Words change nothing."""
        return False

    @cached_property
    def precedence(self) -> Integers:
        """Between equal scores the more popular comes first."""
        return popular_first(self.counts, tie_order(len(self.catalog), self.seed))

    def scores(self, requests: Sequence[Request]) -> Iterator[Values]:
        """Score all rows for each request, shape (rows,) each; items that came later score lowest."""
        return (self._scores(request.history) for request in requests)

    def _scores(self, history: Integers) -> Values:
        last = self._places[history]
        last = last[last >= 0][-self.settings.history :]
        if not self.trained or not len(last):
            return self.counts.astype(np.float64)
        # One history at a time: products of a whole batch round otherwise, and the order would depend on the batch.
        with torch.no_grad():
            expected = self._network(torch.from_numpy(last)[None])[0, -1].numpy()
        found: npt.NDArray[np.float32] = self._vectors @ expected
        if len(self._places) == len(found):
            return found
        lowest = np.nextafter(found.min(), np.float32(-np.inf))
        later = self._places[len(found) :]
        return np.concatenate([found, np.where(later >= 0, found[later], lowest)])

    def grow(self, catalog: Catalog, change: Change) -> SASRec:
        """Give new rows the lowest score, or the vector of the earlier row of the same item."""
        places = grown_rows(self._places, catalog, -1)
        made = SASRec.__new__(SASRec)
        counts = grown_rows(self.counts, catalog, 0)
        made._set(catalog, self.settings, counts, self._network, places, self.trained, self.seed)
        return made

    def describe(self) -> dict[str, Json]:
        """Tell the size of the network."""
        return {"width": self.settings.width, "layers": self.settings.layers, "trained": self.trained}

    def save(self, folder: Path) -> dict[str, Json]:
        """Write counts, places and weights."""
        weights = {f"weights.{name}": value.numpy() for name, value in self._network.state_dict().items()}
        save_arrays(folder, {"counts": self.counts, "places": self._places, **weights})
        items = len(self._vectors)
        return {"recipe": self.recipe.to_dict(), "seed": self.seed, "trained": self.trained, "items": items}

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
        """
        settings = SASRecRecipe.from_dict(details["recipe"])
        seed, items = int(details["seed"]), int(details["items"])
        counts = load_array(folder, "counts", np.int64, (len(catalog),))
        places = load_array(folder, "places", np.int64, (len(catalog),))
        if places.min(initial=-1) < -1 or places.max(initial=-1) >= items:
            raise DamagedError(
                f"{folder / 'places.npy'} names items beyond {items}; restore the folder or build it again"
            )
        network = _network(items, settings, seed)
        for name, weights in network.state_dict().items():
            kind = str(weights.numpy().dtype)
            weights.copy_(torch.from_numpy(load_array(folder, f"weights.{name}", kind, tuple(weights.shape))))
        made = cls.__new__(cls)
        made._set(catalog, settings, counts, network, places, bool(details["trained"]), seed)
        return made


@dataclass(frozen=True)
class SASRecRecipe(Recipe):
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

    kind: ClassVar[str] = "sasrec"
    finder: ClassVar[type[Finder]] = SASRec
    needs_interactions: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.loop, dict):  # from a manifest
            object.__setattr__(self, "loop", LoopSettings(**self.loop))
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
    def for_size(cls, targets: int, max_seconds: float | None = None) -> SASRecRecipe:
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

    def build(self, data: Data, progress: seam.Progress) -> SASRec:
        """Train on the interactions; the epoch is chosen on each user's last event but those that are held out."""
        taught = data.without_validation
        validation = taught.held_back
        return SASRec(
            data.catalog,
            taught.sequences,
            self,
            validation=validation,
            seed=data.seed,
            progress=lambda now: progress("training SASRec", now.epoch, self.loop.epochs),
        )


class _Task:
    """Bring batches, loss and validation of SASRec to the loop."""

    def __init__(
        self,
        network: SASRecNetwork,
        sequences: FlatSequences,
        settings: SASRecRecipe,
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


def _network(items: int, settings: SASRecRecipe, seed: int) -> SASRecNetwork:
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
