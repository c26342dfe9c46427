"""The weights of SASRec: item vectors and a causal transformer over them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrail.models.native_network import Block

__all__ = ["SASRecNetwork", "softmax_loss"]

_INIT = 0.02  # standard deviation of new vectors, as in GPT-2


class SASRecNetwork(nn.Module):
    """Read items one after the other and point, at every position, to the vector of the item that comes next.

    Item vectors are shared between reading and writing. Positions are told apart by a learned bias per head and
    distance, see `Block`. Scores are cosines times a learned scale: without it popular items get long vectors.

    Args:
        items: In the catalogue.
        width: Of item vectors and layers.
        layers: Transformer blocks.
        heads: Attention heads of each.
        history: Longest input.
        dropout: On the inputs and within the blocks.
        scale: Cosines are multiplied by it at the start.
    """

    def __init__(
        self, items: int, width: int, layers: int, heads: int, history: int, dropout: float, scale: float
    ) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.randn(items, width) * _INIT)
        self.dropout = dropout
        self.input_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, history) for _ in range(layers))
        self.output_norm = nn.LayerNorm(width)
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def forward(self, tokens: Tensor) -> Tensor:
        """Give the scaled direction in which the next item is expected, (rows, positions, width).

        Args:
            tokens: Item rows, oldest first, any row behind the end, (rows, positions).
        """
        x = F.dropout(self.input_norm(F.embedding(tokens, self.items)), self.dropout, self.training)
        for block in self.blocks:
            x, _ = block(x)
        return F.normalize(self.output_norm(x), dim=-1) * self.log_scale.exp()

    def item_vectors(self) -> Tensor:
        """Give the vectors that expectations are compared with, of length 1, (items, width)."""
        return F.normalize(self.items, dim=-1)


def softmax_loss(hidden: Tensor, vectors: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Compute the mean cross-entropy over the whole catalogue.

    Args:
        hidden: (targets, width).
        vectors: (items, width).
        targets: Row of each next item, (targets,).
        smoothing: Share of the probability that is spread evenly over all items.
    """
    return F.cross_entropy(hidden @ vectors.T, targets, label_smoothing=smoothing)
