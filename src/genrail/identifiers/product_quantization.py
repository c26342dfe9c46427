"""Product quantization with a learned rotation (OPQ): each code describes its own part of the vector."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.errors import SettingsError
from genrail.identifiers.codebooks import Codebooks, vectors_to_fit
from genrail.identifiers.kmeans import kmeans, nearest
from genrail.identifiers.quantizer import Codes, Float, check_codes, check_settings, checked_vectors
from genrail.rng import generator

__all__ = ["ProductQuantization"]


class ProductQuantization(Codebooks):
    """Rotate vectors, cut them into parts, and quantize each part by k-means.

    The codes do not refine each other, so that a prefix says less than with residual codes; in exchange they can be
    predicted all at once (RPG, Hou et al. 2025). The rotation is learned together with the codebooks (OPQ): it starts
    from the principal axes, dealt out so that all parts have equal variance, and alternates k-means with the best
    rotation for the codes found.

    Args:
        levels: Codes per vector, one per part.
        codes: Size of each part's codebook.
        seed: Draws the starts and, above `sample_per_code * codes` vectors, the sample that is fitted.
        rotate: Learn the rotation; False cuts the vectors as they are.
        rounds: Alternations of codebooks and rotation.
        iterations: Of k-means in each round, at most.
        sample_per_code: Fit on at most so many vectors per code.

    Raises:
        SettingsError: A setting below its range; when fitting, more levels than dimensions.

    Cost: fit O(rounds * (n * codes * dimensions * iterations + dimensions^3)).
    Source: Ge et al. 2013, Optimized Product Quantization; Jegou et al. 2011.

    >>> vectors = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    >>> quantizer = ProductQuantization(levels=4, codes=16).fit(vectors)
    >>> quantizer.assign(vectors).shape
    (500, 4)
    """

    on_disk = "genrail.product_quantization"
    described = "product quantization"
    settings = ("levels", "codes", "seed", "rotate", "rounds", "iterations", "sample_per_code")
    identity = ("levels",)

    def __init__(
        self,
        levels: int = 4,
        codes: int = 256,
        seed: int = 0,
        *,
        rotate: bool = True,
        rounds: int = 8,
        iterations: int = 5,
        sample_per_code: int = 256,
    ) -> None:
        super().__init__()
        check_settings(levels=(levels, 1), codes=(codes, 1), seed=(seed, 0), rounds=(rounds, 1))
        check_settings(iterations=(iterations, 1), sample_per_code=(sample_per_code, 1))
        self.levels, self.codes, self.seed = levels, codes, seed
        self.rotate, self.rounds, self.iterations = bool(rotate), rounds, iterations
        self.sample_per_code = sample_per_code

    def fit(self, vectors: npt.ArrayLike) -> Self:
        """Learn rotation and codebooks from vectors of shape (n, dimensions) and return the quantizer itself.

        Raises:
            IdentifierError: No vectors at all, or a vector with NaN or infinity.
            SettingsError: More levels than dimensions.
            ShapeError: Not two-dimensional.
        """
        most = self.sample_per_code * self.codes
        sample = vectors_to_fit(vectors, most, self.seed, "product quantization sample")
        dimensions = sample.shape[1]
        if self.levels > dimensions:
            raise SettingsError(
                f"levels is {self.levels}, but vectors have {dimensions} dimensions; give at most as many"
            )
        mean = sample.mean(axis=0)
        centred = sample - mean
        rotation = _principal_axes(centred, self.levels) if self.rotate else np.eye(dimensions, dtype=np.float32)
        codebooks: list[Float] = []
        for turn in range(self.rounds):
            rotated = centred @ rotation
            codebooks = self._codebooks(rotated, codebooks)
            if not self.rotate:
                break
            if turn + 1 < self.rounds:
                codes = [nearest(part, book) for part, book in zip(self._parts(rotated), codebooks, strict=True)]
                decoded = np.hstack([book[column] for book, column in zip(codebooks, codes, strict=True)])
                rotation = _best_rotation(centred, decoded)
        self._set({"mean": mean, "rotation": rotation, "codebooks": np.hstack(codebooks)})
        return self

    def assign(self, vectors: npt.ArrayLike) -> Codes:
        """Find the codes of vectors, int64, shape (n, levels), by the frozen rotation and codebooks.

        Raises:
            IdentifierError: Not fitted yet, or a vector with NaN or infinity.
            ShapeError: Vectors of another width than those of `fit`.
        """
        arrays = self._fitted()
        checked = checked_vectors(vectors, self.dimensions)
        # In float64, so that the rounding of the product, which changes with the batch, does not decide a code.
        centred: npt.NDArray[np.float64] = checked.astype(np.float64) - arrays["mean"]
        rotated = (centred @ arrays["rotation"].astype(np.float64)).astype(np.float32)
        parts = zip(self._parts(rotated), self._parts(arrays["codebooks"]), strict=True)
        return np.column_stack([nearest(part, codebook) for part, codebook in parts])

    def decode(self, codes: npt.ArrayLike) -> Float:
        """Reconstruct vectors from codes of shape (n, 1..levels); missing parts are taken as average.

        Raises:
            IdentifierError: Not fitted yet, or a code outside the codebook.
            ShapeError: Not two-dimensional, or more columns than levels.
        """
        arrays = self._fitted()
        checked = check_codes(codes, self.levels, self.codes)
        rotated = np.zeros((len(checked), self.dimensions), dtype=np.float32)
        for column, part in zip(checked.T, self._parts(np.arange(self.dimensions)[None]), strict=False):
            rotated[:, part[0]] = arrays["codebooks"][column][:, part[0]]
        decoded: Float = rotated @ arrays["rotation"].T + arrays["mean"]
        return decoded

    def _expected(self) -> dict[str, tuple[int, ...]]:
        width = self.dimensions
        return {"rotation": (width, width), "codebooks": (self.codes, width)}

    def _parts(self, vectors: Array) -> list[Array]:
        """Cut the columns into `levels` parts; sizes differ by at most one."""
        return [np.ascontiguousarray(part) for part in np.array_split(vectors, self.levels, axis=1)]

    def _codebooks(self, rotated: Float, starts: list[Float]) -> list[Float]:
        return [
            kmeans(
                part,
                self.codes,
                generator(self.seed, "product quantization", level),
                self.iterations,
                starts[level] if starts else None,
            )
            for level, part in enumerate(self._parts(rotated))
        ]


def _principal_axes(centred: Float, parts: int) -> Float:
    """Deal the principal axes out to equally large parts of equal variance; orthogonal, (dimensions, dimensions)."""
    dimensions = centred.shape[1]
    wide = centred.astype(np.float64)
    variances, axes = np.linalg.eigh(wide.T @ wide / len(wide))
    room = [len(part) for part in np.array_split(np.arange(dimensions), parts)]
    members: list[list[int]] = [[] for _ in room]
    logs = np.zeros(parts)  # eigenvalue allocation: balance the products of the variances
    for axis in np.argsort(-variances, kind="stable"):
        open_parts = [part for part in range(parts) if len(members[part]) < room[part]]
        part = min(open_parts, key=lambda one: (logs[one], one))
        members[part].append(int(axis))
        logs[part] += np.log(max(variances[axis], 1e-12)) - np.log(1e-12)
    rotation: Float = axes[:, [axis for part in members for axis in part]].astype(np.float32)
    return rotation


def _best_rotation(centred: Float, decoded: Float) -> Float:
    """Find the orthogonal matrix that turns `centred` nearest to `decoded` (orthogonal Procrustes)."""
    left, _, right = np.linalg.svd(centred.T.astype(np.float64) @ decoded)
    rotation: Float = (left @ right).astype(np.float32)
    return rotation
