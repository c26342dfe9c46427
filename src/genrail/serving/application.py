"""The HTTP application: routes, errors as problems, and the life of the service."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

import genrail
from genrail.errors import GenrailError
from genrail.serving.browsers import Cors
from genrail.serving.changes import change_routes
from genrail.serving.documentation import documentation_routes
from genrail.serving.door import Door, caller
from genrail.serving.errors import PROBLEM, Refusal, problem
from genrail.serving.events import event_routes, kept_history
from genrail.serving.health import health_routes
from genrail.serving.instantsearch import instant_routes
from genrail.serving.keys import Keys
from genrail.serving.operation import operation_routes
from genrail.serving.page import BESIDE, PAGE_PATHS, overview_routes, page_routes
from genrail.serving.questions import question_routes
from genrail.serving.rerank_routes import rerank_routes
from genrail.serving.routing import straight
from genrail.serving.schemas import Problem
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings
from genrail.serving.splitting import Split
from genrail.storage.events import EventStore

__all__ = ["create_application"]

_log = logging.getLogger("genrail.serving")


def create_application(
    service: Service,
    settings: ServeSettings | None = None,
    keys: Keys | Callable[[], Keys] | None = None,
    beside: Service | None = None,
    events: EventStore | None = None,
) -> FastAPI:
    """Make the application; its lifespan starts and stops the service.

    Args:
        service: Answers and changes an engine.
        settings: Those of the service, unless given.
        keys: Who may use it, or what gives the keys as they are now; None lets everybody do everything, for loopback.
        beside: Answers another engine under ``/beside``, for the page's comparison side by side; the same keys hold.
        events: Where what users did is kept; None keeps nothing.

    >>> from fastapi.testclient import TestClient
    >>> from genrail import Catalog, Engine
    >>> shop = Catalog.from_items([{"sku": f"s{n}", "name": f"boot {n}", "price": 10 * n} for n in range(20)])
    >>> engine = Engine.build(shop, encoder="hashing", epochs=1)
    >>> with TestClient(create_application(Service.of(engine))) as client:
    ...     answer = client.post("/v1/search", json={"query": "boot", "where": "price < 30", "k": 5}).json()
    >>> sorted(hit["id"] for hit in answer["hits"]), answer["exhausted"]
    (['s0', 's1', 's2'], True)
    """
    settings = settings or service.settings
    given = keys if callable(keys) else (lambda: keys or Keys())
    app = _application(service, settings, beside, events)
    app.add(page_routes(settings))
    other: _Application | None = None
    if beside is not None:
        other = _application(beside, beside.settings, None, events)
        other.entrance = lambda inner: Door(inner, beside, given)

    def entrance(inner: ASGIApp) -> ASGIApp:
        entered: ASGIApp = Door(inner, service, given, PAGE_PATHS)
        if other is not None:
            entered = _Fork(
                Split(entered, other, settings.split, service.metrics) if settings.split else entered, other
            )
        return Cors(entered, settings.origins) if settings.origins else entered  # a preflight carries no key

    app.entrance = entrance
    return app


class _Application(FastAPI):
    """Stand behind a door, so that what is refused there passes no layer of the framework.

    FastAPI's layers for errors, traces and large bodies are left out: the door sees to all of these.
    """

    entrance: Callable[[ASGIApp], ASGIApp]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._parts: list[APIRouter] = []

    def add(self, *parts: APIRouter) -> None:
        """Add routes."""
        for part in parts:
            self.include_router(part)
            self._parts.append(part)

    def build_middleware_stack(self) -> ASGIApp:
        """Put the layers together."""
        routes = (route for part in self._parts for route in part.routes)
        inner = straight(routes, AsyncExitStackMiddleware(self.router))
        return self.entrance(ExceptionMiddleware(inner, handlers=self.exception_handlers))


class _Fork:
    """Lead what is asked under ``/beside`` to the second engine, which has a door of its own."""

    def __init__(self, app: ASGIApp, other: ASGIApp) -> None:
        self._app = app
        self._other = other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith(BESIDE + "/"):
            inner = path[len(BESIDE) :]
            await self._other({**scope, "path": inner, "raw_path": inner.encode()}, receive, send)
        else:
            await self._app(scope, receive, send)


def _application(
    service: Service, settings: ServeSettings, beside: Service | None, events: EventStore | None
) -> _Application:
    services = [service] if beside is None else [service, beside]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        started: list[Service] = []
        try:
            for each in services:
                started.append(each)
                await each.start()
        except GenrailError as error:
            app.state.failure = error
            for each in started[:-1]:
                await each.stop()
            raise
        app.state.when_ready()
        yield
        for each in services:
            await each.stop()

    app = _Application(
        title="genrail",
        summary="Generative retrieval on rails: search and recommendation over HTTP.",
        version=genrail.__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # it would send clients to whatever Host they were made to name
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
        },  # FastAPI's own would tell of bodies; see `tracing`
        responses={status: {"model": Problem, "content": {PROBLEM: {}}} for status in ("4XX", "5XX")},
    )
    app.state.service = service
    app.state.failure = None  # why the service did not start
    app.state.when_ready = lambda: None
    app.add(
        question_routes(service, settings, partial(kept_history, events)),
        instant_routes(service, settings),
        event_routes(service, events, settings.split),
        rerank_routes(service, settings),
        change_routes(service, settings),
        overview_routes(service, settings, beside is not None),
        health_routes(service),
        documentation_routes(),
        operation_routes(service, settings, events),
    )
    _tell_problems(app)
    return app


def _tell_problems(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        request.app.state.service.metrics.refusals.labels(refusal.reason).inc()
        return problem(refusal, caller(request).request_id)

    @app.exception_handler(HTTPException)
    async def unusual(request: Request, error: HTTPException) -> Response:
        refusal = Refusal(error.status_code, _detail(request, error))
        request.app.state.service.metrics.refusals.labels(refusal.reason).inc()
        return problem(refusal, caller(request).request_id, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # What was sent is not sent back: it may be large, secret, or no text at all.
        found = [{"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in error.errors()[:20]]
        status = 400 if any(one["type"] == "json_invalid" for one in error.errors()) else 422
        first = found[0] if found else {"where": "body", "what": "not as described"}
        refusal = Refusal(status, f"{first['where']}: {first['what']}; see /openapi.json", "invalid")
        request.app.state.service.metrics.refusals.labels("invalid").inc()
        return problem(refusal, caller(request).request_id, {"errors": found})


def _detail(request: Request, error: HTTPException) -> str:
    known: dict[int, object] = {
        404: "there is no such path; see /openapi.json",
        405: f"{request.method} is not possible here; see /openapi.json",
        400: "the body cannot be read; send JSON",
    }
    return str(known.get(error.status_code, error.detail))
