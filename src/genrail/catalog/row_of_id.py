"""Which row an id stands for, in a catalogue that grows."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["RowOfId", "composed"]


class RowOfId:
    """Map an id to its newest row: a large shared dictionary and a small one of later additions.

    Ids are looked up in all rows ever; the catalogue then asks whether that row is live. An addition copies the small
    dictionary only, so adding one item to a million costs microseconds, not a new million-entry dictionary.
    """

    def __init__(self, base: dict[str, int], later: dict[str, int] | None = None) -> None:
        self.base = base
        self.later = later or {}

    @classmethod
    def of(cls, ids: Iterable[str]) -> RowOfId:
        """Map ids to their places, from 0."""
        return cls({composed(item_id): row for row, item_id in enumerate(ids)})

    def get(self, item_id: str) -> int:
        """Find a row; an id with blanks around it is the id without them, unless there is one with them."""
        item_id = composed(item_id)
        row = self._get(item_id)
        return self._get(item_id.strip()) if row < 0 else row

    def _get(self, item_id: str) -> int:
        row = self.later.get(item_id)
        return self.base.get(item_id, -1) if row is None else row

    def extended(self, ids: Iterable[str], first: int) -> RowOfId:
        """Give the map with further ids, numbered from `first`."""
        later = self.later | {composed(item_id): row for row, item_id in enumerate(ids, start=first)}
        if len(later) > 10_000 and len(later) * 10 > len(self.base):
            return RowOfId(self.base | later)
        return RowOfId(self.base, later)


def composed(item_id: str) -> str:
    """Write an id in one way: a letter with its accent is one character (NFC)."""
    return item_id if item_id.isascii() else unicodedata.normalize("NFC", item_id)
