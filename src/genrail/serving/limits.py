"""Refuse what is too much: requests per second, bytes of a body, sizes inside it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genrail.serving.errors import Refusal
from genrail.serving.settings import Limits

__all__ = ["Rates", "check_items", "check_question", "within"]


class Rates:
    """Share out requests: each key has a bucket of tokens that fills at its rate.

    Args:
        burst: How much a bucket holds, as a multiple of the rate.
        clock: Seconds, rising.

    >>> rates = Rates(burst=2, clock=lambda: 0.0)
    >>> [rates.take("shop", per_second=1) is None for _ in range(3)]
    [True, True, False]
    """

    def __init__(self, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def take(self, name: str, per_second: float) -> Refusal | None:
        """Take a token for one request, or say when there will be one."""
        if per_second <= 0:
            return None
        now = self._clock()
        most = max(1.0, per_second * self._burst)
        tokens, counted = self._buckets.get(name, (most, now))
        tokens = min(most, tokens + max(0.0, now - counted) * per_second)
        if tokens >= 1:
            self._buckets[name] = tokens - 1, now
            return None
        self._buckets[name] = tokens, now
        wait = math.ceil((1 - tokens) / per_second)
        return Refusal(429, f"more than {per_second:g} requests per second; ask again in {wait} s", "rate", wait)


def within(name: str, value: int, limit: int) -> None:
    """Refuse a value above a limit.

    Raises:
        Refusal: 422, with the limit in the message.
    """
    if value > limit:
        raise Refusal(422, f"{name} is {value}; the limit is {limit}", "limit")


def check_question(limits: Limits, question: Mapping[str, Any], k: int) -> None:
    """Refuse a question that is too large in any way.

    Raises:
        Refusal: 422, with the limit in the message.
    """
    within("k", k, limits.k)
    within("the length of the query in characters", len(question.get("text") or ""), limits.query_characters)
    within("the number of items in the history", len(question.get("history") or ()), limits.history)
    where = question.get("where") or ""
    within("the length of the filter in characters", len(where), limits.filter_characters)
    if where.count(",") >= limits.filter_values:  # n values have n - 1 commas, and perhaps more inside quotes
        within("the number of values in the filter", _values(where), limits.filter_values)


def _values(where: str) -> int:
    from genrail.catalog.filters import Junction, Member, Node, Not, parse
    from genrail.errors import FilterError

    def count(node: Node) -> int:
        if isinstance(node, Not):
            return count(node.part)
        if isinstance(node, Junction):
            return sum(map(count, node.parts))
        return len(node.values) if isinstance(node, Member) else 1

    try:
        return count(parse(where))
    except FilterError as error:
        raise Refusal(422, str(error)) from None


def check_items(limits: Limits, items: Sequence[Mapping[str, Any]], title: str) -> None:
    """Refuse items that are too many or too large.

    Args:
        limits: Of the server.
        items: To add or change.
        title: The column of the titles.

    Raises:
        Refusal: 422, naming the item's place and the limit.
    """
    within("the number of items", len(items), limits.items)
    for place, item in enumerate(items):
        name = item.get(title)
        if isinstance(name, str):
            within(f"the length of the title of item {place} in characters", len(name), limits.title_characters)
        try:
            size = len(json.dumps(item, ensure_ascii=False).encode())
        except UnicodeEncodeError:
            raise Refusal(422, f"item {place} holds half a surrogate pair, which is no text", "limit") from None
        within(f"the size of item {place} in bytes", size, limits.item_bytes)
