"""Several processes that train together: each takes a part of every batch, and their gradients are added up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

__all__ = ["Processes", "joined"]

Part = TypeVar("Part")


@dataclass(frozen=True)
class Processes:
    """Know the processes of a training, and talk to the others; one alone talks to nobody.

    Every method but `first` has to be called by all of them, in the same order.

    Args:
        rank: Number of this one.
        count: Of all.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Processes:
        """Find the processes that `torch.distributed.init_process_group` joined to this one."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Tell whether this is the one that writes files."""
        return self.rank == 0

    def own(self, parts: Sequence[Part]) -> Sequence[Part]:
        """Give the parts of a batch that this process takes; perhaps none."""
        return parts[self.rank :: self.count]

    def add_gradients(self, parameters: Sequence[nn.Parameter], loss: float) -> float:
        """Add the gradients of all processes up, in place; give the sum of their losses."""
        if self.count == 1:
            return loss
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        together = torch.cat([*(one.flatten() for one in gradients), gradients[0].new_tensor([loss])])
        distributed.all_reduce(together)
        parts = torch.split(together, [*(one.numel() for one in gradients), 1])
        for gradient, part in zip(gradients, parts[:-1], strict=True):
            gradient.copy_(part.view_as(gradient))
        return float(parts[-1])

    def any(self, said: bool) -> bool:
        """Tell whether one of them says so."""
        if self.count == 1:
            return said
        told = _number(float(said))
        distributed.all_reduce(told, op=distributed.ReduceOp.MAX)
        return bool(told.item())

    def same(self, value: float) -> float:
        """Give the number that the first one has."""
        if self.count == 1:
            return value
        told = _number(value)
        distributed.broadcast(told, src=0)
        return float(told.item())

    def told(self, figures: Mapping[str, float] | None) -> dict[str, float]:
        """Give the figures that the first one has; the others have none."""
        given = [None if figures is None else dict(figures)]
        if self.count > 1:
            distributed.broadcast_object_list(given, src=0)
        return given[0] or {}


def _number(value: float) -> Tensor:
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    return torch.tensor(value, dtype=torch.float64, device=device)


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, for a time; one that was started otherwise stays alone."""
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        yield Processes()
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes.here()
    finally:
        distributed.destroy_process_group()
