"""What a recipe may learn from: a catalogue, and perhaps interactions and judged queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.evaluation.splits import HeldOut, Training
from genrail.models.encoders import LazyEncoder, load_encoder
from genrail.rng import generator
from genrail.types import Progress

if TYPE_CHECKING:
    from genrail.catalog import Catalog, Interactions
    from genrail.evaluation.splits import FlatSequences
    from genrail.models.text_encoder import Encoder

__all__ = ["MIN_EVENTS", "Data"]

Vectors = npt.NDArray[np.float32]
VALIDATION_USERS = 5000  # nDCG@10 of .05 is then known to .003, and a ranker has enough to learn from
VALIDATION_SHARE = 0.2  # of a small shop's users: most events are needed to learn from
MIN_EVENTS = 3  # a user with fewer is training data only, as in the leave-last-out protocol


@dataclass(frozen=True, eq=False)
class Data:
    """Hold what a recipe may learn from.

    Args:
        catalog: The items.
        interactions: Who took what, in order.
        queries: Query id to words.
        qrels: Query id to item id to grade; a grade above 0 is right.
        text_encoder: None for all-MiniLM-L6-v2, a name or folder, "hashing", or an object that encodes.
        hold_out: Keep each user's last event out, so that `evaluate` stays honest.
        seed: Same seed and data, same finder.
        held_back: Events to validate on, which are not in `sequences`; made by `without_validation`.
        teacher: A `Finder` of this catalogue, whose rankings those may learn that learn from a teacher. To the types it
            is an object, since finders are made from data.
    """

    catalog: Catalog
    interactions: Interactions | None = None
    queries: Mapping[str, str] | None = None
    qrels: Mapping[str, Mapping[str, float]] | None = None
    text_encoder: str | Encoder | None = None
    hold_out: bool = True
    seed: int = 0
    held_back: HeldOut | None = None
    teacher: object | None = None

    @cached_property
    def encoder(self) -> LazyEncoder:
        """Load the text encoder; finders of one engine share it.

        Raises:
            MissingPackageError: torch is not installed.
            SettingsError: There is no such encoder.
        """
        return LazyEncoder.of(load_encoder(self.text_encoder))

    def text_vectors(self, progress: Progress) -> Vectors:
        """Encode the texts of all rows, once for all finders of an engine, float32, (rows, dimensions)."""
        shared: dict[str, Vectors] = self.__dict__.setdefault("_shared", {})
        if "vectors" not in shared:
            texts = self.catalog.texts()
            found = self.encoder.encode(texts, lambda done, total: progress("text vectors", done, total))
            found.setflags(write=False)
            shared["vectors"] = found
        return shared["vectors"]

    def with_vectors(self, vectors: Vectors) -> Data:
        """Give the same data, the text vectors of whose rows, (rows, dimensions), have been made already."""
        made = replace(self)
        made.__dict__["_shared"] = {"vectors": vectors}
        return made

    @cached_property
    def sequences(self) -> FlatSequences | None:
        """List events as rows of the catalogue, without the last one of each user that `evaluate` would test."""
        if self.interactions is None:
            return None
        found = self.interactions.sequences(self.catalog)
        return without_last(found) if self.hold_out else found

    @cached_property
    def without_validation(self) -> Data:
        """Give the same data whose `sequences` end before some users' last event, which `held_back` then holds.

        Recipes that learn stop by these events, and settings and weights are chosen on them. Without interactions this
        is the data itself.
        """
        if self.sequences is None or self.held_back is not None:
            return self
        held_out = last_events(self.sequences, VALIDATION_USERS, VALIDATION_SHARE, self.seed)
        return self._with(without_events_of(self.sequences, held_out.users), held_back=held_out)

    @property
    def of_texts(self) -> Data:
        """Give the same data without interactions and judged queries."""
        return self._with(None, interactions=None, queries=None, qrels=None, held_back=None)

    def with_qrels(self, qrels: Mapping[str, Mapping[str, float]]) -> Data:
        """Give the same data with other judgements."""
        return self._with(self.sequences, qrels=qrels)

    def taught_by(self, teacher: object) -> Data:
        """Give the same data with a teacher."""
        return self._with(self.sequences, teacher=teacher)

    def of_users(self, kept: npt.NDArray[np.bool_]) -> Data:
        """Give the same data with the `sequences` of some users alone, (users,)."""
        if self.sequences is None:
            return self
        lengths = np.diff(self.sequences.offsets)
        names = [name for name, keep in zip(self.sequences.user_ids, kept.tolist(), strict=True) if keep]
        rows = np.asarray(self.sequences.rows)[np.repeat(kept, lengths)]
        return self._with(Training(names, np.concatenate([[0], np.cumsum(lengths[kept])]), rows))

    def _with(self, sequences: FlatSequences | None, **fields: Any) -> Data:
        """Give the same data with other sequences; encoder and vectors are shared."""
        made = replace(self, **fields)
        made.__dict__["sequences"] = sequences
        if "encoder" in self.__dict__:
            made.__dict__["encoder"] = self.encoder
        made.__dict__["_shared"] = self.__dict__.setdefault("_shared", {})
        return made

    @cached_property
    def judged(self) -> dict[str, dict[str, float]]:
        """Give the judgements of queries whose words are known and which have a right item in the catalogue.

        Raises:
            SettingsError: Queries without judgements or the other way, or none that fits the catalogue.
        """
        if self.queries is None and self.qrels is None:
            return {}
        if self.queries is None or self.qrels is None:
            raise SettingsError("judged queries are two things: give queries and qrels, or neither")
        found = {
            query_id: {item_id: grade for item_id, grade in grades.items() if item_id in self.catalog}
            for query_id, grades in self.qrels.items()
            if query_id in self.queries
        }
        found = {query_id: grades for query_id, grades in found.items() if any(grade > 0 for grade in grades.values())}
        if not found:
            raise SettingsError("no judged item of these queries is in the catalogue; check that both use the same ids")
        return found


def without_last(sequences: FlatSequences) -> Training:
    """Leave out the last event of each user who has `MIN_EVENTS` or more."""
    rows, offsets = np.asarray(sequences.rows, np.int64), np.asarray(sequences.offsets, np.int64)
    lengths = np.diff(offsets)
    tested = lengths >= MIN_EVENTS
    kept = np.ones(len(rows), dtype=np.bool_)
    kept[offsets[1:][tested] - 1] = False
    return Training(sequences.user_ids, np.concatenate([[0], np.cumsum(lengths - tested)]), rows[kept])


def without_events_of(sequences: FlatSequences, users: npt.NDArray[np.int64]) -> Training:
    """Leave out the last event of some users."""
    rows, offsets = np.asarray(sequences.rows, np.int64), np.asarray(sequences.offsets, np.int64)
    kept = np.ones(len(rows), dtype=np.bool_)
    kept[offsets[users + 1] - 1] = False
    lengths = np.diff(offsets)
    lengths[users] -= 1
    return Training(sequences.user_ids, np.concatenate([[0], np.cumsum(lengths)]), rows[kept])


def last_events(sequences: FlatSequences, most: int, share: float, seed: int) -> HeldOut:
    """Take the last event of some users who have `MIN_EVENTS` or more, with what came before it.

    Args:
        sequences: Events, each user's oldest first.
        most: So many users at most.
        share: And at most this share of those who have enough events, rounded up.
        seed: Of the draw.
    """
    rows, offsets = np.asarray(sequences.rows, np.int64), np.asarray(sequences.offsets, np.int64)
    users = np.flatnonzero(np.diff(offsets) >= MIN_EVENTS)
    count = min(most, int(np.ceil(share * len(users))))
    users = np.sort(generator(seed, "validation users").permutation(users)[:count])
    ends = offsets[users + 1] - 1
    histories = [rows[offsets[user] : end] for user, end in zip(users.tolist(), ends.tolist(), strict=True)]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in histories])]).astype(np.int64)
    flat = np.concatenate(histories) if histories else np.zeros(0, dtype=np.int64)
    return HeldOut(users, rows[ends], starts, flat)
