"""Record a search by branchings as people follow it: token by token, with what calibration took off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from genrail.constraints.compressed import CompressedTrie
from genrail.decoding.trace import DecodeTrace, TracedBeam, TracedStep

__all__ = ["RailsRecorder"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]
Prefix = tuple[int, ...]


class RailsRecorder:
    """Write the steps of one query into a trace.

    Args:
        trie: The identifiers.
        trace: Filled by `step`.
        rows: Catalogue rows that are allowed; None for all.
    """

    def __init__(self, trie: CompressedTrie, trace: DecodeTrace, rows: Int | None) -> None:
        self.trace = trace
        self._trie = trie
        counts = np.diff(trie.row_offsets)
        if rows is not None:
            mask = np.zeros(int(max(trie.rows.max(initial=-1), rows.max(initial=-1))) + 1, dtype=np.bool_)
            mask[rows] = True
            counts = np.add.reduceat(mask[trie.rows].astype(np.int64), trie.row_offsets[:-1])
        self._before = np.concatenate([[0], np.cumsum(counts)])  # allowed items before each identifier

    def forced(self, edge: int, depth: int, log_probability: float, score: float, step: float) -> TracedBeam:
        """Tell of a beam that has one way on."""
        low, high = self._span(edge)
        token = self._trie.tokens[self._trie.offsets[low] + depth : self._trie.offsets[low] + depth + 1]
        removed = float(np.clip(1.0 - np.exp(step), 0.0, 1.0))
        value = np.array([step])
        return TracedBeam(
            self.prefix(edge, depth), log_probability, token, self._items([low], [high]), value, removed, score + value
        )

    def branching(
        self, edge: int, depth: int, log_probability: float, edges: Int, values: Float, scores: Float
    ) -> TracedBeam:
        """Tell of a beam before a branching: its edges, their log-probabilities, and what they are ranked by."""
        items = self._items(self._trie.edge_low[edges], self._trie.edge_high[edges])
        removed = float(np.clip(1.0 - np.exp(values).sum(), 0.0, 1.0))
        tokens = self._trie.edge_token[edges]
        return TracedBeam(self.prefix(edge, depth), log_probability, tokens, items, values, removed, scores)

    def step(self, beams: Sequence[TracedBeam], kept: Sequence[Prefix]) -> None:
        """Close a step: the beams that went in, and the prefixes that live on."""
        parents = {prefix[:-1] for prefix in kept}
        died = tuple(beam.prefix for beam in beams if beam.prefix not in parents)
        self.trace.steps.append(TracedStep(tuple(beams), tuple(kept), died))

    def prefix(self, edge: int, depth: int) -> Prefix:
        """Give the first tokens of the identifiers below an edge; below -1 are all."""
        begin = self._trie.offsets[self._span(edge)[0]]
        return tuple(self._trie.tokens[begin : begin + depth].tolist())

    def _span(self, edge: int) -> tuple[int, int]:
        return (int(self._trie.edge_low[edge]), int(self._trie.edge_high[edge])) if edge >= 0 else (0, len(self._trie))

    def _items(self, low: Any, high: Any) -> Int:
        found: Int = self._before[high] - self._before[low]
        return found
