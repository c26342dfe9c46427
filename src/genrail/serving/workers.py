"""Keep worker processes: start them, hand them batches, tell them of changes, and start those anew that die."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from genrail.errors import GenrailError, StorageError
from genrail.serving.batching import Batch
from genrail.serving.errors import Refusal
from genrail.serving.worker_process import WorkerProcess
from genrail.types import JsonObject

__all__ = ["Workers"]

_log = logging.getLogger("genrail.serving")
GIVE_UP_AFTER = 5  # deaths in a row before a worker got ready
GIVE_UP_LACKING = 12  # starts in a row for which the machine lacked files, memory or processes: half a minute
FIRST_PAUSE = 0.1  # seconds before the second start; doubles with each further one
LONGEST_PAUSE = 5.0
IN_FLIGHT = 2  # batches of a worker: one is decoded, one may lie ready
SETTLED_SECONDS = 30.0  # a worker that lived so long has recovered, and its deaths are counted anew


class Workers:
    """Hold worker processes that share one saved engine; its index is mapped, so it is in memory once.

    The first worker makes all changes; the others read them from the log before the change is acknowledged.

    Args:
        folder: The engine.
        count: How many processes.
        beam_width: Beams; None for the engine's own.
        threads: Of torch, in each process; None for 1. The native model is too small to gain from more, and threads
            that wait for a busy core cost a hundredfold.
        when_given_up: Called once when a worker cannot be kept alive.
        when_died: Called each time one dies.
    """

    def __init__(
        self,
        folder: Path,
        count: int = 1,
        beam_width: int | None = None,
        threads: int | None = None,
        when_given_up: Callable[[], None] = lambda: None,
        when_died: Callable[[], None] = lambda: None,
    ) -> None:
        self.parallel = count
        self.given_up: str | None = None
        self.when_given_up = when_given_up
        self.when_died = when_died
        self._idle: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        self._changing = asyncio.Lock()
        self._closing = False
        words = ["--folder", str(folder), "--threads", str(threads or 1), "--beam-width", str(beam_width or 0)]
        self._workers = [
            WorkerProcess([*words, *(["--follower"] if number else [])], self._heard_again) for number in range(count)
        ]
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> list[int]:
        """List the process ids of the workers that are ready."""
        return [worker.pid for worker in self._workers if worker.ready]

    @property
    def trouble(self) -> str | None:
        """Say why nothing can be answered at the moment; None when it can."""
        if self.given_up is not None:
            return self.given_up
        if any(worker.answers for worker in self._workers):
            return None
        silent = any(worker.ready for worker in self._workers)
        return "the process that holds the model does not answer" if silent else "the model is being started"

    async def start(self) -> None:
        """Start all workers; returns when each is ready.

        Raises:
            GenrailError: The engine cannot be opened.
        """
        first: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future() for _ in self._workers]
        self._keepers = [
            asyncio.create_task(self._keep(worker, ready)) for worker, ready in zip(self._workers, first, strict=True)
        ]
        for keeper in self._keepers:
            keeper.add_done_callback(self._kept)
        try:
            await asyncio.gather(*first)
        except BaseException:
            await self.close()
            raise

    async def answer(self, batch: Batch) -> JsonObject:
        """Have an idle worker answer a batch."""
        worker = await self._idle_worker()
        try:
            number = worker.number()
            batch.when_left(lambda: worker.leave(number))
            return await worker.ask(number, "answer", batch.page)
        finally:
            if worker.ready:
                self._idle.put_nowait(worker)

    async def _idle_worker(self) -> WorkerProcess:
        while True:
            if self.trouble is not None:
                raise Refusal(503, f"{self.trouble}; ask again in a moment", "unavailable", 1)
            worker = await self._idle.get()
            if worker.answers:
                return worker
            if worker.ready:
                worker.aside += 1  # it does not answer; what was taken comes back with its next beat

    def _heard_again(self, worker: WorkerProcess) -> None:
        aside, worker.aside = worker.aside, 0
        for _ in range(aside):
            self._idle.put_nowait(worker)

    async def call(self, name: str, page: JsonObject) -> JsonObject:
        """Ask a worker for something else; changes go to the first worker, and then to all."""
        if name == "change":
            async with self._changing:
                return await self._change(page)
        ready = [worker for worker in self._workers if worker.answers]
        if not ready:
            raise Refusal(503, f"{self.trouble}; ask again in a moment", "unavailable", 1)
        if name == "state":
            states = await asyncio.gather(*(worker.call("state", {}) for worker in ready))
            sums = {key: sum(state[key] for state in states) for key in ("gate_checked", "gate_violations")}
            return states[0] | sums
        if name == "filter":  # whichever decodes the question then finds it evaluated
            return (await asyncio.gather(*(worker.call(name, page) for worker in ready)))[0]
        if name == "progress":
            return await self._workers[0].call(name, page)
        return await min(ready, key=lambda worker: worker.load).call(name, page)

    async def _change(self, page: JsonObject) -> JsonObject:
        first, *others = self._workers
        if not first.answers:
            raise Refusal(503, "the worker that makes changes is starting; ask again in a moment", "unavailable", 1)
        try:
            return await first.call("change", page)
        finally:
            await self._follow([worker for worker in others if worker.ready])

    async def _follow(self, workers: list[WorkerProcess]) -> None:
        """Let workers take over what is logged; one that cannot is ended, and reads it when it starts again."""

        async def follow(worker: WorkerProcess) -> None:
            try:
                async with asyncio.timeout(30):
                    await worker.call("change", {"verb": "reload"})
            except (Refusal, TimeoutError) as error:
                _log.error("a worker could not follow a change", extra={"page": {"pid": worker.pid, "why": str(error)}})
                worker.kill()

        await asyncio.gather(*map(follow, workers))

    async def _keep(self, worker: WorkerProcess, first: asyncio.Future[None]) -> None:
        """Start a worker, and start it anew each time it dies; no failure of a start ends this, but too many do."""
        loop = asyncio.get_running_loop()
        failures, most = 0, GIVE_UP_AFTER
        while not self._closing:
            began = loop.time()
            try:
                await worker.start()
                await self._join(worker)
                if not first.done():
                    first.set_result(None)
                code = await worker.end()
                failures = 0 if loop.time() - began > SETTLED_SECONDS else failures + 1
                why, most = f"exit code {code}", GIVE_UP_AFTER
            except Exception as error:
                await worker.drop()
                failures, why = failures + 1, str(error) or type(error).__name__
                most = GIVE_UP_AFTER if isinstance(error, GenrailError) else GIVE_UP_LACKING
                if not first.done():  # it never worked: that is for the one who starts the server
                    first.set_exception(_not_started(error))
                    return
            if self._closing:
                return
            self.when_died()
            _log.error("a worker died", extra={"page": {"pid": worker.pid, "why": why, "in_a_row": failures}})
            if failures >= most:
                self._give_up(f"the model could not be kept alive, {failures} starts failed ({why})")
                return
            await asyncio.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)) if failures else 0)

    def _give_up(self, why: str) -> None:
        self.given_up = why
        self.when_given_up()

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        """End the server rather than let it live without anybody who starts its workers."""
        if not keeper.cancelled() and (error := keeper.exception()) is not None and self.given_up is None:
            _log.error("the keeper of a worker failed", exc_info=error)
            self._give_up(f"the model could not be kept alive ({type(error).__name__})")

    async def _join(self, worker: WorkerProcess) -> None:
        """Let a new worker catch up with changes made while it opened the engine, and then give it work."""
        async with self._changing:
            worker.ready = True
            if self.parallel > 1:
                await self._follow([one for one in self._workers if one.ready])
        if worker.ready:
            for _ in range(IN_FLIGHT):
                self._idle.put_nowait(worker)

    async def close(self) -> None:
        """End all workers."""
        self._closing = True
        for worker in self._workers:
            worker.close()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(worker.gone() for worker in self._workers))


def _not_started(error: Exception) -> GenrailError:
    if isinstance(error, GenrailError):
        return error
    return StorageError(f"the process that holds the model cannot be started ({error}); free what it lacks and repeat")
