"""A trie with one node per branching: runs of tokens that are the only way on are edges, however long they are.

Where decisions cost a call of a model, only branchings cost: a title of 18 tokens has three or four.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.index import ConstraintIndex
from genrail.constraints.segments import LiveTrie
from genrail.constraints.step import NanNotice
from genrail.constraints.trie import Trie
from genrail.errors import ShapeError, StateError

__all__ = ["CompressedTrie", "compressed"]

Int = npt.NDArray[np.int64]

ROOT = 0


@dataclass(frozen=True, eq=False)
class CompressedTrie:
    """Hold the branchings of a trie.

    Identifiers are numbered in the order of their tokens, equal ones together; `n` of them are distinct. A node is a
    prefix behind which two or more tokens may follow; node 0 is the first branching. Each edge is a token and the run
    that must follow it, up to the next branching or to the end of an identifier. Removed items are not in it.

    Args:
        tokens: Of the distinct identifiers, one after the other, int64.
        offsets: Where each begins, (n + 1,).
        rows: Catalogue rows, by identifier, int64, (items,).
        row_offsets: Where the rows of each identifier begin, (n + 1,).
        low: First identifier below each node, (nodes,).
        high: One behind the last, (nodes,).
        depth: Tokens before each node's branching, (nodes,).
        first_edge: First edge of each node, (nodes + 1,).
        edge_token: Token of each edge, ascending within a node, (edges,).
        edge_low: First identifier below each edge, (edges,).
        edge_node: Node at the end of each edge, -1 where an identifier ends, (edges,).

    Source: Morrison 1968, PATRICIA; as arrays, the tree of intervals of common prefixes (Abouelhoda et al. 2004).

    >>> trie = compressed(Trie.from_sequences([[5, 7, 1, 2], [5, 7, 3, 4], [5, 7, 3, 6]], vocab_size=10))
    >>> trie.depth.tolist(), trie.children(0).tolist(), trie.run(0).tolist(), trie.run(1).tolist()
    ([2, 3], [1, 3], [1, 2], [3])
    """

    tokens: Int
    offsets: Int
    rows: Int
    row_offsets: Int
    low: Int
    high: Int
    depth: Int
    first_edge: Int
    edge_token: Int
    edge_low: Int
    edge_node: Int
    notice: NanNotice = field(default_factory=NanNotice, repr=False)  # of those who compute its branchings' logits

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Count the bytes of all arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def children(self, node: int) -> Int:
        """List the tokens that may follow a node, ascending."""
        return self.edge_token[self.first_edge[node] : self.first_edge[node + 1]]

    @cached_property
    def edge_high(self) -> Int:
        """Give one behind the last identifier below each edge, (edges,)."""
        ends = np.append(self.edge_low, 0)[1:]  # of no edge, none
        ends[self.first_edge[1:] - 1] = self.high
        return ends

    @cached_property
    def edge_parent(self) -> Int:
        """Give the node at the beginning of each edge, (edges,)."""
        return np.repeat(np.arange(len(self.depth)), np.diff(self.first_edge))

    @cached_property
    def edge_end(self) -> Int:
        """Count the tokens before the end of each edge, (edges,)."""
        lengths = np.diff(self.offsets)[self.edge_low]
        return np.where(self.edge_node >= 0, self.depth[np.maximum(self.edge_node, 0)], lengths)

    def run(self, edge: int) -> Int:
        """Give the tokens of an edge: the one chosen at its node, and those that follow it of necessity."""
        begin = self.offsets[self.edge_low[edge]]
        return self.tokens[begin + self.depth[self.edge_parent[edge]] : begin + self.edge_end[edge]]

    @property
    def beginning(self) -> Int:
        """Give the tokens with which all identifiers begin, before the first branching; one identifier: all of it."""
        return self.tokens[: self.depth[ROOT]] if len(self.depth) else self.tokens

    def sequence(self, identifier: int) -> Int:
        """Give the tokens of an identifier."""
        return self.tokens[self.offsets[identifier] : self.offsets[identifier + 1]]

    def rows_of(self, identifier: int) -> Int:
        """List the catalogue rows of an identifier, ascending."""
        return self.rows[self.row_offsets[identifier] : self.row_offsets[identifier + 1]]

    def allowed(self, rows: Int) -> Int:
        """Count the identifiers before each one that lead to an allowed row, (n + 1,).

        So `counts[high] > counts[low]` tells whether anything allowed lies below a node or an edge.

        Args:
            rows: Allowed catalogue rows.
        """
        mask = np.zeros(int(max(self.rows.max(initial=-1), rows.max(initial=-1))) + 1, dtype=np.bool_)
        mask[rows] = True
        owners = np.repeat(np.arange(len(self)), np.diff(self.row_offsets))
        some = np.zeros(len(self), dtype=np.int64)
        some[owners[mask[self.rows]]] = 1
        return np.concatenate([[0], np.cumsum(some)])

    def spread(self, on_edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add up a value of each edge along the way to each identifier, (n,)."""
        if on_edges.shape != self.edge_token.shape:
            raise ShapeError(f"{len(on_edges)} values for {len(self.edge_token)} edges; give one for each")
        if np.isfinite(on_edges).all():
            changes = np.zeros(len(self) + 1)
            np.add.at(changes, self.edge_low, on_edges)
            np.subtract.at(changes, self.edge_high, on_edges)
            return np.cumsum(changes)[:-1]
        sums = np.zeros(len(self))
        for low, high, value in zip(self.edge_low, self.edge_high, on_edges, strict=True):
            sums[low:high] += value
        return sums


