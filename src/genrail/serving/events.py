"""The routes of users: keep what they did, recommend from it, tell what is trending, forget somebody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from genrail.errors import GenrailError
from genrail.serving.door import caller
from genrail.serving.errors import Refusal, refusal_of
from genrail.serving.host import error_of
from genrail.serving.limits import within
from genrail.serving.questions import answered, json_answer, unless_left
from genrail.serving.routing import Routes
from genrail.serving.schemas import EventsRequest, Kept, SearchAnswer, UserRequest
from genrail.serving.service import Service
from genrail.serving.splitting import variant
from genrail.storage.events import Event, EventStore

__all__ = ["event_routes", "kept_history"]

EVENTS = 1000  # of one request
KINDS = frozenset({"view", "click", "cart", "purchase"})  # that are counted by name
HISTORY = 100  # last events of a user that a recommendation is made from
T = TypeVar("T")


async def _asked(call: Callable[[], T]) -> T:
    """Ask the file in a thread; what it refuses becomes what the client is told."""
    try:
        return await asyncio.to_thread(call)
    except GenrailError as error:
        raise refusal_of(error_of(error)) from error


def _opened(store: EventStore | None) -> EventStore:
    if store is None:
        raise Refusal(404, "this server keeps no events; start it with --events FILE", "events")
    return store


async def kept_history(store: EventStore | None, user: str, tenant: str | None) -> list[str]:
    """List the items of a user's last events, oldest first.

    Raises:
        Refusal: 404; this server keeps no events.
    """
    opened = _opened(store)
    return await _asked(lambda: opened.history(user, tenant=tenant or "", most=HISTORY))


def event_routes(service: Service, store: EventStore | None, split: float = 0.0) -> APIRouter:
    """Make the routes of users; with a split between two engines, events are counted by the half of their user."""
    routes = Routes(tags=["users"])

    @routes.post("/v1/events", response_model=Kept)
    async def events(request: Request, body: EventsRequest) -> Response:
        """Keep what users did; it is on the disk before it is acknowledged."""
        who, opened, now = caller(request), _opened(store), time.time()
        within("the number of events", len(body.events), EVENTS)
        kept = [
            Event(one.user_id, one.item_id, one.kind, now if one.timestamp is None else one.timestamp)
            for one in body.events
        ]
        await _asked(lambda: opened.add(kept, tenant=who.tenant or ""))
        service.metrics.events.inc(len(kept))
        for one in body.events if split else ():
            kind = one.kind if one.kind in KINDS else "other"
            service.metrics.variant_events.labels(variant(one.user_id.encode(), split), kind).inc()
        return json_answer({"events": len(kept), "request_id": who.request_id})

    @routes.post("/v1/events/forget", response_model=Kept)
    async def forget(request: Request, body: UserRequest) -> Response:
        """Erase all that was kept of a user."""
        who, opened = caller(request), _opened(store)
        gone = await _asked(lambda: opened.forget(body.user_id, tenant=who.tenant or ""))
        return json_answer({"events": gone, "request_id": who.request_id})

    @routes.post("/v1/events/of")
    async def of_user(request: Request, body: UserRequest) -> Response:
        """Give all that was kept of a user, oldest first."""
        who, opened = caller(request), _opened(store)
        found = await _asked(lambda: opened.of_user(body.user_id, tenant=who.tenant or ""))
        told = [{"item_id": one.item, "kind": one.kind, "timestamp": one.time} for one in found]
        return json_answer({"events": told, "request_id": who.request_id})

    @routes.get("/v1/trending", response_model=SearchAnswer)
    async def trending(
        request: Request,
        k: Annotated[int, Query(ge=1, le=1000)] = 10,
        days: Annotated[float, Query(gt=0, le=365, description="How far back events count.")] = 7.0,
        where: Annotated[str | None, Query(max_length=4096, description="A filter over attributes.")] = None,
    ) -> Response:
        """Give the items that most users did something with lately."""
        began, who, opened = time.perf_counter(), caller(request), _opened(store)
        found = await _asked(lambda: opened.trending(tenant=who.tenant or "", days=days))
        asked: dict[str, Any] = {"listed": found, "k": k, "where": where or None, "tenant": who.tenant}
        page = await unless_left(request, service.call("listed", asked, key=who.name))
        return json_answer(answered(page, who, began))

    return routes
