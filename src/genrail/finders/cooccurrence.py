"""Sequential co-occurrence: what came shortly before or after the last items."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genrail.errors import SettingsError
from genrail.finders.neighbours import Neighbours, pairs_at
from genrail.finders.postings import Postings
from genrail.finders.scoring import event_counts, no_events
from genrail.finding.finder import Finder, Progress, Recipe

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences
    from genrail.finding.data import Data

__all__ = ["Cooccurrence", "CooccurrenceRecipe"]


class Cooccurrence(Neighbours):
    """Rank items by how often they came shortly after (or before) the last items of the history.

    On short sequences this memory of pairs is hard to beat: on Amazon Beauty it finds more than the published numbers
    of generative recommenders. It finds nothing that was never seen beside an item of the history.

    Args:
        catalog: The items.
        sequences: The training events, rows of this catalogue, each user's in order.
        settings: How pairs are counted.
        seed: Of the order between items that are equally popular.

    Raises:
        ShapeError: Events outside the catalogue.

    Cost: O(events x window) to build; a query costs O(rows).

    >>> from genrail.catalog import Catalog
    >>> from genrail.evaluation import Training
    >>> from genrail.types import Query
    >>> shop = Catalog.from_items([{"id": name, "title": name} for name in "abcd"])
    >>> events = Training(["u", "v"], np.array([0, 2, 4]), np.array([0, 1, 0, 1]))
    >>> Cooccurrence(shop, events).search_batch([Query(history=["a"])], k=1)[0].item_ids
    ['b']
    """

    name = "Co-occurrence"

    def __init__(
        self,
        catalog: Catalog,
        sequences: FlatSequences | None,
        settings: CooccurrenceRecipe | None = None,
        *,
        seed: int = 0,
    ) -> None:
        settings, events = settings or CooccurrenceRecipe(), no_events(sequences)
        size = len(catalog)
        terms, rows, values = [], [], []
        for distance, earlier, later in pairs_at(events, size, settings.window):
            weight = settings.distance_decay ** (distance - 1)
            terms += [earlier, later]
            rows += [later, earlier]
            values += [np.full(len(earlier), weight), np.full(len(later), settings.backward * weight)]
        nothing = np.zeros(0, dtype=np.int64)
        postings = Postings.from_pairs(
            np.concatenate([nothing, *terms]),
            np.concatenate([nothing, *rows]),
            np.concatenate([np.zeros(0), *values]),
            shape=(size, size),
        )
        self._set(catalog, settings, event_counts(events, size), postings, np.arange(size), seed)


@dataclass(frozen=True)
class CooccurrenceRecipe(Recipe):
    """Say how pairs are counted and how a history is read.

    The defaults were chosen on the validation part of Amazon Beauty; `choices` tries others on your own.

    Args:
        window: Pairs this far apart in a user's sequence count, in positions.
        distance_decay: What each further position costs, above 0 and at most 1.
        backward: What a pair is worth against its direction (candidate first, then the history's item), 0 to 1.
        decay: What each step back in the history costs, above 0 and at most 1.
        history: How many of the last items count.

    Raises:
        SettingsError: A setting outside its range.
    """

    window: int = 5
    distance_decay: float = 0.8
    backward: float = 0.2
    decay: float = 0.3
    history: int = 20

    kind: ClassVar[str] = "cooccurrence"
    finder: ClassVar[type[Finder]] = Cooccurrence
    needs_interactions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.window < 1 or self.history < 1:
            raise SettingsError(f"window is {self.window} and history {self.history}; both must be 1 or more")
        if not (0 < self.distance_decay <= 1 and 0 < self.decay <= 1 and 0 <= self.backward <= 1):
            raise SettingsError(
                f"distance_decay is {self.distance_decay}, decay {self.decay} and backward {self.backward}; "
                "give 0 to 1, the first two above 0"
            )

    @classmethod
    def first_order(cls) -> CooccurrenceRecipe:
        """Count direct successors of the last item alone: a first-order Markov chain without smoothing."""
        return cls(window=1, backward=0.0, history=1)

    def choices(self) -> list[Recipe]:
        """Try other weights of earlier items, and of pairs against their direction."""
        tried = [(self.decay, self.backward), *product((0.3, 0.5, 0.8), (0.2, 0.6, 1.0))]
        return [replace(self, decay=decay, backward=backward) for decay, backward in dict.fromkeys(tried)]

    def build(self, data: Data, progress: Progress) -> Cooccurrence:
        """Count the pairs of the interactions; without any, all items are alike."""
        return Cooccurrence(data.catalog, data.sequences, self, seed=data.seed)


Cooccurrence.settings_class = CooccurrenceRecipe
