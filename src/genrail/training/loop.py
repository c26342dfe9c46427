"""The training loop, the only one: whatever is trained brings its batches, its loss and its validation."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from genrail.errors import DamagedError, FingerprintError, SettingsError
from genrail.evaluation import pictures
from genrail.rng import generator
from genrail.storage.files import naming
from genrail.training.loop_settings import LoopSettings
from genrail.training.processes import Processes

__all__ = ["Divisible", "EpochRecord", "LoopReport", "LoopSettings", "Progress", "Task", "run"]

Stop = Literal["epochs", "patience", "time", "diverged"]

_log = logging.getLogger(__name__)
MOST_PIECES = 64  # of a batch that does not fit the memory


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


@runtime_checkable
class Divisible(Protocol):
    """Cut batches that do not fit the memory, and tell one set of data from another. A `Task` may offer this."""

    @property
    def data(self) -> str:
        """Identify what is learnt from, by content."""
        ...

    def cut(self, batch: Any, pieces: int) -> Sequence[tuple[Any, float]]:
        """Cut a batch into so many pieces, or as many as its size asks for, each with its share of the batch's loss."""
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

    def flat(self) -> dict[str, float]:
        """Turn the record into one level of plain values."""
        return {"epoch": self.epoch, "seconds": self.seconds, "loss": self.loss, **self.metrics}


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
        stopped: Why it ended; `diverged` when the loss became NaN or infinite.
        seconds: In total, earlier runs included.
        steps: Optimiser steps.
        trouble: What went wrong on the way, in words.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    best: dict[str, float]
    stopped: Stop
    seconds: float
    steps: int
    trouble: str = ""

    def summary(self) -> dict[str, str]:
        """Give a few lines for people."""
        best = ", ".join(f"{name} {value:.4f}" for name, value in self.best.items())
        told = {
            "epochs": f"{len(self.history)}, ended by {self.stopped}; the weights of epoch {self.best_epoch} were kept",
            "validation": best or "(none)",
            "training": f"{self.seconds:.0f} s",
        }
        return {**told, "trouble": self.trouble} if self.trouble else told

    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain values for JSON."""
        return asdict(self)


def run(
    task: Task,
    settings: LoopSettings,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
    curve: str | Path | None = None,
) -> LoopReport:
    """Train, keep the best weights by validation, and leave them in the module.

    AdamW with warm-up and cosine, clipped gradients, averaged weights. Random draws of a step depend on the seed and
    the step's number alone, so a run that was cut off and resumed ends with the same bits as one that was not. The
    global random state of torch is left as it was found. A loss that becomes NaN or infinite ends the training with the
    best weights so far. A batch that does not fit the memory is cut in halves, where the task is `Divisible`; there,
    processes that are joined (`torch.distributed`, ``torchrun``) each take a part of every batch and end with the same
    weights, to rounding those of one process with the same batches. The first of them validates, and writes files.

    Args:
        task: What to train.
        settings: How.
        seed: Of dropout and other draws within a step.
        progress: Called after each step.
        checkpoint: A file (`.safetensors`), replaced in one go after each epoch; training resumes there if it exists.
        curve: A file (`.jsonl`) with one line for each epoch; a picture stands beside it (`.html`).

    Raises:
        SettingsError: The loss became infinite or NaN before there was anything to keep.
        FingerprintError: The checkpoint is of another training: it says what differs.
        DamagedError: The checkpoint cannot be read.
        DiskError: The checkpoint or the curve cannot be written; the last checkpoint stays.
    """
    state = _Run(task, settings, seed, progress, None if checkpoint is None else Path(checkpoint))
    state.curve = None if curve is None else Path(curve)
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
        # Without averaging, the average is the weights themselves.
        self.average: Mapping[str, Tensor] = self._copy() if settings.averaging else self.parameters
        self.best = self._copy()
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
        self.pieces = 1  # of each batch
        self.curve: Path | None = None
        self.trouble = ""
        self.clock = time.process_time if settings.clock == "processor" else time.monotonic
        self.began = self.clock()
        self.processes = Processes.here()
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    def _copy(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def train(self) -> LoopReport:
        stopped: Stop = "epochs"
        while self.done < self.settings.epochs:
            if self.waiting >= self.settings.patience:
                stopped = "patience"
                break
            if self._time_is_up() and self.history:
                stopped = "time"
                break
            try:
                self._epoch()
            except _DivergedError as error:
                if not self.history:
                    raise SettingsError(str(error)) from None
                stopped, self.trouble = "diverged", str(error)
                break
            self._keep()
        self._put(self.best)
        self.task.module.eval()
        kept = self.best_epoch, self.best_metrics
        return LoopReport(tuple(self.history), *kept, stopped, self._seconds(), self.steps, self.trouble)

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
            share = max(share, min(1.0, self.processes.same(self._seconds()) / settings.max_seconds))
        rate = settings.learning_rate * min(1.0, (self.steps + 1) / max(settings.warm_up, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (0.525 + 0.475 * math.cos(math.pi * share))  # 1 at the start, 0.05 at the end
        value = self._gradients(batch)
        nn.utils.clip_grad_norm_(self.parameters.values(), settings.clip)
        self.optimizer.step()
        self.steps += 1
        # The average starts as the weights themselves: at first a decay of 0.99 would mostly remember the initial ones.
        if settings.averaging:
            decay = min(settings.averaging, self.steps / (self.steps + 10))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1.0 - decay)
        return value

    def _gradients(self, batch: Any) -> float:
        """Compute the gradients of a batch, in pieces where the memory is too small; give its loss."""
        together = self.processes if isinstance(self.task, Divisible) else Processes()
        while True:
            pieces = self.pieces * together.count
            parts = self.task.cut(batch, pieces) if isinstance(self.task, Divisible) else [(batch, 1.0)]
            self.optimizer.zero_grad(set_to_none=True)
            full, value = False, 0.0
            try:
                value = sum(self._part(part, share) for part, share in together.own(parts))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                full = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
                if not full or not isinstance(self.task, Divisible) or self.pieces >= MOST_PIECES:
                    raise
            if not together.any(full):
                return self._finite(together.add_gradients(list(self.parameters.values()), value))
            self.pieces *= 2
            self.trouble = f"batches did not fit the memory and were cut into {self.pieces} pieces"
            _log.warning("step %d: %s", self.steps + 1, self.trouble)

    def _part(self, part: Any, share: float) -> float:
        loss = self.task.loss(part) * share
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _finite(self, value: float) -> float:
        if not math.isfinite(value):
            raise _DivergedError(
                f"the loss became {value} in step {self.steps + 1}; lower learning_rate ({self.settings.learning_rate})"
            )
        return value

    def _validate(self) -> dict[str, float]:
        with self._averaged():
            metrics = self.processes.told(self.task.validate() if self.processes.first else None)
        self.waiting += 1
        if not metrics or not self.best_metrics or _first(metrics) > _first(self.best_metrics):
            self.waiting, self.best_epoch, self.best_metrics = 0, self.done, metrics
            self.best = {name: value.detach().clone() for name, value in self.average.items()}
        return metrics

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Work on the averaged weights, in evaluation mode."""
        current: Mapping[str, Tensor] = self._copy() if self.settings.averaging else self.parameters
        self._put(self.average)
        self.task.module.eval()
        try:
            yield
        finally:
            self._put(current)
            self.task.module.train()

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if values[name] is not parameter:
                    parameter.copy_(values[name])

    def _seconds(self) -> float:
        return self.clock() - self.began

    def _time_is_up(self) -> bool:
        most = self.settings.max_seconds
        return most is not None and self.processes.same(self._seconds()) >= most

    def _progress(self, step: int, steps: int, loss: float) -> Progress:
        seconds = self._seconds()
        here = self.done + step / steps
        left = seconds / here * (self.settings.epochs - here)
        if self.settings.max_seconds is not None:
            left = min(left, max(0.0, self.settings.max_seconds - seconds))
        return Progress(self.done + 1, self.settings.epochs, step, steps, loss, self.best_metrics, seconds, left)

    # --- checkpoint ---------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, str]:
        """Tell this training from others, part by part; more time is no other training."""
        shapes = [(name, list(parameter.shape)) for name, parameter in self.parameters.items()]
        parts = {
            "settings": asdict(replace(self.settings, max_seconds=None, clock="wall")),
            "seed": self.seed,
            "model": shapes,
            "data": self.task.data if isinstance(self.task, Divisible) else "",
        }
        return {name: hashlib.sha256(json.dumps(part).encode()).hexdigest() for name, part in parts.items()}

    def _keep(self) -> None:
        """Write the checkpoint and the curve, if they are wanted."""
        if not self.processes.first:
            return
        if self.checkpoint is not None:
            with naming(self.checkpoint, "writing the checkpoint"):
                self._save(self.checkpoint)
        if self.curve is not None:
            lines = "".join(f"{json.dumps(one.flat())}\n" for one in self.history)
            with naming(self.curve, "writing the learning curve"):
                self.curve.write_text(lines, encoding="utf-8")
                self.curve.with_suffix(".html").write_text(self._picture(), encoding="utf-8")

    def _picture(self) -> str:
        """Draw loss and validation over the seconds, as a page."""
        flat = [one.flat() for one in self.history]
        names = dict.fromkeys(name for one in flat for name in one if name not in ("epoch", "seconds"))
        sections = [
            (
                name,
                pictures.lines({name: [(one["seconds"], one[name]) for one in flat if name in one]}, "seconds", name),
            )
            for name in names
        ]
        return pictures.page("Learning curve", sections)

    def _save(self, path: Path) -> None:
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            tensors["weight." + name] = parameter.detach()
            if self.settings.averaging:
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
            "pieces": self.pieces,
        }
        partial = path.with_name(path.name + ".partial")
        try:
            plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(plain, partial, {"loop": json.dumps(state)})
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _resume(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads((file.metadata() or {})["loop"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DamagedError(f"checkpoint {path} cannot be read ({error}); delete it to start over") from error
        own, saved = self._identity(), state["identity"]
        differing = [name for name in own if not isinstance(saved, dict) or saved.get(name) != own[name]]
        if differing:
            raise FingerprintError(
                f"checkpoint {path} is of another training: its {' and '.join(differing)} differ; "
                "give the same again, or delete the checkpoint to start over"
            )
        self._put({name: tensors["weight." + name] for name in self.parameters})
        if self.settings.averaging:
            self.average = {name: tensors["average." + name] for name in self.parameters}
        self.best = {name: tensors["best." + name] for name in self.parameters}
        for name, parameter in self.parameters.items():
            kept = {key: tensors.get(f"optimizer.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            self.optimizer.state[parameter] = {key: value for key, value in kept.items() if value is not None}
        self.done, self.steps, self.waiting = state["done"], state["steps"], state["waiting"]
        self.best_epoch, self.best_metrics = state["best_epoch"], state["best_metrics"]
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.pieces = state.get("pieces", 1)
        self.began = self.clock() - state["seconds"]


class _DivergedError(Exception):
    """Say where the loss became NaN or infinite."""


def _first(metrics: Mapping[str, float]) -> float:
    return next(iter(metrics.values()))
