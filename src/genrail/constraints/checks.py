"""What is refused before an index is built: tokens, offsets and settings that do not fit."""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.building import is_end_token_inside
from genrail.errors import IdentifierError, SettingsError, ShapeError

__all__ = ["check_ends", "check_offsets", "check_sizes", "checked_tokens", "row_at"]


MOST_ITEMS = 2**32 - 2
MOST_TOKENS = 2**31 - 1


def row_at(rows: Array | None, item: int) -> int:
    """Give the catalogue row of an identifier, for messages; None: the identifiers stand in the order of the rows."""
    return int(item if rows is None else rows[item])


def check_offsets(flat: Array, off: Array, rows: Array | None = None) -> None:
    """Refuse offsets that do not cut the tokens into identifiers of one token at least."""
    if flat.ndim != 1 or off.ndim != 1 or not len(off) or off[0] != 0 or off[-1] != len(flat):
        raise ShapeError(
            f"offsets must begin with 0 and end with the number of tokens ({flat.size}); "
            f"they are {off.reshape(-1)[:1].tolist()} ... {off.reshape(-1)[-1:].tolist()}"
        )
    empty = np.flatnonzero(np.diff(off) <= 0)
    if len(empty):
        raise IdentifierError(f"row {row_at(rows, empty[0])} has no tokens; every item needs an identifier")


def check_sizes(items: int, length: int, vocab_size: int, end_token: int | None, heavy: int) -> None:
    """Refuse sizes and settings that no index can have."""
    if items > MOST_ITEMS:
        raise IdentifierError(
            f"{items:,} items are more than one index can number ({MOST_ITEMS:,}); split the catalogue"
        )
    if not 1 <= vocab_size <= MOST_TOKENS:
        raise SettingsError(f"vocab_size is {vocab_size}; it must be between 1 and {MOST_TOKENS:,}")
    if heavy < 1:
        raise SettingsError(f"heavy is {heavy}; it must be 1 or more")
    if end_token is None and items and length < 1:
        raise IdentifierError("the identifiers have no tokens; give at least one level")
    if end_token is not None and not 0 <= end_token < vocab_size:
        raise SettingsError(f"end_token {end_token} is outside the vocabulary of {vocab_size}")


def checked_tokens(flat: Array, off: Array | None, length: int, vocab_size: int, rows: Array | None = None) -> Array:
    """Convert tokens to the narrowest type of the vocabulary, refusing those outside it."""
    if len(flat) and not np.issubdtype(flat.dtype, np.integer):
        raise ShapeError(f"tokens are {flat.dtype}; give integers")
    if len(flat) and (int(flat.min()) < 0 or int(flat.max()) >= vocab_size):
        place = int(np.flatnonzero((flat < 0) | (flat >= vocab_size))[0])
        item = place // length if off is None else int(np.searchsorted(off, place, side="right")) - 1
        raise IdentifierError(
            f"row {row_at(rows, item)} has token {flat[place]}, outside the vocabulary of {vocab_size}"
        )
    return np.ascontiguousarray(flat, dtype=token_type(vocab_size))


def token_type(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """Give the narrowest type that holds the tokens of a vocabulary."""
    return np.dtype(np.uint8 if vocab_size <= 2**8 else np.uint16 if vocab_size <= 2**16 else np.uint32)


def check_ends(tokens: Array, offsets: Array, end_token: int, rows: Array | None = None) -> None:
    """Refuse identifiers that do not end with the end token, or hold it elsewhere."""
    item = int(is_end_token_inside(tokens, offsets, end_token))
    if item >= 0:
        written = tokens[int(offsets[item]) : int(offsets[item + 1])].tolist()[:20]
        raise IdentifierError(
            f"row {row_at(rows, item)} is {written}: the end token "
            f"{end_token} must be the last token of every identifier and occur nowhere else"
        )
