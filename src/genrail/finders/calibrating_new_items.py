"""Learn how new items compare with others: drop items from training, and see where they should have come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.index import Subset
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.decoding import BeamSettings, Decoded, beam_search
from genrail.errors import SettingsError
from genrail.finders.generative import generative_part
from genrail.finders.native import Native, NativeSpelling
from genrail.finders.new_item_scores import Calibration, Observations
from genrail.finders.new_items import Memory, mix, observations
from genrail.finders.readings import pack
from genrail.finding import Added, Change, Data, Finder
from genrail.finding import Progress as Stages
from genrail.ranking.mixing import logistic
from genrail.rng import generator

if TYPE_CHECKING:
    from genrail.training.loop import Progress

__all__ = ["CalibrationSettings", "calibrate", "recalibrated"]

Int = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
Case = tuple[list[int], int]  # a history and the row that came next

CUTOFF = 10
BATCH = 256
HALVINGS = 9  # of the margin's range: it is found to 0.02


@dataclass(frozen=True)
class CalibrationSettings:
    """Say how new and other items are put on one scale.

    Args:
        share: Of the trained items that a second model does without, to learn from how it treats them.
        max_loss: What known targets may lose by ``auto``, relative, in R@10 and in nDCG@10, on the users learnt from.
        users: At most so many users' last events are learnt from.
        max_seconds: Stop training the second model after this long.
        epochs: Passes over the training data at most; None chooses by size.
        seed: Same seed, same calibration.

    Raises:
        SettingsError: A value outside its range.
    """

    share: float = 0.05  # of TIGER's cold-start protocol (Rajput et al. 2023)
    max_loss: float = 0.015
    users: int = 10_000
    max_seconds: float | None = None
    epochs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or not 0 <= self.max_loss < 1 or self.users < 1:
            raise SettingsError(
                f"share is {self.share}, max_loss {self.max_loss} and users {self.users}; "
                "give shares between 0 and 1, and 1 user or more"
            )


def calibrated(
    finder: Finder, data: Data, settings: CalibrationSettings | None, progress: Stages
) -> tuple[Finder, Calibration]:
    """Calibrate a native finder, or the one among the parts of another; the given one stays as it is.

    Raises:
        SettingsError: The model was not trained on histories, or there are too few events or items.
    """
    native = generative_part(finder)
    _memory_of(native)
    assert isinstance(native, Native) and data.sequences is not None
    found = calibrate(
        native,
        np.asarray(data.sequences.rows),
        np.asarray(data.sequences.offsets),
        native.beam,
        settings or CalibrationSettings(),
        lambda now: progress("calibration", round(now.seconds), round(now.seconds + now.seconds_left)),
    )
    return finder.with_part(native, recalibrated(native, found)), found


def recalibrated(finder: Native, calibration: Calibration) -> Native:
    """Make the finder that uses a calibration; this one stays as it is.

    Raises:
        SettingsError: Its model was not trained on histories.
    """
    memory = _memory_of(finder)
    return finder.replaced(spelling=replace(finder.spelling, memory=replace(memory, calibration=calibration)))


def calibrate(
    finder: Native,
    rows: Int,
    offsets: Int,
    beam: BeamSettings,
    settings: CalibrationSettings,
    progress: Callable[[Progress], None] | None = None,
) -> Calibration:
    """Train a second model that does without some items, and learn from where they should have come.

    Each user's last event is kept from that model. It answers what comes before, for known and new items apart; two
    logistic models learn which of these are right, and `margin` is set so that known targets lose little.

    Args:
        finder: What is calibrated.
        rows: Item rows of all users one after the other, oldest first.
        offsets: Where each user's begin.
        beam: How the engine searches.
        settings: How much of it.
        progress: Called after each step of the training.

    Raises:
        SettingsError: The model was not trained on histories, or there are too few events or items.

    Cost: that of training once more, and two decodes for each user.
    """
    _memory_of(finder)  # refuses a model without one
    cases, kept_rows, kept_offsets = _last_events(rows, offsets, settings)
    live = np.flatnonzero(finder.catalog.live)
    trained = np.intersect1d(kept_rows, live)
    order = generator(settings.seed, "new items", "calibration").permutation(trained)
    dropped = order[: int(len(trained) * settings.share)]
    if not len(dropped) or len(trained) - len(dropped) < 2 or not cases:
        raise SettingsError(
            f"{len(trained)} items of training histories and {len(cases)} users with two events or more are too few to "
            "calibrate; the defaults stay"
        )
    kept = np.setdiff1d(live, dropped)
    place = np.full(len(finder.catalog), -1, dtype=np.int64)
    place[np.concatenate([kept, dropped])] = np.arange(len(live))
    moved = [([int(place[row]) for row in past if place[row] >= 0], int(place[target])) for past, target in cases]
    moved = [(past, target) for past, target in moved if past and target >= 0]
    inside = place[kept_rows]
    stays = (inside >= 0) & (inside < len(kept))
    events = inside[stays], np.concatenate([[0], np.cumsum(stays)])[kept_offsets]
    second = _second(finder, kept, dropped, events, moved, settings, progress)
    return _learn(second, moved, beam, settings)


def _memory_of(finder: Finder | None) -> Memory:
    memory = finder.spelling.memory if isinstance(finder, Native) else None
    if memory is None:
        raise SettingsError("this engine's model was not trained on histories, so no item is new to it; train it first")
    return memory


def _last_events(rows: Int, offsets: Int, settings: CalibrationSettings) -> tuple[list[Case], Int, Int]:
    """Take away each user's last event, where another is left; cases, and the events that stay."""
    lengths = np.diff(offsets)
    users = np.flatnonzero(lengths >= 2)
    stays = np.ones(len(rows), dtype=np.bool_)
    stays[offsets[users + 1] - 1] = False
    drawn = np.sort(generator(settings.seed, "new items", "users").permutation(users)[: settings.users])
    cases = [(rows[offsets[user] : offsets[user + 1] - 1].tolist(), int(rows[offsets[user + 1] - 1])) for user in drawn]
    return cases, rows[stays], np.concatenate([[0], np.cumsum(stays)])[offsets]


