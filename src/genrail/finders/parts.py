"""Grow by parts: what is added is kept beside what is there, and small parts are joined now and then."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.finders.products import inner_products
from genrail.finders.screen import Screen

__all__ = ["Rows", "appended"]

Part = TypeVar("Part", bound=Sized)


def appended(parts: Sequence[Part], new: Part, join: Callable[[Part, Part], Part]) -> tuple[Part, ...]:
    """Append a part, and join the last two as long as the earlier is less than twice the later.

    So there are at most log2(rows) parts, and each row is copied about as often: adding one row to a million copies
    little almost always, and everything only after half a million additions.

    >>> parts = ()
    >>> for number in range(7):
    ...     parts = appended(parts, [number], lambda first, second: first + second)
    >>> parts
    ([0, 1, 2, 3], [4, 5], [6])
    """
    grown = [*parts, new]
    while len(grown) > 1 and len(grown[-2]) < 2 * len(grown[-1]):
        last = grown.pop()
        grown[-1] = join(grown[-1], last)
    return tuple(grown)


@dataclass(frozen=True, eq=False)
class Rows:
    """Hold an array in parts along its first axis; a value, whose parts are shared with what grew out of it.

    Args:
        parts: One or more, of one type and width.

    >>> grown = Rows.of(np.eye(4)).grown(np.ones((1, 4)))
    >>> len(grown), grown.take(np.array([4, 0])).tolist()
    (5, [[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    """

    parts: tuple[Array, ...]

    @classmethod
    def of(cls, array: Array) -> Rows:
        """Start with one part."""
        return cls((array,))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def nbytes(self) -> int:
        """Count the bytes of all parts, and of their screens where these were made."""
        screens = self._screens if "_screens" in self.__dict__ else ()
        return sum(part.nbytes for part in self.parts) + sum(screen.nbytes for screen in screens)

    def grown(self, new: Array) -> Rows:
        """Append rows; those that are there are not copied, or seldom."""
        if not len(new):
            return self
        kept = self.parts if len(self) else ()
        made = Rows(appended(kept, new, lambda first, second: np.concatenate([first, second])))
        if "_screens" in self.__dict__:  # those of parts that stay are not made again
            known = {id(part): screen for part, screen in zip(self.parts, self._screens, strict=True)}
            made.__dict__["_screens"] = tuple(known.get(id(part)) or Screen.of(part) for part in made.parts)
        return made

    def whole(self) -> Array:
        """Give one array: the only part, or a copy of all."""
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)

    def joined(self) -> Rows:
        """Give the same rows as one part."""
        return self if len(self.parts) == 1 else Rows((self.whole(),))

    def products(self, vector: Array) -> Array:
        """Give the inner product of each row with a vector, shape (rows,)."""
        if len(self.parts) == 1:
            return inner_products(self.parts[0], vector)
        return np.concatenate([inner_products(part, vector) for part in self.parts])

    def bounds(self, vector: Array) -> tuple[Array, Array]:
        """Bound the products of all rows with a vector from below and above, each (rows,); see `Screen`."""
        found = [screen.bounds(vector) for screen in self._screens]
        low, high = zip(*found, strict=True)
        return np.concatenate(low), np.concatenate(high)

    @cached_property
    def _screens(self) -> tuple[Screen, ...]:
        return tuple(Screen.of(part) for part in self.parts)

    def take(self, rows: npt.NDArray[np.int64]) -> Array:
        """Give some rows, in that order."""
        if len(self.parts) == 1:
            return self.parts[0][rows]
        starts = np.cumsum([0, *map(len, self.parts)])
        places = np.searchsorted(starts, rows, side="right") - 1
        found = np.empty((len(rows), *self.parts[0].shape[1:]), dtype=self.parts[0].dtype)
        for place, part in enumerate(self.parts):
            here = places == place
            found[here] = part[rows[here] - starts[place]]
        return found
