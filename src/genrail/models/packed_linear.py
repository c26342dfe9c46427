"""Linear layers whose weights lie as the processor's kernels read them: packed once, and not again with every call."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import nn

from genrail.errors import StateError
from genrail.memory import give_back_memory

__all__ = ["PackedLinear", "pack", "unpack"]

ROWS = 20  # for which the layout is chosen: as many as a step of a beam search reads
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2}  # of the trial, relative: a few times their roundings


class PackedLinear(nn.Module):
    """Compute what a linear layer computes, from packed weights; for answers only, it cannot be trained.

    A product with few rows spends much of its time on bringing the weights into the order of the kernel. The plain
    weights are not kept beside the packed ones: the memory stays the same. A deep copy, and what is saved, is plain.

    Args:
        layer: In float32 or bfloat16, on a CPU.

    Source: weight prepacking of oneDNN, as inductor's freezing does it.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)

    @property
    def weight(self) -> torch.Tensor:
        """Give the plain weights, a copy, (out_features, in_features)."""
        plain: torch.Tensor = self._packed.to_dense()
        return plain

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Multiply; the last dimension of `hidden` is `in_features`."""
        if torch.is_grad_enabled() and hidden.requires_grad:
            return nn.functional.linear(hidden, self.weight, self.bias)
        given = hidden.to(self._packed.dtype)  # autocast hands on activations of its own precision
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(given, self._packed, self.bias, "none", [], "")
        return found

    def train(self, mode: bool = True) -> Self:
        """Refuse to be trained.

        Raises:
            StateError: `mode` is True.
        """
        if mode:
            raise StateError("the weights are packed for answers; call `unpack` of genrail.models.packed_linear first")
        return super().train(mode)

    def plain(self) -> nn.Linear:
        """Make the layer that this one was made of."""
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        layer.weight, layer.bias = nn.Parameter(self.weight), self.bias
        return layer.train(self.training)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Linear:
        return self.plain()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight


def pack(network: nn.Module) -> bool:
    """Replace all linear layers in place, where this build of torch can; tell whether it did.

    Only layers in float32 or bfloat16 on a CPU, of which a trial shows that they compute the same.
    """
    places = [(parent, name) for parent, name, child in _children(network) if type(child) is nn.Linear]
    layers = [getattr(parent, name) for parent, name in places]
    if not layers or any(layer.weight.dtype not in TOLERANCES for layer in layers):
        return False
    if any(layer.weight.device.type != "cpu" for layer in layers) or not _trial(layers[0]):
        return False
    replaced = {id(layer.weight) for layer in layers}
    del layers  # so that a part of the file is let go as soon as its last layer is packed
    for weights in network.parameters():
        if id(weights) not in replaced:  # it would keep its part of the file mapped
            weights.data = weights.data.clone()
    for parent, name in places:
        setattr(parent, name, PackedLinear(getattr(parent, name)).eval())
    give_back_memory()  # 180 MB of a bfloat16 model of 135 M weights
    return True


def unpack(network: nn.Module) -> None:
    """Put plain layers back in place, to be trained."""
    for parent, name, child in _children(network):
        if isinstance(child, PackedLinear):
            setattr(parent, name, child.plain())


def _children(network: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    return [(parent, name, child) for parent in network.modules() for name, child in parent.named_children()]


@torch.inference_mode()
def _trial(layer: nn.Linear) -> bool:
    """Compare a packed layer with the plain one."""
    try:
        rows = torch.linspace(-1, 1, 3 * layer.in_features).reshape(3, -1).to(layer.weight.dtype)
        found, expected = PackedLinear(layer)(rows).float(), layer(rows).float()
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    tolerance = TOLERANCES[layer.weight.dtype]
    return bool(((found - expected).abs().max() <= tolerance * (1 + expected.abs().max())).item())
