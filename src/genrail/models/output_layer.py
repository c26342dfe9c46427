"""The output layer apart from the body: most decisions of a constrained search need a few of its rows only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from genrail.models.checkpoint_model import tail_log_probabilities, to_numpy
from genrail.models.packed_linear import PackedLinear

__all__ = ["OutputLayer", "WholeLogits"]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

ROWS_TOGETHER = 64  # rows of logits held at once when they are only summed: 67 MB of a vocabulary of 262,144
BLOCK = 32_768  # words of the vocabulary that are summed at once: 8 MB of logits stay near the processor
PAIRS_TOGETHER = 16_384  # rows of the weights that are gathered at once: 42 MB of a width of 640


class OutputLayer:
    """Turn hidden states into logits: of the whole vocabulary, or of chosen tokens only.

    Args:
        layer: A linear layer, (V, width).

    `hidden` is (n, width) everywhere, on the layer's device.
    """

    packed = False
    """Keep the weights a second time, as the processor's kernels read them, once the first sum over the whole
    vocabulary is asked for: such sums then take half the time. For models that are loaded to answer."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._packed: tuple[tuple[int, int], list[nn.Module]] | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Compute the logits of the whole vocabulary, (n, V)."""
        found: torch.Tensor = self._layer(hidden)
        return found

    def columns(self, hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Compute the logits of some tokens behind all hidden states, (n, tokens), float32; gradients pass.

        Cost: one row of the weights for each token, read once for all hidden states.
        """
        weight = cast("torch.Tensor", self._layer.weight)
        bias = cast("torch.Tensor | None", getattr(self._layer, "bias", None))
        found = torch.nn.functional.linear(hidden, weight[tokens], None if bias is None else bias[tokens])
        return found.float()

    @torch.inference_mode()
    def chosen(self, hidden: torch.Tensor, rows: Int, tokens: Int) -> Float32:
        """Compute the logit of each token behind the hidden state of its row; both (pairs,).

        Cost: one row of the weights for each pair, instead of all V for each hidden state.
        """
        weight = cast("torch.Tensor", self._layer.weight)
        bias = cast("torch.Tensor | None", getattr(self._layer, "bias", None))
        parts = []
        for first in range(0, len(tokens), PAIRS_TOGETHER):
            chosen = slice(first, first + PAIRS_TOGETHER)
            at = torch.from_numpy(tokens[chosen]).to(weight.device)
            state = hidden[torch.from_numpy(rows[chosen]).to(weight.device)].float()
            found = torch.einsum("nd,nd->n", state, weight[at].float())
            parts.append(to_numpy(found if bias is None else found + bias[at].float()))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    @torch.inference_mode()
    def log_sums(self, hidden: torch.Tensor) -> Float64:
        """Compute the log-sum-exp over the whole vocabulary behind each hidden state, (n,); NaN counts as -inf."""
        if not len(hidden):
            return np.zeros(0)
        blocks = self._blocks()
        parts = [[_log_sums(block(rows)) for block in blocks] for rows in torch.split(hidden, ROWS_TOGETHER)]
        return np.concatenate([torch.logsumexp(torch.stack(part), dim=0).cpu().numpy() for part in parts])

    def _blocks(self) -> Sequence[Callable[[torch.Tensor], torch.Tensor]]:
        """Cut the layer into parts of the vocabulary whose logits stay in the processor's cache, packed or as it is."""
        hooked = bool(self._layer._forward_hooks or self._layer._forward_pre_hooks)  # what they do is part of the layer
        if hooked or not isinstance(self._layer, nn.Linear) or self._layer.weight.device.type != "cpu":
            return [self.logits]
        weight, bias = self._layer.weight, self._layer.bias
        state = weight.data_ptr(), 0 if weight.is_inference() else weight._version  # another one where it learnt
        if self._packed is None or self._packed[0] != state:
            biases = [None] * -(-len(weight) // BLOCK) if bias is None else torch.split(bias, BLOCK)
            pairs = zip(torch.split(weight, BLOCK), biases, strict=True)
            parts = [_part(rows, own) for rows, own in pairs]
            whole = weight.dtype in (torch.float32, torch.bfloat16)
            self._packed = state, [PackedLinear(part) if self.packed and whole else part for part in parts]
        return self._packed[1]

    @torch.inference_mode()
    def log_probabilities(self, hidden: torch.Tensor, tokens: torch.Tensor) -> Float64:
        """Give the log-probability of one token behind each hidden state, (n,), by the rules of the index."""
        pairs = zip(torch.split(hidden, ROWS_TOGETHER), torch.split(tokens, ROWS_TOGETHER), strict=True)
        parts = [tail_log_probabilities(self.logits(state), token) for state, token in pairs] if len(hidden) else []
        return np.concatenate(parts) if parts else np.zeros(0)


class WholeLogits(OutputLayer):
    """Stand for the output layer of a model whose body and output layer cannot be told apart: hidden states are logits.

    So it is where something is done to the logits behind the last linear layer (scaling, soft capping).
    """

    def __init__(self) -> None:
        super().__init__(nn.Identity())

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Give them back, (n, V)."""
        return hidden

    def columns(self, hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Pick the logits of some tokens, (n, tokens)."""
        return hidden[:, tokens].float()

    def chosen(self, hidden: torch.Tensor, rows: Int, tokens: Int) -> Float32:
        """Pick the logit of each token."""
        places = (torch.from_numpy(values).to(hidden.device) for values in (rows, tokens))
        return to_numpy(hidden[tuple(places)])


def _part(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """Make a layer of some rows of another one's weights, which it shares."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def _log_sums(logits: torch.Tensor) -> torch.Tensor:
    values = logits.float()
    total = torch.logsumexp(values, dim=-1)
    if torch.isnan(total).any():
        total = torch.logsumexp(torch.where(torch.isnan(values), -torch.inf, values), dim=-1)
    return total.double()
