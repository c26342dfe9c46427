"""TIGER as a finder: the reference that generative recommenders are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.decoding.answers import Decoded
from genrail.errors import FingerprintError, ShapeError
from genrail.evaluation.splits import HeldOut
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.popularity import grown_counts
from genrail.finders.scoring import (
    HISTORY_ALONE,
    NO_WORDS,
    Integers,
    event_counts,
    no_events,
    popular_first,
    predecessors,
)
from genrail.finding import finder as seam
from genrail.finding.answering import Searching
from genrail.finding.finder import Change, Finder, FindOptions, Found, Json, Recipe
from genrail.finding.ranks import tie_order, top_rows
from genrail.identifiers import SemanticIds
from genrail.models.tiger import TigerModel, TigerSettings
from genrail.rng import generator
from genrail.training.loop import LoopReport, LoopSettings, Progress
from genrail.training.tiger import TigerTraining, train_tiger

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences
    from genrail.finding.data import Data
    from genrail.finding.requests import Request
    from genrail.models.text_encoder import Encoder

__all__ = ["TIGER", "TigerRecipe"]


class TIGER(Searching, Finder):
    """Write the Semantic ID of the next item with a T5 trained from scratch (Rajput et al. 2023).

    Every answer is a real, allowed item: a trie keeps the beams on the catalogue, where the paper drops invalid ids
    afterwards. Words are not read: a query with words only is answered by popularity, with a warning.

    Args:
        catalog: The items.
        sequences: The training events, rows of this catalogue, each user's in order.
        codes: Semantic ID of each item, shape (items, levels), such as `IdentifierTable.matrix()`.
        settings: How large the T5 is.
        training: How it learns.
        beam: Beams of an answer; raised to k by itself.
        validation: Histories and withheld next items; the epoch with the highest nDCG@10 there is kept.
        device: Where it learns and answers, such as ``"cuda"``.
        seed: Of initial weights, batches, dropout, and of the order between items nobody knows anything about.
        progress: Called after each step.
        checkpoint: A file that training resumes from if it exists, see `genrail.training.loop.run`.

    Raises:
        ShapeError: Events outside the catalogue, or another number of codes than items.

    >>> from genrail.catalog import Catalog
    >>> from genrail.evaluation import Training
    >>> from genrail.training.loop import LoopSettings
    >>> from genrail.types import Query
    >>> shop = Catalog.from_items([{"id": name, "title": name} for name in "abcd"])
    >>> events = Training(["u", "v"], np.array([0, 3, 6]), np.array([0, 1, 2, 0, 1, 2]))
    >>> small = TigerSettings(width=16, layers=1, heads=1, head_width=8, feed_forward=16, dropout=0.0)
    >>> quick = TigerTraining(LoopSettings(epochs=60, learning_rate=0.02, warm_up=5))
    >>> method = TIGER(shop, events, [[0, 0], [0, 1], [1, 0], [1, 1]], small, quick)
    >>> method.search_batch([Query(history=["a", "b"])], k=1)[0].item_ids
    ['c']
    """

    name = "TIGER"

    def __init__(
        self,
        catalog: Catalog,
        sequences: FlatSequences | None,
        codes: npt.ArrayLike,
        settings: TigerSettings | None = None,
        training: TigerTraining | None = None,
        *,
        beam: int = 50,
        validation: HeldOut | None = None,
        device: str = "cpu",
        seed: int = 0,
        progress: Callable[[Progress], None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        recipe = TigerRecipe(settings or TigerSettings(), training or TigerTraining(), beam)
        sequences = no_events(sequences)
        model = TigerModel(codes, settings, seed).to(device)
        if len(model.codes) != len(catalog):
            raise ShapeError(f"{len(model.codes)} rows of codes for {len(catalog)} items; give each item its codes")
        counts = event_counts(sequences, len(catalog))
        self._set(catalog, recipe, model, counts, np.arange(len(catalog)), seed)
        events = (np.asarray(sequences.rows, dtype=np.int64), np.asarray(sequences.offsets, dtype=np.int64))
        self._report = train_tiger(model, events, training, _cases(validation), seed, progress, checkpoint)

    def _set(
        self,
        catalog: Catalog,
        recipe: TigerRecipe,
        model: TigerModel,
        counts: Integers,
        places: Integers,
        seed: int,
    ) -> None:
        self.catalog = catalog
        self.recipe: TigerRecipe = recipe
        self.model = model
        self.counts = counts
        self.seed = seed
        self._places = places  # of each row among the codes, -1 for an item that came later
        self._trie = Trie.from_matrix(model.tokens, model.pad)
        self._report = None

    @property
    def beam(self) -> int:
        """Give the beams of an answer."""
        return self.recipe.beam

    _report: LoopReport | None = None

    @property
    def report(self) -> LoopReport | None:
        """Tell what the training in this process did."""
        return self._report

    @property
    def reads_words(self) -> bool:
        """Words change nothing."""
        return False

    @cached_property
    def precedence(self) -> Integers:
        """Give each row its place by popularity."""
        return popular_first(self.counts, tie_order(len(self.catalog), self.seed))

    @cached_property
    def _row_of(self) -> Integers:
        """Give the newest row of each place among the codes; later rows overwrite earlier ones."""
        rows = np.zeros(len(self.model.codes), dtype=np.int64)
        known = np.flatnonzero(self._places >= 0)
        rows[self._places[known]] = known
        return rows

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Decode the k most probable identifiers of each history; items that came later follow by popularity."""
        options.step()
        pasts = [places[places >= 0] for places in (self._places[request.history] for request in requests)]
        known = [(request, past) for request, past in zip(requests, pasts, strict=True) if len(past)]
        decoded = iter(
            beam_search(
                self.model,
                [self.model.context(past.tolist()) for _, past in known],
                self._trie,
                BeamSettings(width=self.beam),
                [self._trie.subset(request.allowed[self._row_of]) for request, _ in known],
                k,
            )
        )
        return [
            self._answer(request, next(decoded), k) if len(past) else self._popular(request, k)
            for request, past in zip(requests, pasts, strict=True)
        ]

    def _answer(self, request: Request, answer: Decoded, k: int) -> Found:
        rows, scores = self._row_of[answer.rows], answer.log_probabilities
        chances = scores
        if len(rows) < k:
            left = request.allowed.copy()
            left[rows] = False
            rest = top_rows(self.counts.astype(np.float64), left, k - len(rows), self.precedence)
            below = np.nextafter(scores.min(initial=0.0), -np.inf)
            rows, scores = np.concatenate([rows, rest]), np.concatenate([scores, np.full(len(rest), below)])
            chances = np.concatenate([chances, np.full(len(rest), np.nan)])
        return Found(rows, scores, chances, warnings=(HISTORY_ALONE,) if request.text else ())

    def _popular(self, request: Request, k: int) -> Found:
        scores = self.counts.astype(np.float64)
        rows = top_rows(scores, request.allowed, k, self.precedence)
        return Found(rows, scores[rows], warnings=(NO_WORDS,) if request.text else ())

    def grow(self, catalog: Catalog, change: Change) -> TIGER:
        """Put new rows behind all others, or at the identifier of the earlier row of the same item."""
        first = len(self._places)
        places = np.concatenate([self._places, np.full(len(catalog) - first, -1, dtype=np.int64)])
        old, new = predecessors(catalog, first)
        places[new] = places[old]
        made = TIGER.__new__(TIGER)
        made._set(catalog, self.recipe, self.model, grown_counts(self.counts, catalog), places, self.seed)
        return made

    def save(self, folder: Path) -> dict[str, Json]:
        """Write counts, codes and weights."""
        save_arrays(folder, {"counts": self.counts, "places": self._places})
        self.model.save(folder)
        return {"recipe": self.recipe.to_dict(), "seed": self.seed, "model": self.model.fingerprint}

    @classmethod
    def load(
        cls,
        folder: Path,
        details: Mapping[str, Json],
        catalog: Catalog,
        encoder: Encoder | None = None,
        device: str = "cpu",
    ) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
            FingerprintError: The weights are those of another TIGER.
        """
        model = TigerModel.load(folder)
        if model.fingerprint != details["model"]:
            raise FingerprintError(f"{folder} holds the weights of another TIGER; restore the folder or build it again")
        counts = load_array(folder, "counts", np.int64, (len(catalog),))
        places = load_array(folder, "places", np.int64, (len(catalog),))
        recipe = TigerRecipe.from_dict(cast("Mapping[str, Json]", details["recipe"]))
        made = cls.__new__(cls)
        made._set(catalog, recipe, model.to(device), counts, places, int(str(details["seed"])))
        return made


@dataclass(frozen=True)
class TigerRecipe(Recipe):
    """Say how large TIGER is, how it learns, and what its identifiers are.

    Args:
        model: How large the T5 is.
        training: How it learns.
        beam: Beams of an answer; raised to k by itself. 50 as reproductions of the paper.
        levels: Codes of an identifier, without the one that tells duplicates apart; 3 as in the paper.
        codes: Different codes of a level; 256 as in the paper, at most a quarter of the items.
    """

    model: TigerSettings = field(default_factory=TigerSettings)
    training: TigerTraining = field(default_factory=TigerTraining)
    beam: int = 50
    levels: int = 3
    codes: int = 256

    kind: ClassVar[str] = "tiger"
    finder: ClassVar[type[Finder]] = TIGER
    needs_interactions: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.model, dict):  # from a manifest
            object.__setattr__(self, "model", TigerSettings(**self.model))
        if isinstance(self.training, dict):
            values: dict[str, Any] = dict(self.training)
            object.__setattr__(self, "training", TigerTraining(**{**values, "loop": LoopSettings(**values["loop"])}))

    def build(self, data: Data, progress: seam.Progress) -> TIGER:
        """Quantise the text vectors into identifiers, then train on the interactions."""
        vectors = data.text_vectors(progress)
        size = len(data.catalog)
        ids = SemanticIds.fit(vectors, levels=self.levels, codes=max(1, min(self.codes, size // 4)), seed=data.seed)
        order = generator(data.seed, "de-duplicating codes").permutation(size)
        taught = data.without_validation
        validation = taught.held_back
        return TIGER(
            data.catalog,
            taught.sequences,
            ids.assign(vectors, order=order).matrix(),
            self.model,
            self.training,
            beam=self.beam,
            validation=validation,
            seed=data.seed,
            progress=lambda now: progress("training TIGER", now.epoch, now.epochs),
        )


def _cases(validation: HeldOut | None) -> list[tuple[list[int], int]]:
    """List histories with the item that comes next."""
    if validation is None:
        return []
    return [(validation.history(user).tolist(), int(validation.targets[user])) for user in range(len(validation))]
