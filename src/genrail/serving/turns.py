"""Let costly calls run a few at a time, in turn between keys, so that one client's do not hold the others up."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sized
from contextlib import asynccontextmanager

from genrail.serving.errors import Refusal

__all__ = ["Turns", "share"]


def share(most: int, waiting: Mapping[str, Sized], key: str) -> int:
    """Say how many places a key may take of those that there are, when all want some.

    >>> share(64, {"shop": [1] * 60}, "shop"), share(64, {"shop": [1] * 60}, "other")
    (64, 32)
    """
    return max(1, most // len(waiting.keys() | {key}))


class Turns:
    """Share out places to work.

    Args:
        at_once: Calls that may run.
        each: Those of one key.
        waiting: Calls that may wait; of one key, its share among the keys that wait.
    """

    def __init__(self, at_once: int, each: int, waiting: int) -> None:
        self._at_once = at_once
        self._each = each
        self._most = waiting
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Count the calls that wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for a place, and give it back; whoever is cancelled leaves the line.

        Raises:
            Refusal: As many wait as may.
        """
        await self._enter(key)
        try:
            yield
        finally:
            self._leave(key)

    async def _enter(self, key: str) -> None:
        if self._free(key) and key not in self._waiting:
            self._running[key] += 1
            return
        mine = len(self._waiting.get(key, ()))
        if mine >= share(self._most, self._waiting, key) or self.waiting >= 2 * self._most:
            raise Refusal(503, f"{mine} costly requests of this key are waiting, as many as may", "queue", 1)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave(key)  # it was its turn at the very moment it gave up
            else:
                self._forget(key, place)
            raise

    def _free(self, key: str) -> bool:
        return self._running.total() < self._at_once and self._running[key] < self._each

    def _leave(self, key: str) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        for other in list(self._waiting):
            if not self._free(other):
                continue
            # Those who have just given up are still in line until they are told so.
            place = next((one for one in self._waiting[other] if not one.done()), None)
            if place is not None:
                self._forget(other, place)
                if other in self._waiting:
                    self._waiting.move_to_end(other)
                self._running[other] += 1
                place.set_result(None)
                return

    def _forget(self, key: str, place: asyncio.Future[None]) -> None:
        line = self._waiting.get(key)
        if line is not None and place in line:
            line.remove(place)
            if not line:
                del self._waiting[key]