def _second(
    finder: Native,
    kept: Int,
    dropped: Int,
    events: tuple[Int, Int],
    cases: list[Case],
    settings: CalibrationSettings,
    progress: Callable[[Progress], None] | None,
) -> NativeSpelling:
    """Train a model on the kept items as the first one was, and add the dropped ones."""
    from genrail.identifiers import SemanticIds
    from genrail.models.native import NativeModel
    from genrail.models.native_warm_start import item_vectors
    from genrail.training.copurchase import copurchase_vectors
    from genrail.training.native import train_native
    from genrail.training.native_settings import TrainingSettings

    lane = finder.spelling
    vectors = item_vectors(lane.model, kept)
    width = max(1, _memory_of(finder).together.shape[1])
    together = copurchase_vectors(*events, len(kept), width, seed=settings.seed)
    memory = Memory(np.zeros(len(kept), dtype=np.bool_), together, len(kept)).taught(events[0], len(kept))
    beside = lane.identifiers.dimensions - vectors.shape[1]
    described = np.concatenate([vectors, together], axis=1) if beside == width else _padded(vectors, beside)
    identifiers = SemanticIds.fit(described, lane.identifiers.levels, lane.identifiers.codes, settings.seed)
    table = identifiers.assign(described, order=generator(settings.seed, "de-duplicating codes").permutation(len(kept)))
    vocabulary = max(table.vocab_size, identifiers.codes)
    model = NativeModel.create(lane.model.settings, table.matrix(), vectors, settings.seed, vocabulary)
    targets = max(0, len(events[0]) - len(events[1]) + 1)
    train_native(
        model,
        events,
        settings=TrainingSettings.for_size(model.items, targets, settings.max_seconds, settings.epochs),
        validation=[(past, target) for past, target in _without(cases, len(kept)) if past and target < len(kept)],
        seed=settings.seed,
        progress=progress,
    )
    second = NativeSpelling(lane.encoder, identifiers, model, lane.held_out, memory)
    items = finder.catalog.part(dropped.tolist())
    added = Added(items, range(len(kept), len(kept) + len(dropped)), pack(item_vectors(lane.model, dropped)))
    extended, _ = second.extend(finder.catalog, table, Change((added,)))
    return extended


