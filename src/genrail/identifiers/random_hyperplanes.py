"""Random hyperplanes (LSH): codes that are drawn, not learnt; what learnt codebooks are measured against."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.identifiers.codebooks import Codebooks, vectors_to_fit
from genrail.identifiers.quantizer import Codes, Float, check_codes, check_settings, checked_vectors
from genrail.rng import generator

__all__ = ["RandomHyperplanes"]


class RandomHyperplanes(Codebooks):
    """Write down on which side of random hyperplanes a vector lies, some bits to a code.

    Vectors at an angle a fall on different sides of a hyperplane with probability a / pi, so similar vectors share
    bits.
    Nothing is fitted but the point that all hyperplanes pass through, the mean, and what each code stands for when it
    is decoded. Use it as a baseline: learnt codes keep more in as many bits.

    Args:
        levels: Codes per vector.
        codes: Size of each codebook, a power of two; a code has log2 of it bits.
        seed: Draws the hyperplanes.

    Raises:
        SettingsError: A setting below its range, or `codes` is no power of two.

    Cost: fit O(n * dimensions * (levels + bits)).
    Source: Charikar 2002, Similarity estimation techniques from rounding algorithms; for identifiers, Rajput et al.
    2023.

    >>> vectors = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    >>> RandomHyperplanes(levels=3, codes=16).fit(vectors).assign(vectors).shape
    (500, 3)
    """

    on_disk = "genrail.random_hyperplanes"
    described = "random hyperplanes"
    settings = ("levels", "codes", "seed")
    identity = ("levels",)

    def __init__(self, levels: int = 3, codes: int = 256, seed: int = 0) -> None:
        super().__init__()
        check_settings(levels=(levels, 1), codes=(codes, 2), seed=(seed, 0))
        if codes & (codes - 1):
            raise SettingsError(f"codes is {codes}; random hyperplanes give whole bits, so give a power of two")
        self.levels, self.codes, self.seed = levels, codes, seed

    @classmethod
    def codebook(cls, items: int) -> int:
        """Choose the size of a codebook for so many items: the power of two below a quarter of them, 256 at most."""
        size: int = 1 << (max(2, min(256, items // 4)).bit_length() - 1)
        return size

    @property
    def bits(self) -> int:
        """Count the hyperplanes of one code."""
        return self.codes.bit_length() - 1

    def fit(self, vectors: npt.ArrayLike) -> Self:
        """Draw the hyperplanes, and learn what codes stand for from vectors of shape (n, dimensions).

        Raises:
            IdentifierError: No vectors at all, or a vector with NaN or infinity.
            ShapeError: Not two-dimensional.
        """
        checked = vectors_to_fit(vectors)
        random = generator(self.seed, "random hyperplanes")
        planes = random.normal(size=(self.levels * self.bits, checked.shape[1]))
        books = np.zeros((self.levels, self.codes, checked.shape[1]), dtype=np.float32)
        self._set({"mean": checked.mean(axis=0), "planes": planes, "codebooks": books})
        residual = checked.astype(np.float64) - self._arrays["mean"]
        for level, column in enumerate(self.assign(checked).T):
            sums = np.zeros((self.codes, checked.shape[1]))
            np.add.at(sums, column, residual)
            means = sums / np.maximum(np.bincount(column, minlength=self.codes), 1)[:, None]
            books[level] = means
            residual -= means[column]
        self._set({"mean": self._arrays["mean"], "planes": self._arrays["planes"], "codebooks": books})
        return self

    def assign(self, vectors: npt.ArrayLike) -> Codes:
        """Find the codes of vectors, int64, shape (n, levels), by the frozen hyperplanes.

        Raises:
            IdentifierError: Not fitted yet, or a vector with NaN or infinity.
            ShapeError: Vectors of another width than those of `fit`.
        """
        arrays = self._fitted()
        checked = checked_vectors(vectors, self.dimensions)
        # In float64, so that the rounding of the product, which changes with the batch, does not decide a side.
        centred: npt.NDArray[np.float64] = checked.astype(np.float64) - arrays["mean"]
        sides = (centred @ arrays["planes"].astype(np.float64).T >= 0).reshape(len(checked), self.levels, self.bits)
        codes: Codes = (sides * (1 << np.arange(self.bits))).sum(axis=2).astype(np.int64)
        return codes

    def decode(self, codes: npt.ArrayLike) -> Float:
        """Add up what codes of shape (n, 1..levels) stand for: the mean residual of the vectors fitted, level by level.

        Raises:
            IdentifierError: Not fitted yet, or a code outside the codebook.
            ShapeError: Not two-dimensional, or more columns than levels.
        """
        arrays = self._fitted()
        checked = check_codes(codes, self.levels, self.codes)
        vectors = np.repeat(arrays["mean"][None], len(checked), axis=0)
        for book, column in zip(arrays["codebooks"], checked.T, strict=False):
            vectors += book[column]
        return vectors

    def _expected(self) -> dict[str, tuple[int, ...]]:
        width = self.dimensions
        return {"planes": (self.levels * self.bits, width), "codebooks": (self.levels, self.codes, width)}
