"""Schemes by name: from a catalogue and what is known of its items to frozen codebooks and identifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from genrail.identifiers.quantizer import Float, Quantizer, ReadsItems, quantizer_named, quantizer_type
from genrail.identifiers.semantic_ids import SemanticIds
from genrail.rng import generator

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.identifiers.table import IdentifierTable

__all__ = ["SCHEME", "codebook_size", "described", "identified", "reads_items", "spelled"]

SCHEME = "kmeans"  # where none is named
LARGEST = 256  # of a codebook that is chosen by itself, as in TIGER (Rajput et al. 2023)


def codebook_size(name: str, items: int) -> int:
    """Choose the size of a codebook for so many items: 256, or a quarter of the items where there are fewer than 1,024.

    A quantizer that can have only certain sizes, or counts otherwise, says so by ``codebook(items)``.

    >>> codebook_size("kmeans", 5000), codebook_size("kmeans", 40), codebook_size("lsh", 40)
    (256, 10, 8)
    """
    own = getattr(quantizer_type(name), "codebook", None)
    return int(own(items)) if own is not None else max(1, min(LARGEST, items // 4))


def identified(
    name: str, catalog: Catalog, vectors: Callable[[], Float], levels: int, codes: int | None, seed: int
) -> tuple[SemanticIds, IdentifierTable]:
    """Freeze codebooks on the live items, and give every row an identifier.

    Args:
        name: Of the quantizer.
        catalog: The items.
        vectors: Makes what is known of each row, shape (rows, dimensions); not called where items are read themselves.
        levels: Codes of an identifier, without the one that tells duplicates apart.
        codes: Size of a codebook; None to let it be chosen.
        seed: Of the codebooks, and of the order between items with the same codes.

    Raises:
        SettingsError: No such quantizer, or settings out of its range.
    """
    live = int(catalog.live.sum())
    quantizer = quantizer_named(name, levels, codes if codes is not None else codebook_size(name, live), seed)
    if isinstance(quantizer, ReadsItems):
        fitted: Quantizer = quantizer.fit_items(catalog)
        known = quantizer.describe_items(catalog)
    else:
        known = vectors()
        fitted = quantizer.fit(known[catalog.live])
    ids = SemanticIds(fitted)
    order = generator(seed, "de-duplicating codes").permutation(len(catalog))
    return ids, ids.assign(known, order=order)


def reads_items(ids: SemanticIds) -> bool:
    """Tell whether codes are read off the items themselves, so that their texts need no vectors."""
    return isinstance(ids.quantizer, ReadsItems)


def described(ids: SemanticIds, items: Catalog, vectors: Callable[[], Float]) -> Float:
    """Give what codes of later items are made from: their vectors, or the items themselves."""
    return ids.quantizer.describe_items(items) if isinstance(ids.quantizer, ReadsItems) else vectors()


def spelled(ids: SemanticIds, prefix: Sequence[int], catalog: Catalog, table: IdentifierTable) -> str:
    """Say what the beginning of an identifier stands for: words where codes are words, else an item below it."""
    if isinstance(ids.quantizer, ReadsItems):
        return ids.quantizer.spell(prefix)
    below = (table.matrix()[:, : len(prefix)] == np.asarray(prefix)).all(axis=1) & catalog.live
    return f"e.g. {catalog.titles[int(below.argmax())]}" if below.any() else ""
