"""How the training loop runs; apart from it, so that recipes are read without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from genrail.errors import SettingsError

__all__ = ["LoopSettings"]


@dataclass(frozen=True)
class LoopSettings:
    """Say how to train.

    Args:
        epochs: At most so many passes over the data.
        learning_rate: The highest, reached after `warm_up` and lowered along a cosine to a twentieth.
        warm_up: Optimiser steps until the highest learning rate.
        weight_decay: Of AdamW, on matrices and vectors tables; not on biases, gains and scalars.
        clip: Largest norm of the gradient.
        averaging: Weights are validated and kept as an exponential moving average with this decay; 0 switches it off.
        validate_every: Epochs between two validations.
        patience: Stop after so many validations without a better one.
        max_seconds: Stop after this long, keeping the best so far. The learning rate then falls with whichever is
            further on, the clock or the epochs, so results depend on the machine's speed.
        clock: What seconds are: of the `wall`, or of the `processor`, all threads together, which do not depend on what
            else the machine does.

    Raises:
        SettingsError: A value outside its range.
    """

    epochs: int = 20
    learning_rate: float = 2e-3
    warm_up: int = 100
    weight_decay: float = 0.05
    clip: float = 1.0
    averaging: float = 0.99  # about the last 100 steps
    validate_every: int = 1
    patience: int = 3
    max_seconds: float | None = None
    clock: Literal["wall", "processor"] = "wall"

    def __post_init__(self) -> None:
        for name in ("epochs", "validate_every", "patience"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("learning_rate", "clip"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise SettingsError(f"{name} is {getattr(self, name)}; give more than 0")
        if self.warm_up < 0 or self.weight_decay < 0.0:
            raise SettingsError("warm_up and weight_decay must be 0 or more")
        if not 0.0 <= self.averaging < 1.0:
            raise SettingsError(f"averaging is {self.averaging}; give 0 or more and less than 1")
        if self.clock not in ("wall", "processor"):
            raise SettingsError(f"clock is {self.clock!r}; give 'wall' or 'processor'")
        if self.max_seconds is not None and not self.max_seconds > 0.0:
            raise SettingsError(f"max_seconds is {self.max_seconds}; give more than 0, or None")
