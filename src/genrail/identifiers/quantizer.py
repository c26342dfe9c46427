"""What every quantizer does: vectors in, codes out, with codebooks that stay as they are."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from genrail.errors import FormatError, IdentifierError, SettingsError, ShapeError
from genrail.identifiers import saved

__all__ = ["NAME", "Quantizer", "check_codes", "check_settings", "checked_vectors", "load_quantizer", "quantizer_named"]

Float = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

NAME = "codebooks"  # a folder holds one quantizer: codebooks.json and codebooks.*.npy

# Kind on disk → where the class lives; loaded on use, so that k-means does without torch and faiss.
_KINDS = {
    "genrail.residual_kmeans": ("genrail.identifiers.residual_kmeans", "ResidualKMeans"),
    "genrail.rqvae": ("genrail.identifiers.rqvae", "RQVAE"),
    "genrail.product_quantization": ("genrail.identifiers.product_quantization", "ProductQuantization"),
    "genrail.random_hyperplanes": ("genrail.identifiers.random_hyperplanes", "RandomHyperplanes"),
}

# Name for people → kind on disk.
_NAMES = {
    "kmeans": "genrail.residual_kmeans",
    "rqvae": "genrail.rqvae",
    "pq": "genrail.product_quantization",
    "lsh": "genrail.random_hyperplanes",
}


@runtime_checkable
class Quantizer(Protocol):
    """Turn vectors into short codes by codebooks that are fitted once and then frozen.

    `levels` codes per vector, each in 0..codes-1. The same vector gets the same codes alone, in any batch and in any
    order.
    """

    @property
    def levels(self) -> int:
        """Count the codes of one vector."""
        ...

    @property
    def codes(self) -> int:
        """Count the entries of each codebook."""
        ...

    @property
    def dimensions(self) -> int:
        """Give the width of the vectors it was fitted on.

        Raises:
            IdentifierError: Not fitted yet.
        """
        ...

    @property
    def fingerprint(self) -> str:
        """Identify the fitted codebooks.

        Raises:
            IdentifierError: Not fitted yet.
        """
        ...

    def fit(self, vectors: npt.ArrayLike) -> Self:
        """Learn the codebooks from vectors of shape (n, dimensions) and return the quantizer itself.

        Raises:
            IdentifierError: No vectors at all, or a vector with NaN or infinity.
            ShapeError: Not two-dimensional.
        """
        ...

    def assign(self, vectors: npt.ArrayLike) -> Codes:
        """Find the codes of vectors, shape (n, levels); n may be 0.

        Raises:
            IdentifierError: Not fitted yet, or a vector with NaN or infinity.
            ShapeError: Vectors of another width than those of `fit`.
        """
        ...

    def decode(self, codes: npt.ArrayLike) -> Float:
        """Reconstruct vectors from codes of shape (n, any number of levels up to `levels`), shape (n, dimensions).

        Fewer levels give a coarser reconstruction, where the method has an order of levels.
        """
        ...

    def save(self, folder: str | Path) -> None:
        """Write codebooks into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read codebooks that `save` wrote."""
        ...


def load_quantizer(folder: str | Path) -> Quantizer:
    """Read the quantizer of a folder, whichever kind it is.

    Raises:
        DamagedError: A file is missing, truncated or altered.
        FormatError: A kind that this version does not know.
    """
    kind = saved.kind_of(Path(folder), NAME)
    if kind not in _KINDS:
        raise FormatError(f"{folder} holds a {kind!r}, which is no quantizer of this version; known: {sorted(_KINDS)}")
    module, name = _KINDS[kind]
    return cast(Quantizer, getattr(import_module(module), name).load(folder))


def check_settings(**limits: tuple[Any, int]) -> None:
    """Refuse integer settings below their least value; ``check_settings(codes=(codes, 1))``.

    Raises:
        SettingsError: Naming the setting and its range.
    """
    for name, (value, least) in limits.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise SettingsError(f"{name} is {value!r}; give an integer of {least} or more")


def checked_vectors(vectors: npt.ArrayLike, dimensions: int | None = None) -> Float:
    """Give vectors as a contiguous float32 array of shape (n, dimensions), or say what is wrong with them.

    Raises:
        IdentifierError: A value that is NaN, infinite, or beyond float32; names the first row.
        ShapeError: Not two-dimensional, no columns, or another width than `dimensions`.
    """
    array = np.asarray(vectors)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] == 0:
        raise ShapeError(f"vectors must be numbers of shape (rows, dimensions), got {array.dtype} of {array.shape}")
    if dimensions is not None and array.shape[1] != dimensions:
        raise ShapeError(
            f"vectors have {array.shape[1]} dimensions but the codebooks were fitted on {dimensions}; "
            "encode with the same text encoder"
        )
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise IdentifierError(
            f"the vector of row {bad[0]} holds NaN or infinity ({len(bad)} such rows); mend or leave out these rows"
        )
    return array


def check_codes(codes: npt.ArrayLike, levels: int, size: int) -> Codes:
    """Give codes as int64 of shape (n, up to levels), or refuse them.

    Raises:
        ShapeError: More columns than levels, or not two-dimensional.
        IdentifierError: A code outside 0..size-1.
    """
    array = np.asarray(codes)
    if array.dtype.kind not in "iu" or array.ndim != 2 or not 1 <= array.shape[1] <= levels:
        raise ShapeError(f"codes must be integers of shape (rows, 1..{levels}), got {array.dtype} of {array.shape}")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= size):
        raise IdentifierError(f"codes must be in 0..{size - 1}, got {array.min()}..{array.max()}")
    return array.astype(np.int64)


def quantizer_named(name: str, levels: int, codes: int, seed: int) -> Quantizer:
    """Make an unfitted quantizer: `kmeans` (residual k-means), `rqvae`, `pq` (product quantisation) or `lsh`.

    Raises:
        SettingsError: No such name, or settings out of range.
        MissingPackageError: `rqvae` without torch.

    >>> quantizer_named("kmeans", levels=2, codes=4, seed=0).levels
    2
    """
    if name not in _NAMES:
        raise SettingsError(f"identifiers is {name!r}; give {', '.join(_NAMES)}")
    module, kind = _KINDS[_NAMES[name]]
    made: Quantizer = getattr(import_module(module), kind)(levels=levels, codes=codes, seed=seed)
    return made
