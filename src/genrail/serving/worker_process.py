"""One process that holds the model, seen from the server: what was asked of it, and whether it still lives."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from genrail.errors import DamagedError, GenrailError, StorageError
from genrail.serving.errors import Refusal, refusal_of
from genrail.serving.frames import pack, read_frame
from genrail.serving.pulse import Pulse, processor_seconds
from genrail.types import JsonObject

__all__ = ["WorkerProcess"]

_log = logging.getLogger("genrail.serving")
BEAT_SECONDS = 1.0  # between two looks at a worker
STUCK_LOOKS = 30  # looks after which a decode that nobody waits for is not waited for either


class WorkerProcess:
    """Hold one process and what was asked of it."""

    def __init__(self, words: list[str], heard_again: Callable[[WorkerProcess], None] = lambda _: None) -> None:
        self.ready = False
        self.pid = 0
        self.aside = 0  # times that it was not given work because it did not answer
        self._words = words
        self._heard_again = heard_again
        self._pulse = Pulse(starting=True)
        self._unwanted: dict[int, int] = {}  # decodes that nobody waits for, and the looks since
        self._watching: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[JsonObject]] = {}
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

    def _take(self, frame: JsonObject) -> None:
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

    def tell(self, frame: JsonObject) -> None:
        """Send a frame that needs no answer."""
        if self._writer is not None and not self._writer.is_closing():
            with suppress(OSError, RuntimeError):  # it has just died; whoever waits hears it from `_read`
                self._writer.write(pack(frame))

    async def ask(self, number: int, name: str, page: JsonObject) -> JsonObject:
        """Send a question and wait for its answer."""
        place: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._asked[number] = place
        self.tell({"id": number, "name": name, "page": page})
        if not self.ready:
            self._lose()
        return await place

    async def call(self, name: str, page: JsonObject) -> JsonObject:
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


def _as_error(error: dict[str, str]) -> GenrailError:
    """Make an error of the same kind as the one in the worker, as far as its kind matters."""
    import genrail.errors

    kind = getattr(genrail.errors, error["kind"], None)
    if isinstance(kind, type) and issubclass(kind, GenrailError) and kind is not genrail.errors.MissingPackageError:
        return kind(error["message"])
    return DamagedError(f"the engine cannot be opened: {error['message']} ({error['kind']})")
