"""Gather questions that arrive together into one decode, within a bounded queue and a deadline for each."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Protocol

from genrail.serving.errors import Refusal, refusal_of
from genrail.serving.metrics import Metrics
from genrail.serving.settings import ServeSettings
from genrail.serving.tracing import Tracing
from genrail.serving.turns import share
from genrail.types import JsonObject

__all__ = ["Backend", "Batch", "Batcher", "Kind"]

_log = logging.getLogger("genrail.serving")
WEIGHT_CHARACTERS = 512  # of a question, that cost as much as another short question
SETTLING_SECONDS = 2.0  # after a change: what went is freed, what came is asked for the first time


@dataclass(frozen=True)
class Kind:
    """Say which questions can share a decode: those with as many hits, of one tenant, explained alike."""

    k: int
    tenant: str | None = None
    explain: str | None = None  # JSON


@dataclass(eq=False)
class Waiting:
    """Hold a question and the place for its answer."""

    question: JsonObject
    kind: Kind
    key: str
    answer: asyncio.Future[JsonObject]
    context: Any = None  # of the trace
    since: int = 0

    @property
    def weight(self) -> int:
        """Say for how many short questions it counts: long words take the text encoder longer."""
        return 1 + len(self.question.get("text") or "") // WEIGHT_CHARACTERS


@dataclass(eq=False)
class Batch:
    """Hold the questions of one decode, and tell when nobody waits for any of them."""

    kind: Kind
    waiting: list[Waiting]
    _left: list[Callable[[], None]] = field(default_factory=list)

    @property
    def page(self) -> JsonObject:
        """Write the batch as plain values."""
        return {
            "questions": [one.question for one in self.waiting],
            "k": self.kind.k,
            "tenant": self.kind.tenant,
            "explain": None if self.kind.explain is None else json.loads(self.kind.explain),
        }

    def when_left(self, call: Callable[[], None]) -> None:
        """Call back once all clients have left or been refused."""
        self._left.append(call)
        for one in self.waiting:
            one.answer.add_done_callback(lambda _: self._check())

    def _check(self) -> None:
        if self._left and all(one.answer.done() for one in self.waiting):
            calls, self._left = self._left, []
            for call in calls:
                call()

    def decided(self) -> None:
        """Forget who wanted to hear: the answers are there."""
        self._left = []


class Backend(Protocol):
    """Answer batches: in threads of this process, or in worker processes."""

    @property
    def parallel(self) -> int:
        """Say how many batches may be worked on at the same time."""
        ...

    @property
    def trouble(self) -> str | None:
        """Say why nothing can be answered at the moment; None when it can."""
        ...

    async def start(self) -> None:
        """Get ready; returns when the engine answers.

        Raises:
            GenrailError: The engine cannot be opened.
        """
        ...

    async def answer(self, batch: Batch) -> JsonObject:
        """Answer a batch.

        Raises:
            Refusal: The worker died, or everybody left.
        """
        ...

    async def call(self, name: str, page: JsonObject) -> JsonObject:
        """Ask for something else: `item`, `rerank`, `describe`, `check_disk`, `change`."""
        ...

    async def close(self) -> None:
        """Stop."""
        ...


class Batcher:
    """Queue questions and hand them to a backend, as many at once as wait for it.

    There is no waiting for company: while one batch is decoded the next gathers, so a lone question loses no time and a
    crowd is decoded together. Keys take turns: each batch begins with the oldest question of the key whose turn it is,
    and is filled with one question of each key at a time. A full queue belongs in equal parts to all keys that wait.

    Args:
        backend: Answers batches.
        settings: Sizes and deadlines.
        metrics: Counted here: depth of the queue, size of batches.
        tracing: Writes waits and decodes; None writes nothing.
    """

    def __init__(
        self, backend: Backend, settings: ServeSettings, metrics: Metrics, tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing or Tracing()
        self._backend = backend
        self._settings = settings
        self._metrics = metrics
        self._queues: OrderedDict[str, deque[Waiting]] = OrderedDict()  # by key, the one whose turn it is first
        self._depth = 0
        self._arrived = asyncio.Event()
        self._crowded = asyncio.Event()  # a whole batch waits
        self._runners: list[asyncio.Task[None]] = []
        self._batch_seconds = 0.02  # of the last batches, for Retry-After
        self._busy = 0
        self._changing = False
        self._roomy = False  # more may wait than usual
        self._settled = 0.0  # when the last change has been digested

    def start(self) -> None:
        """Begin to work."""
        for _ in range(self._backend.parallel):
            self._runners.append(asyncio.create_task(self._run()))
            # One batch lies ready at the worker when there is a whole one, so that it never waits for this process.
            self._runners.append(asyncio.create_task(self._run(whole=True)))

    async def close(self) -> None:
        """Stop; whoever waits is told."""
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
        for queue in self._queues.values():
            for one in queue:
                self._refuse(one, Refusal(503, "the server is stopping; ask again in a moment", "stopping", 1))

    async def drain(self) -> None:
        """Wait until everything that was accepted is answered."""
        while self._depth or self._busy:
            await asyncio.sleep(0.01)

    @property
    def depth(self) -> int:
        """Count the questions that wait."""
        return self._depth

    def full(self, key: str = "") -> Refusal | None:
        """Give the refusal that the next question of a key would get because of the queue, or None."""
        most = self._settings.queue
        if self._depth < most:
            self._roomy = self._changing or asyncio.get_running_loop().time() < self._settled
            return None
        if self._roomy:
            most = max(most, self._settings.change_queue)
            if self._depth < most:
                return None
        if len(self._queues.get(key, ())) < share(most, self._queues, key):
            return None  # somebody with more than a fair share gives way
        return self._no_room()

    def _no_room(self) -> Refusal:
        batches = self._depth / self._settings.batch / max(1, self._backend.parallel)
        wait = max(1, math.ceil(batches * self._batch_seconds))
        return Refusal(
            503, f"{self._depth} questions are waiting, as many as may; ask again in {wait} s", "queue", wait
        )

    def _give_way(self) -> None:
        """Refuse the youngest question of the key that has the most, if the queue is full."""
        most = max(self._settings.queue, self._settings.change_queue) if self._roomy else self._settings.queue
        if self._depth >= most:
            youngest, refusal = max(self._queues.values(), key=len)[-1], self._no_room()
            self._forget(youngest)
            self._refuse(youngest, refusal)

    def change(self, going_on: bool) -> None:
        """Hear that the engine is being changed, or no longer: until that is digested more may wait."""
        self._changing = going_on
        self._settled = asyncio.get_running_loop().time() + SETTLING_SECONDS
        self._roomy = self._roomy or going_on

    async def ask(
        self, question: JsonObject, kind: Kind, seconds: float, key: str = "", ends: float | None = None
    ) -> JsonObject:
        """Answer one question.

        Args:
            question: See `genrail.serving.host`.
            kind: What it can be decoded with.
            seconds: Deadline.
            key: Who asks; keys take turns.
            ends: When the deadline is over by the clock of the loop, if it began before.

        Raises:
            Refusal: The queue is full, the deadline is over, the worker died, or the engine refuses the question.

        When the caller is cancelled, the question leaves the queue, or its decode is stopped at the next step if all
        others of the batch have left too.
        """
        if (full := self.full(key)) is not None:
            raise full
        if self._backend.trouble is not None:
            raise Refusal(503, f"{self._backend.trouble}; ask again in a moment", "unavailable", 1)
        self._give_way()
        place = asyncio.get_running_loop().create_future()
        waiting = Waiting(question, kind, key, place, *self._tracing.here())
        self._queues.setdefault(key, deque()).append(waiting)
        self._moved(+1)
        self._arrived.set()
        if self._depth >= self._settings.batch:
            self._crowded.set()
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + seconds if ends is None else ends):
                answer = await waiting.answer
        except TimeoutError:
            raise Refusal(
                504, f"not answered within {seconds * 1000:.0f} ms; ask for less, or give it more time", "deadline", 1
            ) from None
        finally:
            waiting.answer.cancel()
            self._forget(waiting)
        if "error" in answer:
            raise refusal_of(answer["error"])
        return answer

    def _moved(self, by: int) -> None:
        self._depth += by
        self._metrics.queue_depth.set(self._depth)

    def _forget(self, waiting: Waiting) -> None:
        queue = self._queues.get(waiting.key)
        if queue is not None and waiting in queue:
            queue.remove(waiting)
            self._moved(-1)
            if not queue:
                del self._queues[waiting.key]

    async def _run(self, whole: bool = False) -> None:
        arrived = self._crowded if whole else self._arrived
        while True:
            await arrived.wait()
            batch = self._take() if self._depth >= (self._settings.batch if whole else 1) else None
            if batch is None:
                arrived.clear()
                continue
            self._busy += 1
            try:
                await self._answer(batch)
            finally:
                self._busy -= 1

    def _take(self) -> Batch | None:
        """Take the oldest question of the key whose turn it is, and those of its kind that fit, one of each key a time.

        The key then goes to the end, so that nobody starves, however many questions or kinds of them others have.
        """
        while self._queues:
            first = next(iter(self._queues))
            kind = self._queues[first][0].kind
            room = max(1, min(self._settings.batch, self._settings.limits.batch_hits // kind.k))
            taken: list[Waiting] = []
            alike = [[one for one in queue if one.kind == kind] for queue in self._queues.values()]
            for one in (one for round_ in zip_longest(*alike) for one in round_ if one is not None):
                if not taken or one.weight <= room:
                    taken.append(one)
                    room -= one.weight
            for one in taken:
                self._forget(one)
            if first in self._queues:
                self._queues.move_to_end(first)
            wanted = [one for one in taken if not one.answer.done()]
            if wanted:
                return Batch(kind, wanted)
        return None

    async def _answer(self, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        began, began_ns = loop.time(), time.time_ns()
        self._metrics.batch_size.observe(len(batch.waiting))
        try:
            page = await self._backend.answer(batch)
        except Exception as error:
            if not isinstance(error, Refusal):
                _log.exception("a batch failed")
                error = Refusal(500, "the server made a mistake; its log says more", "error")
            for one in batch.waiting:
                self._refuse(one, error)
            return
        finally:
            batch.decided()
            self._tracing.decoded(batch.waiting, began_ns)
        self._batch_seconds += 0.1 * (loop.time() - began - self._batch_seconds)
        self._metrics.decode_seconds.observe(loop.time() - began)
        names = {name: page[name] for name in ("index_version", "model_version")}
        for one, answer in zip(batch.waiting, page["answers"], strict=True):
            if not one.answer.done():
                one.answer.set_result(answer | names)

    @staticmethod
    def _refuse(one: Waiting, refusal: Refusal) -> None:
        if not one.answer.done():
            one.answer.set_exception(refusal)
