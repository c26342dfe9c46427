"""Masks for foreign loops: which tokens may follow the tokens written so far, dense or packed, from the tokens alone.

No state is carried from call to call: each prefix is walked from the root, one binary search per token. Exact, but a
mask is as wide as the vocabulary; `Trie.candidates` does without.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.bits import lower_bound
from genrail.constraints.children import has_children, token_at, write_state
from genrail.constraints.compiled import Arrays, Number, compiled
from genrail.constraints.index import Subset
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.errors import ShapeError

__all__ = ["bitmask", "boolean_mask", "state_of"]

Prefixes = Sequence[Sequence[int]] | npt.NDArray[np.int64]


@compiled
def _rank_of_token(segment: Arrays, lo: Number, hi: Number, depth: Number, token: Number) -> Number:
    """Find the first rank in [lo, hi), which share `depth` tokens, whose next token is not below `token`."""
    while lo < hi:
        middle = (lo + hi) >> 1
        if token_at(segment, middle, depth) < token:
            lo = middle + 1
        else:
            hi = middle
    return lo


@compiled
def _descend(segment: Arrays, prefix: Array, state: Array) -> bool:
    """Walk from the state, which becomes that of the prefix; False when no item begins with it."""
    for depth in range(prefix.size):
        token = prefix[depth]
        if not has_children(segment, state):
            return False
        edge: Number = np.int64(-1)
        if state[2] >= 0:
            c0, c1 = state[2], state[3]
            edge = c0 + lower_bound(segment[3][c0:c1], token)
            if edge == c1 or np.int64(segment[3][edge]) != token:
                return False
            lo: Number = np.int64(segment[4][edge])
            hi = state[1] if edge + 1 == c1 else np.int64(segment[4][edge + 1])
        else:
            lo = _rank_of_token(segment, state[0], state[1], depth, token)
            hi = _rank_of_token(segment, lo, state[1], depth, token + 1)
            if lo == hi:
                return False
        write_state(segment, lo, hi, edge, depth + 1, state)
    return True


def state_of(index: Trie | LiveTrie, prefix: Sequence[int] | npt.NDArray[np.int64]) -> Array | None:
    """Find the state behind the tokens written so far; None when no item, live or removed, begins with them.

    >>> trie = Trie.from_sequences([[5, 7], [5, 8]], vocab_size=10)
    >>> trie.items(state_of(trie, [5])), state_of(trie, [6])
    (array([0, 1]), None)
    """
    tokens = np.array(prefix, dtype=np.int64)
    if tokens.ndim != 1:
        raise ShapeError(f"a prefix has shape {tokens.shape}; give one list of tokens")
    parts = (index,) if isinstance(index, Trie) else (index.old, index.new)
    states = []
    for part in parts:
        state = part.root.copy()
        if not _descend(part.segment, tokens, state):
            state[:] = 0, 0, -1, len(tokens)
        states.append(state)
    found = np.concatenate(states)
    return found if any(state[0] < state[1] for state in states) else None


def _following(
    index: Trie | LiveTrie, prefixes: Prefixes, subsets: Sequence[Subset | None] | None, end_token: int | None
) -> list[Array]:
    """List the tokens that may follow each prefix."""
    if subsets is not None and len(subsets) != len(prefixes):
        raise ShapeError(f"{len(subsets)} subsets for {len(prefixes)} prefixes; give one (or None) per prefix")
    lists = []
    for row, prefix in enumerate(prefixes):
        state = state_of(index, prefix)
        subset = subsets[row] if subsets is not None else None
        tokens = np.zeros(0, dtype=np.int64)
        if state is not None:
            tokens, _ = index.children(state, subset)
            if not len(tokens) and end_token is not None and _is_complete(index, state, subset):
                tokens = np.array([end_token])
        lists.append(tokens)
    return lists


def _is_complete(index: Trie | LiveTrie, state: Array, subset: Subset | None) -> bool:
    """Say whether a state behind which no child is allowed is itself an allowed item."""
    return len(index.items(state, subset)) > 0


def boolean_mask(
    index: Trie | LiveTrie,
    prefixes: Prefixes,
    subsets: Sequence[Subset | None] | None = None,
    *,
    end_token: int | None = None,
    vocab_size: int | None = None,
) -> npt.NDArray[np.bool_]:
    """Mark the tokens that may follow each prefix.

    Args:
        index: The identifiers that may be written.
        prefixes: The tokens that each row has written so far.
        subsets: Items allowed to each row, or None for all.
        end_token: Allowed behind a whole identifier, for loops that need some token there.
        vocab_size: Width of the mask where the model's head is wider than the index; the rest is False.

    Returns:
        Shape (prefixes, V). A row whose prefix begins no allowed item is False throughout.

    Raises:
        ShapeError: Another number of subsets than prefixes, or a mask narrower than the index.

    Cost: a binary search per token of a prefix, and V bytes per row.

    >>> trie = Trie.from_sequences([[5, 7], [5, 8]], vocab_size=10)
    >>> np.flatnonzero(boolean_mask(trie, [[5]])[0])
    array([7, 8])
    """
    mask = np.zeros((len(prefixes), _width(index, vocab_size, end_token)), dtype=np.bool_)
    for row, tokens in enumerate(_following(index, prefixes, subsets, end_token)):
        mask[row, tokens] = True
    return mask


def bitmask(
    index: Trie | LiveTrie,
    prefixes: Prefixes,
    subsets: Sequence[Subset | None] | None = None,
    *,
    end_token: int | None = None,
    vocab_size: int | None = None,
) -> npt.NDArray[np.int32]:
    """Pack the tokens that may follow each prefix into bits: the layout of xgrammar's token bitmask.

    Token t is bit t % 32, from the least significant, of word t // 32.

    Args:
        index: As for `boolean_mask`, and so are all the others.
        prefixes: See there.
        subsets: See there.
        end_token: See there.
        vocab_size: See there.

    Returns:
        int32, shape (prefixes, ceil(V / 32)).

    Raises:
        ShapeError: As `boolean_mask`.

    Cost: a binary search per token of a prefix, and V / 8 bytes per row.

    Source: Dong et al. 2024, XGrammar (arXiv 2411.15100), for the layout.

    >>> trie = Trie.from_sequences([[5, 7], [5, 33]], vocab_size=40)
    >>> bitmask(trie, [[5], []]).tolist()
    [[128, 2], [32, 0]]
    """
    words = (_width(index, vocab_size, end_token) + 31) // 32
    packed = np.zeros((len(prefixes), words), dtype=np.uint32)
    for row, tokens in enumerate(_following(index, prefixes, subsets, end_token)):
        np.bitwise_or.at(packed[row], tokens >> 5, np.uint32(1) << (tokens & 31).astype(np.uint32))
    return packed.view(np.int32)


def _width(index: Trie | LiveTrie, vocab_size: int | None, end_token: int | None) -> int:
    width = index.vocab_size if vocab_size is None else vocab_size
    if width < index.vocab_size:
        raise ShapeError(f"a mask of {width} tokens is narrower than the index, which has {index.vocab_size}")
    if end_token is not None and not 0 <= end_token < width:
        raise ShapeError(f"end_token {end_token} is outside a mask of {width} tokens; pass the model's vocab_size")
    return width