def _padded(vectors: npt.NDArray[np.float32], beside: int) -> npt.NDArray[np.float32]:
    return np.pad(vectors, ((0, 0), (0, beside)))


def _without(cases: list[Case], items: int) -> list[Case]:
    """Leave the dropped items out of histories."""
    return [([row for row in past if row < items], target) for past, target in cases]


@dataclass(frozen=True, eq=False)
class _Answered:
    """Hold one user's answers and what came next."""

    target: int
    known: Decoded
    new: Decoded
    seen: Observations


def _learn(lane: NativeSpelling, cases: list[Case], beam: BeamSettings, settings: CalibrationSettings) -> Calibration:
    """Fit both logistic models and the margin."""
    answered = _answer(lane, cases, beam)
    new, new_right = _stacked([(one.seen.new, one.new.rows == one.target) for one in answered])
    known, known_right = _stacked(
        [(one.seen.known[:CUTOFF], one.known.rows[:CUTOFF] == one.target) for one in answered]
    )
    new_weights, new_bias = logistic(new, new_right)
    known_weights, known_bias = logistic(known, known_right)
    [slope], slope_bias = logistic(known[:, :1], known_right)
    slope = max(float(slope), 1e-3)
    found = Calibration(new_weights, new_bias, known_weights, known_bias, slope, slope_bias, margin=0.0)
    return replace(found, margin=_margin(answered, found, settings.max_loss))


def _answer(lane: NativeSpelling, cases: list[Case], beam: BeamSettings) -> list[_Answered]:
    memory = lane.memory
    assert memory is not None
    index = LiveTrie(Trie.from_matrix(lane.model.table.codes(), lane.model.vocab_size))
    new = index.subset(memory.new)
    parts: tuple[Subset, Subset] = (~new, new)
    answered = []
    for begin in range(0, len(cases), BATCH):
        batch = cases[begin : begin + BATCH]
        contexts = [lane.model.context(history=past) for past, _ in batch]
        found = [
            beam_search(
                lane.model,
                contexts,
                index,
                beam,
                [index.without(past, part) for past, _ in batch],
                max(CUTOFF, beam.width),
            )
            for part in parts
        ]
        for (past, target), known, fresh in zip(batch, *found, strict=True):
            seen = observations(lane.model, memory, np.array(past), known, fresh)
            answered.append(_Answered(target, known, fresh, seen))
    return answered


def _margin(answered: list[_Answered], calibration: Calibration, max_loss: float) -> float:
    """Find the least margin at which known targets lose no more than allowed, by halving."""
    concerned = [one for one in answered if (one.known.rows[:CUTOFF] == one.target).any()]
    before = np.array([_gain(one.known.rows[:CUTOFF], one.target) for one in concerned])
    low, high = -5.0, 5.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = replace(calibration, margin=middle)
        after = np.array([_gain(_mixed(one, tried), one.target) for one in concerned])
        losses = 1.0 - after.sum(axis=0) / before.sum(axis=0) if len(concerned) else np.zeros(2)
        low, high = (low, middle) if losses.max() <= max_loss else (middle, high)
    return high


def _mixed(one: _Answered, calibration: Calibration) -> Int:
    return mix(one.known, one.new, calibration.judge(one.seen), "auto", CUTOFF).rows


def _gain(rows: Int, target: int) -> tuple[float, float]:
    """Give R@10 and nDCG@10 of one target."""
    place = np.flatnonzero(rows == target)
    return (1.0, float(1.0 / np.log2(place[0] + 2.0))) if len(place) else (0.0, 0.0)


def _stacked(parts: list[tuple[Scores, Array]]) -> tuple[Scores, Array]:
    return np.concatenate([one for one, _ in parts]), np.concatenate([other for _, other in parts])