def compressed(index: ConstraintIndex) -> CompressedTrie:
    """Compress an index; made once for each, and kept with it.

    Raises:
        StateError: Not a `Trie` or `LiveTrie`.

    Cost: passes over all tokens, about a microsecond for each of them.
    """
    if not isinstance(index, Trie | LiveTrie):
        raise StateError(f"{type(index).__name__} has no tokens to compress; give a Trie or LiveTrie")
    found: CompressedTrie | None = index.__dict__.get("_compressed")
    if found is None:
        found = _compress(_merged(index))
        index.__dict__["_compressed"] = found  # as `cached_property` does: an index is a value
    return found


def _merged(index: Trie | LiveTrie) -> Trie:
    if isinstance(index, Trie):
        return index
    return index.compact() if len(index.new.order) else index.old


def _compress(trie: Trie) -> CompressedTrie:
    ranks = trie.universe.everything.ranks().astype(np.int64)
    if trie.end_token is None:
        begin, lengths = ranks * trie.length, np.full(len(ranks), trie.length, dtype=np.int64)
    else:
        begin = trie.off[ranks].astype(np.int64)
        lengths = trie.off[ranks + 1].astype(np.int64) - begin
    common = _common_prefixes(trie.rows, begin, lengths)
    first = np.flatnonzero(common < lengths) if len(ranks) else ranks  # of equal identifiers the first
    row_offsets = np.append(first, len(ranks))
    owner = np.repeat(np.arange(len(first)), np.diff(row_offsets))
    catalog_rows = trie.order[ranks].astype(np.int64)
    catalog_rows = catalog_rows[np.lexsort((catalog_rows, owner))]
    offsets = np.concatenate([[0], np.cumsum(lengths[first])])
    places = np.repeat(begin[first] - offsets[:-1], lengths[first]) + np.arange(offsets[-1])
    tokens = trie.rows[places].astype(np.int64)
    low, high, depth, first_edge, edge_token, edge_low, edge_node = _branchings(tokens, offsets, common[first])
    return CompressedTrie(
        tokens,
        offsets,
        catalog_rows,
        row_offsets,
        low,
        high,
        depth,
        first_edge,
        edge_token,
        edge_low,
        edge_node,
    )


def _common_prefixes(tokens: Array, begin: Int, lengths: Int) -> Int:
    """Count the tokens that each identifier has in common with the one before it; 0 for the first."""
    common = np.zeros(len(begin), dtype=np.int64)
    going = np.arange(1, len(begin))
    shorter = np.minimum(lengths[1:], lengths[:-1])
    depth = 0
    while len(going):
        going = going[shorter[going - 1] > depth]
        going = going[tokens[begin[going] + depth] == tokens[begin[going - 1] + depth]]
        depth += 1
        common[going] = depth
    return common


def _branchings(tokens: Int, offsets: Int, common: Int) -> tuple[Int, ...]:
    """Find all nodes, level of branchings by level: (low, high, depth, first_edge, edge_token, edge_low, edge_node)."""
    nothing = np.zeros(0, dtype=np.int64)
    low, high = (np.array([0]), np.array([len(common)])) if len(common) > 1 else (nothing, nothing)
    levels: list[tuple[Int, ...]] = []
    nodes = 0
    while len(low):
        inner = np.arange(len(low)).repeat(high - low - 1)  # node of each place between two neighbours
        starts = np.concatenate([[0], np.cumsum(high - low - 1)[:-1]])
        between = np.arange(len(inner)) - starts[inner] + low[inner] + 1
        depth = np.minimum.reduceat(common[between], starts)
        splits = common[between] == depth[inner]
        owner = np.concatenate([np.arange(len(low)), inner[splits]])
        edge_low = np.concatenate([low, between[splits]])
        order = np.argsort(edge_low, kind="stable")
        owner, edge_low = owner[order], edge_low[order]
        ends = np.concatenate([edge_low[1:], [0]])
        edges = np.bincount(owner, minlength=len(low))
        ends[np.cumsum(edges) - 1] = high
        goes_on = ends - edge_low > 1
        nodes += len(low)
        edge_node = np.where(goes_on, nodes + np.cumsum(goes_on) - 1, -1)
        levels.append((low, high, depth, edges, tokens[offsets[edge_low] + depth[owner]], edge_low, edge_node))
        low, high = edge_low[goes_on], ends[goes_on]
    if not levels:
        return nothing, nothing, nothing, np.zeros(1, dtype=np.int64), nothing, nothing, nothing
    low, high, depth, edges, *others = (np.concatenate(column) for column in zip(*levels, strict=True))
    return low, high, depth, np.concatenate([[0], np.cumsum(edges)]), *others
