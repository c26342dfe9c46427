"""What an answer is worth: rewards for items that a model wrote, and how it learns from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError, ShapeError

__all__ = [
    "REWARDS",
    "ReinforcementSettings",
    "Reward",
    "RolloutSettings",
    "Rollouts",
    "advantages",
    "liked_of",
    "reward_of",
    "side_by_side",
]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Hold what a model wrote for some requests, best first.

    Args:
        rows: Items, none twice for a request, (requests, rollouts); -1 where fewer were allowed.
        targets: The item that was right for each, (requests,); or several, padded with -1, (requests, items).
        vectors: Text vector of every item of the catalogue, of length 1, (items, dimensions).
        liked: Items that a teacher lists for each request, padded with -1, and the share that it gives each, both
            (requests, k); None where nobody was asked.
    """

    rows: Int
    targets: Int
    vectors: npt.NDArray[np.float32]
    liked: tuple[Int, Float] | None = None

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """Tell which rollouts are the right item, (requests, rollouts)."""
        right = self.right[:, None, :]
        hits: npt.NDArray[np.bool_] = ((self.rows[:, :, None] == right) & (right >= 0)).any(axis=2)
        return hits

    @property
    def right(self) -> Int:
        """Give the items that were right, padded with -1, (requests, items)."""
        return self.targets if self.targets.ndim == 2 else self.targets[:, None]


def side_by_side(lists: Sequence[Int], count: int) -> Int:
    """Lay the first `count` items of each list side by side, padded with -1, (lists, count).

    >>> side_by_side([np.array([4, 5, 6]), np.array([7])], 2).tolist()
    [[4, 5], [7, -1]]
    """
    found = np.full((len(lists), count), -1, dtype=np.int64)
    for number, rows in enumerate(lists):
        found[number, : len(rows[:count])] = rows[:count]
    return found


def liked_of(lists: Sequence[tuple[Sequence[int], Sequence[float]]]) -> tuple[Int, Float]:
    """Lay what a teacher says of each request side by side, see `Rollouts.liked`.

    >>> liked_of([([4, 5], [0.7, 0.3]), ([6], [1.0])])[1].tolist()
    [[0.7, 0.3], [1.0, 0.0]]
    """
    shares = np.zeros((len(lists), max((len(rows) for rows, _ in lists), default=0)))
    for number, (_, own) in enumerate(lists):
        shares[number, : len(own)] = own
    return side_by_side([np.asarray(rows, dtype=np.int64) for rows, _ in lists], shares.shape[1]), shares


Reward = Callable[[Rollouts], Float]
"""Give each rollout its reward, (requests, rollouts); what stands at rows of -1 is not read."""


def hit(rollouts: Rollouts) -> Float:
    """Give 1 for the right item.

    >>> vectors = np.eye(3, dtype=np.float32)
    >>> hit(Rollouts(np.array([[2, 0]]), np.array([0]), vectors)).tolist()
    [[0.0, 1.0]]
    """
    return rollouts.hits.astype(np.float64)


def rank(rollouts: Rollouts) -> Float:
    """Give 1 for the right item, and take from wrong ones what their rank weighs, where the right one is among them.

    The penalties of a request add up to 1, so that a wrong item costs most where it stands before the others
    (MiniOneRec, Kong et al. 2025).

    >>> vectors = np.eye(3, dtype=np.float32)
    >>> rank(Rollouts(np.array([[2, 0, 1]]), np.array([0]), vectors)).round(2).tolist()
    [[-0.67, 1.0, -0.33]]
    """
    hits = rollouts.hits
    weights = np.where(hits | (rollouts.rows < 0), 0.0, 1.0 / np.log2(np.arange(hits.shape[1]) + 2.0))
    penalties = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return np.where(hits, 1.0, -penalties * hits.any(axis=1, keepdims=True))


def likeness(rollouts: Rollouts) -> Float:
    """Give the cosine between the texts of the item and of the nearest right one: near misses are worth something.

    >>> vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    >>> likeness(Rollouts(np.array([[1, 0]]), np.array([0]), vectors)).round(2).tolist()
    [[0.6, 1.0]]
    """
    right = rollouts.right  # cosines are (requests, rollouts, right items)
    cosines = rollouts.vectors[rollouts.rows] @ rollouts.vectors[right].transpose(0, 2, 1)
    found: Float = np.where(right[:, None, :] >= 0, cosines, -1.0).max(axis=2).astype(np.float64)
    return found


