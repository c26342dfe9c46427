"""Load for a server on this machine: a small HTTP client that costs little, and the shapes in which requests arrive."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvloop

uvloop.install()  # a load that is made at half the cost leaves the server more of the cores that they share

__all__ = ["Connection", "Sent", "closed_loop", "maker", "milliseconds", "open_loop", "percentile", "post"]


@dataclass
class Sent:
    """Hold the fate of one request: HTTP status (0 for none), seconds from when it was due, and the answer's bytes."""

    status: int
    seconds: float
    body: bytes = field(repr=False, default=b"")
    headers: bytes = field(repr=False, default=b"")

    @property
    def page(self) -> dict[str, Any]:
        """Parse the answer."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def retry_after(self) -> int | None:
        """Say after how many seconds the server wants to be asked again."""
        found = re.search(rb"(?i)\r\nretry-after: (\d+)", self.headers)
        return None if found is None else int(found[1])


def post(path: str, page: Any, key: str | None = None) -> bytes:
    """Write a request once, so that sending it costs nothing."""
    body = json.dumps(page).encode()
    token = f"X-API-Key: {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{token}Content-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """Keep one connection to the server, at a cost far below what the server spends on a request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._found = bytearray()
        self._whole = 0  # length of the answer, once its headers are there
        self._head = 0
        self._answer: asyncio.Future[None] | None = None

    async def send(self, request: bytes, due: float | None = None) -> Sent:
        """Send one request and read its answer."""
        began = time.perf_counter() if due is None else due
        loop = asyncio.get_running_loop()
        try:
            if self._transport is None or self._transport.is_closing():
                self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._port)
            self._found, self._whole, self._answer = bytearray(), 0, loop.create_future()
            self._transport.write(request)
            await self._answer
        except OSError:
            self.close()
            return Sent(0, time.perf_counter() - began)
        found = bytes(self._found)
        return Sent(int(found[9:12]), time.perf_counter() - began, found[self._head :], found[: self._head])

    def data_received(self, data: bytes) -> None:
        """Gather an answer until it is whole."""
        self._found += data
        if not self._whole:
            self._head = self._found.find(b"\r\n\r\n") + 4
            if self._head < 4:
                return
            lower = self._found[: self._head].lower()
            at = lower.index(b"content-length:") + 15
            self._whole = self._head + int(lower[at : lower.index(b"\r", at)])
        if len(self._found) >= self._whole and self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits that nothing comes any more."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()
        self._transport = None


def maker(bodies: list[Any], path: str = "/v1/search", key: str | None = None) -> Callable[[], bytes]:
    """Give the requests one after the other, for ever."""
    requests = [post(path, body, key) for body in bodies]
    at = iter(range(10**9))
    return lambda: requests[next(at) % len(requests)]


def milliseconds(sent: list[Sent], percent: float) -> float:
    """Give a percentile of the times of answers."""
    return round(1000 * percentile([one.seconds for one in sent], percent), 2)


async def closed_loop(port: int, make: Callable[[], bytes], connections: int, seconds: float) -> list[Sent]:
    """Let so many clients each send the next request as soon as the last is answered."""
    ends = time.perf_counter() + seconds
    found: list[Sent] = []

    async def client() -> None:
        line = Connection(port)
        while time.perf_counter() < ends:
            found.append(await line.send(make()))
        line.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return found


async def open_loop(
    port: int, make: Callable[[], bytes], per_second: float, seconds: float, connections: int = 256
) -> list[Sent]:
    """Send at a constant rate whatever comes back; a request's time runs from when it was due.

    A request for which no connection is free when it is due waits, and its time with it; it is not left out.
    """
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(Connection(port))
    found: list[Sent] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        line = await free.get()
        found.append(await line.send(make(), due))
        free.put_nowait(line)

    began = time.perf_counter()
    for number in range(round(per_second * seconds)):
        due = began + number / per_second
        if (wait := due - time.perf_counter()) > 0.001:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait().close()
    return found


def percentile(values: list[float], percent: float) -> float:
    """Give a percentile; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")
