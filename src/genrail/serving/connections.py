"""Connections that cost a slow client its own time only: limits on headers and on how many there are."""

from __future__ import annotations

import asyncio
import secrets
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from genrail.serving.errors import Refusal, as_bytes
from genrail.serving.settings import ServeSettings

__all__ = ["guarded"]

HEADER_BYTES = 65_536


def guarded(settings: ServeSettings) -> type[asyncio.Protocol]:
    """Make the protocol that uvicorn speaks, with the limits of a server.

    A connection is closed when the headers of a request are not whole after `slow_seconds`, counted from the
    connection or the first byte, or are larger than 64 KiB; when the rest of a body that nobody reads any more takes
    longer than that; or when there are `connections` others, all of which are in the middle of something: one that is
    idle gives way, the longest idle one first, so that nobody keeps others out by doing nothing. Who is cut off is told
    why. Bodies that are read are watched by `genrail.serving.door`.
    """
    return type("Guarded", (_Guarded,), {"_settings": settings, "_idle": {}})


class _Guarded(HttpToolsProtocol):
    _settings = ServeSettings()
    _idle: ClassVar[dict[_Guarded, None]] = {}  # of one server, the longest idle first
    _timer: asyncio.TimerHandle | None = None
    _in_headers = True
    _in_message = False
    _header_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        if len(self.connections) > self._settings.connections and not self._make_room():
            limit = f"{self._settings.connections} clients are connected, as many as may; come again in 1 s"
            self._cut(Refusal(503, limit, "connections", 1))
        else:
            self._idle[self] = None
            self._watch()

    def _make_room(self) -> bool:
        """Close the connection that has been idle for the longest; False when all are in use."""
        idle = next(iter(self._idle), None)
        if idle is None:
            return False
        del self._idle[idle]
        idle.connections.discard(idle)
        idle.transport.close()
        return True

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > HEADER_BYTES:
            self._cut(Refusal(431, f"the headers are larger than {HEADER_BYTES} bytes; send less", "limit"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message = True
        self._idle.pop(self, None)
        self._watch()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._unwatch()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_message, self._in_headers, self._header_bytes = False, True, 0
        self._unwatch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_message:  # answered before the body was whole: the rest may not take for ever
            self._watch()
        elif self.cycle is None or self.cycle.response_complete:  # and no other request was sent meanwhile
            self._idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._settings.slow_seconds, self._too_slow)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._in_headers:
            limit = f"the headers took longer than {self._settings.slow_seconds:g} s"
            self._cut(Refusal(408, limit, "slow"))
        else:  # it has its answer
            self.transport.close()

    def _cut(self, refusal: Refusal) -> None:
        self._unwatch()
        if not self.transport.is_closing():
            self.transport.write(as_bytes(refusal, secrets.token_hex(8)))
            self.transport.close()
