"""Codes read off a catalogue's columns, so that every code is a word: category shoes / brand Ecco / number 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.shared_values import shared_values
from genrail.errors import DamagedError, IdentifierError, SettingsError
from genrail.identifiers import saved
from genrail.identifiers.quantizer import NAME, Codes, Float, check_codes, check_settings, checked_vectors

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["AttributeCodes"]

KIND = "genrail.attribute_codes"
OTHER, MISSING = 0, 1  # codes of a value that was not seen when the codes were frozen, and of an item without one
KNOWN = 2  # code of the most frequent value of a column


class AttributeCodes:
    """Give the most frequent values of some columns codes of their own, one level for each column.

    The columns are chosen by what their values look like: words, at least half of the items have one, and a value
    stands for two items or more on average. The one with the fewest values comes first; a column that tells no items
    apart which earlier ones do not is left out. Columns and values are then frozen: a value that comes later, or is
    beyond `codes`, has the code "other".

    It is a quantizer whose vectors are the items' value numbers, from `describe_items`.

    Args:
        levels: Columns at most.
        codes: Codes of each column at most, the two for other and missing values included.
        seed: Not used; all quantizers take one.

    Raises:
        SettingsError: A setting below its range.

    Cost: one pass over the values.
    Source: semantic indexing by categories, Hua et al. 2023, How to Index Item IDs for Recommendation
    Foundation Models.

    >>> from genrail.catalog import Catalog
    >>> items = [{"id": str(n), "title": f"item {n}", "brand": "Ecco" if n < 4 else "Nike"} for n in range(10)]
    >>> shop = Catalog.from_items(items)
    >>> codes = AttributeCodes().fit_items(shop)
    >>> codes.spell([3]), codes.spell([2, 1]), codes.describe_items(shop)[3:5].tolist()
    ('brand Ecco', 'brand Nike / number 2', [[3.0], [2.0]])
    """

    def __init__(self, levels: int = 3, codes: int = 256, seed: int = 0) -> None:
        check_settings(levels=(levels, 1), codes=(codes, KNOWN + 1))
        self._most = (levels, codes)
        self._columns: dict[str, list[str]] = {}  # name to its values, most frequent first

    @classmethod
    def codebook(cls, items: int) -> int:
        """Choose how many codes a column may have at most, for so many items."""
        return 256

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """Give the chosen columns with their values, the broadest column and the most frequent value first."""
        return self._columns

    @property
    def levels(self) -> int:
        """Count the columns."""
        return len(self._columns) or self._most[0]

    @property
    def codes(self) -> int:
        """Count the codes of the column that has most."""
        return KNOWN + max(map(len, self._columns.values())) if self._columns else self._most[1]

    @property
    def dimensions(self) -> int:
        """Give the width of what `describe_items` makes.

        Raises:
            IdentifierError: Not fitted yet.
        """
        return len(self._fitted())

    @property
    def fingerprint(self) -> str:
        """Identify columns and values.

        Raises:
            IdentifierError: Not fitted yet.
        """
        return saved.fingerprint({"kind": KIND, "columns": list(self._fitted().items())}, {})

    def fit_items(self, catalog: Catalog) -> Self:
        """Choose columns and values by the live items, and freeze them.

        Raises:
            SettingsError: No column has values that several items share.
        """
        levels, codes = self._most
        live = catalog.frame.filter(pl.Series(catalog.live))
        found = [(len(values), name, values) for name in catalog.attribute_names if (values := _values(live, name))]
        told: list[pl.Series] = []
        for _, name, values in sorted(found, key=lambda one: one[0]):  # stable: equal ones in the catalogue's order
            if len(self._columns) == levels:
                break
            longer = [*told, live.get_column(name)]
            if _groups(longer) > _groups(told):
                told = longer
                self._columns[name] = values[: codes - KNOWN]
        if not self._columns:
            raise SettingsError(
                "no column of this catalogue has words that several items share, so identifiers cannot be read off "
                f"attributes (it has {', '.join(catalog.attribute_names) or 'no attributes'}); choose kmeans"
            )
        return self

    def describe_items(self, items: Catalog) -> Float:
        """Give the number of each item's value of each column, shape (items, columns)."""
        table = np.empty((len(items), self.dimensions), dtype=np.float32)
        for level, (name, values) in enumerate(self._fitted().items()):
            number = {value: KNOWN + place for place, value in enumerate(values)}
            column = items.frame.get_column(name).to_list()
            table[:, level] = [number.get(value, OTHER) if value else MISSING for value in column]
        return table

    def spell(self, codes: Sequence[int]) -> str:
        """Say what the beginning of an identifier stands for; what follows the columns tells duplicates apart."""
        words = [
            f"{name} {_word(values, code)}" for (name, values), code in zip(self._fitted().items(), codes, strict=False)
        ]
        return " / ".join([*words, *(f"number {code + 1}" for code in codes[self.dimensions :])])

    def fit(self, vectors: npt.ArrayLike) -> Self:
        """Refuse vectors: there is nothing to be read off them.

        Raises:
            IdentifierError: Always.
        """
        raise IdentifierError("attribute codes are read off items, not vectors; call fit_items(catalog)")

    def assign(self, vectors: npt.ArrayLike) -> Codes:
        """Turn what `describe_items` gave into codes, int64, shape (n, columns).

        Raises:
            IdentifierError: Not fitted yet, or a number that is no code.
            ShapeError: Another number of columns.
        """
        return check_codes(checked_vectors(vectors, self.dimensions).astype(np.int64), self.levels, self.codes)

    def decode(self, codes: npt.ArrayLike) -> Float:
        """Give the numbers of `describe_items` for codes of shape (n, up to columns); "other" for those not given."""
        checked = check_codes(codes, self.levels, self.codes)
        return np.pad(checked, ((0, 0), (0, self.dimensions - checked.shape[1]))).astype(np.float32)

    def save(self, folder: str | Path) -> None:
        """Write columns and values into an existing folder.

        Raises:
            IdentifierError: Not fitted yet.
        """
        saved.write(Path(folder), NAME, KIND, {"columns": list(self._fitted().items())}, {})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: The file is missing, cut or altered.
            FormatError: Another kind of quantizer lies there, or a newer format.
        """
        found = saved.read(Path(folder), NAME, KIND)
        made = cls()
        try:
            made._columns = {str(name): [str(value) for value in values] for name, values in found.details["columns"]}
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{Path(folder) / NAME}.json does not describe attribute codes: {error}") from error
        if not made._columns:
            raise DamagedError(f"{Path(folder) / NAME}.json names no column; restore the folder or build it again")
        return made

    def _fitted(self) -> dict[str, list[str]]:
        if not self._columns:
            raise IdentifierError("these codes are not fitted; call fit_items(catalog) first, or load a saved folder")
        return self._columns


def _values(live: pl.DataFrame, name: str) -> list[str]:
    """List the values of a column that is fit for codes, most frequent first; none for other columns."""
    column = live.get_column(name)
    if column.dtype != pl.String or 2 * int((column.fill_null("") != "").sum()) < len(live):
        return []
    return shared_values(column) or []


def _groups(columns: list[pl.Series]) -> int:
    """Count the different combinations of values."""
    return pl.DataFrame(columns).n_unique() if columns else 1


def _word(values: Sequence[str], code: int) -> str:
    if code < KNOWN:
        return "other" if code == OTHER else "none"
    return values[code - KNOWN] if code - KNOWN < len(values) else "?"
