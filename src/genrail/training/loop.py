"""The training loop, the only one: whatever is trained brings its batches, its loss and its validation."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from genrail.errors import DamagedError, FingerprintError, SettingsError
from genrail.rng import generator

__all__ = ["EpochRecord", "LoopReport", "LoopSettings", "Progress", "Task", "run"]


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
        if self.max_seconds is not None and not self.max_seconds > 0.0:
            raise SettingsError(f"max_seconds is {self.max_seconds}; give more than 0, or None")


class Task(Protocol):
    """Bring what is particular to one kind of training."""

    @property
    def module(self) -> nn.Module:
        """Give the weights to train, in place."""
        ...

    def epoch(self, number: int) -> Sequence[Any]:
        """Lay out the batches of an epoch; the same for the same number, whatever happened before."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """Compute the mean loss of one batch."""
        ...

    def validate(self) -> Mapping[str, float]:
        """Measure the module as it stands; the first figure decides (more is better); nothing without validation."""
        ...


@dataclass(frozen=True)
class EpochRecord:
    """Hold what one epoch gave.

    Args:
        epoch: Counted from 1.
        seconds: Since training began, earlier runs included.
        loss: Mean over the epoch's steps.
        metrics: Of the validation after this epoch, empty if there was none.
    """

    epoch: int
    seconds: float
    loss: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Progress:
    """Say how far training is.

    Args:
        epoch: Of `epochs`, counted from 1.
        step: Steps done in this epoch, of `steps`.
        loss: Mean of this epoch so far.
        best: The best validation so far.
        seconds: Since training began.
        seconds_left: Until the last epoch or `max_seconds`, whichever comes first; early stopping may end it sooner.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    best: dict[str, float]
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class LoopReport:
    """Hold what training gave.

    Args:
        history: One record per epoch.
        best_epoch: Whose weights were kept.
        best: Its validation; empty without one.
        stopped: Why it ended.
        seconds: In total, earlier runs included.
        steps: Optimiser steps.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    best: dict[str, float]
    stopped: Literal["epochs", "patience", "time"]
    seconds: float
    steps: int

    def summary(self) -> dict[str, str]:
        """Give a few lines for people."""
        best = ", ".join(f"{name} {value:.4f}" for name, value in self.best.items())
        return {
            "epochs": f"{len(self.history)}, ended by {self.stopped}; the weights of epoch {self.best_epoch} were kept",
            "validation": best or "(none)",
            "training": f"{self.seconds:.0f} s",
        }

    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain values for JSON."""
        return asdict(self)


def run(
    task: Task,
    settings: LoopSettings,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
) -> LoopReport:
    """Train, keep the best weights by validation, and leave them in the module.

    AdamW with warm-up and cosine, clipped gradients, averaged weights. Random draws of a step depend on the seed and
    the step's number alone, so a run that was cut off and resumed ends with the same bits as one that was not. The
    global random state of torch is left as it was found.

    Args:
        task: What to train.
        settings: How.
        seed: Of dropout and other draws within a step.
        progress: Called after each step.
        checkpoint: A file (`.safetensors`), replaced in one go after each epoch; training resumes there if it exists.

    Raises:
        SettingsError: The loss became infinite or NaN.
        FingerprintError: The checkpoint is of another training.
        DamagedError: The checkpoint cannot be read.
    """
    state = _Run(task, settings, seed, progress, None if checkpoint is None else Path(checkpoint))
    with torch.random.fork_rng(devices=[]):
        return state.train()


