"""Changes that take longer than a client waits: each goes on by itself, and tells how far it is when asked."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from genrail.serving.errors import Refusal
from genrail.types import JsonObject

__all__ = ["Job", "Jobs"]

_log = logging.getLogger("genrail.serving")
MOST_UNDONE = 16  # changes that may wait for each other
MOST_DONE = 64  # whose outcome is remembered
LONGEST_WAIT_SECONDS = 60  # that a client is told to wait


@dataclass(eq=False)
class Job:
    """Hold one change.

    Args:
        name: To ask for it by.
        verb: What is done.
        task: Ends with what is live then, or with a Refusal.
        running: False while it waits for the changes before it.
    """

    name: str
    verb: str
    task: asyncio.Task[JsonObject]
    running: bool = False

    async def wait(self, seconds: float) -> JsonObject | None:
        """Wait for the change; None when it takes longer. Whoever stops waiting stops nothing.

        Raises:
            Refusal: Nothing was changed, or (503) it is not known whether it was.
        """
        done, _ = await asyncio.wait([self.task], timeout=seconds)
        return self.task.result() if done else None

    @property
    def status(self) -> str:
        """Say how it stands: waiting, running, done or failed."""
        if not self.task.done():
            return "running" if self.running else "waiting"
        return "failed" if self.task.cancelled() or self.task.exception() is not None else "done"

    @property
    def refusal(self) -> Refusal | None:
        """Give what a failed change failed of."""
        if self.status != "failed":
            return None
        error = None if self.task.cancelled() else self.task.exception()
        if isinstance(error, Refusal):
            return error
        return Refusal(503, "the server stopped before the change was made; look and repeat", "stopping", 1)


class Jobs:
    """Keep the changes that were begun, and the outcome of the last ones.

    Args:
        make: Makes one change; called for one after the other in the order in which they came.
    """

    def __init__(self, make: Callable[[JsonObject], Awaitable[JsonObject]]) -> None:
        self._make = make
        self._turn = asyncio.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._seconds = 0.1  # of the last changes, for Retry-After

    def begin(self, page: JsonObject) -> Job:
        """Begin a change; it is made even if nobody waits for it.

        Raises:
            Refusal: Too many wait already.
        """
        undone = [job for job in self._jobs.values() if not job.task.done()]
        if len(undone) >= MOST_UNDONE:
            wait = min(LONGEST_WAIT_SECONDS, max(1, math.ceil(len(undone) * self._seconds)))
            said = f"{len(undone)} changes are waiting, as many as may; repeat in {wait} s"
            raise Refusal(503, said, "queue", wait)
        done = [job.name for job in self._jobs.values() if job.task.done()]
        for name in done[: max(0, len(done) - MOST_DONE + 1)]:
            del self._jobs[name]
        name = secrets.token_hex(8)
        job = self._jobs[name] = Job(name, page["verb"], asyncio.create_task(self._run(name, page)))
        job.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # heard, if nobody asks for it
        return job

    def find(self, name: str) -> Job | None:
        """Find a change by its name."""
        return self._jobs.get(name)

    async def drain(self, seconds: float) -> None:
        """Wait for what was begun, and then give it up."""
        tasks = [job.task for job in self._jobs.values() if not job.task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, page: JsonObject) -> JsonObject:
        async with self._turn:
            self._jobs[name].running = True
            began = asyncio.get_running_loop().time()
            try:
                return await self._make(page)
            except Refusal:
                raise
            except Exception:
                _log.exception("a change failed")
                raise Refusal(500, "the server made a mistake; its log says more", "error") from None
            finally:
                self._seconds += 0.2 * (asyncio.get_running_loop().time() - began - self._seconds)
