"""Send plain values between processes: four bytes of length, then JSON; no pickle, so nothing sent can run."""

from __future__ import annotations

import asyncio
import json
import struct
from socket import socket
from threading import Lock

from genrail.types import JsonObject

__all__ = ["Line", "compact", "pack", "read_frame"]

LENGTH = struct.Struct(">I")
_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: json.dumps makes one for each call


def compact(page: JsonObject | list[JsonObject]) -> bytes:
    r"""Write plain values as JSON without blanks.

    >>> compact({"a": "\u00e9"})
    b'{"a":"\\u00e9"}'
    """
    return _encode(page).encode()


def pack(page: JsonObject) -> bytes:
    r"""Write one frame.

    >>> pack({"id": 1})
    b'\x00\x00\x00\x08{"id":1}'
    """
    data = compact(page)
    return LENGTH.pack(len(data)) + data


async def read_frame(reader: asyncio.StreamReader) -> JsonObject:
    """Read one frame.

    Raises:
        IncompleteReadError: The other side is gone.
    """
    [length] = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    page: JsonObject = json.loads(await reader.readexactly(length))
    return page


class Line:
    """Read and write frames on a socket that blocks; several threads may write."""

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._lock = Lock()

    def send(self, page: JsonObject) -> None:
        """Write one frame."""
        self.write(pack(page))

    def write(self, data: bytes) -> None:
        """Write what `pack` made."""
        with self._lock:
            self._connection.sendall(data)

    def receive(self) -> JsonObject | None:
        """Read one frame; None when the other side is gone."""
        head = self._stream.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return None
        [length] = LENGTH.unpack(head)
        data = self._stream.read(length)
        if len(data) < length:
            return None
        page: JsonObject = json.loads(data)
        return page