class _Run:
    """Keep the state of one training: weights, their average, the optimiser, the best so far."""

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        seed: int,
        progress: Callable[[Progress], None] | None,
        checkpoint: Path | None,
    ) -> None:
        self.task = task
        self.settings = settings
        self.seed = seed
        self.progress = progress
        self.checkpoint = checkpoint
        self.parameters = {name: p for name, p in task.module.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.best = {name: p.detach().clone() for name, p in self.parameters.items()}
        matrices = [p for p in self.parameters.values() if p.dim() > 1]
        others = [p for p in self.parameters.values() if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        # 0.98 instead of 0.999 follows the moving scale of sparse gradients, as in Vaswani et al. 2017.
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
        self.done = 0  # epochs
        self.steps = 0
        self.waiting = 0  # validations without a better one
        self.best_epoch = 0
        self.best_metrics: dict[str, float] = {}
        self.history: list[EpochRecord] = []
        self.began = time.monotonic()
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    def train(self) -> LoopReport:
        stopped: Literal["epochs", "patience", "time"] = "epochs"
        while self.done < self.settings.epochs:
            if self.waiting >= self.settings.patience:
                stopped = "patience"
                break
            if self._time_is_up() and self.history:
                stopped = "time"
                break
            self._epoch()
            if self.checkpoint is not None:
                self._save(self.checkpoint)
        self._put(self.best)
        self.task.module.eval()
        return LoopReport(tuple(self.history), self.best_epoch, self.best_metrics, stopped, self._seconds(), self.steps)

    def _epoch(self) -> None:
        batches = self.task.epoch(self.done)
        self.task.module.train()
        total = 0.0
        taken = 0
        for number, batch in enumerate(batches):
            total += self._step(batch, (self.done + number / len(batches)) / self.settings.epochs)
            taken += 1
            if self.progress is not None:
                self.progress(self._progress(taken, len(batches), total / taken))
            if self._time_is_up():
                break
        self.done += 1
        last = self.done == self.settings.epochs or self._time_is_up()
        metrics = self._validate() if last or self.done % self.settings.validate_every == 0 else {}
        self.history.append(EpochRecord(self.done, self._seconds(), total / max(taken, 1), metrics))

    def _step(self, batch: Any, share: float) -> float:
        settings = self.settings
        torch.manual_seed(int(generator(self.seed, "training step", self.steps).integers(2**62)))
        if settings.max_seconds is not None:
            share = max(share, min(1.0, self._seconds() / settings.max_seconds))
        rate = settings.learning_rate * min(1.0, (self.steps + 1) / max(settings.warm_up, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (0.525 + 0.475 * math.cos(math.pi * share))  # 1 at the start, 0.05 at the end
        loss = self.task.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SettingsError(
                f"the loss became {value} in step {self.steps + 1}; lower learning_rate ({settings.learning_rate})"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters.values(), settings.clip)
        self.optimizer.step()
        self.steps += 1
        # The average starts as the weights themselves: at first a decay of 0.99 would mostly remember the initial ones.
        decay = min(settings.averaging, self.steps / (self.steps + 10)) if settings.averaging else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1.0 - decay)
        return value

    def _validate(self) -> dict[str, float]:
        with self._averaged():
            metrics = dict(self.task.validate())
        self.waiting += 1
        if not metrics or not self.best_metrics or _first(metrics) > _first(self.best_metrics):
            self.waiting, self.best_epoch, self.best_metrics = 0, self.done, metrics
            self.best = {name: value.clone() for name, value in self.average.items()}
        return metrics

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Work on the averaged weights, in evaluation mode."""
        current = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._put(self.average)
        self.task.module.eval()
        try:
            yield
        finally:
            self._put(current)
            self.task.module.train()

    def _put(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])

    def _seconds(self) -> float:
        return time.monotonic() - self.began

    def _time_is_up(self) -> bool:
        return self.settings.max_seconds is not None and self._seconds() >= self.settings.max_seconds

    def _progress(self, step: int, steps: int, loss: float) -> Progress:
        seconds = self._seconds()
        here = self.done + step / steps
        left = seconds / here * (self.settings.epochs - here)
        if self.settings.max_seconds is not None:
            left = min(left, max(0.0, self.settings.max_seconds - seconds))
        return Progress(self.done + 1, self.settings.epochs, step, steps, loss, self.best_metrics, seconds, left)

    # --- checkpoint ---------------------------------------------------------------------------------------------------

    def _identity(self) -> str:
        """Tell this training from others; more time is no other training."""
        shapes = [(name, list(parameter.shape)) for name, parameter in self.parameters.items()]
        words = json.dumps([asdict(replace(self.settings, max_seconds=None)), self.seed, shapes])
        return hashlib.sha256(words.encode()).hexdigest()

    def _save(self, path: Path) -> None:
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            tensors["weight." + name] = parameter.detach()
            tensors["average." + name] = self.average[name]
            tensors["best." + name] = self.best[name]
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
        state = {
            "identity": self._identity(),
            "done": self.done,
            "steps": self.steps,
            "waiting": self.waiting,
            "best_epoch": self.best_epoch,
            "best_metrics": self.best_metrics,
            "history": [asdict(record) for record in self.history],
            "seconds": self._seconds(),
        }
        partial = path.with_name(path.name + ".partial")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, {"loop": json.dumps(state)})
        os.replace(partial, path)

    def _resume(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads((file.metadata() or {})["loop"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DamagedError(f"checkpoint {path} cannot be read ({error}); delete it to start over") from error
        if state["identity"] != self._identity():
            raise FingerprintError(
                f"checkpoint {path} is of another training; delete it, or give its settings and seed"
            )
        self._put({name: tensors["weight." + name] for name in self.parameters})
        self.average = {name: tensors["average." + name] for name in self.parameters}
        self.best = {name: tensors["best." + name] for name in self.parameters}
        for name, parameter in self.parameters.items():
            kept = {key: tensors.get(f"optimizer.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            self.optimizer.state[parameter] = {key: value for key, value in kept.items() if value is not None}
        self.done, self.steps, self.waiting = state["done"], state["steps"], state["waiting"]
        self.best_epoch, self.best_metrics = state["best_epoch"], state["best_metrics"]
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.began = time.monotonic() - state["seconds"]


def _first(metrics: Mapping[str, float]) -> float:
    return next(iter(metrics.values()))
