"""What the application talks to: questions through the queue, changes one by one, and how things stand."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from genrail.engine.engine import Engine
from genrail.serving.batching import Backend, Batcher, Kind
from genrail.serving.errors import Refusal
from genrail.serving.host import Host
from genrail.serving.jobs import Job, Jobs
from genrail.serving.limits import costly_filter
from genrail.serving.metrics import Metrics
from genrail.serving.settings import ServeSettings
from genrail.serving.tally import Tally
from genrail.serving.threads import Threads
from genrail.serving.tracing import Tracing
from genrail.serving.turns import Turns
from genrail.types import JsonObject

__all__ = ["Service"]

_log = logging.getLogger("genrail.serving")
COSTLY_AT_ONCE = 2  # costly calls of one worker, which has four threads beside that of the decodes
RERANK_DOCUMENTS = 16  # that are encoded at a time: a tenth of a second


class Service:
    """Answer and change an engine for many clients at once.

    Args:
        backend: Threads of this process, or worker processes.
        settings: Sizes and deadlines.
    """

    def __init__(self, backend: Backend, settings: ServeSettings | None = None) -> None:
        self.settings = settings or ServeSettings()
        self.metrics = Metrics()
        self.tally = Tally(self.settings.log_queries)
        self.disk = "ok"
        self.stopping = False
        self._backend = backend
        self.tracing = Tracing(self.settings.traces)
        self._batcher = Batcher(backend, self.settings, self.metrics, self.tracing)
        self._turns = Turns(COSTLY_AT_ONCE * backend.parallel, backend.parallel, self.settings.queue)
        self.jobs = Jobs(self._change)
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
        await self.jobs.drain(self.settings.drain_seconds)
        await self._batcher.close()
        await self._backend.close()

    @property
    def trouble(self) -> str | None:
        """Say why nothing can be answered at the moment; None when it can."""
        return "the server is stopping" if self.stopping else self._backend.trouble

    def full(self, key: str = "") -> Refusal | None:
        """Give the refusal that the next question of a key would get because the queue is full, or None."""
        return self._batcher.full(key)

    @property
    def waiting(self) -> int:
        """Count the questions that wait."""
        return self._batcher.depth

    async def ask(
        self,
        question: JsonObject,
        k: int,
        *,
        tenant: str | None = None,
        explain: JsonObject | None = None,
        timeout_ms: int | None = None,
        key: str = "",
    ) -> JsonObject:
        """Answer one question.

        Args:
            question: `text`, `history`, `where`, `exclude_seen`, perhaps `similar` and `item_id`.
            k: Hits.
            tenant: A filter that holds for everything this caller sees.
            explain: `beams` and `children` to show.
            timeout_ms: Less time than the server gives.
            key: Who asks; keys take turns.

        Raises:
            Refusal: It is not answered, and why.
        """
        if self.stopping:
            raise Refusal(503, "the server is stopping; ask again in a moment", "stopping", 1)
        seconds = self.settings.deadline_seconds
        if timeout_ms is not None:
            seconds = min(seconds, timeout_ms / 1000)
        written = None if explain is None else json.dumps(explain, sort_keys=True)
        kind = Kind(k, tenant, written)
        ends = asyncio.get_running_loop().time() + seconds
        if costly_filter(question.get("where")):
            self._check_trouble()
            async with self._costly(key, seconds, ends):
                await self._backend.call("filter", {"where": question["where"], "tenant": tenant})
        if explain is None:
            return await self._batcher.ask(question, kind, seconds, key, ends)
        async with self._costly(key, seconds, ends):  # as many steps again are written down
            return await self._batcher.ask(question, kind, seconds, key, ends)

    @asynccontextmanager
    async def _costly(self, key: str, seconds: float, ends: float) -> AsyncIterator[None]:
        """Take a turn, within a deadline that holds for the wait and the work."""
        try:
            async with asyncio.timeout_at(ends), self._turns.turn(key):
                yield
        except TimeoutError:
            raise Refusal(
                504, f"not answered within {seconds * 1000:.0f} ms; ask for less, or give it more time", "deadline", 1
            ) from None

    async def call(
        self, name: str, page: JsonObject | None = None, seconds: float | None = None, key: str | None = None
    ) -> JsonObject:
        """Ask the engine for `item`, `about`, `suggest`, `listed`, `branches`, `filter`, `rerank`, `describe`, `state`.

        Args:
            name: What is asked for.
            page: Its values.
            seconds: Deadline; None for the server's.
            key: Who asks, for a call that costs much: keys take turns. None does not wait for a turn.

        Raises:
            Refusal: It does not answer, or refuses.

        When the caller is cancelled, the work stops at its next step.
        """
        self._check_trouble()
        seconds = self.settings.deadline_seconds if seconds is None else seconds
        if key is not None:
            async with self._costly(key, seconds, asyncio.get_running_loop().time() + seconds):
                return await self._backend.call(name, page or {})
        try:
            async with asyncio.timeout(seconds):
                return await self._backend.call(name, page or {})
        except TimeoutError:
            raise Refusal(504, "not answered in time; ask again in a moment", "deadline", 1) from None

    async def rerank(self, query: str, documents: list[str], key: str) -> JsonObject:
        """Score texts for a query, a few at a time, so that questions of others are decoded between them.

        Raises:
            Refusal: It does not answer in time, or refuses.
        """
        self._check_trouble()
        scores: list[float] = []
        page: JsonObject = {}
        seconds = self.settings.deadline_seconds
        ends = asyncio.get_running_loop().time() + seconds
        for start in range(0, len(documents), RERANK_DOCUMENTS):
            async with self._costly(key, seconds, ends):
                some = {"query": query, "documents": documents[start : start + RERANK_DOCUMENTS]}
                page = await self._backend.call("rerank", some)
            scores += page["scores"]
        tokens = sum(map(len, [query, *documents])) // 4
        return page | {"scores": scores, "tokens": tokens}

    def _check_trouble(self) -> None:
        if self._backend.trouble is not None:
            raise Refusal(503, f"{self._backend.trouble}; ask again in a moment", "unavailable", 1)

    def begin(self, page: JsonObject) -> Job:
        """Begin a change, see `Host.change`; it is made after those before it, whether anybody waits or not.

        Raises:
            Refusal: Nothing can be changed at the moment, or too many changes wait.
        """
        if self.stopping:
            raise Refusal(503, "the server is stopping; repeat in a moment", "stopping", 1)
        self._check_trouble()
        return self.jobs.begin(page)

    async def _change(self, page: JsonObject) -> JsonObject:
        """Change the engine; the change is on the disk and every later answer knows it.

        Args:
            page: See `Host.change`.

        Raises:
            Refusal: Nothing was changed, or (503) it is not known whether it was.
        """
        self._check_trouble()
        self._batcher.change(True)
        try:
            found = await self._backend.call("change", page)
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
            try:
                await self.check()
            except Refusal:
                pass  # the worker is starting, or busy
            except Exception:
                _log.exception("the engine on disk could not be compared with its manifest")
