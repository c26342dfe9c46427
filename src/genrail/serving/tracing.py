"""Spans by OpenTelemetry, for those who follow a request through several services; off unless asked for.

Three spans: the request, its wait in the queue, and the decode that it shares with others. They hold no words of a
query, no ids and no keys. Where they go is what the process was told, for example by ``opentelemetry-instrument`` and
its environment variables; told nothing, they go nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, Protocol

from starlette.types import Scope

import genrail
from genrail.errors import MissingPackageError

__all__ = ["Traced", "Tracing", "Visit"]


class Visit(Protocol):
    """Know the status of a request's answer; 0 until there is one."""

    status: int


class Traced(Protocol):
    """Hold where and when a question began to wait."""

    context: object
    since: int


class Tracing:
    """Write the spans of a server.

    Args:
        on: False writes nothing and costs nothing.

    Raises:
        MissingPackageError: OpenTelemetry is not installed.
    """

    def __init__(self, on: bool = False) -> None:
        self._tracer: Any = None
        if on:
            if find_spec("opentelemetry") is None:
                raise MissingPackageError("opentelemetry-api", "otel", "writing traces")
            from opentelemetry import trace

            self._tracer = trace.get_tracer("genrail", genrail.__version__)

    def request(self, scope: Scope, visit: Visit) -> AbstractContextManager[None]:
        """Follow a request; it continues the trace of its ``traceparent`` header."""
        return nullcontext() if self._tracer is None else self._request(scope, visit)

    @contextmanager
    def _request(self, scope: Scope, visit: Visit) -> Iterator[None]:
        from opentelemetry import propagate, trace

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            scope["method"], propagate.extract(headers), trace.SpanKind.SERVER, {"http.request.method": scope["method"]}
        ) as span:
            yield
            # The template of the route, not the path: paths hold item ids.
            route = getattr(scope.get("route"), "path", "other")
            span.update_name(f"{scope['method']} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": visit.status or 499})
            if visit.status >= 500:
                span.set_status(trace.StatusCode.ERROR)

    def here(self) -> tuple[object, int]:
        """Give where and when a question begins to wait."""
        if self._tracer is None:
            return None, 0
        from opentelemetry import context

        return context.get_current(), time.time_ns()

    def decoded(self, questions: Iterable[Traced], began: int) -> None:
        """Write the wait and the decode of each question of a batch that is done now.

        Args:
            questions: All of the batch.
            began: When the decode began, in nanoseconds of the clock of `time.time_ns`.
        """
        if self._tracer is None:
            return
        ended, together = time.time_ns(), list(questions)
        for one in together:
            self._tracer.start_span("wait", one.context, start_time=one.since).end(began)
            sizes = {"genrail.batch_size": len(together)}
            self._tracer.start_span("decode", one.context, attributes=sizes, start_time=began).end(ended)
