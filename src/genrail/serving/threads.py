"""Answer batches in threads of this process: simple, and what a test or a notebook wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

from genrail.errors import GenrailError
from genrail.serving.batching import Batch
from genrail.serving.errors import Refusal, refusal_of
from genrail.serving.host import Host, error_of
from genrail.types import JsonObject

__all__ = ["Left", "Threads"]


class Left(GenrailError):
    """End a decode that nobody waits for."""


class Threads:
    """Decode in one thread and change in another.

    Args:
        host: Holds the engine.
    """

    parallel = 1
    trouble: str | None = None

    def __init__(self, host: Host) -> None:
        self._host = host
        self._decoding = ThreadPoolExecutor(1, "genrail decode")
        self._changing = ThreadPoolExecutor(1, "genrail change")
        self._asking = ThreadPoolExecutor(4, "genrail ask")

    async def start(self) -> None:
        """Load what is lazy."""
        await self._in(self._decoding, self._host.warm_up)

    async def answer(self, batch: Batch) -> JsonObject:
        """Answer a batch; stop at the next step once everybody has left."""
        left = Event()
        batch.when_left(left.set)

        def before_step() -> None:
            if left.is_set():
                raise Left("nobody waits for this answer")

        try:
            found: JsonObject = await self._in(self._decoding, self._host.answer, batch.page, before_step)
            return found
        except Left:
            raise Refusal(499, "the client has left", "left") from None

    async def call(self, name: str, page: JsonObject) -> JsonObject:
        """Ask the host for something else; if the caller is cancelled, the work on it stops where it can."""
        self._host.settle()
        left = Event()

        def before_step() -> None:
            if left.is_set():
                raise Left("nobody waits for this answer")

        calls: dict[str, Callable[[], Any]] = {
            "change": lambda: self._host.change(page),
            "item": lambda: self._host.item(page),
            "about": lambda: self._host.about(page),
            "branches": lambda: self._host.branches(page),
            "suggest": lambda: self._host.suggest(page),
            "listed": lambda: self._host.listed(page),
            "filter": lambda: self._host.prepare(page, before_step),
            "rerank": lambda: self._host.rerank(page),
            "describe": self._host.describe,
            "state": self._host.state,
            "progress": lambda: self._host.progress,
            "check_disk": lambda: {"disk": self._host.check_disk()},
        }

        def call() -> Any:
            before_step()
            return calls[name]()

        # The text encoder is used by one thread at a time; a change waits for the device and for nobody else.
        pools = {"change": self._changing, "rerank": self._decoding}
        try:
            found: JsonObject = await self._in(pools.get(name, self._asking), calls[name] if name == "change" else call)
            return found
        except Left:
            raise Refusal(499, "the client has left", "left") from None
        finally:
            left.set()

    async def close(self) -> None:
        """Let the threads end."""
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._asking.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._changing.shutdown)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor | None, call: Callable[..., Any], *values: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, call, *values)
        except Left:
            raise
        except (GenrailError, OSError) as error:
            raise refusal_of(error_of(error)) from error
