"""Which token sequence spells which item."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from genrail.errors import DamagedError, FingerprintError, FormatError, IdentifierError, ShapeError
from genrail.identifiers import saved

__all__ = ["IdentifierTable", "Identifiers"]

Int = npt.NDArray[np.int64]
KIND = "genrail.identifier_table"
NAME = "identifiers"


class Identifiers(Protocol):
    """Say what every table of identifiers offers, whether its rows have one or several.

    The identifiers stand one after the other, those of a row side by side; an index is made of `tokens`, `offsets` and
    `owners`.
    """

    @property
    def vocab_size(self) -> int:
        """Give one more than the largest token that may occur."""
        ...

    @property
    def end_token(self) -> int | None:
        """Give the token that ends each identifier; None for one length."""
        ...

    @property
    def source(self) -> str:
        """Give the fingerprint of what made the tokens."""
        ...

    @property
    def tokens(self) -> npt.NDArray[np.int32]:
        """Give all identifiers one after the other, shape (tokens,)."""
        ...

    @property
    def offsets(self) -> Int:
        """Say where each identifier begins, shape (identifiers + 1,)."""
        ...

    @property
    def owners(self) -> Int:
        """Give the row of each identifier, rising, shape (identifiers,)."""
        ...

    @property
    def leading(self) -> IdentifierTable:
        """Give the first identifier of each row, for measurements."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identify rows and identifiers."""
        ...

    def __len__(self) -> int:
        """Count the rows."""
        ...

    def sequence(self, row: int) -> npt.NDArray[np.int32]:
        """Give the tokens of a row's first identifier."""
        ...

    def sequences(self, row: int) -> list[npt.NDArray[np.int32]]:
        """Give the tokens of all identifiers of a row, its first one first."""
        ...

    def part(self, rows: range) -> Self:
        """Give some rows, one after the other, as a table of their own."""
        ...

    def extend(self, other: Self) -> Self:
        """Append the rows of another table; see `IdentifierTable.extend`."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the table into an existing folder."""
        ...


