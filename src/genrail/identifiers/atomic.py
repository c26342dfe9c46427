"""Atomic identifiers: one code for each item, of whatever its text is like."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.identifiers.codebooks import Codebooks, vectors_to_fit
from genrail.identifiers.kmeans import nearest
from genrail.identifiers.quantizer import Codes, Float, check_codes, check_settings, checked_vectors

__all__ = ["AtomicCodes"]


class AtomicCodes(Codebooks):
    """Give every item a code of its own; a quarter more codes than items are kept for those that come later.

    An identifier is then one choice among all items, and nothing is lost by choosing the beginning of one first. What
    it costs is width: the model looks at every item, and the codebook is the items' vectors. For some ten thousand
    items; above, codes that several items share (`kmeans`) are what keeps a step small.

    Items with equal vectors share a code, and later ones share that of the nearest where no code is left.

    Args:
        levels: One is all there is, however many are allowed.
        codes: As many as there are different vectors, and those that later ones get.
        seed: Nothing is drawn.

    Raises:
        SettingsError: A setting below its range.

    Cost: assign O(n * codes * dimensions).
    Source: Tay et al. 2022 (DSI), unstructured atomic identifiers.

    >>> vectors = np.eye(4, dtype=np.float32)
    >>> AtomicCodes(codes=4).fit(vectors).assign(vectors)[:, 0].tolist()
    [0, 1, 2, 3]
    """

    on_disk = "genrail.atomic_codes"
    described = "atomic codes"
    settings = ("levels", "codes", "seed")

    def __init__(self, levels: int = 1, codes: int = 256, seed: int = 0) -> None:
        super().__init__()
        check_settings(levels=(levels, 1), codes=(codes, 1), seed=(seed, 0))
        self.levels, self.codes, self.seed = 1, codes, seed

    @staticmethod
    def codebook(items: int) -> int:
        """Give each item a code, and leave some for later ones."""
        return items + max(64, items // 4)

    @property
    def dimensions(self) -> int:
        """Give the width of the vectors it was fitted on."""
        return int(self._fitted()["items"].shape[1])

    def fit(self, vectors: npt.ArrayLike) -> Self:
        """Remember the vectors, and return the quantizer itself.

        Raises:
            IdentifierError: No vectors at all, or a vector with NaN or infinity.
            SettingsError: More different vectors than codes.
            ShapeError: Not two-dimensional.
        """
        given = vectors_to_fit(vectors)
        _, first = np.unique(given, axis=0, return_index=True)
        if len(first) > self.codes:
            raise SettingsError(
                f"codes is {self.codes}, but atomic identifiers have one for each of {len(first)} different items; "
                "leave codes out"
            )
        self._set({"items": given[np.sort(first)]})
        return self

    def assign(self, vectors: npt.ArrayLike) -> Codes:
        """Find the nearest code of vectors, int64, shape (n, 1).

        Raises:
            IdentifierError: Not fitted yet, or a vector with NaN or infinity.
            ShapeError: Vectors of another width than those of `fit`.
        """
        return nearest(checked_vectors(vectors, self.dimensions), self._fitted()["items"])[:, None]

    def assign_later(self, vectors: npt.ArrayLike, taken: Codes) -> Codes:
        """Find codes of items that came after `fit`, shape (n, 1): the next that nobody has.

        Args:
            vectors: Of the items, (n, dimensions).
            taken: Codes of the items before, (rows, 1).
        """
        checked = checked_vectors(vectors, self.dimensions)
        codes = self.assign(checked)
        new = (self._fitted()["items"][codes[:, 0]] != checked).any(axis=1)
        first = max(len(self._fitted()["items"]), int(taken.max(initial=-1)) + 1)
        places = np.flatnonzero(new)[: max(0, self.codes - first)]
        codes[places, 0] = first + np.arange(len(places))
        return codes

    def decode(self, codes: npt.ArrayLike) -> Float:
        """Give the vectors of codes of shape (n, 1); float32, shape (n, dimensions)."""
        items = self._fitted()["items"]
        found: Float = items[check_codes(codes, self.levels, len(items))[:, 0]]
        return found

    def _expected(self) -> dict[str, tuple[int, ...]]:
        count = len(self._fitted()["items"])
        return {"items": (min(count, self.codes), self.dimensions)}
