"""The output layer apart from the body: most decisions of a constrained search need a few of its rows only."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from genrail.models.checkpoint_model import tail_log_probabilities, to_numpy

__all__ = ["OutputLayer", "WholeLogits"]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

ROWS_TOGETHER = 64  # rows of logits held at once when they are only summed: 67 MB of a vocabulary of 262,144
PAIRS_TOGETHER = 16_384  # rows of the weights that are gathered at once: 42 MB of a width of 640


class OutputLayer:
    """Turn hidden states into logits: of the whole vocabulary, or of chosen tokens only.

    Args:
        layer: A linear layer, (V, width).

    `hidden` is (n, width) everywhere, on the layer's device.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer

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
        parts = [_log_sums(self.logits(part)) for part in torch.split(hidden, ROWS_TOGETHER)] if len(hidden) else []
        return np.concatenate(parts) if parts else np.zeros(0)

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


def _log_sums(logits: torch.Tensor) -> Float64:
    values = logits.float()
    total = torch.logsumexp(values, dim=-1)
    if torch.isnan(total).any():
        total = torch.logsumexp(torch.where(torch.isnan(values), -torch.inf, values), dim=-1)
    return total.double().cpu().numpy()
