"""Lay identifiers out as the arrays of a trie: checked, sorted, and with the children of heavy prefixes listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from genrail.arrays import Array
from genrail.constraints.building import Edges, first_unsorted, gather_rows, heavy_edges, sort_identifiers
from genrail.constraints.checks import check_ends, check_sizes, checked_tokens
from genrail.constraints.owners import Owners
from genrail.errors import IdentifierError

__all__ = ["Layout", "flatten", "lay_out", "with_children"]


class Layout(NamedTuple):
    """Hold the arrays of a trie; see there.

    Args:
        rows: Tokens in the order of ranks.
        off: Where each rank begins.
        owners: Catalogue row of each rank.
        edges: Children of heavy prefixes.
        length: Tokens of an identifier; 0 when they are ragged.
    """

    rows: Array
    off: Array
    owners: Owners
    edges: Edges
    length: int


def flatten(sequences: Sequence[Sequence[int]] | Array, end_token: int | None) -> tuple[Array, Array]:
    """Turn sequences into (tokens, offsets), appending the end token where one does not end with it."""
    if isinstance(sequences, np.ndarray) and sequences.ndim == 2 and end_token is None:
        return sequences.reshape(-1), np.arange(len(sequences) + 1) * sequences.shape[1]
    lists = [list(sequence) for sequence in sequences]
    if end_token is not None:
        lists = [tokens if tokens[-1:] == [end_token] else [*tokens, end_token] for tokens in lists]
    offsets = np.cumsum([0, *map(len, lists)])
    return np.array([token for tokens in lists for token in tokens], dtype=np.int64), offsets


def lay_out(
    flat: Array,
    off: Array | None,
    length: int,
    rows: Array | None,
    items: int,
    vocab_size: int,
    end_token: int | None,
    heavy: int,
    row_count: int,
) -> Layout:
    """Check, sort, gather, and list the children of heavy prefixes.

    Args:
        flat: All tokens.
        off: Where each identifier begins; None when all have `length` tokens.
        length: See `off`.
        rows: Catalogue row of each identifier, rising, perhaps with repetitions; None: 0, 1, 2, ...
        items: How many identifiers there are.
        vocab_size: Above every token.
        end_token: Last token of ragged identifiers.
        heavy: See `Trie`.
        row_count: Catalogue rows that are numbered.
    """
    check_sizes(items, length, vocab_size, end_token, heavy)
    tokens = checked_tokens(flat, off, length, vocab_size, rows)
    # one type of offsets for all but the largest catalogues: kernels are compiled per type
    off_type = np.uint32 if len(tokens) < 2**32 else np.uint64
    offsets = np.zeros(0, dtype=off_type) if off is None else off.astype(off_type)
    if off is not None and end_token is not None:
        check_ends(tokens, offsets, end_token, rows)
    longest = length if off is None else int(np.diff(off).max(initial=0))
    order = sort_identifiers(tokens, offsets, length, longest, items, vocab_size)
    sorted_rows = np.empty(len(tokens), dtype=tokens.dtype)
    sorted_off = np.zeros(len(offsets), dtype=off_type)
    gather_rows(tokens, offsets, length, order, sorted_rows, sorted_off)
    several = rows is not None and bool(np.any(rows[1:] == rows[:-1]))
    if rows is not None:
        order = rows[order].astype(np.uint32)
    if several and (twice := int(first_unsorted(sorted_rows, sorted_off, length, order))) >= 0:
        raise IdentifierError(f"row {order[twice]} has the same identifier twice; give each of its identifiers once")
    return with_children(sorted_rows, sorted_off, Owners(order, row_count, several), length, heavy)


def with_children(rows: Array, off: Array, owners: Owners, length: int, heavy: int) -> Layout:
    """List the children of heavy prefixes of rows that are sorted already."""
    edges = heavy_edges(rows, off, length, len(owners), heavy)
    for array in (rows, off, owners.order, edges.tok, edges.start, edges.first, edges.level):
        array.setflags(write=False)
    return Layout(rows, off, owners, edges, length)
