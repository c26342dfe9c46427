"""What every quantizer does: vectors in, codes out, with codebooks that stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from genrail.errors import FormatError, IdentifierError, SettingsError, ShapeError
from genrail.identifiers import saved
from genrail.kinds import Kinds

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = [
    "NAME",
    "Quantizer",
    "ReadsItems",
    "check_codes",
    "check_settings",
    "checked_vectors",
    "load_quantizer",
    "quantizer_named",
    "quantizer_type",
    "quantizers",
    "register_quantizer",
]

Float = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

NAME = "codebooks"  # a folder holds one quantizer: codebooks.json and codebooks.*.npy

# Name for people to the kind on disk.
ON_DISK = {
    "kmeans": "genrail.residual_kmeans",
    "rqvae": "genrail.rqvae",
    "pq": "genrail.product_quantization",
    "lsh": "genrail.random_hyperplanes",
    "attributes": "genrail.attribute_codes",
    "atomic": "genrail.atomic_codes",
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


@runtime_checkable
class ReadsItems(Protocol):
    """What a quantizer has besides when it reads items rather than the vectors of their texts."""

    def fit_items(self, catalog: Catalog) -> Self:
        """Learn from the live items, and return the quantizer itself."""
        ...

    def describe_items(self, items: Catalog) -> Float:
        """Turn items into what `Quantizer.assign` takes, shape (items, dimensions)."""
        ...

    def spell(self, codes: Sequence[int]) -> str:
        """Say what the beginning of an identifier stands for, to people."""
        ...


# Imported on use, so that k-means does without torch and faiss.
_QUANTIZERS: Kinds[Quantizer] = Kinds(
    "quantizer",
    "genrail.quantizers",
    {
        "kmeans": "genrail.identifiers.residual_kmeans:ResidualKMeans",
        "rqvae": "genrail.identifiers.rqvae:RQVAE",
        "pq": "genrail.identifiers.product_quantization:ProductQuantization",
        "lsh": "genrail.identifiers.random_hyperplanes:RandomHyperplanes",
        "attributes": "genrail.identifiers.attributes:AttributeCodes",
        "atomic": "genrail.identifiers.atomic:AtomicCodes",
    },
)


def register_quantizer(quantizer: type[Quantizer]) -> type[Quantizer]:
    """Make a quantizer known by its `kind` in this process; usable as a decorator.

    It is made with ``levels``, ``codes`` and ``seed``, and its `kind` is also what its `save` writes as the kind of the
    page. A package announces its quantizers by entry points of the group ``genrail.quantizers`` instead.

    Raises:
        SettingsError: Another quantizer has this name, or it has none.
    """
    kind = getattr(quantizer, "kind", None)
    if not isinstance(kind, str) or not kind:
        raise SettingsError(f"{quantizer.__name__} has no kind; give the class a name for people, kind = ...")
    _QUANTIZERS.add(kind, quantizer)
    return quantizer


def quantizers() -> list[str]:
    """List the quantizers that can be made by name, those of this package first."""
    return [*ON_DISK, *_QUANTIZERS.from_outside]


def quantizer_type(name: str) -> type[Quantizer]:
    """Find a quantizer by its name.

    Raises:
        SettingsError: No such name.
        MissingPackageError: It needs a package that is not installed.
    """
    if (found := _QUANTIZERS.find(name)) is not None:
        return found
    raise SettingsError(f"identifiers is {name!r}; give {', '.join(quantizers())}")


def load_quantizer(folder: str | Path) -> Quantizer:
    """Read the quantizer of a folder, whichever kind it is.

    Raises:
        DamagedError: A file is missing, truncated or altered.
        FormatError: A kind that this version does not know.
    """
    kind = saved.kind_of(Path(folder), NAME)
    names = {on_disk: name for name, on_disk in ON_DISK.items()}
    try:
        return quantizer_type(names.get(kind, kind)).load(folder)
    except SettingsError:
        known = [*names, *quantizers()[len(names) :]]
        raise FormatError(
            f"{folder} holds a {kind!r}, which is no quantizer of this installation; known: {known}"
        ) from None


def check_settings(**limits: tuple[object, int]) -> None:
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
    """Make an unfitted quantizer: one of `quantizers`, such as `kmeans` (residual k-means) or `rqvae`.

    Raises:
        SettingsError: No such name, or settings out of range.
        MissingPackageError: `rqvae` without torch.

    >>> quantizer_named("kmeans", levels=2, codes=4, seed=0).levels
    2
    """
    made: Quantizer = quantizer_type(name)(levels=levels, codes=codes, seed=seed)  # type: ignore[call-arg]
    return made