class IdentifierTable:
    """Hold the identifier of every catalogue row as one flat array of tokens. A value: nothing changes it.

    Two forms. *Fixed length* (Semantic IDs): `end_token` is None and all rows have the same number of tokens. *Ragged*
    (titles): every row ends with `end_token`, stored with the row and found nowhere else in it, so that no identifier
    is a prefix of another. Rows may share one identifier (equal titles); `groups` tells which.

    Args:
        tokens: All identifiers one after the other, terminators included, int32, shape (tokens,).
        offsets: Where each row begins, int64, shape (rows + 1,), first 0, last the number of tokens.
        vocab_size: One more than the largest token that may occur.
        end_token: The terminator of a ragged table, or None for fixed length.
        source: Fingerprint of what made the tokens: codebooks, or a tokenizer; "" when nothing did.

    Raises:
        IdentifierError: An empty identifier, a token outside 0..vocab_size-1, a missing or misplaced terminator.
        ShapeError: Offsets that do not fit the tokens, or rows of different length without a terminator.

    Memory: 4 bytes a token and 8 bytes a row.

    >>> table = IdentifierTable.from_matrix(np.array([[5, 0], [5, 1], [2, 0]]), vocab_size=8)
    >>> len(table), table.length, table.sequence(1)
    (3, 2, array([5, 1], dtype=int32))
    >>> table.rows_of([2, 0])
    array([2])
    """

    def __init__(
        self,
        tokens: npt.ArrayLike,
        offsets: npt.ArrayLike,
        vocab_size: int,
        end_token: int | None = None,
        source: str = "",
    ) -> None:
        self.offsets: Int = _integers(offsets, "offsets")
        self.vocab_size = int(vocab_size)
        self.end_token = None if end_token is None else int(end_token)
        self.source = str(source)
        wide = _integers(tokens, "tokens")
        self._check_offsets(len(wide))
        self._check_vocabulary(wide)
        self.tokens: npt.NDArray[np.int32] = wide.astype(np.int32)
        if self.end_token is not None:
            self._check_terminators()
        self.tokens.setflags(write=False)
        self.offsets.setflags(write=False)

    @classmethod
    def from_matrix(cls, codes: npt.ArrayLike, vocab_size: int | None = None, source: str = "") -> IdentifierTable:
        """Make a table of fixed length from codes of shape (rows, length).

        Args:
            codes: One identifier per row, shape (rows, length).
            vocab_size: Default: the largest code plus one.
            source: As for the class.
        """
        matrix = _integers(codes, "codes", dimensions=2)
        if matrix.shape[1] == 0:
            raise ShapeError(f"codes has shape {matrix.shape}; an identifier needs at least one code")
        if vocab_size is None:
            vocab_size = int(matrix.max()) + 1 if matrix.size else 1
        offsets = np.arange(len(matrix) + 1, dtype=np.int64) * matrix.shape[1]
        return cls(matrix.ravel(), offsets, vocab_size, None, source)

    @classmethod
    def from_sequences(
        cls, sequences: Sequence[Sequence[int]], vocab_size: int, end_token: int | None = None, source: str = ""
    ) -> IdentifierTable:
        """Make a table from lists of tokens; with `end_token`, each must end with it.

        >>> IdentifierTable.from_sequences([[7, 1], [7, 8, 1]], vocab_size=9, end_token=1).offsets
        array([0, 2, 5])
        """
        offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
        np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
        flat = np.fromiter((token for sequence in sequences for token in sequence), np.int64, int(offsets[-1]))
        return cls(flat, offsets, vocab_size, end_token, source)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdentifierTable) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        form = f"length={self.length}" if self.end_token is None else f"end_token={self.end_token}"
        return f"IdentifierTable({len(self)} rows, {form}, vocab_size={self.vocab_size})"

    @property
    def length(self) -> int | None:
        """Give the tokens per row of a table of fixed length; None for a ragged or an empty one."""
        if self.end_token is not None or len(self) == 0:
            return None
        return int(self.offsets[1] - self.offsets[0])

    @property
    def lengths(self) -> Int:
        """Count the tokens of each row, terminator included, shape (rows,)."""
        lengths: Int = np.diff(self.offsets)
        return lengths

    @property
    def owners(self) -> Int:
        """Give the row of each identifier, shape (rows,): every row has one."""
        return np.arange(len(self), dtype=np.int64)

    @property
    def leading(self) -> IdentifierTable:
        """Give the first identifier of each row: this table."""
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Identify rows, vocabulary, terminator and source."""
        details = {"vocab_size": self.vocab_size, "end_token": self.end_token, "source": self.source}
        return saved.fingerprint(details, {"tokens": self.tokens, "offsets": self.offsets})

    def sequence(self, row: int) -> npt.NDArray[np.int32]:
        """Give the tokens of one row, terminator included; a read-only view.

        Raises:
            IdentifierError: No such row.
        """
        if not 0 <= row < len(self):
            raise IdentifierError(f"row {row} has no identifier; this table has rows 0..{len(self) - 1}")
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    def sequences(self, row: int) -> list[npt.NDArray[np.int32]]:
        """Give the tokens of all identifiers of a row, which are one.

        Raises:
            IdentifierError: No such row.
        """
        return [self.sequence(row)]

    def part(self, rows: range) -> IdentifierTable:
        """Give some rows, one after the other, as a table of their own.

        >>> IdentifierTable.from_matrix([[3, 3], [1, 2], [3, 4]]).part(range(1, 3)).matrix().tolist()
        [[1, 2], [3, 4]]
        """
        bounds = self.offsets[rows.start : rows.stop + 1]
        return IdentifierTable(
            self.tokens[bounds[0] : bounds[-1]], bounds - bounds[0], self.vocab_size, self.end_token, self.source
        )

    def matrix(self) -> npt.NDArray[np.int32]:
        """Give all identifiers of a table of fixed length, shape (rows, length); a read-only view.

        Raises:
            IdentifierError: The table is ragged.
        """
        if self.end_token is not None:
            raise IdentifierError("this table is ragged (identifiers end with a terminator); use tokens and offsets")
        return self.tokens.reshape(len(self), self.length or 0)

    def rows_of(self, sequence: npt.ArrayLike) -> Int:
        """List the rows that carry this identifier, in catalogue order; empty when none does.

        Cost: O(rows) once per call, vectorised; decoding uses a trie instead.
        """
        wanted = np.asarray(sequence, dtype=np.int64).ravel()
        rows: Int = np.flatnonzero(self.lengths == len(wanted)).astype(np.int64)
        for position, token in enumerate(wanted):
            rows = rows[self.tokens[self.offsets[rows] + position] == token]
        return rows

    @cached_property
    def groups(self) -> Int:
        """Number the identifiers by first appearance, shape (rows,): rows that share one have the same number.

        >>> IdentifierTable.from_matrix([[3, 3], [1, 2], [3, 3]]).groups
        array([0, 1, 0])
        """
        numbers: dict[bytes, int] = {}
        flat, bounds = self.tokens.tobytes(), (self.offsets * self.tokens.itemsize).tolist()
        return np.fromiter(
            (numbers.setdefault(flat[bounds[row] : bounds[row + 1]], len(numbers)) for row in range(len(self))),
            np.int64,
            len(self),
        )

    def extend(self, other: IdentifierTable) -> IdentifierTable:
        """Append the rows of another table; the rows of this one keep their numbers and tokens.

        The vocabulary of the result is the larger of the two.

        Raises:
            FingerprintError: The two tables were made by different codebooks or tokenizers.
            ShapeError: Different lengths or different terminators.
        """
        if self.source != other.source:
            raise FingerprintError(
                f"identifiers made by {self.source!r} cannot be extended by identifiers made by {other.source!r}; "
                "assign the new items with the codebooks or the tokenizer of the first table"
            )
        if self.end_token != other.end_token or (len(self) and len(other) and self.length != other.length):
            raise ShapeError(
                f"cannot extend {self!r} by {other!r}; both tables need the same length or the same terminator"
            )
        return IdentifierTable(
            np.concatenate([self.tokens, other.tokens]),
            np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
            max(self.vocab_size, other.vocab_size),
            self.end_token,
            self.source,
        )

    def save(self, folder: str | Path) -> None:
        """Write ``identifiers.json`` and two ``.npy`` files into an existing folder."""
        details = {"vocab_size": self.vocab_size, "end_token": self.end_token, "source": self.source}
        saved.write(Path(folder), NAME, KIND, details, {"tokens": self.tokens, "offsets": self.offsets})

    @classmethod
    def load(cls, folder: str | Path) -> IdentifierTable:
        """Read a table that `save` wrote.

        Raises:
            DamagedError: A file is missing, truncated or altered, or its content cannot be a table.
            FormatError: Something else lies there, or a newer format.
        """
        found = saved.read(Path(folder), NAME, KIND)
        missing = {"vocab_size", "end_token", "source"} - set(found.details) | {"tokens", "offsets"} - set(found.arrays)
        if missing:
            raise FormatError(f"{Path(folder) / NAME}.json lacks {sorted(missing)}; build the folder again")
        try:
            return cls(found.arrays["tokens"], found.arrays["offsets"], **found.details)
        except (IdentifierError, ShapeError, TypeError) as error:
            raise DamagedError(f"{Path(folder) / NAME}.json does not describe a table: {error}") from error

    def _check_offsets(self, count: int) -> None:
        offsets = self.offsets
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != count or bool(np.any(np.diff(offsets) < 0)):
            raise ShapeError(
                f"offsets must rise from 0 to the number of tokens ({count}) with one entry more than rows; "
                f"got {len(offsets)} entries from {offsets[:1].tolist()} to {offsets[-1:].tolist()}"
            )
        empty = np.flatnonzero(np.diff(offsets) == 0)
        if len(empty):
            raise IdentifierError(f"row {empty[0]} has an empty identifier; every item needs at least one token")
        if self.end_token is None and len(self) and len(np.unique(np.diff(offsets))) > 1:
            raise ShapeError(
                "identifiers have different lengths but no end_token; "
                "give the token that ends each of them, or make them equally long"
            )

    def _check_vocabulary(self, tokens: Int) -> None:
        if not 1 <= self.vocab_size <= 2**31:
            raise IdentifierError(f"vocab_size is {self.vocab_size}; give 1 to 2**31")
        outside = np.flatnonzero((tokens < 0) | (tokens >= self.vocab_size))
        if len(outside):
            row = int(np.searchsorted(self.offsets, outside[0], side="right")) - 1
            raise IdentifierError(
                f"token {tokens[outside[0]]} of row {row} is outside the vocabulary 0..{self.vocab_size - 1}"
            )

    def _check_terminators(self) -> None:
        places = np.flatnonzero(self.tokens == self.end_token)
        if np.array_equal(places, self.offsets[1:] - 1):
            return
        wrong = np.setxor1d(places, self.offsets[1:] - 1)
        row = int(np.searchsorted(self.offsets, wrong[0], side="right")) - 1
        raise IdentifierError(
            f"row {row} must end with the terminator {self.end_token} and hold it nowhere else; "
            f"got {self.sequence(row)[:50].tolist()}"
        )


def _integers(values: npt.ArrayLike, name: str, dimensions: int = 1) -> Int:
    array = np.asarray(values)
    if array.size == 0 and array.ndim == dimensions:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim != dimensions:
        raise ShapeError(
            f"{name} must be integers with {dimensions} dimension(s), got {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.int64)
