"""Several identifiers for one item: a title and other words by which people may call it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genrail.errors import IdentifierError, ShapeError
from genrail.identifiers import saved
from genrail.identifiers.table import Identifiers, IdentifierTable

__all__ = ["SeveralIdentifiers", "load_identifiers"]

Int = npt.NDArray[np.int64]
KIND = "genrail.several_identifiers"
NAME = "several"


class SeveralIdentifiers:
    """Hold one identifier or more for every catalogue row. A value: nothing changes it.

    The identifiers stand in one flat `IdentifierTable`, those of a row side by side, the row's own title first.

    Args:
        flat: All identifiers, in the order of the catalogue rows.
        first: Where each row begins in `flat`, int64, shape (rows + 1,), rising.

    Raises:
        ShapeError: `first` does not fit, or a row has no identifier.
        IdentifierError: A row has one identifier twice.

    Source: Few-Shot GR gives each document several free-text identifiers (Askari et al. 2024, Generative Retrieval
    with Few-shot Indexing).

    >>> flat = IdentifierTable.from_sequences([[5, 0], [6, 7, 0], [8, 0]], vocab_size=9, end_token=0)
    >>> table = SeveralIdentifiers(flat, [0, 2, 3])
    >>> len(table), table.owners, [one.tolist() for one in table.sequences(0)]
    (2, array([0, 0, 1]), [[5, 0], [6, 7, 0]])
    """

    def __init__(self, flat: IdentifierTable, first: npt.ArrayLike) -> None:
        self.flat = flat
        self.first: Int = np.asarray(first, dtype=np.int64)
        bounds = self.first[:1].tolist() + self.first[-1:].tolist()
        if self.first.ndim != 1 or bounds != [0, len(flat)] or bool(np.any(np.diff(self.first) < 1)):
            raise ShapeError(
                f"first must rise from 0 to the number of identifiers ({len(flat)}), one or more for each row; "
                f"got {self.first[:5].tolist()} ..."
            )
        pairs = np.stack([self.owners, flat.groups], axis=1)
        if len(np.unique(pairs, axis=0)) != len(pairs):
            raise IdentifierError("a row has the same identifier twice; give each of its identifiers once")
        self.first.setflags(write=False)

    @classmethod
    def from_lists(
        cls, lists: Sequence[Sequence[Sequence[int]]], vocab_size: int, end_token: int | None = None, source: str = ""
    ) -> SeveralIdentifiers:
        """Make a table from the token sequences of each row; a sequence that a row has twice counts once."""
        unique = [list(dict.fromkeys(tuple(int(token) for token in one) for one in row)) for row in lists]
        flat = IdentifierTable.from_sequences([one for row in unique for one in row], vocab_size, end_token, source)
        return cls(flat, np.cumsum([0, *map(len, unique)]))

    def __len__(self) -> int:
        return len(self.first) - 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeveralIdentifiers) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"SeveralIdentifiers({len(self)} rows, {len(self.flat)} identifiers, vocab_size={self.vocab_size})"

    @property
    def vocab_size(self) -> int:
        """Give one more than the largest token that may occur."""
        return self.flat.vocab_size

    @property
    def end_token(self) -> int | None:
        """Give the token that ends each identifier."""
        return self.flat.end_token

    @property
    def source(self) -> str:
        """Give the fingerprint of what made the tokens."""
        return self.flat.source

    @property
    def tokens(self) -> npt.NDArray[np.int32]:
        """Give all identifiers one after the other, shape (tokens,)."""
        return self.flat.tokens

    @property
    def offsets(self) -> Int:
        """Say where each identifier begins, shape (identifiers + 1,)."""
        return self.flat.offsets

    @cached_property
    def owners(self) -> Int:
        """Give the catalogue row of each identifier, shape (identifiers,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.first))

    @cached_property
    def fingerprint(self) -> str:
        """Identify rows and identifiers."""
        return saved.fingerprint({"flat": self.flat.fingerprint}, {"first": self.first})

    @cached_property
    def leading(self) -> IdentifierTable:
        """Give the first identifier of each row as a table of its own, for measurements."""
        sequences = [self.sequence(row).tolist() for row in range(len(self))]
        return IdentifierTable.from_sequences(sequences, self.vocab_size, self.end_token, self.source)

    def sequence(self, row: int) -> npt.NDArray[np.int32]:
        """Give the tokens of a row's first identifier.

        Raises:
            IdentifierError: No such row.
        """
        return self.sequences(row)[0]

    def sequences(self, row: int) -> list[npt.NDArray[np.int32]]:
        """Give the tokens of all identifiers of a row.

        Raises:
            IdentifierError: No such row.
        """
        if not 0 <= row < len(self):
            raise IdentifierError(f"row {row} has no identifier; this table has rows 0..{len(self) - 1}")
        return [self.flat.sequence(place) for place in range(int(self.first[row]), int(self.first[row + 1]))]

    def part(self, rows: range) -> SeveralIdentifiers:
        """Give some rows, one after the other, as a table of their own."""
        first = self.first[rows.start : rows.stop + 1]
        return SeveralIdentifiers(self.flat.part(range(int(first[0]), int(first[-1]))), first - first[0])

    def extend(self, other: SeveralIdentifiers) -> SeveralIdentifiers:
        """Append the rows of another table; see `IdentifierTable.extend`."""
        first = np.concatenate([self.first, other.first[1:] + self.first[-1]])
        return SeveralIdentifiers(self.flat.extend(other.flat), first)

    def save(self, folder: str | Path) -> None:
        """Write the flat table, and ``several.json`` with where each row begins, into an existing folder."""
        self.flat.save(folder)
        saved.write(Path(folder), NAME, KIND, {}, {"first": self.first})

    @classmethod
    def load(cls, folder: str | Path) -> SeveralIdentifiers:
        """Read a table that `save` wrote; raises as `IdentifierTable.load`."""
        return cls(IdentifierTable.load(folder), saved.read(Path(folder), NAME, KIND).arrays["first"])


def load_identifiers(folder: str | Path) -> Identifiers:
    """Read a table of one identifier for each row or of several, whichever lies there."""
    several = (Path(folder) / f"{NAME}.json").exists()
    return SeveralIdentifiers.load(folder) if several else IdentifierTable.load(folder)
