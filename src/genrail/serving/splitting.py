"""Split users between two engines, for good, and count what each half asks and does: an A/B test."""

from __future__ import annotations

from hashlib import sha256

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genrail.serving.door import QUESTION_PATHS
from genrail.serving.metrics import Metrics

__all__ = ["Split", "variant"]

# Who asks, by the first of these headers that is there: a user, or else the key.
WHO = (b"x-user-id", b"x-algolia-usertoken", b"authorization", b"x-api-key", b"x-algolia-api-key")


def variant(user: bytes, share: float) -> str:
    """Tell which half somebody belongs to: `b` for a share of all, always the same for one user.

    Args:
        user: Who, as text in UTF-8.
        share: Of `b`, 0 to 1. Raising it moves users from `a` to `b` and none back.

    >>> users = [f"user-{number}".encode() for number in range(1000)]
    >>> halves = [variant(user, 0.5) for user in users]
    >>> 450 < halves.count("b") < 550, halves == [variant(user, 0.5) for user in users]
    (True, True)
    """
    place = int.from_bytes(sha256(b"genrail split " + user).digest()[:8], "big") / 2**64
    return "b" if place < share else "a"


class Split:
    """Lead questions of half of the users to the second engine, and tell in `X-Variant` which one answered.

    Args:
        app: Answers by the first engine, and everything that is no question.
        other: Answers by the second.
        share: Of users that ask the second.
        metrics: Where questions are counted.
    """

    def __init__(self, app: ASGIApp, other: ASGIApp, share: float, metrics: Metrics) -> None:
        self._app = app
        self._other = other
        self._share = share
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lead one request."""
        if scope["type"] != "http" or scope["path"] not in QUESTION_PATHS:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        who = next((headers[name] for name in WHO if name in headers), b"")
        half = variant(who, self._share)

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-variant", half.encode())]
                self._metrics.variant_questions.labels(half, str(message["status"])).inc()
            await send(message)

        await (self._other if half == "b" else self._app)(scope, receive, tell)