def teacher(rollouts: Rollouts) -> Float:
    """Give the share that a teacher gives the item, or 0 where it is not among those that it lists.

    The student is then taught on what it writes itself, instead of on what the teacher would have written: on-policy
    distillation (Agarwal et al. 2024, GKD), by the gradient of the reward.

    Raises:
        SettingsError: No teacher was asked.

    >>> vectors = np.eye(3, dtype=np.float32)
    >>> liked = np.array([[1, 2]]), np.array([[0.75, 0.25]])
    >>> teacher(Rollouts(np.array([[2, 0, 1]]), np.array([1]), vectors, liked)).tolist()
    [[0.25, 0.0, 0.75]]
    """
    if rollouts.liked is None:
        raise SettingsError("reward is 'teacher', but nobody teaches; give a teacher, an engine over the same items")
    listed, shares = rollouts.liked
    same = (rollouts.rows[:, :, None] == listed[:, None, :]) & (listed[:, None, :] >= 0)
    found: Float = np.where(same, shares[:, None, :], 0.0).sum(axis=2)
    return found


REWARDS: Mapping[str, Reward] = {"hit": hit, "rank": rank, "likeness": likeness, "teacher": teacher}


def reward_of(given: str | Reward) -> Reward:
    """Find a reward by its name; a function is its own.

    Raises:
        SettingsError: There is none.
    """
    if callable(given):
        return given
    if given not in REWARDS:
        raise SettingsError(f"reward is {given!r}; give {', '.join(REWARDS)}, or a function in Python")
    return REWARDS[given]


def advantages(rewards: Float, rows: Int, scaled: bool = True) -> Float:
    """Compare each rollout with the others of its request (Shao et al. 2024, GRPO).

    Args:
        rewards: (requests, rollouts).
        rows: Items of the rollouts; those of -1 are left out and get 0.
        scaled: Divide by the standard deviation within the request.

    Raises:
        ShapeError: Rewards of another shape, or not finite.

    >>> advantages(np.array([[1.0, 0.0, 0.0]]), np.array([[4, 2, -1]]), scaled=False).tolist()
    [[0.5, -0.5, 0.0]]
    """
    there = rows >= 0
    if rewards.shape != rows.shape or not np.isfinite(rewards[there]).all():
        raise ShapeError(f"rewards have shape {rewards.shape}; give finite numbers of shape {rows.shape}")
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    known = np.where(there, rewards, 0.0)
    centred: Float = np.where(there, known - known.sum(axis=1, keepdims=True) / count, 0.0)
    if not scaled:
        return centred
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    found: Float = centred / (spread + 1e-4)
    return found


@dataclass(frozen=True)
class RolloutSettings:
    """Say what is written to be rewarded, and how a model learns from it.

    Args:
        reward: `hit`, `rank`, `likeness` or `teacher`, see `genrail.training.rewards`; in Python also a function of
            your own, which takes `Rollouts` and gives a number for each, and is not saved with the engine.
        rollouts: Items written for each request, all different and all allowed.
        sampler: `beam`: the most probable ones (as MiniOneRec does); `sample`: drawn without replacement by stochastic
            beams (Kool et al. 2019), which also tries what the model finds improbable.
        temperature: Of the draws.
        kl: Weight of the divergence from the model as it was before.
        scaled: Divide advantages by the standard deviation of their request's rewards.

    Raises:
        SettingsError: A value outside its range.
    """

    reward: str | Reward = "rank"
    rollouts: int = 16
    sampler: Literal["beam", "sample"] = "beam"
    temperature: float = 1.0
    kl: float = 0.01
    scaled: bool = True

    def __post_init__(self) -> None:
        reward_of(self.reward)
        if self.sampler not in ("beam", "sample"):
            raise SettingsError(f"sampler is {self.sampler!r}; give beam or sample")
        if self.rollouts < 2:
            raise SettingsError(f"rollouts is {self.rollouts}; give 2 or more, to compare")
        if self.kl < 0.0 or not self.temperature > 0.0:
            raise SettingsError("kl must be 0 or more, temperature more than 0")

    def kept(self) -> Self:
        """Give what can be saved: a function of the user's gives way to the default reward."""
        return replace(self, reward=RolloutSettings.reward) if callable(self.reward) else self


@dataclass(frozen=True)
class ReinforcementSettings(RolloutSettings):
    """Say how the native model learns from rewards.

    Args:
        requests: Histories and queries that an epoch draws, at most.
        batch: Requests in a step.
        epochs: At most.
        learning_rate: The highest.
        reward, rollouts, sampler, temperature, kl, scaled: See `RolloutSettings`.

    Raises:
        SettingsError: A value outside its range.
    """

    requests: int = 10_000
    batch: int = 64
    epochs: int = 5
    learning_rate: float = 2e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.requests, self.batch, self.epochs) < 1 or not self.learning_rate > 0.0:
            raise SettingsError("requests, batch and epochs must be 1 or more, learning_rate more than 0")
