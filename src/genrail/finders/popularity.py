"""Popularity: what most people took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.scoring import NO_WORDS, Integers, Scoring, Values, event_counts, grown_rows
from genrail.finding.finder import Change, Finder, Json, Progress, Recipe
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences
    from genrail.finding.data import Data
    from genrail.finding.requests import Request
    from genrail.models.text_encoder import Encoder

__all__ = ["Popularity", "PopularityRecipe"]


class Popularity(Scoring):
    """Rank items by how often they occur in the training events, the same for everybody.

    Items without events follow in seeded order. Words and histories change nothing (seen items are left out as asked).

    Args:
        catalog: The items.
        sequences: The training events, rows of this catalogue; None for none at all.
        seed: Of the order between items with equally many events.

    Raises:
        ShapeError: Events outside the catalogue.

    >>> from genrail.catalog import Catalog
    >>> from genrail.evaluation import Training
    >>> from genrail.types import Query
    >>> shop = Catalog.from_items([{"id": name, "title": name} for name in "abc"])
    >>> events = Training(["u", "v"], np.array([0, 2, 3]), np.array([2, 1, 2]))
    >>> Popularity(shop, events).search_batch([Query(history=["a"])], k=2)[0].item_ids
    ['c', 'b']
    """

    name = "Popularity"

    def __init__(self, catalog: Catalog, sequences: FlatSequences | None, *, seed: int = 0) -> None:
        size = len(catalog)
        self._set(catalog, np.zeros(size, np.int64) if sequences is None else event_counts(sequences, size), seed)

    def _set(self, catalog: Catalog, counts: Integers, seed: int) -> None:
        self.catalog = catalog
        self.recipe: Recipe = PopularityRecipe()
        self.counts = counts
        self.seed = seed

    @property
    def reads_words(self) -> bool:
        """Words change nothing."""
        return False

    @property
    def reads_histories(self) -> bool:
        """Histories change nothing."""
        return False

    def scores(self, requests: Sequence[Request]) -> Iterator[Values]:
        """Give each row its number of events."""
        counts = self.counts.astype(np.float64)
        return (counts for _ in requests)

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Say that words were not read."""
        return (NO_WORDS,) if request.text else ()

    def grow(self, catalog: Catalog, change: Change) -> Popularity:
        """Count nothing for new items; an item that came back keeps its events."""
        grown = Popularity.__new__(Popularity)
        grown._set(catalog, grown_rows(self.counts, catalog, 0), self.seed)
        return grown

    def save(self, folder: Path) -> dict[str, Json]:
        """Write the counts."""
        save_arrays(folder, {"counts": self.counts})
        return {"seed": self.seed}

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: The counts are missing, cut, or of another catalogue.
        """
        made = cls.__new__(cls)
        made._set(catalog, load_array(folder, "counts", np.int64, (len(catalog),)), int(details["seed"]))
        return made


@dataclass(frozen=True)
class PopularityRecipe(Recipe):
    """Count events; there is nothing to set."""

    kind: ClassVar[str] = "popularity"
    finder: ClassVar[type[Finder]] = Popularity
    needs_interactions: ClassVar[bool] = True

    def build(self, data: Data, progress: Progress) -> Popularity:
        """Count the events of the interactions; without any, all items are equally popular."""
        return Popularity(data.catalog, data.sequences, seed=data.seed)
