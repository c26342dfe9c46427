"""Popularity: what most people took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.baselines.answers import Answers
from genrail.baselines.saved import load_array, load_settings, save_settings
from genrail.errors import DamagedError, ShapeError
from genrail.types import Query, Ranking

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences

__all__ = ["NO_WORDS", "Popularity", "event_counts", "popular_first"]

NO_WORDS = "this method does not read words: the answer is by popularity"


class Popularity:
    """Rank items by how often they occur in the training events, the same for everybody.

    Items without events follow in seeded order. Words and histories change nothing (seen items are left out as asked).

    Args:
        catalog: The items.
        sequences: The training events, rows of this catalogue.
        seed: Of the order between items with equally many events.

    Raises:
        ShapeError: Events outside the catalogue.

    >>> from genrail.catalog import Catalog
    >>> from genrail.evaluation import Training
    >>> shop = Catalog.from_items([{"id": name, "title": name} for name in "abc"])
    >>> events = Training(["u", "v"], np.array([0, 2, 3]), np.array([2, 1, 2]))
    >>> Popularity(shop, events).search_batch([Query(history=["a"])], k=2)[0].item_ids
    ['c', 'b']
    """

    name = "Popularity"

    def __init__(self, catalog: Catalog, sequences: FlatSequences, *, seed: int = 0) -> None:
        self._set(catalog, event_counts(sequences, len(catalog)), seed)

    def _set(self, catalog: Catalog, counts: npt.NDArray[np.int64], seed: int) -> None:
        self.catalog = catalog
        self.counts = counts
        self.seed = seed
        self._answers = Answers(catalog, seed)

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k most popular items that each query allows.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
            FilterError: A filter that does not parse or names an unknown field.
        """
        rankings = []
        for request in self._answers.requests(queries, k):
            if request.text:
                request.warnings.append(NO_WORDS)
            rankings.append(self._answers.ranking(request, self.counts.astype(np.float64), k))
        return rankings

    def save(self, folder: str | Path) -> None:
        """Write settings and counts into a folder."""
        folder = save_settings(folder, "popularity", self.catalog, {"seed": self.seed})
        np.save(folder / "counts.npy", self.counts)

    @classmethod
    def load(cls, folder: str | Path, catalog: Catalog) -> Popularity:
        """Read what `save` wrote.

        Raises:
            DamagedError, FormatError, FingerprintError: A folder that is not whole, not ours, or of another catalogue.
        """
        settings = load_settings(folder, "popularity", catalog)
        made = cls.__new__(cls)
        made._set(catalog, load_counts(folder, catalog), **settings)
        return made


def event_counts(sequences: FlatSequences, rows: int) -> npt.NDArray[np.int64]:
    """Count the events of each row, shape (rows,).

    Raises:
        ShapeError: Events outside the catalogue.
    """
    events = np.asarray(sequences.rows, dtype=np.int64)
    if len(events) and not 0 <= int(events.min()) <= int(events.max()) < rows:
        raise ShapeError(
            f"events name rows {events.min()}..{events.max()} but the catalogue has {rows}; use one catalogue"
        )
    return np.bincount(events, minlength=rows).astype(np.int64)


def popular_first(counts: npt.NDArray[np.int64], tie_order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Give each row its place by popularity, ties by `tie_order`: the order between rows that score the same."""
    places = np.empty(len(counts), dtype=np.int64)
    places[np.lexsort((tie_order, -counts))] = np.arange(len(counts))
    return places


def load_counts(folder: str | Path, catalog: Catalog) -> npt.NDArray[np.int64]:
    """Read ``counts.npy`` and check that it has a number for each row."""
    counts = load_array(Path(folder) / "counts.npy")
    if counts.shape != (len(catalog),):
        raise DamagedError(f"{folder}/counts.npy has shape {counts.shape} for {len(catalog)} rows; save it again")
    return counts
