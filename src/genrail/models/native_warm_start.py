"""New items of a native model begin like the items that their texts resemble."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt

from genrail.models.native import NativeModel

__all__ = ["item_vectors", "warm_start"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]


def item_vectors(model: NativeModel, rows: npt.ArrayLike | None = None) -> Float:
    """Give the text vectors of some rows, or of all, as the model keeps them, shape (rows, dimensions)."""
    leaf = model.table.leaf if rows is None else model.table.leaf[np.asarray(rows, dtype=np.int64)]
    vectors: Float = model.network.slot_vectors.numpy()[model.table.slot[leaf]]
    return vectors


def warm_start(
    model: NativeModel, before: NativeModel, like: Int, weights: Float, groups: npt.ArrayLike | None = None
) -> NativeModel:
    """Make a model whose new items have the free vectors and biases of items they resemble, mixed.

    What the model has learnt about who takes an item is in that item's free vector and bias. A new item has neither;
    without them the later codes of its identifier are hardly ever written.

    Args:
        model: From `before.add_items`; stays as it is.
        before: The model without the new items.
        like: For each new item the rows that it resembles, shape (new items, m).
        weights: How much of each, rows that sum to 1, shape (new items, m).
        groups: As given to `add_items`.

    Returns:
        The model; nodes that existed before are the same.

    Cost: O(new items * m * width).
    """
    first_slot, first_row = before.table.slots, before.items
    leaf_slots = before.table.slot[before.table.leaf]
    warm = copy.deepcopy(model)
    for tensor in (warm.network.free, warm.network.slot_bias):
        learnt = tensor.detach().numpy().reshape(len(tensor), -1)  # shares the memory of the weights
        mixed = np.einsum("nm,nmd->nd", weights, learnt[leaf_slots[like]]).astype(np.float32)
        learnt[first_slot:] = model.table.slot_vectors(mixed, first_slot, first_row, groups)
    warm.changed()
    return warm
