"""Rank by items that go with the items of a history: the common part of co-occurrence and item-kNN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from genrail.baselines.answers import Answers, recency_weights, tie_order
from genrail.baselines.popularity import NO_WORDS, event_counts, load_counts, popular_first
from genrail.baselines.postings import Postings
from genrail.baselines.saved import load_settings, save_settings
from genrail.errors import DamagedError
from genrail.types import Query, Ranking

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences

__all__ = ["Neighbours", "NeighbourSettings", "pairs_at"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NeighbourSettings:
    """Say how a history is read.

    Args:
        decay: What each step back in the history costs, above 0 and at most 1.
        history: How many of the last items count.
    """

    decay: float
    history: int


class Neighbours:
    """Sum, over the last items of a history, how strongly each other item goes with it.

    Items that go with nothing in the history follow by popularity. Words are not read: a query with words only is
    answered by popularity, with a warning.

    Subclasses say what "goes with" means, by making the table: ``postings`` of shape (item of the history, candidate).
    """

    name: str
    kind: ClassVar[str]
    settings_class: ClassVar[type[Any]]

    def _set(self, catalog: Catalog, settings: Any, counts: Integers, postings: Postings, seed: int) -> None:
        self.catalog = catalog
        self.settings = settings
        self.counts = counts
        self.seed = seed
        self._postings = postings
        self._answers = Answers(catalog, precedence=popular_first(counts, tie_order(len(catalog), seed)))

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
            FilterError: A filter that does not parse or names an unknown field.
        """
        rankings = []
        for request in self._answers.requests(queries, k):
            if request.text and not len(request.history):
                request.warnings.append(NO_WORDS)
            elif request.text:
                request.warnings.append("this method does not read words: the answer is by the history alone")
            last = request.history[-self.settings.history :]
            scores = self._postings.scores(last, recency_weights(len(last), self.settings.decay))
            rankings.append(self._answers.ranking(request, scores, k))
        return rankings

    def save(self, folder: str | Path) -> None:
        """Write settings, counts and the table into a folder."""
        settings = {"seed": self.seed, **asdict(self.settings)}
        folder = save_settings(folder, self.kind, self.catalog, settings)
        np.save(folder / "counts.npy", self.counts)
        self._postings.save(folder)

    @classmethod
    def load(cls, folder: str | Path, catalog: Catalog) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError, FormatError, FingerprintError: A folder that is not whole, not ours, or of another catalogue.
        """
        settings = load_settings(folder, cls.kind, catalog)
        seed = settings.pop("seed")
        counts = load_counts(folder, catalog)
        postings = Postings.load(Path(folder), len(catalog))
        if len(postings) != len(catalog):
            raise DamagedError(f"{folder} holds a table of {len(postings)} items for {len(catalog)}; save it again")
        made = cls.__new__(cls)
        made._set(catalog, cls.settings_class(**settings), counts, postings, seed)
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
