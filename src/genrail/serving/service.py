"""What the application talks to: questions through the queue, changes one by one, and how things stand."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

from genrail.engine.engine import Engine
from genrail.serving.batching import Backend, Batcher, Kind
from genrail.serving.errors import Refusal
from genrail.serving.host import Host
from genrail.serving.metrics import Metrics
from genrail.serving.settings import ServeSettings
from genrail.serving.threads import Threads
from genrail.serving.tracing import Tracing

__all__ = ["Service"]

Page = dict[str, Any]
_log = logging.getLogger("genrail.serving")
CALL_SECONDS = 60.0  # for a change; a question has its own deadline


class Service:
    """Answer and change an engine for many clients at once.

    Args:
        backend: Threads of this process, or worker processes.
        settings: Sizes and deadlines.
    """

    def __init__(self, backend: Backend, settings: ServeSettings | None = None) -> None:
        self.settings = settings or ServeSettings()
        self.metrics = Metrics()
        self.disk = "ok"
        self.stopping = False
        self._backend = backend
        self.tracing = Tracing(self.settings.traces)
        self._batcher = Batcher(backend, self.settings, self.metrics, self.tracing)
        self._changing = asyncio.Lock()
        self._checker: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, engine: Engine, settings: ServeSettings | None = None) -> Service:
        """Serve an engine that is in this process."""
        settings = settings or ServeSettings()
        return cls(Threads(Host(engine, settings.beam_width)), settings)

    async def start(self) -> None:
        """Open the engine and begin to answer.

        Raises:
            GenrailError: The engine cannot be opened.
        """
        await self._backend.start()
        self._batcher.start()
        self.metrics.stand(await self._backend.call("state", {}))
        if self.settings.check_seconds:
            self._checker = asyncio.create_task(self._check())

    async def stop(self) -> None:
        """Answer what was accepted, within the drain time, and stop."""
        self.stopping = True
        if self._checker is not None:
            self._checker.cancel()
            with suppress(asyncio.CancelledError):
                await self._checker
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_seconds):
                await self._batcher.drain()
        await self._batcher.close()
        await self._backend.close()

    @property
    def trouble(self) -> str | None:
        """Say why nothing can be answered at the moment; None when it can."""
        return "the server is stopping" if self.stopping else self._backend.trouble

    @property
    def full(self) -> Refusal | None:
        """Give the refusal that the next question would get because the queue is full, or None."""
        return self._batcher.full

    @property
    def waiting(self) -> int:
        """Count the questions that wait."""
        return self._batcher.depth

    async def ask(
        self,
        question: Page,
        k: int,
        *,
        tenant: str | None = None,
        explain: Page | None = None,
        timeout_ms: int | None = None,
    ) -> Page:
        """Answer one question.

        Args:
            question: `text`, `history`, `where`, `exclude_seen`, perhaps `similar` and `item_id`.
            k: Hits.
            tenant: A filter that holds for everything this caller sees.
            explain: `beams` and `children` to show.
            timeout_ms: Less time than the server gives.

        Raises:
            Refusal: It is not answered, and why.
        """
        if self.stopping:
            raise Refusal(503, "the server is stopping; ask again in a moment", "stopping", 1)
        seconds = self.settings.deadline_seconds
        if timeout_ms is not None:
            seconds = min(seconds, timeout_ms / 1000)
        written = None if explain is None else json.dumps(explain, sort_keys=True)
        return await self._batcher.ask(question, Kind(k, tenant, written), seconds)

    async def call(self, name: str, page: Page | None = None, seconds: float | None = None) -> Page:
        """Ask the engine for `item`, `about`, `branches`, `rerank`, `describe`, `state`.

        Raises:
            Refusal: It does not answer, or refuses.
        """
        if self._backend.trouble is not None:
            raise Refusal(503, f"{self._backend.trouble}; ask again in a moment", "unavailable", 1)
        try:
            async with asyncio.timeout(seconds or self.settings.deadline_seconds):
                return await self._backend.call(name, page or {})
        except TimeoutError:
            raise Refusal(504, "not answered in time; ask again in a moment", "deadline", 1) from None

    async def change(self, page: Page) -> Page:
        """Change the engine; the change is on the disk and every later answer knows it.

        Args:
            page: See `Host.change`.

        Raises:
            Refusal: Nothing was changed, or (504, 503) it is not known whether it was.
        """
        async with self._changing:
            self._batcher.change(True)
            try:
                found = await asyncio.shield(self.call("change", page, CALL_SECONDS))
            finally:
                self._batcher.change(False)
        self.metrics.changes.labels(page["verb"]).inc()
        self.metrics.stand(found)
        _log.info(
            "engine changed",
            extra={
                "page": {"verb": page["verb"], "changed": found["changed"], "index_version": found["index_version"]}
            },
        )
        return found

    async def check(self) -> str:
        """Compare the engine on disk with its manifest now; "ok", or what is wrong."""
        found = (await self.call("check_disk"))["disk"]
        if found != self.disk:
            _log.log(
                logging.INFO if found == "ok" else logging.ERROR, "engine on disk", extra={"page": {"disk": found}}
            )
        self.disk = found
        self.metrics.stand(await self.call("state"))
        return self.disk

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(self.settings.check_seconds)
            with suppress(Refusal):
                await self.check()
