"""One key-value cache for all beams of a prompt: the prompt once, and a tree of the tokens written after it.

Every beam is a path in the tree. A new token attends to the prompt and to its own path, said by a four-dimensional mask
(tree attention), so nothing is copied or reordered when beams are. Tokens of abandoned beams stay where they are; when
they become the larger part, a step reads a copy without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import Cache, DynamicLayer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["EVERYTHING", "SLIDING", "Attention", "TokenTree"]

Int = npt.NDArray[np.int64]

FIRST_CAPACITY = 64  # tokens of the tree that fit before the buffer is doubled
SPARE_NODES = 64  # unneeded tokens that are cheaper to mask than to leave out

FULL, SLIDING = "full_attention", "sliding_attention"  # as transformers calls them in `layer_types`


@dataclass(frozen=True)
class Attention:
    """Say what the layers of a model see.

    Args:
        kinds: `full_attention`: all tokens before; `sliding_attention`: the last `window`, the own one included.
        window: Of the sliding layers; None without any.
    """

    kinds: tuple[str, ...] = (FULL,)
    window: int | None = None

    @classmethod
    def of(cls, config: PretrainedConfig) -> Attention | None:
        """Read a configuration; None where a mask cannot say it: a recurrence, chunks, ALiBi."""
        window = getattr(config, "sliding_window", None)
        layers = getattr(config, "layer_types", None)
        kinds = {FULL if window is None else SLIDING} if layers is None else set(layers)
        if getattr(config, "alibi", False) or not kinds <= {FULL, SLIDING} or (SLIDING in kinds and window is None):
            return None
        return cls(tuple(sorted(kinds)), window if SLIDING in kinds else None)


EVERYTHING = Attention()


class _BufferLayer(DynamicLayer):
    """Write keys and values into a buffer that is larger than what it holds. Shapes (prompts, heads, slots, size)."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, capacity: int) -> None:
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self.used = keys.shape[2]
        self._keys = self._widen(keys, capacity)
        self._values = self._widen(values, capacity)

    @staticmethod
    def _widen(tensor: torch.Tensor, capacity: int) -> torch.Tensor:
        wide = tensor.new_empty((*tensor.shape[:2], capacity, tensor.shape[3]))
        wide[:, :, : tensor.shape[2]] = tensor
        return wide

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append, and return everything held so far."""
        end = self.used + key_states.shape[2]
        if end > self._keys.shape[2]:
            capacity = max(end, 2 * self._keys.shape[2])
            self._keys = self._widen(self._keys[:, :, : self.used], capacity)
            self._values = self._widen(self._values[:, :, : self.used], capacity)
        self._keys[:, :, self.used : end] = key_states
        self._values[:, :, self.used : end] = value_states
        self.used = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def get_seq_length(self) -> int:
        """Count the slots in use."""
        return self.used

    def chosen(self, slots: torch.Tensor, room: int) -> _BufferLayer:
        """Copy some slots into a new layer with room for more."""
        return _BufferLayer(self._keys[:, :, slots], self._values[:, :, slots], len(slots) + room)

    def append_from(self, other: _BufferLayer, first: int, count: int) -> None:
        """Append slots of another layer."""
        kept = slice(first, first + count)
        self.update(other._keys[:, :, kept], other._values[:, :, kept])


@dataclass(frozen=True)
class _Plan:
    """Lay out one call: (prompts, new) ids, parents (nodes) and depths; absent tokens have parent -1, depth 0."""

    ids: Int
    parents: Int
    depths: Int


class TokenTree:
    """Grow the answers to a few prompts in one shared cache.

    Args:
        model: A transformers causal model, or its body alone.
        prompts: Keys and values of each prompt: for each layer a pair of tensors (1, heads, tokens, size).
        attention: What its layers see: everything before, a window, or some layers the one and some the other.

    Nodes are numbered in the order in which they are written, by prompt; -1 is the end of the prompt. A node's slot in
    the cache is the same for all prompts: shorter prompts and absent nodes leave gaps that nobody attends to. Nodes are
    only ever added, so a number stays valid.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[tuple[torch.Tensor, torch.Tensor]]],
        attention: Attention = EVERYTHING,
    ) -> None:
        self._model = model
        self._attention = attention
        self.lengths = np.array([prompt[0][0].shape[2] for prompt in prompts])
        self._longest = int(self.lengths.max())
        self._layers = []
        for pairs in zip(*prompts, strict=True):
            keys, values = (self._stack([pair[side] for pair in pairs]) for side in (0, 1))
            self._layers.append(_BufferLayer(keys, values, self._longest + FIRST_CAPACITY))
        self._parents = np.zeros((len(prompts), 0), dtype=np.int64)
        self._depths = np.zeros((len(prompts), 0), dtype=np.int64)  # tokens between the prompt and the node

    @property
    def size(self) -> int:
        """Count the nodes of each prompt, gaps included: the number that the next node will have."""
        return int(self._depths.shape[1])

    def depth(self, prompt: int, node: int) -> int:
        """Count the tokens from the prompt to a node, the node included; 0 for the end of the prompt."""
        return int(self._depths[prompt, node]) + 1 if node >= 0 else 0

    def _stack(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        if len(tensors) == 1:
            return tensors[0]
        stacked = tensors[0].new_zeros((len(tensors), tensors[0].shape[1], self._longest, tensors[0].shape[3]))
        for place, tensor in enumerate(tensors):
            stacked[place, :, : tensor.shape[2]] = tensor[0]
        return stacked

    @torch.inference_mode()
    def grow(self, nodes: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        """Write tokens behind nodes, all in one forward of the model.

        Args:
            nodes: For each prompt the nodes that the new tokens follow; a new token may follow another new one of the
                same call, by the number it will have (``size`` + place), if that stands before it.
            tokens: For each prompt as many tokens.
            keep: How many of each prompt's new tokens, from the first on, become nodes; the others are read and
                forgotten.

        Returns:
            What the model gives first, behind each new token: logits (prompts, most new tokens, V), or the hidden
            states of a body.
        """
        first = self.size
        plan = self._plan(nodes, tokens)
        reach = self._reach(plan)  # (prompts, new, first + new)
        needed = np.flatnonzero(reach[:, :, :first].any(axis=(0, 1)))
        depths = self._depths
        if 2 * len(needed) + SPARE_NODES < first:
            reach = np.concatenate([reach[:, :, needed], reach[:, :, first:]], axis=2)
            depths = depths[:, needed]
            layers = self._without_the_rest(needed, plan.ids.shape[1])
        else:
            layers = self._layers
        positions = plan.depths + self.lengths[:, None]
        before = np.broadcast_to(np.arange(self._longest), (len(self.lengths), self._longest))
        slots = np.concatenate([before, depths + self.lengths[:, None], positions], axis=1)
        output = self._model(
            input_ids=torch.from_numpy(plan.ids).to(self._model.device),
            attention_mask=self._masks(reach, positions[:, :, None] - slots[:, None, :]),
            position_ids=torch.from_numpy(positions).to(self._model.device),
            past_key_values=Cache(layers=list(layers)),
            use_cache=True,
        )
        for own, used in zip(self._layers, layers, strict=True):
            if used is own:
                own.used = self._longest + first + keep
            elif keep:
                own.append_from(used, self._longest + len(needed), keep)
        self._parents = np.concatenate([self._parents, plan.parents[:, :keep]], axis=1)
        self._depths = np.concatenate([self._depths, plan.depths[:, :keep]], axis=1)
        given: torch.Tensor = output[0]
        return given

    def _plan(self, nodes: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> _Plan:
        prompts, first = self._depths.shape
        new = max(map(len, nodes))
        ids, parents, depths = (np.zeros((prompts, new), dtype=np.int64) for _ in range(3))
        parents -= 1
        for prompt, (followed, written) in enumerate(zip(nodes, tokens, strict=True)):
            ids[prompt, : len(written)] = written
            parents[prompt, : len(followed)] = followed
            for place, node in enumerate(followed):
                if node >= first:
                    depths[prompt, place] = depths[prompt, node - first] + 1
                elif node >= 0:
                    depths[prompt, place] = self._depths[prompt, node] + 1
        return _Plan(ids, parents, depths)

    def _reach(self, plan: _Plan) -> npt.NDArray[np.bool_]:
        """Mark for each new token the nodes on its path, itself included: walk all paths towards the prompt at once."""
        prompts, new = plan.ids.shape
        first = self.size
        parents = np.concatenate([self._parents, plan.parents], axis=1)
        reach = np.zeros((prompts, new, first + new), dtype=np.bool_)
        prompt, row = np.divmod(np.arange(prompts * new), new)
        at = first + row
        while len(at):
            reach[prompt, row, at] = True
            at = parents[prompt, at]
            going = at >= 0
            prompt, row, at = prompt[going], row[going], at[going]
        return reach

    def _masks(self, reach: npt.NDArray[np.bool_], distance: Int) -> torch.Tensor | dict[str, torch.Tensor]:
        """Make the attention mask of each kind of layer: one tensor, or a dictionary where there are two kinds.

        Args:
            reach: Nodes on the path of each new token, (prompts, new, nodes).
            distance: Positions between each new token and each slot, (prompts, new, slots).
        """
        seen = np.empty(distance.shape, dtype=np.bool_)
        seen[:, :, : self._longest] = (np.arange(self._longest) < self.lengths[:, None])[:, None, :]
        seen[:, :, self._longest :] = reach
        window = self._attention.window
        near = seen if window is None else seen & (distance < window)
        masks = {kind: self._mask(near if kind == SLIDING else seen) for kind in self._attention.kinds}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _mask(self, seen: npt.NDArray[np.bool_]) -> torch.Tensor:
        """Write 0 where a token looks, the lowest number elsewhere: (prompts, 1, new, slots)."""
        device, dtype = self._model.device, self._model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=device)
        return mask.masked_fill_(torch.from_numpy(~seen).to(device), torch.finfo(dtype).min)[:, None]

    def _without_the_rest(self, needed: Int, room: int) -> list[_BufferLayer]:
        slots = np.concatenate([np.arange(self._longest), self._longest + needed])
        chosen = torch.from_numpy(slots).to(self._model.device)
        return [layer.chosen(chosen, room) for layer in self._layers]
