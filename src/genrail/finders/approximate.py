"""Approximate search among many vectors: cells around centres, of which only the nearest are looked into."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genrail.constraints.compiled import COMPILES
from genrail.errors import DamagedError, MissingPackageError, SettingsError
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.products import inner_products

__all__ = ["AUTO_ROWS", "Cells", "CellSettings", "wants_cells"]

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

# An exact search of so many vectors of 384 dimensions takes some 50 ms on one core, with numba (4.6 ms for 200,000,
# docs/results.md) or without (27 ms for 400,000).
AUTO_ROWS = 2_000_000 if COMPILES else 800_000
CENTRES, CELL_OF = "cells", "cell_of"


@dataclass(frozen=True)
class CellSettings:
    """Set how finely the vectors are parted and how far a search looks.

    Args:
        cells: How many; None for four times the square root of the rows, as faiss advises.
        probes: Nearest cells that a search looks into. More find more and take longer. Where a filter allows a share of
            the rows, as many more, so that as many allowed rows are looked at.
        exact_share: Where at most this share of the rows is allowed, all allowed rows are scored instead.

    Raises:
        SettingsError: A setting outside its range.
    """

    cells: int | None = None
    probes: int = 256  # of a million smooth vectors .99 of the ten best are found; 64 find .91 (docs/results.md)
    exact_share: float = 0.02

    def __post_init__(self) -> None:
        if (self.cells is not None and self.cells < 1) or self.probes < 1 or not 0 <= self.exact_share <= 1:
            raise SettingsError(f"{self}: give 1 cell and 1 probe or more, and a share from 0 to 1")


def wants_cells(index: str, rows: int) -> bool:
    """Tell whether `exact`, `approximate` or `auto` means cells for so many rows; `auto` does without faiss, too.

    Raises:
        SettingsError: Another word.
        MissingPackageError: `approximate` without faiss.
    """
    if index not in ("auto", "exact", "approximate"):
        raise SettingsError(f"index={index!r}; give 'auto', 'exact' or 'approximate'")
    installed = find_spec("faiss") is not None
    if index == "approximate" and not installed:
        raise MissingPackageError("faiss-cpu", "ann", "Approximate search")
    return index == "approximate" or (index == "auto" and rows >= AUTO_ROWS and installed)


class Cells:
    """Find rows whose vectors have the highest inner products with a vector, mostly.

    faiss holds a copy of the vectors at half precision, 2 bytes a dimension, parted into cells by k-means. What is
    found is scored again by the vectors themselves, so that scores are those of an exact search; only which rows are
    found is approximate. When fewer than k allowed rows are found, all allowed rows are scored.

    Args:
        vectors: Of length 1 or 0, (rows, dimensions).
        centres: Of the cells, (cells, dimensions).
        cell_of: Cell of each row, int64, (rows,).
        settings: How far a search looks.

    Source: Jegou et al. 2011, Product Quantization for Nearest Neighbor Search (inverted file); Douze et al. 2024
    (faiss).
    """

    def __init__(self, vectors: Vectors, centres: Vectors, cell_of: Rows, settings: CellSettings) -> None:
        import faiss

        self.vectors, self.centres, self.cell_of, self.settings = vectors, centres, cell_of, settings
        width = vectors.shape[1]
        self._quantizer = faiss.IndexFlatIP(width)
        self._quantizer.add(centres)
        half = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexIVFScalarQuantizer(
            self._quantizer, width, len(centres), half, faiss.METRIC_INNER_PRODUCT, False
        )
        self._index.train(vectors[: len(centres)])  # nothing is learnt: the centres are given, halves need no range
        rows = np.ascontiguousarray(vectors)
        self._index.add_core(len(rows), faiss.swig_ptr(rows), None, faiss.swig_ptr(cell_of))

    @classmethod
    def of(cls, vectors: Vectors, settings: CellSettings | None = None, seed: int = 0) -> Cells:
        """Part vectors into cells by k-means.

        The same seed gives the same cells, for the same number of threads.

        Cost: O(rows x cells x dimensions); see docs/results.md for a million rows.
        """
        import faiss

        chosen = settings or CellSettings()
        count = chosen.cells or max(1, round(4 * math.sqrt(len(vectors))))
        count = min(count, len(vectors))
        means = faiss.Kmeans(
            vectors.shape[1], count, niter=10, seed=seed + 1, spherical=True, min_points_per_centroid=1,
            max_points_per_centroid=64,
        )  # fmt: skip
        means.train(vectors)
        centres = np.asarray(means.centroids, dtype=np.float32).reshape(count, -1)
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        quantizer.add(centres)
        cell_of = quantizer.search(vectors, 1)[1].reshape(-1).astype(np.int64)
        return cls(vectors, centres, cell_of, chosen)

    def best(self, vector: Vectors, allowed: npt.NDArray[np.bool_], k: int) -> tuple[Rows, Vectors]:
        """Find k allowed rows or more, wherever so many are allowed, with their exact scores; in no order.

        Args:
            vector: What is sought, (dimensions,).
            allowed: Rows that may come out, (rows,).
            k: How many at least.
        """
        count = int(allowed.sum())
        wanted = max(2 * k, k + 32)  # halves round: the best k by them are not always the best k
        rows = np.zeros(0, dtype=np.int64)
        if count > max(wanted, self.settings.exact_share * len(allowed)):
            rows = self._found(vector, allowed, wanted)
        if len(rows) < min(k, count):
            rows = np.flatnonzero(allowed)
        return rows, inner_products(self.vectors, vector, rows)

    def _found(self, vector: Vectors, allowed: npt.NDArray[np.bool_], wanted: int) -> Rows:
        import faiss

        probes = math.ceil(self.settings.probes * len(allowed) / int(allowed.sum()))
        options: dict[str, object] = {"nprobe": min(probes, len(self.centres))}
        if not allowed.all():
            bitmap: Callable[..., object] = faiss.IDSelectorBitmap  # its stub names the C++ arguments
            options["sel"] = bitmap(np.packbits(allowed, bitorder="little"))
        found = self._index.search(vector[None], wanted, params=faiss.SearchParametersIVF(**options))[1][0]
        rows: Rows = found[found >= 0]
        return rows

    @property
    def index_bytes(self) -> int:
        """Count the bytes of the halved vectors, their row numbers, the centres and the cells of the rows."""
        return int(self.vectors.size * 2 + self.centres.nbytes + 2 * self.cell_of.nbytes)

    def save(self, folder: Path) -> None:
        """Write centres and cells as plain arrays; the index is put together again from them."""
        save_arrays(folder, {CENTRES: self.centres, CELL_OF: self.cell_of})

    @classmethod
    def load(cls, folder: Path, vectors: Vectors, settings: CellSettings) -> Cells:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing, cut, or does not fit the vectors.
        """
        centres = load_array(folder, CENTRES, np.float32, (None, vectors.shape[1]))
        cell_of = load_array(folder, CELL_OF, np.int64, (len(vectors),))
        if cell_of.min(initial=0) < 0 or cell_of.max(initial=-1) >= len(centres):
            raise DamagedError(f"{folder}: the cells do not fit the vectors; restore the folder or build it again")
        return cls(vectors, centres, cell_of, settings)
