"""The weights of the native model: node representations, context encoder, depth transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrail.models.native_nodes import NodeTable
from genrail.models.native_settings import NativeSettings

__all__ = ["QUERY", "Block", "ChildLogits", "NativeNetwork", "Nodes", "PastKeys"]

QUERY = -2  # stands in a context where the query's vector is read
PastKeys = tuple[Tensor, Tensor]  # keys and values of one block, each (rows, heads, positions, width / heads)
_INIT = 0.02  # standard deviation of new vectors, as in GPT-2


@dataclass(frozen=True)
class Nodes:
    """Hold a `NodeTable` as tensors.

    Args:
        first_child: (nodes + 1,), see `NodeTable`.
        slot: (nodes,).
        token: (nodes,), 0 at the root.
        level: Tokens of the prefix, (nodes,).
        path: Nodes from the root to the leaf of each item, (rows, length + 1).
    """

    first_child: Tensor
    slot: Tensor
    token: Tensor
    level: Tensor
    path: Tensor

    @classmethod
    def of(cls, table: NodeTable) -> Nodes:
        """Copy a table."""
        arrays = (table.first_child, table.slot, table.token.clip(min=0), table.level, table.paths())
        return cls(*(torch.from_numpy(array.copy()) for array in arrays))

    @property
    def length(self) -> int:
        """Count the tokens of an identifier."""
        return self.path.shape[1] - 1


@dataclass(frozen=True)
class ChildLogits:
    """Hold the logits of all children of some nodes, one after the other.

    Args:
        values: One per (row, child), (pairs,).
        row: Which row each pair belongs to, ascending, (pairs,).
        child: Node of each pair, (pairs,).
        first: Where each row's pairs begin, (rows,).
        count: Children of each row, (rows,).
    """

    values: Tensor
    row: Tensor
    child: Tensor
    first: Tensor
    count: Tensor

    def log_normaliser(self) -> Tensor:
        """Sum the exponentials over each row's children, as a logarithm, (rows,)."""
        rows = len(self.count)
        largest = self.values.new_full((rows,), -torch.inf).scatter_reduce(0, self.row, self.values.detach(), "amax")
        scaled = (self.values - largest.index_select(0, self.row)).exp()
        return self.values.new_zeros(rows).index_add(0, self.row, scaled).log() + largest

    def mean(self) -> Tensor:
        """Average each row's logits, (rows,)."""
        return self.values.new_zeros(len(self.count)).index_add(0, self.row, self.values) / self.count


