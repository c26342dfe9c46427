"""Types known by a name: those of this package, of others by entry points, and those registered by hand."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from genrail.errors import SettingsError

__all__ = ["Kinds"]

T = TypeVar("T")


class Kinds(Generic[T]):
    """Find types by name; those of this package are imported when they are asked for.

    Args:
        noun: What one of them is called, for messages.
        group: Of another package's entry points, ``kind = "module:Type"``.
        built_in: Name to ``module:Type``.

    >>> numbers = Kinds("number", "example.numbers", {"fraction": "fractions:Fraction"})
    >>> numbers.find("fraction")(1, 2), numbers.find("quaternion")
    (Fraction(1, 2), None)
    """

    def __init__(self, noun: str, group: str, built_in: Mapping[str, str]) -> None:
        self.noun, self.group, self.built_in = noun, group, built_in
        self._registered: dict[str, type[T]] = {}

    def add(self, kind: str, added: type[T]) -> None:
        """Make a type known in this process.

        Raises:
            SettingsError: Another type has this name.
        """
        if kind in self.built_in or self._registered.get(kind, added).__qualname__ != added.__qualname__:
            raise SettingsError(f"a {self.noun} of the kind {kind!r} exists already; choose another name")
        self._registered[kind] = added

    @property
    def from_outside(self) -> list[str]:
        """List the names that this package does not bring."""
        return sorted({*self._registered, *(point.name for point in entry_points(group=self.group))})

    @property
    def names(self) -> list[str]:
        """List all names."""
        return sorted({*self.built_in, *self.from_outside})

    def find(self, kind: str) -> type[T] | None:
        """Find a type by its name, None where there is none."""
        if kind in self._registered:
            return self._registered[kind]
        if kind in self.built_in:
            module, name = self.built_in[kind].split(":")
            found: type[T] = getattr(import_module(module), name)
            return found
        for point in entry_points(group=self.group, name=kind):
            loaded: type[T] = point.load()
            return loaded
        return None
