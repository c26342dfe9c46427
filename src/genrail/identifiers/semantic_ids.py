"""Semantic IDs: the codes of a quantizer plus one last code that tells items with the same codes apart."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from genrail.errors import DamagedError, FingerprintError, IdentifierError, SettingsError, ShapeError
from genrail.identifiers import saved
from genrail.identifiers.collisions import reassign_colliding
from genrail.identifiers.quantizer import Quantizer, check_codes, check_settings, checked_vectors, load_quantizer
from genrail.identifiers.residual_kmeans import ResidualKMeans
from genrail.identifiers.table import IdentifierTable

__all__ = ["SemanticIds"]

Int = npt.NDArray[np.int64]
Collisions = Literal["count", "reassign"]
KIND = "genrail.semantic_ids"
NAME = "semantic_ids"


class SemanticIds:
    """Give items identifiers whose first codes are shared by similar items.

    An identifier is the quantizer's codes and one de-duplicating code: 0 for an item that is alone with its codes, 0,
    1, 2, ... for items that share them (Rajput et al. 2023). The codebooks are frozen: later items are assigned with
    the same ones, and an item that has an identifier keeps it for good.

    The de-duplicating codes follow the order of the catalogue's rows unless `order` says otherwise. Where row numbers
    tell something about the answers (items numbered by first appearance in the log, or by date), pass a seeded
    permutation.

    Args:
        quantizer: Fitted codebooks.
        version: Number of these codebooks, for people; what is checked is the fingerprint.

    Raises:
        IdentifierError: The quantizer is not fitted.

    >>> vectors = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    >>> ids = SemanticIds.fit(vectors, levels=1, codes=2)
    >>> ids.assign(vectors).matrix()[:, -1]
    array([0, 1, 0], dtype=int32)
    """

    def __init__(self, quantizer: Quantizer, version: int = 1) -> None:
        check_settings(version=(version, 1))
        self.quantizer = quantizer
        self.version = version
        self.fingerprint = quantizer.fingerprint

    @classmethod
    def fit(
        cls,
        vectors: npt.ArrayLike,
        levels: int = 3,
        codes: int = 256,
        seed: int = 0,
        *,
        quantizer: Quantizer | None = None,
        version: int = 1,
    ) -> Self:
        """Learn codebooks from item vectors of shape (n, dimensions).

        Args:
            vectors: One per item.
            levels: Codes before the de-duplicating one. 3 x 256 is TIGER's choice for about 10,000 items.
            codes: Size of each level's codebook.
            seed: For the default quantizer.
            quantizer: An unfitted one instead of residual k-means; then levels, codes and seed are its own.
            version: Number of these codebooks.

        Raises:
            IdentifierError: No vectors, or a vector with NaN or infinity.
            SettingsError: A setting below its range.
            ShapeError: Not two-dimensional.
        """
        chosen = ResidualKMeans(levels, codes, seed) if quantizer is None else quantizer
        return cls(chosen.fit(vectors), version)

    @property
    def levels(self) -> int:
        """Count the codes before the de-duplicating one."""
        return self.quantizer.levels

    @property
    def codes(self) -> int:
        """Give the size of each codebook."""
        return self.quantizer.codes

    @property
    def length(self) -> int:
        """Count the tokens of an identifier."""
        return self.levels + 1

    @property
    def dimensions(self) -> int:
        """Give the width of the vectors."""
        return self.quantizer.dimensions

    def assign(
        self,
        vectors: npt.ArrayLike,
        table: IdentifierTable | None = None,
        *,
        order: npt.ArrayLike | None = None,
        vocab_size: int | None = None,
        collisions: Collisions = "count",
    ) -> IdentifierTable:
        """Give every row an identifier; rows that have one keep it.

        Args:
            vectors: One per catalogue row, shape (rows, dimensions), rows with an identifier first.
            table: What was assigned before, for rows 0..len(table)-1; None for nothing.
            order: In which order new rows receive de-duplicating codes, a permutation of the new rows counted from 0;
                default: as they stand.
            vocab_size: Never use a token of this or above (the width of a model that is already trained). New items
                that find no free de-duplicating code then share an identifier with others, in turn.
            collisions: What happens to new rows with equal codes. "count": they differ in the de-duplicating code only.
                "reassign": they first move to free codes of the last level, all together at the least distance (see
                `genrail.identifiers.collisions`); only those that find none are counted.

        Returns:
            A table of fixed length `levels + 1`; tokens are plain codes 0..V-1 at each level, V being the larger of
            `codes` and the largest group (or what `table` had).

        Raises:
            FingerprintError: `table` was made by other codebooks.
            IdentifierError: A vector with NaN or infinity.
            SettingsError: `vocab_size` below the number of codes.
            ShapeError: Fewer vectors than rows in `table`, other dimensions, or `order` is no permutation.
        """
        if table is None:
            table = IdentifierTable.from_matrix(
                np.empty((0, self.length), np.int64), self.codes, source=self.fingerprint
            )
        array = np.asarray(vectors)
        if array.ndim == 2 and len(array) < len(table):
            raise ShapeError(
                f"there are {len(array)} vectors but {len(table)} rows have identifiers already; give the vectors "
                "of all rows, old ones first, or use extend(table, new_vectors)"
            )
        return self.extend(table, array[len(table) :], order=order, vocab_size=vocab_size, collisions=collisions)

    def extend(
        self,
        table: IdentifierTable,
        vectors: npt.ArrayLike,
        *,
        order: npt.ArrayLike | None = None,
        vocab_size: int | None = None,
        collisions: Collisions = "count",
    ) -> IdentifierTable:
        """Append identifiers for new rows only; `vectors` holds just theirs. Otherwise as `assign`."""
        if table.source != self.fingerprint:
            raise FingerprintError(
                f"the table was made by codebooks {table.source!r}, these are {self.fingerprint!r} "
                f"(version {self.version}); load the codebooks of the table, or assign all items anew"
            )
        least = max(self.codes, table.vocab_size)
        if vocab_size is not None and vocab_size < least:
            raise SettingsError(f"vocab_size is {vocab_size}, but the identifiers need {least}; give at least that")
        if collisions not in ("count", "reassign"):
            raise SettingsError(f"collisions is {collisions!r}; give 'count' or 'reassign'")
        checked = checked_vectors(vectors, self.dimensions)
        old = table.matrix().astype(np.int64).reshape(-1, self.length)
        later = getattr(self.quantizer, "assign_later", None)
        new = self.quantizer.assign(checked) if later is None else later(checked, old[:, :-1])
        if collisions == "reassign":
            new = reassign_colliding(self.quantizer, checked, new, old[:, :-1])
        last = _next_codes(old, new, _checked_order(order, len(new)))
        if vocab_size is not None:
            last %= vocab_size
        matrix = np.column_stack([new, last])
        size = max(self.codes, table.vocab_size, int(matrix.max()) + 1 if matrix.size else 1)
        return table.extend(IdentifierTable.from_matrix(matrix, size, source=self.fingerprint))

    def number(self, codes: npt.ArrayLike, *, order: npt.ArrayLike | None = None) -> IdentifierTable:
        """Tell rows apart whose codes were assigned before, piece by piece; the table is that of `assign`.

        Args:
            codes: From the quantizer, shape (rows, levels).
            order: As for `assign`.

        Raises:
            IdentifierError: A code outside the codebooks.
            ShapeError: Another number of levels, or `order` is no permutation.
        """
        checked = check_codes(codes, self.levels, self.codes)
        if checked.shape[1] != self.levels:
            raise ShapeError(f"codes have {checked.shape[1]} levels, the codebooks {self.levels}; give all levels")
        last = _next_codes(np.empty((0, self.length), np.int64), checked, _checked_order(order, len(checked)))
        matrix = np.column_stack([checked, last])
        size = max(self.codes, int(matrix.max()) + 1 if matrix.size else 1)
        return IdentifierTable.from_matrix(matrix, size, source=self.fingerprint)

    def decode(self, table: IdentifierTable) -> npt.NDArray[np.float32]:
        """Reconstruct the vectors of a table's rows from their codes, shape (rows, dimensions)."""
        return self.quantizer.decode(table.matrix()[:, : self.levels].reshape(-1, self.levels))

    def save(self, folder: str | Path) -> None:
        """Write ``semantic_ids.json`` and the codebooks into an existing folder."""
        details = {"version": self.version, "fingerprint": self.fingerprint}
        saved.write(Path(folder), NAME, KIND, details, {})
        self.quantizer.save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing, truncated or altered.
            FingerprintError: The codebooks are not those that were saved with this page.
            FormatError: Something else lies there, or a newer format.
        """
        found = saved.read(Path(folder), NAME, KIND)
        try:
            ids = cls(load_quantizer(folder), found.details["version"])
            expected = found.details["fingerprint"]
        except (KeyError, SettingsError, IdentifierError) as error:
            raise DamagedError(f"{Path(folder) / NAME}.json does not describe Semantic IDs: {error}") from error
        if ids.fingerprint != expected:
            raise FingerprintError(
                f"the codebooks in {folder} are {ids.fingerprint!r}, the identifiers need {expected!r}; "
                "copy the whole folder again"
            )
        return ids


def _checked_order(order: npt.ArrayLike | None, count: int) -> Int:
    if order is None:
        return np.arange(count, dtype=np.int64)
    array = np.asarray(order, dtype=np.int64)
    if array.shape != (count,) or not np.array_equal(np.sort(array), np.arange(count)):
        raise ShapeError(f"order must be a permutation of 0..{count - 1}, one place per new row")
    return array


def _next_codes(old: Int, new: Int, order: Int) -> Int:
    """Count new rows within their group of equal codes, going on after the largest number in use; shape (new rows,).

    Where numbers are used in turn (see `vocab_size` of `SemanticIds.assign`), the count goes on after the rows, so
    that rows that come one by one get what they would get together.

    Args:
        old: Identifiers in use, (rows, levels + 1), de-duplicating code last.
        new: Codes of the new rows, (new rows, levels).
        order: Permutation of the new rows: who is numbered first.
    """
    prefixes = np.concatenate([old[:, :-1], new])
    _, group = np.unique(prefixes, axis=0, return_inverse=True)
    group = group.reshape(-1)
    free = np.zeros(int(group.max()) + 1 if len(group) else 0, dtype=np.int64)
    np.maximum.at(free, group[: len(old)], old[:, -1] + 1)
    free = np.maximum(free, np.bincount(group[: len(old)], minlength=len(free)))
    mine = group[len(old) :][order]
    by_group = np.argsort(mine, kind="stable")
    begins = np.flatnonzero(np.diff(mine[by_group], prepend=-1))
    runs = np.diff(np.append(begins, len(mine)))
    place = np.arange(len(mine)) - np.repeat(begins, runs)
    last = np.empty(len(mine), dtype=np.int64)
    last[order[by_group]] = free[mine[by_group]] + place
    return last