class Block(nn.Module):
    """Transform a sequence with causal attention and a feed-forward layer, normalised before each.

    The only thing that tells positions apart is a learned bias per head and distance to the left (Raffel et al. 2020,
    T5, without buckets). A position thus knows how long ago something was, whatever the length of the sequence, and all
    positions of a sequence can be trained at once.

    Args:
        width: Of the sequence.
        heads: Attention heads.
        dropout: After attention and both feed-forward layers, and on attention weights.
        distances: Distances told apart; larger ones share the bias of the largest.
    """

    def __init__(self, width: int, heads: int, dropout: float, distances: int) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, 4 * width)
        self.feed_out = nn.Linear(4 * width, width)
        self.distance_bias = nn.Parameter(torch.zeros(heads, distances))

    def forward(self, x: Tensor, past: PastKeys | None = None) -> tuple[Tensor, PastKeys]:
        """Read x, (rows, positions, width), behind the keys and values of earlier positions.

        Returns:
            As x, and the keys and values of all positions so far.
        """
        rows, positions, width = x.shape
        mixed = self.query_key_value(self.attention_norm(x)).view(rows, positions, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (rows, heads, positions, width / heads)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        read = F.scaled_dot_product_attention(
            query, key, value, self._bias(positions, key.shape[2]), self.dropout if self.training else 0.0
        )
        read = read.transpose(1, 2).reshape(rows, positions, width)
        if not self.training:  # without the calls that do nothing then: on a few beams, calls are what costs
            x = x + self.attention_out(read)
            return x + self.feed_out(F.gelu(self.feed_in(self.feed_norm(x)))), (key, value)
        x = x + F.dropout(self.attention_out(read), self.dropout)
        hidden = F.dropout(F.gelu(self.feed_in(self.feed_norm(x))), self.dropout)
        return x + F.dropout(self.feed_out(hidden), self.dropout), (key, value)

    def _bias(self, positions: int, keys: int) -> Tensor:
        """Give the bias of each (query, key) pair, -inf for keys to the right, (heads, positions, keys)."""
        if positions == 1 and keys <= self.distance_bias.shape[1]:
            return self.distance_bias[:, :keys].flip(1)[:, None]
        distance = torch.arange(keys - positions, keys)[:, None] - torch.arange(keys)[None, :]
        bias = self.distance_bias[:, distance.clamp(0, self.distance_bias.shape[1] - 1)]
        return bias.masked_fill(distance < 0, -torch.inf)


class NativeNetwork(nn.Module):
    """Hold all weights. Slots count what is stored, nodes what is looked up; see `NodeTable`.

    The representation of a node is the vector of its last code (one per level and code), plus a projection of the mean
    text vector below it, plus a free vector of its slot. The same representations are read (items of a history, prefix
    written so far) and written (logits of children): tied as in Press and Wolf 2017.

    Args:
        settings: Sizes.
        vocab_size: Codes of a level.
        length: Tokens of an identifier.
        slot_vectors: Mean text vector of each slot, (slots, dimensions).
        text_mean: Mean text vector of the items, (dimensions,): what all texts have in common says nothing.
    """

    slot_vectors: Tensor
    text_mean: Tensor

    def __init__(
        self, settings: NativeSettings, vocab_size: int, length: int, slot_vectors: Tensor, text_mean: Tensor
    ) -> None:
        super().__init__()
        width, dimensions = settings.width, slot_vectors.shape[1]
        self.settings = settings
        self.vocab_size = vocab_size
        self.register_buffer("slot_vectors", slot_vectors)
        self.register_buffer("text_mean", text_mean)
        self.code = nn.Parameter(torch.randn((length + 1) * vocab_size, width) * _INIT)
        self.text = nn.Linear(dimensions, width, bias=False)
        self.free = nn.Parameter(torch.randn(len(slot_vectors), width) * _INIT * settings.free_embeddings)
        self.free.requires_grad_(settings.free_embeddings)
        self.slot_bias = nn.Parameter(torch.zeros(len(slot_vectors)))
        self.query_text = nn.Linear(dimensions, width)
        self.query_direct = nn.Linear(dimensions, dimensions, bias=False)
        nn.init.eye_(self.query_direct.weight)  # search starts as a dense retriever down the tree
        self.query_weight = nn.Parameter(torch.full((length,), settings.query_similarity))
        self.input_norm = nn.LayerNorm(width)
        self.encoder = nn.ModuleList(
            Block(width, settings.heads, settings.dropout, settings.history) for _ in range(settings.encoder_layers)
        )
        self.context_norm = nn.LayerNorm(width)
        self.prefix_in = nn.Linear(width, width)
        self.depth_position = nn.Parameter(torch.zeros(length, width))
        self.depth = nn.ModuleList(
            Block(width, settings.heads, settings.depth_dropout, length) for _ in range(settings.depth_layers)
        )
        self.depth_norm = nn.LayerNorm(width)
        self.level_out = nn.Parameter(torch.eye(width).repeat(length, 1, 1))

    def node_representations(self, nodes: Nodes) -> Tensor:
        """Give the representation of every node, (nodes, width)."""
        free: Tensor = self.free
        if self.training and self.settings.free_dropout > 0.0:
            free = free * (torch.rand(len(free), 1) >= self.settings.free_dropout)
        of_slots: Tensor = self.text(self.slot_vectors) - self.text(self.text_mean) + free
        return of_slots.index_select(0, nodes.slot) + self.code.index_select(
            0, nodes.level * self.vocab_size + nodes.token
        )

    def encode(self, nodes: Nodes, representations: Tensor, tokens: Tensor, queries: Tensor | None = None) -> Tensor:
        """Read contexts; every position is a context of its own, made of what stands up to it.

        Args:
            nodes: The tree.
            representations: From `node_representations`.
            tokens: Item rows, oldest first, `QUERY` where the query is read (last), any row behind the end,
                (contexts, positions).
            queries: Vector of the query of each context, (contexts, dimensions); needed where `QUERY` occurs.

        Returns:
            Context vectors, (contexts, positions, width).
        """
        items = nodes.path[tokens.clamp(min=0)]  # (contexts, positions, length + 1)
        x = representations[items[..., -1]]
        for level in range(1, nodes.length):
            x = x + self.code[level * self.vocab_size + nodes.token[items[..., level]]]
        if queries is not None:
            x = torch.where((tokens == QUERY)[..., None], self.query_text(queries)[:, None], x)
        x = F.dropout(self.input_norm(x), self.settings.input_dropout, self.training)
        for block in self.encoder:
            x, _ = block(x)
        context: Tensor = self.context_norm(x)
        return context

    def depth_states(self, representations: Tensor, contexts: Tensor, prefix: Tensor) -> Tensor:
        """Read contexts (rows, width) and the nodes written so far (rows, k), all at once.

        Returns:
            What each of the tokens 1 .. k + 1 is written from, (rows, k + 1, width).
        """
        steps = [contexts[:, None], self.prefix_in(representations[prefix])]
        x = torch.cat(steps, dim=1) + self.depth_position[: prefix.shape[1] + 1]
        for block in self.depth:
            x, _ = block(x)
        states: Tensor = self.depth_norm(x)
        return states

    def depth_step(self, x: Tensor, level: int, past: list[PastKeys] | None) -> tuple[Tensor, list[PastKeys]]:
        """Read one more vector per row, (rows, width): the context at level 0, then `prefix_in` of each node.

        Returns:
            What the token of this level is written from, (rows, width), and the keys and values so far.
        """
        x = x[:, None] + self.depth_position[level]
        kept = []
        for number, block in enumerate(self.depth):
            x, keys = block(x, None if past is None else past[number])
            kept.append(keys)
        return self.depth_norm(x)[:, 0], kept

    def child_logits(
        self,
        nodes: Nodes,
        representations: Tensor,
        states: Tensor,
        parents: Tensor,
        level: int,
        query_direct: Tensor | None = None,
    ) -> ChildLogits:
        """Score the children of a node for each row, and nothing else.

        Args:
            nodes: The tree.
            representations: From `node_representations`.
            states: What the token is written from, (rows, width).
            parents: Node of each row, all of the same level and none a leaf, (rows,).
            level: Tokens written so far.
            query_direct: `query_direct` of each row's query, zero for none, (rows, dimensions).
        """
        if level == 0:
            return self._root_logits(nodes, representations, states, query_direct)
        first_child = nodes.first_child[parents]
        count = nodes.first_child[parents + 1] - first_child
        row = torch.repeat_interleave(torch.arange(len(parents)), count)
        first = torch.cumsum(count, dim=0) - count
        child = torch.arange(len(row)) - (first - first_child).index_select(0, row)
        slot = nodes.slot.index_select(0, child)
        written = states @ self.level_out[level]
        values = _pair_products(written, row, representations, child) + self.slot_bias.index_select(0, slot)
        if query_direct is not None:
            values = values + self.query_weight[level] * _pair_products(query_direct, row, self.slot_vectors, slot)
        return ChildLogits(values, row, child, first, count)

    def _root_logits(
        self, nodes: Nodes, representations: Tensor, states: Tensor, query_direct: Tensor | None
    ) -> ChildLogits:
        """Score the children of the root, which all rows share, by one matrix product."""
        count, rows = int(nodes.first_child[1]) - 1, len(states)
        slot = nodes.slot[1 : count + 1]
        values = (states @ self.level_out[0]) @ representations[1 : count + 1].T + self.slot_bias[slot]
        if query_direct is not None:
            values = values + self.query_weight[0] * (query_direct @ self.slot_vectors[slot].T)
        row = torch.repeat_interleave(torch.arange(rows), count)
        child = torch.arange(1, count + 1).repeat(rows)
        counts = torch.full((rows,), count)
        return ChildLogits(values.reshape(-1), row, child, torch.arange(rows) * count, counts)


def _pair_products(left: Tensor, left_index: Tensor, right: Tensor, right_index: Tensor) -> Tensor:
    """Multiply chosen rows of two matrices, (pairs,)."""
    return (left.index_select(0, left_index) * right.index_select(0, right_index)).sum(dim=1)
