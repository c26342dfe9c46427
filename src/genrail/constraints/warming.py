"""Compile the kernels before the first request, and say so."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie

__all__ = ["warm_up"]

_WIDTHS = {8: 1 << 8, 16: 1 << 16, 32: 1 << 17}  # bits of a stored token: a vocabulary that needs them


def warm_up(report: Callable[[str], None] | None = None, vocab_size: int | None = None) -> float:
    """Compile every kernel of the step, or read it from the cache of an earlier process.

    Args:
        report: Told in one sentence what is being done, and when it is over; for a progress line.
        vocab_size: Only for indexes of this vocabulary; None for all three widths of tokens.

    Returns:
        Seconds it took: tens of them on the first use on a machine, well below one afterwards.

    >>> seconds = warm_up(vocab_size=100)
    """
    began = time.perf_counter()
    for bits, largest in _WIDTHS.items():
        if vocab_size is None or (vocab_size <= largest and vocab_size * 256 > largest) or (bits == 32 < vocab_size):
            if report is not None:
                report(
                    f"preparing the constraint kernels for {bits}-bit tokens (compiled once per machine, then cached)"
                )
            _exercise(largest)
    seconds = time.perf_counter() - began
    if report is not None:
        report(f"the constraint kernels are ready after {seconds:.1f} s")
    return seconds


def _exercise(vocab_size: int) -> None:
    """Call every kernel once, on an index of two items and on one that changed."""
    trie = Trie.from_flat([1, 2, 0, 1, 0], [0, 3, 5], vocab_size, end_token=0, heavy=1)
    live = LiveTrie(trie).add([[1, 3]]).remove([1])
    for index in (trie, live):
        _step(index)
    live.compact()
    trie.subset_by_rank(np.array([True, False]))


def _step(index: Trie | LiveTrie) -> None:
    logits = np.zeros((1, index.vocab_size), dtype=np.float32)
    found = index.candidates(index.start(1), logits, np.zeros((1, 1)), 2, subsets=[index.only([0])])
    state = index.advance(found, np.zeros((1, 1), dtype=np.int64)).states[0, 0]
    index.items(state, index.subset(np.arange(index.row_count) < 1))
    index.children(state)
    index.tails(state[None])
