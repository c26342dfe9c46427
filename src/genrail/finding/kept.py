"""A small cache: the values asked for last, within a number of entries and of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Kept"]

Value = TypeVar("Value")

MAX_ENTRIES = 64
MAX_BYTES = 256 * 2**20  # masks of one edition: some twenty over 10^7 items


class Kept(Generic[Value]):
    """Keep values by a key; those that were not asked for longest make room. Threads may share one.

    Args:
        size: Counts the bytes of a value.
        entries: How many stay at most.
        nbytes: How many bytes they hold at most, keys included; a value that is larger is not kept.

    >>> words = Kept(len, entries=2)
    >>> words.keep("a", "apple"), words.keep("b", "bread"), words.keep("c", "cake")
    ('apple', 'bread', 'cake')
    >>> words.find("a"), words.find("c"), len(words)
    (None, 'cake', 2)
    """

    def __init__(self, size: Callable[[Value], int], entries: int = MAX_ENTRIES, nbytes: int = MAX_BYTES) -> None:
        self._size = size
        self._entries = entries
        self._most_bytes = nbytes
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    @property
    def nbytes(self) -> int:
        """Count the bytes of everything that is kept."""
        return self._nbytes

    def find(self, key: str) -> Value | None:
        """Give the value of a key, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def keep(self, key: str, value: Value) -> Value:
        """Remember a value, if it fits, and give it back."""
        size = len(key) + self._size(value)
        with self._lock:
            if key in self._values or size > self._most_bytes:
                return value
            self._values[key] = value
            self._nbytes += size
            while len(self._values) > self._entries or self._nbytes > self._most_bytes:
                gone, dropped = self._values.popitem(last=False)
                self._nbytes -= len(gone) + self._size(dropped)
        return value
