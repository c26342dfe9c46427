"""The tree of all identifiers as flat arrays: what the native model has a representation for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from genrail.errors import IdentifierError, ShapeError

__all__ = ["NodeTable"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
NEVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class NodeTable:
    """Number every distinct prefix of a catalogue's identifiers, so that the children of a node are a range.

    Nodes are numbered level by level, within a level by (parent, token); node 0 is the root, the empty prefix. So the
    children of node `n` are `first_child[n] .. first_child[n + 1] - 1`, sorted by token.

    A *slot* is a place for a representation. Nodes below which the catalogue had the same items when they were made
    share one (a node with one child, that child, ...), so a catalogue needs little more slots than items. A slot, once
    given, is kept for life.

    Args:
        parent: Node above each node, (nodes,); -1 for the root.
        token: Last token of the prefix, (nodes,); -1 for the root.
        slot: Place of each node's representation, (nodes,).
        levels: First node of each level and the end, (length + 2,).
        leaf: Node of each item's whole identifier, (rows,). Items may share one.
        vocab_size: One more than the largest token allowed.

    >>> table = NodeTable.empty(length=2, vocab_size=4).extend(np.array([[1, 2], [1, 3], [0, 3]]))
    >>> table.children(0), table.token[1:3].tolist()
    ((1, 3), [0, 1])
    >>> table.paths().tolist()
    [[0, 2, 4], [0, 2, 5], [0, 1, 3]]
    """

    parent: Int
    token: Int
    slot: Int
    levels: Int
    leaf: Int
    vocab_size: int

    @classmethod
    def empty(cls, length: int, vocab_size: int) -> NodeTable:
        """Make the table of no items: the root alone, with the slot 0.

        Args:
            length: Tokens of every identifier, 1 or more.
            vocab_size: One more than the largest token allowed.
        """
        if length < 1 or vocab_size < 1:
            raise IdentifierError(f"identifiers of {length} tokens out of {vocab_size}; both must be 1 or more")
        levels = np.ones(length + 2, dtype=np.int64)
        levels[0] = 0
        root = np.full(1, -1, dtype=np.int64)
        return cls(root, root, np.zeros(1, dtype=np.int64), levels, np.zeros(0, dtype=np.int64), vocab_size)

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def length(self) -> int:
        """Count the tokens of an identifier."""
        return len(self.levels) - 2

    @property
    def rows(self) -> int:
        """Count the items."""
        return len(self.leaf)

    @cached_property
    def slots(self) -> int:
        """Count the slots."""
        return int(self.slot.max()) + 1

    @cached_property
    def first_child(self) -> Int:
        """Give the first child of each node and, at the end, the number of nodes, (nodes + 1,)."""
        return np.searchsorted(self.parent, np.arange(len(self) + 1)).astype(np.int64)

    @cached_property
    def level(self) -> Int:
        """Count the tokens of each prefix, (nodes,)."""
        return np.repeat(np.arange(self.length + 1), np.diff(self.levels)).astype(np.int64)

    @cached_property
    def _keys(self) -> Int:
        """Give parent * vocab_size + token of every node but the root, ascending, (nodes - 1,)."""
        return self.parent[1:] * self.vocab_size + self.token[1:]

    def children(self, node: int) -> tuple[int, int]:
        """Give the range of a node's children as (first, end)."""
        return int(self.first_child[node]), int(self.first_child[node + 1])

    @cached_property
    def settled(self) -> npt.NDArray[np.bool_]:
        """Tell below which nodes one identifier is left, (nodes,)."""
        only = np.diff(self.first_child) == 1
        found = np.zeros(len(self), dtype=np.bool_)
        found[self.levels[self.length] :] = True
        for level in range(self.length - 1, -1, -1):
            nodes = np.arange(self.levels[level], self.levels[level + 1])
            nodes = nodes[only[nodes]]
            found[nodes] = found[self.first_child[nodes]]
        return found

    def child(self, nodes: Int, tokens: Int) -> Int:
        """Find the node behind each (node, token), (n,); -1 where no identifier continues so. O(n log nodes)."""
        if len(self) == 1:
            return np.full(len(nodes), -1, dtype=np.int64)
        wanted = np.where(nodes >= 0, nodes * self.vocab_size + tokens, -1)
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        known = (self._keys[place] == wanted) & (tokens >= 0) & (tokens < self.vocab_size)
        return np.where(known, place + 1, -1)

    def paths(self, rows: Int | None = None) -> Int:
        """List the nodes from the root to the leaf of items, (rows, length + 1)."""
        leaf = self.leaf if rows is None else self.leaf[rows]
        path = np.zeros((len(leaf), self.length + 1), dtype=np.int64)
        path[:, self.length] = leaf
        for level in range(self.length - 1, 0, -1):
            path[:, level] = self.parent[path[:, level + 1]]
        return path

    def codes(self) -> Int:
        """List the identifiers of all items, (rows, length)."""
        return self.token[self.paths()[:, 1:]]

    def extend(self, codes: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> NodeTable:
        """Add items; nodes that exist keep their slots, though their numbers may move.

        Args:
            codes: Identifiers of the new rows, whole numbers, (n, length).
            groups: Which rows come together, rising, (n,): the result is that of one call for each group. By default
                all do.

        Raises:
            ShapeError: Not two-dimensional, or another number of tokens.
            IdentifierError: A token below 0, or not below `vocab_size`.

        Cost: O(nodes) copies and O(n log nodes) look-ups; nothing in Python per item.
        """
        new = self._checked(codes)
        level_parents, level_tokens, level_slots = [self.parent[:1]], [self.token[:1]], [self.slot[:1]]
        moved = np.zeros(1, dtype=np.int64)  # where the old nodes of the level above are now, counted in their level
        place = np.zeros(len(new), dtype=np.int64)  # node of each new row, counted in its level
        for level in range(1, self.length + 1):
            first, end = self.levels[level], self.levels[level + 1]
            old_keys = moved[self.parent[first:end] - self.levels[level - 1]] * self.vocab_size + self.token[first:end]
            row_keys = place * self.vocab_size + new[:, level - 1]
            keys = np.union1d(old_keys, row_keys)
            moved = np.searchsorted(keys, old_keys)
            place = np.searchsorted(keys, row_keys)
            slots = np.full(len(keys), -1, dtype=np.int64)
            slots[moved] = self.slot[first:end]
            level_parents.append(keys // self.vocab_size)
            level_tokens.append(keys % self.vocab_size)
            level_slots.append(slots)
        levels = np.zeros(self.length + 2, dtype=np.int64)
        np.cumsum([len(part) for part in level_parents], out=levels[1:])
        for level in range(1, self.length + 1):
            level_parents[level] = level_parents[level] + levels[level - 1]
        leaf = np.concatenate([moved[self.leaf - self.levels[self.length]], place]) + levels[self.length]
        parent = np.concatenate(level_parents)
        born = np.full(len(parent), -1, dtype=np.int64)  # the group that brought a node; -1 for those that were there
        slot = np.concatenate(level_slots)
        if len(new):
            born[slot < 0] = NEVER
            np.minimum.at(born, leaf[len(self.leaf) :], _checked_groups(groups, len(new)))
        slot = _with_new_slots(slot, parent, levels, born)
        return NodeTable(parent, np.concatenate(level_tokens), slot, levels, leaf, self.vocab_size)

    def slot_vectors(
        self, vectors: Float, first_slot: int = 0, first_row: int = 0, groups: npt.ArrayLike | None = None
    ) -> Float:
        """Average the item vectors below each slot from `first_slot` on.

        Args:
            vectors: Of the items from `first_row` on, (rows - first_row, dimensions). No item before `first_row` stands
                below a node whose slot is `first_slot` or later.
            groups: As given to `extend` for these items: a slot is known by the items of the group that brought it.

        Returns:
            (slots - first_slot, dimensions), float32. A slot without items is zero.
        """
        wanted = np.zeros((self.slots - first_slot, vectors.shape[1]), dtype=np.float32)
        if self.rows == first_row:
            return wanted
        nodes = self.leaf[first_row:]
        order = np.argsort(nodes, kind="stable")
        born = _checked_groups(groups, len(order))[order]
        sums, counts, nodes = vectors[order].astype(np.float64), np.ones(len(order)), nodes[order]
        for _ in range(self.length + 1):
            starts = np.flatnonzero(np.r_[True, nodes[1:] != nodes[:-1]])
            first = np.minimum.reduceat(born, starts)
            theirs = born == np.repeat(first, np.diff(np.r_[starts, len(nodes)]))
            sums, counts = sums * theirs[:, None], counts * theirs
            sums, counts, nodes = np.add.reduceat(sums, starts), np.add.reduceat(counts, starts), nodes[starts]
            born = first
            fresh = self.slot[nodes] >= first_slot
            wanted[self.slot[nodes[fresh]] - first_slot] = sums[fresh] / counts[fresh, None]
            nodes = self.parent[nodes]  # ascending again, since children are numbered in the order of their parents
        return wanted

    def _checked(self, codes: npt.ArrayLike) -> Int:
        new = np.asarray(codes)
        if new.ndim != 2 or new.shape[1] != self.length:
            raise ShapeError(f"identifiers have shape {new.shape}; the model writes (items, {self.length})")
        if len(new) and (new.min() < 0 or new.max() >= self.vocab_size):
            row = int(np.flatnonzero(((new < 0) | (new >= self.vocab_size)).any(axis=1))[0])
            raise IdentifierError(
                f"item {self.rows + row} has the identifier {new[row].tolist()}, but tokens go from 0 to "
                f"{self.vocab_size - 1}; assign identifiers with vocab_size={self.vocab_size}"
            )
        return new.astype(np.int64)


def _checked_groups(groups: npt.ArrayLike | None, count: int) -> Int:
    if groups is None:
        return np.zeros(count, dtype=np.int64)
    found = np.asarray(groups, dtype=np.int64)
    if found.shape != (count,):
        raise ShapeError(f"groups has shape {found.shape}; give one group for each of the {count} new items")
    return found


def _with_new_slots(slot: Int, parent: Int, levels: Int, born: Int) -> Int:
    """Give the nodes marked -1 a slot: that of the only child that came with them, or a fresh one.

    Args:
        slot: Of each node, -1 for new ones.
        parent: Of each node.
        levels: Where each level begins.
        born: The group that brought each new leaf; filled in here for the nodes above.
    """
    slot, only = slot.copy(), np.zeros(len(slot), dtype=np.bool_)
    new = slot < 0
    for level in range(len(levels) - 2, 0, -1):
        nodes = np.arange(levels[level], levels[level + 1])
        together = nodes[new[nodes] & new[parent[nodes]]]
        np.minimum.at(born, parent[together], born[together])
    together = np.flatnonzero(new & (born == born[parent]))
    only[new] = np.bincount(parent[together], minlength=len(slot))[new] == 1
    depth = np.repeat(np.arange(len(levels) - 1), np.diff(levels))
    own = np.flatnonzero(new & ~only)
    own = own[np.lexsort((own, -depth[own], born[own]))]
    slot[own] = np.arange(len(own)) + int(slot.max()) + 1
    children = together[only[parent[together]]][::-1]  # from the leaves up, so that a child has its slot
    for level in range(len(levels) - 2, 0, -1):
        here = children[depth[children] == level]
        slot[parent[here]] = slot[here]
    return slot
