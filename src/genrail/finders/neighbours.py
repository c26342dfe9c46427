"""Rank by items that go with the items of a history: the common part of co-occurrence and item-kNN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from genrail.errors import DamagedError
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.postings import Postings
from genrail.finders.scoring import (
    HistoryScoring,
    Values,
    event_counts,
    grown_rows,
    popular_first,
    recency_weights,
)
from genrail.finding.finder import Change, Json, Recipe
from genrail.finding.ranks import tie_order
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences
    from genrail.finding.requests import Request
    from genrail.models.text_encoder import Encoder

__all__ = ["Neighbours", "pairs_at"]

Integers = npt.NDArray[np.int64]


class Neighbours(HistoryScoring):
    """Sum, over the last items of a history, how strongly each other item goes with it.

    Items that go with nothing in the history follow by popularity; so do items that came later, which go with nothing.
    An item that comes back, or whose text changes, keeps what is known of it. Words are not read: a query with words
    only is answered by popularity, with a warning.

    Subclasses say what "goes with" means, by making the table: ``postings`` of shape (item of the history, candidate).
    Their settings have `decay` and `history`.
    """

    settings_class: ClassVar[type[Recipe]]

    def _set(
        self, catalog: Catalog, settings: Any, counts: Integers, postings: Postings, places: Integers, seed: int
    ) -> None:
        self.catalog = catalog
        self.settings = settings
        self.recipe: Recipe = settings
        self.counts = counts
        self.seed = seed
        self._postings = postings
        self._places = places  # of each row in the table, -1 for none; shape (rows,)

    @property
    def reads_words(self) -> bool:
        """Words change nothing."""
        return False

    @cached_property
    def precedence(self) -> Integers:
        """Between equal scores the more popular comes first."""
        return popular_first(self.counts, tie_order(len(self.catalog), self.seed))

    def scores(self, requests: Sequence[Request]) -> Iterator[Values]:
        """Score all rows for each request, shape (rows,) each."""
        return (self._scores(request.history[-self.settings.history :]) for request in requests)

    def _scores(self, last: Integers) -> Values:
        places, weights = self._places[last], recency_weights(len(last), self.settings.decay)
        found = self._postings.scores(places[places >= 0], weights[places >= 0])
        size = len(found)
        if len(self._places) == size:
            return found
        later = self._places[size:]
        return np.concatenate([found, np.where(later >= 0, found[later], 0.0)])

    def grow(self, catalog: Catalog, change: Change) -> Self:
        """Give new rows no neighbours, or those of the earlier row of the same item."""
        places = grown_rows(self._places, catalog, -1)
        made = type(self).__new__(type(self))
        made._set(catalog, self.settings, grown_rows(self.counts, catalog, 0), self._postings, places, self.seed)
        return made

    def save(self, folder: Path) -> dict[str, Json]:
        """Write counts, the table, and where each row stands in it."""
        save_arrays(folder, {"counts": self.counts, "places": self._places})
        self._postings.save(folder)
        return {"recipe": asdict(self.settings), "seed": self.seed, "table": len(self._postings)}

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
        """
        size = int(details["table"])
        counts = load_array(folder, "counts", np.int64, (len(catalog),))
        places = load_array(folder, "places", np.int64, (len(catalog),))
        if places.min(initial=-1) < -1 or places.max(initial=-1) >= size:
            raise DamagedError(
                f"{folder / 'places.npy'} names items beyond {size}; restore the folder or build it again"
            )
        settings = cls.settings_class.from_dict(details["recipe"])
        made = cls.__new__(cls)
        made._set(catalog, settings, counts, Postings.load(folder, size, size), places, int(details["seed"]))
        return made


def pairs_at(sequences: FlatSequences, rows: int, furthest: int) -> Iterator[tuple[int, Integers, Integers]]:
    """List pairs of one user's events by distance: 1 for neighbours, up to `furthest`.

    Yields:
        Distance, earlier rows and later rows, shape (pairs,) each.

    Raises:
        ShapeError: Events outside the catalogue.
    """
    event_counts(sequences, rows)  # checks
    events = np.asarray(sequences.rows, dtype=np.int64)
    offsets = np.asarray(sequences.offsets, dtype=np.int64)
    lengths = offsets[1:] - offsets[:-1]
    users = np.repeat(np.arange(len(lengths)), lengths)
    for distance in range(1, min(furthest, int(lengths.max(initial=0)) - 1) + 1):
        same = users[distance:] == users[:-distance]
        yield distance, events[:-distance][same], events[distance:][same]
