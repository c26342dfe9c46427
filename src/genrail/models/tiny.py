"""A text encoder without weights: for tests, and where no checkpoint is at hand."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError

__all__ = ["HashingEncoder"]

VERSION = 1  # of the recipe below; part of the fingerprint
SHORTEST, LONGEST = 3, 5


class HashingEncoder:
    """Turn texts into vectors by hashing their character n-grams (3 to 5) and words; no weights, no torch.

    Texts that share spelling come near each other; meaning is out of its reach. Deterministic everywhere: the hash is
    CRC-32.

    Args:
        dimensions: Width of the vectors.

    Raises:
        SettingsError: `dimensions` below 1.

    Cost: O(characters).
    Source: Weinberger et al. 2009 (signed feature hashing); Bojanowski et al. 2017 (character n-grams with word
        borders).

    >>> shoe, shoes, kettle = HashingEncoder().encode(["red shoe", "red shoes", "steel kettle"])
    >>> bool(shoe @ shoes > 0.6 > shoe @ kettle)
    True
    """

    def __init__(self, dimensions: int = 128) -> None:
        if isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1:
            raise SettingsError(f"dimensions is {dimensions!r}; give an integer of 1 or more")
        self.dimensions = dimensions

    @property
    def name(self) -> str:
        """Say what this is, for tables."""
        return f"hashing-{self.dimensions}"

    @property
    def fingerprint(self) -> str:
        """Identify recipe and width."""
        return f"{self.name}-v{VERSION}"

    def encode(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Give one vector per text, float32, shape (n, dimensions), L2-normalised.

        Args:
            texts: Strings; an empty one has a vector as well.
            progress: Called with (texts done, all texts) now and then, and at the end.
        """
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._vector(text)
            if progress and (row % 1000 == 999 or row + 1 == len(texts)):
                progress(row + 1, len(texts))
        return vectors

    def _vector(self, text: str) -> npt.NDArray[np.float64]:
        hashes = np.fromiter((zlib.crc32(gram.encode("utf-8", "surrogatepass")) for gram in _grams(text)), np.int64)
        signs = np.where(hashes >> 31 & 1, 1.0, -1.0)
        vector = np.bincount(hashes % self.dimensions, weights=signs, minlength=self.dimensions)
        if not vector.any():  # all signs cancelled, or one dimension only
            vector[int(hashes[0]) % self.dimensions] = 1
        normalised: npt.NDArray[np.float64] = vector / np.linalg.norm(vector)
        return normalised


def _grams(text: str) -> list[str]:
    grams = []
    for word in text.lower().split() or [""]:
        bordered = f"<{word}>"
        grams.append(bordered)
        for length in range(SHORTEST, LONGEST + 1):
            grams += [bordered[start : start + length] for start in range(len(bordered) - length + 1)]
    return grams
