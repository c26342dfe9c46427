"""Compile the kernels before the first request, and say so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import get_args

import numpy as np

from genrail.constraints.checks import token_type
from genrail.constraints.compiled import COMPILES
from genrail.constraints.index import ScoreMeaning
from genrail.constraints.kernels import best_continuations
from genrail.constraints.merging import best_of_two
from genrail.constraints.segments import LiveTrie
from genrail.constraints.substring import SubstringIndex
from genrail.constraints.trie import Trie

__all__ = ["is_warm", "warm_up", "warm_up_substring"]

_WIDTHS = {8: 1 << 8, 16: 1 << 16, 32: 1 << 17}  # bits of a stored token: a vocabulary that needs them
STEPS = 6  # parts of `_exercise`


def warm_up(
    report: Callable[[str], None] | None = None,
    vocab_size: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> float:
    """Compile every kernel of the step, or read it from the cache of an earlier process.

    Args:
        report: Told in one sentence what is being done, and when it is over; for a progress line.
        vocab_size: Only for tries of this vocabulary; None for all three widths of tokens, and for the substring index.
        progress: Called with (stage, parts done, all parts) as it goes; for a progress bar.

    Returns:
        Seconds it took: about half a minute per width on the first use on a machine, below one afterwards.

    >>> seconds = warm_up(vocab_size=100)
    """
    began = time.perf_counter()
    for bits in _widths(vocab_size):
        stage = f"kernels for {bits}-bit tokens"
        if report is not None:
            report(f"preparing the constraint kernels for {bits}-bit tokens (compiled once per machine, then cached)")
        for done, _ in enumerate(_exercise(_WIDTHS[bits])):
            if progress is not None:
                progress(stage, done, STEPS)
        if progress is not None:
            progress(stage, STEPS, STEPS)
    if vocab_size is None:
        warm_up_substring(progress)
    seconds = time.perf_counter() - began
    if report is not None:
        report(f"the constraint kernels are ready after {seconds:.1f} s")
    return seconds


def is_warm(vocab_size: int | None = None) -> bool:
    """Tell whether the kernels of a step were compiled on this machine before, in this process or an earlier one.

    True without numba, too: there is nothing to compile.

    Args:
        vocab_size: See `warm_up`.

    Cost: the read of two small files; nothing is compiled and no machine code is loaded.

    >>> seconds = warm_up(vocab_size=100)
    >>> is_warm(vocab_size=100)
    True
    """
    return not COMPILES or all(
        _knows(kernel, bits) for kernel in (best_continuations, best_of_two) for bits in _widths(vocab_size)
    )


def _knows(kernel: Callable[..., object], bits: int) -> bool:
    """Tell whether a kernel has machine code for rows of this width: its first argument, or that of the first part."""
    stored = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    forms = list(getattr(kernel, "signatures", ()))
    if stored is not None:
        forms += [key[0] for key in stored._load_index()]
    return any(f"uint{bits}" in str(form[0]).split(",")[0] for form in forms)


def _widths(vocab_size: int | None) -> list[int]:
    """List the widths of stored tokens, in bits: the one of a vocabulary, or all."""
    return list(_WIDTHS) if vocab_size is None else [token_type(vocab_size).itemsize * 8]


def _exercise(vocab_size: int) -> Iterator[None]:
    """Call every kernel once, on an index of two items and on one that changed; a pause before each part."""
    yield
    trie = Trie.from_flat([1, 2, 0, 1, 0], [0, 3, 5], vocab_size, end_token=0, heavy=1)
    yield
    _step(trie)
    yield
    live = LiveTrie(trie).add([[1, 3]]).remove([1])
    yield
    _step(live)
    yield
    live.compact()
    yield
    trie.subset_by_rank(np.array([True, False]))


def _step(index: Trie | LiveTrie) -> None:
    logits = np.zeros((1, index.vocab_size), dtype=np.float32)
    found = index.candidates(index.start(1), logits, np.zeros((1, 1)), 2, subsets=[index.only([0])])
    state = index.advance(found, np.zeros((1, 1), dtype=np.int64)).states[0, 0]
    index.items(state, index.subset(np.arange(index.row_count) < 1))
    index.children(state)
    index.tails(state[None])


def warm_up_substring(progress: Callable[[str, int, int], None] | None = None) -> None:
    """Compile every kernel of the substring index, or read it from the cache of an earlier process.

    Args:
        progress: Called with (stage, parts done, all parts); for a progress bar.

    Cost: a minute on the first use on a machine, well below a second afterwards.

    >>> warm_up_substring()
    """
    if progress is not None:
        progress("kernels for n-grams", 0, 1)
    index = SubstringIndex.from_sequences([[1, 2, 3], [1, 2]], vocab_size=8, frequent=1).add([[1, 3]]).remove([1])
    subsets = [index.subset(np.arange(index.row_count) < 1)]
    logits = np.zeros((1, index.vocab_size), dtype=np.float32)
    for meaning in get_args(ScoreMeaning):
        index.candidates(index.start(1), logits, np.zeros((1, 1)), 2, subsets, meaning)
    state = index.find([1])
    index.items(state, index.without([0], index.only([0])))
    index.children(state)
    index.locate(state)
    index.compact()
    if progress is not None:
        progress("kernels for n-grams", 1, 1)
