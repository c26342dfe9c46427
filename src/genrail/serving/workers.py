"""Keep worker processes: start them, hand them batches, tell them of changes, and start those anew that die."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from genrail.errors import DamagedError, GenrailError, StorageError
from genrail.serving.batching import Batch
from genrail.serving.errors import Refusal, refusal_of
from genrail.serving.frames import pack, read_frame
from genrail.serving.pulse import Pulse, processor_seconds

__all__ = ["Workers"]

Page = dict[str, Any]
_log = logging.getLogger("genrail.serving")
GIVE_UP_AFTER = 5  # deaths in a row before a worker got ready
GIVE_UP_LACKING = 12  # starts in a row for which the machine lacked files, memory or processes: half a minute
FIRST_PAUSE = 0.1  # seconds before the second start; doubles with each further one
LONGEST_PAUSE = 5.0
BEAT_SECONDS = 1.0  # between two looks at a worker
STUCK_LOOKS = 30  # looks after which a decode that nobody waits for is not waited for either
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
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._changing = asyncio.Lock()
        self._closing = False
        words = ["--folder", str(folder), "--threads", str(threads or 1), "--beam-width", str(beam_width or 0)]
        self._workers = [
            _Worker([*words, *(["--follower"] if number else [])], self._heard_again) for number in range(count)
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

    async def answer(self, batch: Batch) -> Page:
        """Have an idle worker answer a batch."""
        worker = await self._idle_worker()
        try:
            number = worker.number()
            batch.when_left(lambda: worker.leave(number))
            return await worker.ask(number, "answer", batch.page)
        finally:
            if worker.ready:
                self._idle.put_nowait(worker)

    async def _idle_worker(self) -> _Worker:
        while True:
            if self.trouble is not None:
                raise Refusal(503, f"{self.trouble}; ask again in a moment", "unavailable", 1)
            worker = await self._idle.get()
            if worker.answers:
                return worker
            if worker.ready:
                worker.aside += 1  # it does not answer; what was taken comes back with its next beat

    def _heard_again(self, worker: _Worker) -> None:
        aside, worker.aside = worker.aside, 0
        for _ in range(aside):
            self._idle.put_nowait(worker)

    async def call(self, name: str, page: Page) -> Page:
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

    async def _change(self, page: Page) -> Page:
        first, *others = self._workers
        if not first.answers:
            raise Refusal(503, "the worker that makes changes is starting; ask again in a moment", "unavailable", 1)
        try:
            return await first.call("change", page)
        finally:
            await self._follow([worker for worker in others if worker.ready])

    async def _follow(self, workers: list[_Worker]) -> None:
        """Let workers take over what is logged; one that cannot is ended, and reads it when it starts again."""

        async def follow(worker: _Worker) -> None:
            try:
                async with asyncio.timeout(30):
                    await worker.call("change", {"verb": "reload"})
            except (Refusal, TimeoutError) as error:
                _log.error("a worker could not follow a change", extra={"page": {"pid": worker.pid, "why": str(error)}})
                worker.kill()

        await asyncio.gather(*map(follow, workers))

    async def _keep(self, worker: _Worker, first: asyncio.Future[None]) -> None:
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

    async def _join(self, worker: _Worker) -> None:
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


class _Worker:
    """Hold one process and what was asked of it."""

    def __init__(self, words: list[str], heard_again: Callable[[_Worker], None] = lambda _: None) -> None:
        self.ready = False
        self.pid = 0
        self.aside = 0  # times that it was not given work because it did not answer
        self._words = words
        self._heard_again = heard_again
        self._pulse = Pulse(starting=True)
        self._unwanted: dict[int, int] = {}  # decodes that nobody waits for, and the looks since
        self._watching: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Page]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process and wait until its engine answers.

        Raises:
            GenrailError: It cannot be opened, or the process died.
        """
        mine, its = socket.socketpair()
        words = ["-m", "genrail.serving.worker", "--socket", str(its.fileno()), *self._words]
        try:
            # A session of its own: Ctrl-C reaches the server, which then ends its workers after their last answer.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *words, pass_fds=[its.fileno()], start_new_session=True
            )
            self.pid = self._process.pid
            reader, self._writer = await asyncio.open_connection(sock=mine)
        except BaseException:
            mine.close()  # at which a process that was started after all ends by itself
            raise
        finally:
            its.close()
        self._pulse, self._unwanted, self.aside = Pulse(starting=True), {}, 0
        self._watching = asyncio.create_task(self._watch(self._process))
        try:
            hello = await read_frame(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._process.wait()
            raise StorageError(f"the process that holds the model ended with code {code} while it started") from None
        if "failed" in hello:
            await self._process.wait()
            raise _as_error(hello["failed"])
        self._pulse = Pulse()
        self._reading = asyncio.create_task(self._read(reader))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Look at the process in even steps, and end it when it hangs: its keeper then starts another."""
        while process.returncode is None:
            await asyncio.sleep(BEAT_SECONDS)
            if self.look(processor_seconds(process.pid)):
                page = {"pid": process.pid, "unwanted": len(self._unwanted)}
                _log.error("a worker hangs and is ended", extra={"page": page})
                with suppress(ProcessLookupError):
                    process.kill()
                return

    def look(self, used: float | None) -> bool:
        """Take one look, given the processor time it has used; tells whether it has to be ended."""
        was_silent = self._pulse.silent
        self._pulse.look(used)
        if was_silent and not self._pulse.silent:
            self._heard_again(self)
        if self.ready:
            self.tell({"id": 0, "name": "beat", "page": {}})
        self._unwanted = {number: looks + 1 for number, looks in self._unwanted.items()}
        return self._pulse.hung or any(looks > STUCK_LOOKS for looks in self._unwanted.values())

    @property
    def load(self) -> int:
        """Count what it was asked and has not answered."""
        return len(self._asked)

    @property
    def answers(self) -> bool:
        """Tell whether it can be given work."""
        return self.ready and not self._pulse.silent

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._take(await read_frame(reader))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._lose()

    def _take(self, frame: Page) -> None:
        if "beat" in frame:
            self._pulse.beat()
            return
        place = self._asked.pop(frame["id"], None)
        self._unwanted.pop(frame["id"], None)
        if place is None or place.done():
            return
        if "page" in frame:
            place.set_result(frame["page"])
        elif "left" in frame:
            place.set_exception(Refusal(499, "the client has left", "left"))
        else:
            place.set_exception(refusal_of(frame["error"]))

    def _lose(self) -> None:
        self.ready = False
        asked, self._asked = self._asked, {}
        for place in asked.values():
            if not place.done():
                place.set_exception(
                    Refusal(503, "the process that holds the model died; ask again in a moment", "died", 1)
                )

    def number(self) -> int:
        """Give the number of the next question."""
        return next(self._numbers)

    def leave(self, number: int) -> None:
        """Say that nobody waits for an answer any more; the work on it stops at its next step."""
        if number in self._asked:
            self._unwanted[number] = 0
            self.tell({"name": "left", "id": number})

    def tell(self, frame: Page) -> None:
        """Send a frame that needs no answer."""
        if self._writer is not None and not self._writer.is_closing():
            with suppress(OSError, RuntimeError):  # it has just died; whoever waits hears it from `_read`
                self._writer.write(pack(frame))

    async def ask(self, number: int, name: str, page: Page) -> Page:
        """Send a question and wait for its answer."""
        place: asyncio.Future[Page] = asyncio.get_running_loop().create_future()
        self._asked[number] = place
        self.tell({"id": number, "name": name, "page": page})
        if not self.ready:
            self._lose()
        return await place

    async def call(self, name: str, page: Page) -> Page:
        """Ask with a number of its own; if the caller is cancelled, the work on it stops where it can."""
        number = self.number()
        try:
            return await self.ask(number, name, page)
        except asyncio.CancelledError:
            if name != "change":
                self.leave(number)
            raise

    async def end(self) -> int:
        """Wait until the process has ended."""
        assert self._process is not None and self._reading is not None
        await self._reading
        self._close_line()
        code = await self._process.wait()
        self._unwatch()
        return code

    async def drop(self) -> None:
        """End what a failed start left."""
        self.ready = False
        self._unwatch()
        self._close_line()
        self.kill()
        if self._process is not None:
            await self._process.wait()

    def _unwatch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def _close_line(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def close(self) -> None:
        """Close the line, at which the process ends by itself."""
        self.ready = False
        self._close_line()

    async def gone(self) -> None:
        """Make sure that the process has ended."""
        self._unwatch()
        if self._process is None:
            return
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()


def _not_started(error: Exception) -> GenrailError:
    if isinstance(error, GenrailError):
        return error
    return StorageError(f"the process that holds the model cannot be started ({error}); free what it lacks and repeat")


def _as_error(error: dict[str, str]) -> GenrailError:
    """Make an error of the same kind as the one in the worker, as far as its kind matters."""
    import genrail.errors

    kind = getattr(genrail.errors, error["kind"], None)
    if isinstance(kind, type) and issubclass(kind, GenrailError) and kind is not genrail.errors.MissingPackageError:
        return kind(error["message"])
    return DamagedError(f"the engine cannot be opened: {error['message']} ({error['kind']})")
