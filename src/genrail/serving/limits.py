"""Refuse what is too much: requests per second, bytes of a body, sizes inside it."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from genrail.serving.errors import Refusal
from genrail.serving.settings import Limits
from genrail.types import JsonObject

__all__ = ["Rates", "check_items", "check_question", "costly_filter", "within"]

CHEAP_CHARACTERS = 512  # of a filter without patterns: a few conditions, some ten milliseconds for a million items
JOINS = re.compile(r"\b(?:and|or)\b", re.IGNORECASE)
PATTERN = re.compile(r"like", re.IGNORECASE)


class Rates:
    """Share out questions: each key has a bucket of tokens that fills at its rate.

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

    def take(self, name: str, per_second: float, count: int = 1, of: int | None = None) -> Refusal | None:
        """Take a token for each question, or say when there will be as many.

        Args:
            name: Of the key.
            per_second: Its rate; 0 for none.
            count: Questions.
            of: Questions of the request in all, if some were counted before.
        """
        if per_second <= 0 or count <= 0:
            return None
        now = self._clock()
        most = max(1.0, per_second * self._burst)
        if (of or count) > most:
            return Refusal(
                422, f"{of or count} questions at once; the limit of this key is {int(most)}, send fewer", "limit"
            )
        tokens, counted = self._buckets.get(name, (most, now))
        tokens = min(most, tokens + max(0.0, now - counted) * per_second)
        if tokens >= count:
            self._buckets[name] = tokens - count, now
            return None
        self._buckets[name] = tokens, now
        wait = math.ceil((count - tokens) / per_second)
        return Refusal(429, f"more than {per_second:g} questions per second; ask again in {wait} s", "rate", wait)


def within(name: str, value: int, limit: int) -> None:
    """Refuse a value above a limit.

    Raises:
        Refusal: 422, with the limit in the message.
    """
    if value > limit:
        raise Refusal(422, f"{name} is {value}; the limit is {limit}", "limit")


def check_question(limits: Limits, question: JsonObject, k: int) -> None:
    """Refuse a question that is too large in any way.

    Raises:
        Refusal: 422, with the limit in the message.
    """
    within("k", k, limits.k)
    within("offset and k together", int(question.get("offset") or 0) + k, limits.k)
    for boosted in question.get("boost") or ():
        within("the length of what is boosted in characters", len(boosted), CHEAP_CHARACTERS)
    within("the length of the query in characters", len(question.get("text") or ""), limits.query_characters)
    within("the number of items in the history", len(question.get("history") or ()), limits.history)
    where = question.get("where") or ""
    within("the length of the filter in characters", len(where), limits.filter_characters)
    # Counted by words and commas first, of which there are at least as many: most filters need not be read for this.
    words = len(JOINS.findall(where)) + 1
    patterns = len(PATTERN.findall(where))
    values = where.count(",") + words
    if words > limits.filter_conditions or patterns > limits.filter_patterns or values > limits.filter_values:
        counts = _counts(where)
        within("the number of conditions in the filter", counts["conditions"], limits.filter_conditions)
        within("the number of patterns (LIKE) in the filter", counts["patterns"], limits.filter_patterns)
        within("the number of values in the filter", counts["values"], limits.filter_values)


def costly_filter(where: str | None) -> bool:
    """Tell whether a filter is to be evaluated before its question waits for a decode, beside those of others.

    >>> costly_filter("price < 10 AND in_stock"), costly_filter("title ILIKE '%boot%'")
    (False, True)
    """
    return bool(where) and (len(where or "") > CHEAP_CHARACTERS or PATTERN.search(where or "") is not None)


def _counts(where: str) -> dict[str, int]:
    from genrail.catalog.filter_grammar import Junction, Like, Member, Node, Not, parse
    from genrail.errors import FilterError

    def leaves(node: Node) -> Iterator[Node]:
        if isinstance(node, Not):
            yield from leaves(node.part)
        elif isinstance(node, Junction):
            for part in node.parts:
                yield from leaves(part)
        else:
            yield node

    try:
        found = list(leaves(parse(where)))
    except FilterError as error:
        raise Refusal(422, str(error)) from None
    return {
        "conditions": len(found),
        "patterns": sum(isinstance(node, Like) for node in found),
        "values": sum(len(node.values) if isinstance(node, Member) else 1 for node in found),
    }


def check_items(limits: Limits, items: Sequence[Mapping[str, object]], title: str) -> None:
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
