"""Routes for those who look after the server: alive, ready, version, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

import genrail
from genrail.serving.door import caller
from genrail.serving.errors import Refusal
from genrail.serving.questions import json_answer
from genrail.serving.routing import Routes
from genrail.serving.service import Service
from genrail.types import JsonObject

__all__ = ["health_routes"]

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def health_routes(service: Service) -> APIRouter:
    """Make the routes for those who look after the server."""
    routes = Routes(tags=["health"])

    @routes.get("/livez", response_class=PlainTextResponse)
    async def livez() -> Response:
        """Tell that the process answers."""
        return PlainTextResponse("ok")

    @routes.get("/readyz")
    async def readyz(request: Request) -> Response:
        """Tell whether questions are answered; with a key, also how the engine on disk is."""
        trouble = service.trouble
        if trouble is not None:
            raise Refusal(503, f"{trouble}; ask again in a moment", "unavailable", 1)
        page: JsonObject = {"ready": True}
        if caller(request).key is not None:
            page |= {"disk": service.disk, "waiting": service.waiting}
        return json_answer(page)

    @routes.get("/version")
    async def version(request: Request) -> Response:
        """Tell what runs and what is live."""
        state = await service.call("state")
        names = {name: state[name] for name in ("index_version", "model_version")}
        return json_answer({"genrail": genrail.__version__, **names, "request_id": caller(request).request_id})

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Give everything that is counted, as Prometheus reads it."""
        return Response(service.metrics.page(), media_type=PROMETHEUS)

    return routes
