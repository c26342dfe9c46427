"""What a query says in so many words, which values it names and what it excludes, and what items gain by it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.errors import DamagedError
from genrail.finders.bounds import Bound, number_columns, read_bounds
from genrail.finders.soft_filters import Condition, SoftFilters, value_columns
from genrail.finding import Request
from genrail.ranking.negation import Negation, mentions, read_negation
from genrail.types import Json, JsonObject

__all__ = ["STRENGTH", "Reader", "Reading"]

EXCLUDED = 2.5  # deviations that an item loses which holds what a query excludes, or has a number out of its bounds
STRENGTH = 0.5  # deviations that an item gains for a value; chosen on the demo and half of ESCI (docs/results.md)
BEST = 10  # hits of the first stage that say how far a reading is believed: a page

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reading:
    """Hold what was read in one query.

    Args:
        request: What the lanes are asked: the query without what it excludes.
        excluded: The words of each excluded thing.
        conditions: Values that it names, and among what it excludes.
        bounds: On numbers, such as "under 30"; the lanes do not read these words.
    """

    request: Request
    excluded: tuple[tuple[str, ...], ...] = ()
    conditions: tuple[Condition, ...] = ()
    bounds: tuple[Bound, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say what was read as not wanted."""
        if not self.excluded:
            return ()
        told = " and ".join(f'"{" ".join(words)}"' for words in self.excluded)
        return (f"read as: without {told}; items that hold it come later",)

    def to_dicts(self) -> tuple[JsonObject, ...]:
        """Say which words were read as which attributes."""
        return (*(one.to_dict() for one in self.conditions), *(one.to_dict() for one in self.bounds))


@dataclass(frozen=True, eq=False)
class Reader:
    """Read queries, and say what items gain or lose by what was read. A value: `grown` makes the next.

    Args:
        filters: The values of the catalogue's columns.
        strength: Deviations of the fused score that an item gains for each value that a query names; 0 reads none.
        negations: Read "without X" as what is not wanted.
    """

    filters: SoftFilters
    strength: float = STRENGTH
    negations: bool = True

    @classmethod
    def of(cls, catalog: Catalog, strength: float = STRENGTH, negations: bool = True) -> Reader:
        """Choose the columns whose values are read."""
        return cls(SoftFilters.of(catalog, value_columns(catalog)), strength, negations)

    def grown(self, catalog: Catalog) -> Reader:
        """Read the values of new items too."""
        return replace(self, filters=self.filters.grown(catalog))

    def read(self, request: Request) -> Reading:
        """Read the words of a request."""
        if not request.text:
            return Reading(request)
        read = read_negation(request.text) if self.negations else Negation(request.text)
        wanted, excluded = read.wanted, read.excluded
        bounds: tuple[Bound, ...] = ()
        if not (request.soft_filters and self.strength > 0.0):
            conditions = [Condition.unnamed(one) for one in excluded]
        else:
            wanted, bounds = read_bounds(wanted, self.filters.catalog, number_columns(self.filters.catalog))
            conditions = self.filters.read(wanted, excluded)
        asked = replace(request, text=wanted) if excluded or bounds else request
        return Reading(asked, excluded, tuple(conditions), bounds)

    def believed(self, reading: Reading, rows: Rows, sums: Floats) -> Reading:
        """Believe a reading as far as the first stage bears it out: by the share of its ten best that have the value.

        So "wax to waterproof leather boots", answered by wax, does not become a question for boots; and whoever may see
        some items only learns of no other's values.

        Args:
            reading: Of the query.
            rows: Of the candidates, shape (n,).
            sums: What the lanes say of them together, shape (n,).
        """
        best = rows[np.argsort(-sums, kind="stable")[:BEST]]
        shares = [float(self.filters.held(one, best).mean()) for one in reading.conditions] if len(best) else []
        weighed = (replace(one, share=share) for one, share in zip(reading.conditions, shares, strict=False))
        bounds = (one for one in reading.bounds if len(best) and not one.broken(self.filters.catalog, best).all())
        conditions = tuple(one for one in weighed if one.excluded or one.share > 0.0)
        return replace(reading, conditions=conditions, bounds=tuple(bounds))

    def gains(self, reading: Reading, rows: Rows, sums: Floats) -> Floats:
        """Say what each row gains by values that a query names, and loses by bounds and exclusions, shape (n,)."""
        gains = np.zeros(len(rows))
        deviation = float(sums.std()) or 1.0  # where the lanes tell nothing apart, the values do
        for condition in reading.conditions:
            if not condition.excluded:
                gains += self.strength * condition.share * deviation * self.filters.held(condition, rows)
        for bound in reading.bounds:
            gains -= EXCLUDED * deviation * bound.broken(self.filters.catalog, rows)
        if reading.excluded:
            gains -= EXCLUDED * deviation * self._excluded(reading, rows)
        return gains

    def _excluded(self, reading: Reading, rows: Rows) -> npt.NDArray[np.bool_]:
        """Tell which rows hold something that is not wanted: by a flag where it tells, else by the text."""
        texts = self.filters.catalog.part(rows.tolist()).texts()
        held = np.zeros(len(rows), dtype=np.bool_)
        for words, condition in zip(reading.excluded, reading.conditions[-len(reading.excluded) :], strict=True):
            said = np.array([mentions(text, words) for text in texts], dtype=np.bool_)
            told = self.filters.told(condition, rows)
            held |= np.where(told, self.filters.held(condition, rows), said)
        return held

    def explanations(self, reading: Reading, rows: Rows) -> list[dict[str, Json]]:
        """Say of each row which words of the query name a value of it."""
        held = [(one, self.filters.held(one, rows)) for one in reading.conditions]
        return [{"soft_filters": [one.words for one, has in held if has[place]]} for place in range(len(rows))]

    def describe(self) -> dict[str, Json]:
        """Tell which columns are read, and how much a value counts."""
        if not self.filters.columns or self.strength == 0.0:
            return {}
        return {"soft filters": f"{self.strength:g} for values of {', '.join(self.filters.columns)}"}

    def to_dict(self) -> dict[str, Json]:
        """Turn what is not read off the catalogue again into plain values."""
        return {"columns": list(self.filters.columns), "strength": self.strength}

    @classmethod
    def from_dict(cls, values: JsonObject, catalog: Catalog, negations: bool) -> Reader:
        """Read what `to_dict` gave; nothing, of versions before 0.2, reads no values.

        Raises:
            DamagedError: It is of another catalogue.
        """
        columns = tuple(str(name) for name in values.get("columns", ()))
        if not set(columns) <= set(catalog.frame.columns):
            raise DamagedError(f"soft filters of {', '.join(columns)} do not fit the catalogue; build the engine again")
        return cls(SoftFilters.of(catalog, columns), float(values.get("strength", 0.0)), negations)
