"""The door of the server: every request passes here before anything else looks at it.

Closed by default: a path that is not listed as open needs a key, whether or not a route exists there, so that a new
route cannot be forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genrail.serving.browsers import foreign, no_json
from genrail.serving.errors import Refusal, problem
from genrail.serving.keys import Key, Keys
from genrail.serving.limits import Rates
from genrail.serving.service import Service
from genrail.types import JsonObject

__all__ = ["ADMIN_PATHS", "INSTANT_PATH", "Caller", "Door", "caller"]

_log = logging.getLogger("genrail.access")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
OPEN_PATHS = frozenset({"/livez", "/readyz"})  # alive and ready, without details
MOST_DIGITS = 19  # of a length: more would not fit into 64 bits
ADMIN_PATHS = ("/v1/index", "/v1/operation", "/v1/events/forget", "/v1/events/of", "/metrics")
INSTANT_PATH = "/1/indexes/*/queries"  # whose clients say neither that they send JSON nor where we look for a key
QUESTION_PATHS = frozenset(
    {"/v1/search", "/v1/recommend", "/v1/similar", "/v1/explain", "/v1/multi-search", INSTANT_PATH}
)
EVERYBODY = Key("everybody", "admin")  # of a server without keys, which listens on loopback only


@dataclass
class Caller:
    """Hold who asks and what the log will say about it.

    Args:
        request_id: Of the client, or made here.
        key: Whose it is; None on open paths without a key.
        page: Further values for the log line.
        spend: Counts further questions against the key's rate; gives the refusal when there were too many.
    """

    request_id: str
    key: Key | None
    page: JsonObject = field(default_factory=dict)
    spend: Callable[..., Refusal | None] = lambda count=1: None  # noqa: E731

    @property
    def name(self) -> str:
        """Name the key, for turns between keys."""
        return "" if self.key is None else self.key.name

    @property
    def tenant(self) -> str | None:
        """Give the filter that holds for everything this caller sees."""
        return None if self.key is None else self.key.where


def caller(request: Request) -> Caller:
    """Tell who makes a request."""
    found: Caller = request.scope["caller"]
    return found


def _is_admin(path: str) -> bool:
    return any(path == root or path.startswith(root + "/") for root in ADMIN_PATHS)


class Door:
    """Check the key, the rate, the queue and the body of each request; count it and log it.

    Args:
        app: What is behind the door.
        service: Whose queue may be full, and whose metrics count.
        keys: Gives the keys as they are now.
        open_paths: Further paths that need no key, such as those of a static page.
    """

    def __init__(
        self, app: ASGIApp, service: Service, keys: Callable[[], Keys], open_paths: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._service = service
        self._keys = keys
        self._open = OPEN_PATHS | open_paths
        self._rates = Rates(service.settings.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": "there are no WebSockets here"})
            return
        headers = dict(scope["headers"])
        visit = _Visit(scope, headers, send)
        scope["caller"] = visit.caller
        with self._service.tracing.request(scope, visit):
            await self._let_in(scope, headers, receive, visit)

    async def _let_in(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, visit: _Visit) -> None:
        try:
            refusal = self._refusal(scope, headers, visit.caller)
            if refusal is not None:
                raise refusal
            body = _Body(receive, scope["path"], visit.caller, self._service)
            body.check_length(headers.get(b"content-length"))
            await self._app(scope, body.receive, visit.send)
        except Refusal as refusal:
            await visit.refuse(refusal, receive)
            self._service.metrics.refusals.labels(refusal.reason).inc()
        except Exception:
            _log.exception("a request failed", extra={"page": {"request_id": visit.caller.request_id}})
            await visit.refuse(Refusal(500, "the server made a mistake; its log has the request id", "error"), receive)
        finally:
            self._write(scope, visit)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes], who: Caller) -> Refusal | None:
        keys, path = self._keys(), scope["path"]
        who.key = _key(keys, headers, scope) if len(keys) else EVERYBODY
        if not len(keys):
            settings = self._service.settings
            refusal = foreign(scope, settings.hosts, settings.origins, self._open)
            if refusal is not None:
                return refusal
        if path in self._open:
            return None
        if who.key is None:
            return Refusal(401, "give a key: Authorization: Bearer KEY, or X-API-Key: KEY", "key")
        if _is_admin(path) and who.key.role != "admin":
            return Refusal(403, f"the key {who.key.name!r} asks only; this needs an admin key", "role")
        kind = b"application/json" if path == INSTANT_PATH else headers.get(b"content-type", b"")
        if (refusal := no_json(scope["method"], kind)) is not None:
            return refusal
        rate = self._service.settings.rate_per_second if who.key.rate_per_second is None else who.key.rate_per_second
        who.spend = partial(self._rates.take, who.key.name, rate)
        refusal = who.spend()
        if refusal is None and path in QUESTION_PATHS:
            refusal = self._service.full(who.name)
        return refusal

    def _write(self, scope: Scope, visit: _Visit) -> None:
        # The template of the route, not the path: paths hold item ids, and strangers ask for any.
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.perf_counter() - visit.began
        status = visit.status or 499  # the client left before there was an answer
        self._service.metrics.requests.labels(route, str(status)).observe(seconds)
        who = visit.caller
        page = {
            "request_id": who.request_id,
            "key": None if who.key is None else who.key.name,
            "method": scope["method"],
            "route": route,
            "status": status,
            "took_ms": round(seconds * 1000, 2),
            **who.page,
        }
        _log.info("request", extra={"page": page})


def _key(keys: Keys, headers: dict[bytes, bytes], scope: Scope) -> Key | None:
    given = headers.get(b"authorization", b"")
    if given[:7].lower() == b"bearer ":
        return keys.find(given[7:].strip().decode("latin-1"))
    alone = headers.get(b"x-api-key")
    if alone is None and scope["path"] == INSTANT_PATH:
        alone = headers.get(b"x-algolia-api-key") or dict(parse_qsl(scope["query_string"])).get(b"x-algolia-api-key")
    return None if alone is None else keys.find(alone.decode("latin-1"))


class _Visit:
    """Follow one request: its id, its status, and whether an answer has begun."""

    def __init__(self, scope: Scope, headers: dict[bytes, bytes], send: Send) -> None:
        self.began = time.perf_counter()
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.caller = Caller(given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8), None)
        self.status = 0
        self._send = send
        self._scope = scope

    async def send(self, message: Message) -> None:
        """Pass a message on, with the request's id in the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [pair for pair in message["headers"] if pair[0].lower() != b"x-request-id"]
            message["headers"] = [*headers, (b"x-request-id", self.caller.request_id.encode())]
        await self._send(message)

    async def refuse(self, refusal: Refusal, receive: Receive) -> None:
        """Answer with a problem, unless an answer has begun."""
        if not self.status:
            await problem(refusal, self.caller.request_id)(self._scope, receive, self.send)


class _Body:
    """Count a body as it comes and stop at the limit of bytes or time."""

    def __init__(self, receive: Receive, path: str, who: Caller, service: Service) -> None:
        limits = service.settings.limits
        change = _is_admin(path)
        self._receive = receive
        self._most = limits.change_body_bytes if change else limits.body_bytes
        self._seconds = service.settings.slow_seconds * (6 if change else 1)
        self._ends = time.monotonic() + self._seconds
        self._read = 0
        self._whole = False
        self._who = who

    def check_length(self, length: bytes | None) -> None:
        """Refuse by what the client says, before a byte is read."""
        # The number of digits is looked at first: Python refuses to read very long numbers.
        if length is not None and (not length.isdigit() or len(length) > MOST_DIGITS or int(length) > self._most):
            raise self._too_large()

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is larger than the limit of {self._most} bytes; send less at a time", "limit")

    async def receive(self) -> Message:
        """Give the next part of the body; afterwards, wait for the client to leave."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._ends - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, f"the body took longer than {self._seconds:g} s", "slow") from None
        self._read += len(message.get("body", b""))
        if self._read > self._most:
            raise self._too_large()
        self._whole = not message.get("more_body", False)
        return message
