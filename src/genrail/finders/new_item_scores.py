"""One scale for items that a model was trained on and items that are new to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from genrail.errors import FormatError, SettingsError
from genrail.types import Json, JsonObject

__all__ = ["Calibration", "Judged", "Observations", "observe"]

Float = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]

VERSION = 1
DECAY = 0.7  # what each step back in a history costs, as in `genrail.finders.scoring`
SHARPNESS = 0.1  # of the likeness by which a known item's probability passes to new ones
LEAST = -1e4  # stands for a log-probability of minus infinity


@dataclass(frozen=True, eq=False)
class Observations:
    """Hold what is seen of the items of one request.

    Args:
        known: Of items the model was trained on, (n, 4): log-probability, likeness of the text to the history (later
            items count more), greatest likeness to an item of it, likeness to the last.
        new: Of new items, (m, 6): log-probability, the same two likenesses, logarithm of the probability that known
            items with like texts pass on, and the two likenesses of co-purchase vectors.
    """

    known: Scores
    new: Scores


@dataclass(frozen=True, eq=False)
class Judged:
    """Hold the chances of the items of one request; only their order and the scores' scale mean something.

    Args:
        known: Log-odds of being what is wanted, (n,).
        new: The same of new items, (m,).
        scores: Of new items, on the scale of the known items' log-probabilities, (m,).
        most: Largest share of new items that ``auto`` takes.
    """

    known: Scores
    new: Scores
    scores: Scores
    most: float = 1.0


def observe(
    texts: Sequence[Float], together: Sequence[Float], known_log_probability: Scores, new_log_probability: Scores
) -> Observations:
    """Compare items with a history and with each other.

    Args:
        texts: Text vectors of length 1 of the history (oldest first), the known and the new items.
        together: Co-purchase vectors of length 1 of the same.
        known_log_probability: Of the known items under the model.
        new_log_probability: Of the new items.
    """
    past, known, new = texts
    weights = DECAY ** np.arange(len(past))[::-1]
    weights = weights / weights.sum()
    of_known, of_new = known @ past.T, new @ past.T
    bought = together[2] @ together[0].T
    known_log, new_log = np.maximum(known_log_probability, LEAST), np.maximum(new_log_probability, LEAST)
    passed = np.log(np.exp((new @ known.T - 1.0) / SHARPNESS) @ np.exp(known_log) + 1e-9)
    return Observations(
        np.column_stack([known_log, of_known @ weights, of_known.max(axis=1), of_known[:, -1]]),
        np.column_stack([new_log, of_new @ weights, of_new.max(axis=1), passed, bought @ weights, bought.max(axis=1)]),
    )


@dataclass(frozen=True)
class Calibration:
    """Turn observations into chances by two logistic models; see `calibrate_new_items`.

    Args:
        new: Weights of `Observations.new`.
        new_bias: Its constant.
        known: Weights of `Observations.known`.
        known_bias: Its constant.
        slope: Of the log-odds of a known item by its log-probability alone; makes scores of chances.
        slope_bias: Its constant.
        margin: What the log-odds of a new item must exceed those of a known one by, chosen so that known items lose
            little.
        most: Largest share of new items that ``auto`` takes.

    Raises:
        SettingsError: Values that are not finite, a slope that is not above 0, or a share outside 0 to 1.
    """

    new: tuple[float, ...]
    new_bias: float
    known: tuple[float, ...]
    known_bias: float
    slope: float
    slope_bias: float
    margin: float
    most: float = 0.3  # seven of ten hits stay with what the model knows, whatever the chances say

    def __post_init__(self) -> None:
        object.__setattr__(self, "new", tuple(float(value) for value in self.new))
        object.__setattr__(self, "known", tuple(float(value) for value in self.known))
        values = [*self.new, *self.known, self.new_bias, self.known_bias, self.slope, self.slope_bias, self.margin]
        if (len(self.new), len(self.known)) != (6, 4) or not np.isfinite(values).all():
            raise SettingsError("a calibration has 6 and 4 weights, all of them finite; calibrate again")
        if self.slope <= 0 or not 0 <= self.most <= 1:
            raise SettingsError(f"slope is {self.slope} and most {self.most}; they lie above 0 and in 0 to 1")

    def judge(self, seen: Observations) -> Judged:
        """Give the chances of what was observed."""
        new = seen.new @ np.array(self.new) + self.new_bias - self.margin
        known = seen.known @ np.array(self.known) + self.known_bias
        return Judged(known, new, (new - self.slope_bias) / self.slope, self.most)

    def to_dict(self) -> dict[str, Json]:
        """Turn it into plain values for JSON."""
        return {"version": VERSION, **asdict(self), "new": list(self.new), "known": list(self.known)}

    @classmethod
    def from_dict(cls, values: JsonObject) -> Self:
        """Read what `to_dict` gave.

        Raises:
            FormatError: Of another version, or with values that no calibration has.
        """
        names = {field.name for field in fields(cls)}
        if values.get("version") != VERSION or set(values) != names | {"version"}:
            raise FormatError(f"the calibration of new items is not of version {VERSION}; calibrate again")
        return cls(**{name: values[name] for name in names})
