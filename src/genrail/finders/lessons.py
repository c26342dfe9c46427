"""What a teacher, any finder, would answer: asked about training histories and about made-up queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.finding import Data, Edition, Finder, FindOptions, Progress, resolve
from genrail.rng import generator
from genrail.training.rewards import ReinforcementSettings
from genrail.types import Query

if TYPE_CHECKING:
    from genrail.evaluation.splits import FlatSequences
    from genrail.training.distillation import Lessons

__all__ = ["Distillation", "Learning", "asked", "later_events", "on_held_back", "on_histories", "on_words"]

Rows = npt.NDArray[np.int64]
BATCH = 64


@dataclass(frozen=True)
class Distillation:
    """Say how a model learns from a teacher's rankings (Hinton, Vinyals and Dean 2015, on the rails of identifiers).

    Args:
        share: Of a target's probability, what goes to the items that the teacher lists; the rest stays with the item
            that was taken, or that the query was made from.
        temperature: Of the softmax over the teacher's scores, see `shares_of`.
        histories: Training histories that the teacher is asked about, at most; 20,000 of the 131,000 of Amazon Beauty
            were too few (docs/results.md).
        queries: Made-up queries for each item that it is asked about; where there are no histories either, 0 stands for
            as many as the student learns from without it.
        depth: Items that it lists for each.
        folds: Parts of the users. Lanes that count what users took are built anew without a part's users before they
            are asked about their histories: a teacher that has seen the answer has nothing to teach. 1 leaves it.

    Raises:
        SettingsError: A value outside its range.
    """

    share: float = 0.5
    temperature: float = 0.5
    histories: int = 100_000
    queries: int = 0
    depth: int = 50
    folds: int = 4

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or not 0.0 < self.temperature < np.inf:
            raise SettingsError(
                f"share is {self.share} and temperature {self.temperature}; give 0 to 1, and more than 0"
            )
        if min(self.histories, self.queries) < 0 or min(self.depth, self.folds) < 1:
            raise SettingsError("histories and queries must be 0 or more, depth and folds 1 or more")


@dataclass(frozen=True)
class Learning:
    """Say what a native model learns from.

    Args:
        recipe: What was right (`sft`), also what a teacher ranks (`distill`; in a fused engine the other lanes teach),
            or, by `train`, the rewards of what the model itself writes (`grpo`).
        distillation: How to learn from a teacher, also from its rewards (``reinforcement.reward="teacher"``).
        reinforcement: How to learn from rewards.

    Raises:
        SettingsError: No such recipe.
    """

    recipe: Literal["sft", "distill", "grpo"] = "sft"
    distillation: Distillation = field(default_factory=Distillation)
    reinforcement: ReinforcementSettings = field(default_factory=ReinforcementSettings)

    def __post_init__(self) -> None:
        if self.recipe not in ("sft", "distill", "grpo"):
            raise SettingsError(f"recipe is {self.recipe!r}; a native model knows sft, distill and grpo")
        if isinstance(self.distillation, Mapping):  # from a manifest
            object.__setattr__(self, "distillation", Distillation(**self.distillation))
        if isinstance(self.reinforcement, Mapping):
            object.__setattr__(self, "reinforcement", ReinforcementSettings(**self.reinforcement))

    @property
    def asks(self) -> bool:
        """Tell whether a teacher is asked."""
        return self.recipe == "distill" or (self.recipe == "grpo" and self.reinforcement.reward == "teacher")


def on_histories(
    teacher: object, data: Data, longest: int, settings: Distillation, progress: Progress
) -> Lessons | None:
    """Ask a teacher what comes after the beginnings of training histories; None where there are none.

    Args:
        teacher: Any finder, see `Data.teacher`.
        data: Its `sequences` are asked about.
        longest: Items of a history that the student reads.
        settings: How many, and how they are turned into probabilities.
        progress: Called with (stage, done, total).

    Cost: the teacher's, for each history, and `folds` builds of its lanes that count.
    """
    if data.sequences is None or not settings.histories:
        return None
    random = generator(data.seed, "lessons", "histories")
    histories, targets, users = later_events(data.sequences, settings.histories, random, longest)
    if not histories:
        return None
    part = random.permutation(len(data.sequences.offsets) - 1) % settings.folds
    ids = data.catalog.item_ids
    found: dict[int, tuple[Rows, npt.NDArray[np.float64]]] = {}
    for fold in range(settings.folds):
        places = np.flatnonzero(part[users] == fold)
        whole = cast("Finder", teacher)
        one = whole if settings.folds == 1 else _without(whole, data.of_users(part != fold), progress)
        queries = [Query(history=[ids[row] for row in histories[place]]) for place in places.tolist()]
        told = asked(one, data, queries, settings.depth, progress, (len(found), len(histories)))
        found.update(zip(places.tolist(), told, strict=True))
    return _lessons(histories, targets, [found[place] for place in range(len(histories))], None, settings)


def on_held_back(teacher: object, data: Data, settings: Distillation, progress: Progress) -> Lessons:
    """Ask a teacher, which has not seen them, about the events that `Data.held_back` holds.

    Args:
        teacher: Any finder, see `Data.teacher`.
        data: Holds them.
        settings: How lists are turned into probabilities.
        progress: Called with (stage, done, total).
    """
    assert data.held_back is not None
    ids, cases = data.catalog.item_ids, list(data.held_back.cases())
    queries = [Query(history=[ids[row] for row in past]) for past, _ in cases]
    told = asked(cast("Finder", teacher), data, queries, settings.depth, progress)
    return _lessons([past for past, _ in cases], np.array([row for _, row in cases]), told, None, settings)


def later_events(
    sequences: FlatSequences, most: int, random: np.random.Generator, longest: int
) -> tuple[list[list[int]], Rows, Rows]:
    """Draw events that came after others: the past of each, its item, and whose it is.

    Args:
        sequences: Events, each user's oldest first.
        most: So many at most.
        random: Draws them.
        longest: Items of a past; those before are left out.
    """
    rows, offsets = np.asarray(sequences.rows), np.asarray(sequences.offsets)
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    chosen = np.sort(random.permutation(np.flatnonzero(np.arange(len(rows)) > offsets[users]))[:most])
    starts = np.maximum(offsets[users[chosen]], chosen - longest)
    pasts = [rows[start:event].tolist() for start, event in zip(starts.tolist(), chosen.tolist(), strict=True)]
    return pasts, rows[chosen], users[chosen]


def on_words(
    teacher: object,
    data: Data,
    queries: Sequence[str],
    vectors: npt.NDArray[np.float32] | None,
    targets: Rows,
    settings: Distillation,
    progress: Progress,
) -> Lessons:
    """Ask a teacher queries that were made up.

    Args:
        teacher: Any finder, see `Data.teacher`.
        data: Holds the catalogue.
        queries: The words, (queries,).
        vectors: What the student reads of them, (queries, dimensions); None where it reads the words.
        targets: Row that each was made from, (queries,).
        settings: How lists are turned into probabilities.
        progress: Called with (stage, done, total).
    """
    told = asked(cast("Finder", teacher), data, [Query(text) for text in queries], settings.depth, progress)
    return _lessons([[] for _ in queries], targets, told, vectors, settings)


def _without(teacher: Finder, data: Data, progress: Progress) -> Finder:
    """Build the parts that count interactions anew on other data; trained ones stay."""
    made = teacher
    for part in teacher.parts.values() if teacher.parts else (teacher,):
        if part.recipe.needs_interactions and not part.recipe.learns:
            made = made.with_part(part, part.recipe.build(data, progress))
    return made


def asked(
    finder: Finder,
    data: Data,
    queries: Sequence[Query],
    depth: int,
    progress: Progress,
    done: tuple[int, int] | None = None,
    stage: str = "asking the teacher",
) -> list[tuple[Rows, npt.NDArray[np.float64]]]:
    """Ask a finder; give rows and scores of each query.

    Args:
        finder: Of the data's catalogue.
        data: Holds it.
        queries: What is asked.
        depth: Items that it lists for each.
        progress: Called with (stage, done, total).
        done: Queries that were asked before these, and all of them; None for these alone.
        stage: What people are told.
    """
    edition = Edition(data.catalog, finder)
    before, total = done or (0, len(queries))
    told: list[tuple[Rows, npt.NDArray[np.float64]]] = []
    for first in range(0, len(queries), BATCH):
        progress(stage, before + first, total)
        part = [resolve(query, edition.catalog, edition.filters) for query in queries[first : first + BATCH]]
        told += [(one.rows, one.scores) for one in finder.find(part, depth, FindOptions())]
    return told


def _lessons(
    histories: Sequence[Sequence[int]],
    targets: Rows,
    told: Sequence[tuple[Rows, npt.NDArray[np.float64]]],
    vectors: npt.NDArray[np.float32] | None,
    settings: Distillation,
) -> Lessons:
    """Put the item that is known to be right before those that the teacher lists."""
    from genrail.training.distillation import Lessons, shares_of

    depth = max(1, *(len(rows) for rows, _ in told))
    shares = shares_of([scores for _, scores in told], settings.temperature, depth)
    rows = np.zeros(shares.shape, dtype=np.int64)
    for number, (listed, _) in enumerate(told):
        rows[number, : len(listed)] = listed
    own = 1.0 - settings.share * shares.sum(axis=1, keepdims=True)
    together: npt.NDArray[Any] = np.concatenate([own, settings.share * shares], axis=1)
    return Lessons(histories, np.concatenate([targets[:, None], rows], axis=1), together.astype(np.float32), vectors)
