"""A file of JSON lines that only grows: kept answers of something costly, whose maker stands in the first line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from genrail.errors import DamagedError, FingerprintError
from genrail.storage.files import naming
from genrail.types import Json, JsonObject

__all__ = ["KeptLines"]


class KeptLines:
    """Keep lines, and read them again; a line that was cut off while it was written is dropped.

    Args:
        path: Made with the first line that is added; None keeps nothing.
        setting: What the file is called where people give it, for messages.
        head: Whose lines these are, in plain values by name, `format` among them.

    Attributes:
        lines: Those that were there.

    Raises:
        FingerprintError: The file is of another maker; it says what differs.
        DamagedError: The file holds other things.
    """

    def __init__(self, path: str | Path | None, setting: str, head: Mapping[str, Json]) -> None:
        self._path, self._setting = None if path is None else Path(path), setting
        self._head: JsonObject = json.loads(json.dumps(head))  # as it will be read
        self.lines: list[JsonObject] = []
        if self._path is not None and self._path.exists():
            with naming(self._path, "reading"):
                self._read(self._path)

    def add(self, lines: Sequence[Mapping[str, Json]]) -> None:
        """Write lines behind the others.

        Raises:
            DiskError: They cannot be written; what was kept before stays.
        """
        if self._path is None or not lines:
            return
        with naming(self._path, "writing into"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = not self._path.exists() or self._path.stat().st_size == 0
            with self._path.open("a", encoding="utf-8") as file:
                written = [self._head, *lines] if new else lines
                file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in written))

    def _read(self, path: Path) -> None:
        whole = path.read_bytes()
        complete = whole[: whole.rfind(b"\n") + 1]
        if not whole:
            return
        try:
            head, *self.lines = (json.loads(line) for line in complete.decode("utf-8").splitlines())
            if head["format"] != self._head["format"]:
                raise ValueError(f"its format is {head['format']!r}")
        except (ValueError, KeyError, TypeError) as error:
            wanted = self._head["format"]
            raise DamagedError(f"{path} is no file of {wanted} ({error}); give another {self._setting}") from error
        differing = [name for name in self._head if head.get(name) != self._head[name]]
        if differing:
            raise FingerprintError(
                f"what {path} holds was made otherwise: {', '.join(differing)} differ; give the same again, or another "
                f"{self._setting}"
            )
        if len(complete) < len(whole):  # cut off while it was written
            with path.open("r+b") as file:
                file.truncate(len(complete))
