"""A file of written queries: one line for each item, added as they are written, read again afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from genrail.errors import DamagedError
from genrail.storage.lines import KeptLines
from genrail.types import Json

__all__ = ["QueryFile"]

FORMAT = "genrail written queries 1"


class QueryFile:
    """Keep what was written for items; a text that has changed since has nothing written for it.

    Args:
        path: Made with the first line that is added; None keeps nothing beyond this object.
        writer: Whose queries these are, in plain values by name.

    Raises:
        FingerprintError: The file is of another writer; it says what differs.
        DamagedError: The file holds other things.
    """

    def __init__(self, path: str | Path | None, writer: Mapping[str, Json]) -> None:
        self._kept = KeptLines(path, "query_file", {"format": FORMAT, **writer})
        self._known: dict[tuple[str, str], tuple[int, list[str]]] = {}
        try:
            for line in self._kept.lines:
                queries = list(map(str, line["queries"]))
                self._known[str(line["item_id"]), str(line["text"])] = int(line["asked"]), queries
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(
                f"a line of {path} holds no written queries ({error}); give another query_file"
            ) from error

    def of(self, item_id: str, text: str, count: int) -> list[str] | None:
        """Give what was written for an item, at most `count`; None where as many were never asked for."""
        asked, queries = self._known.get((item_id, _digest(text)), (0, []))
        return queries[:count] if asked >= count else None

    def add(self, written: Sequence[tuple[str, str, Sequence[str]]], count: int) -> None:
        """Keep queries, given as (item id, text, queries), of which `count` were asked for.

        Raises:
            DiskError: They cannot be written; what was kept before stays.
        """
        lines: list[Mapping[str, Json]] = []
        for item_id, text, queries in written:
            self._known[item_id, _digest(text)] = count, list(queries)
            lines.append({"item_id": item_id, "text": _digest(text), "asked": count, "queries": list(queries)})
        self._kept.add(lines)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
