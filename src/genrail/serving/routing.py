"""Lead a request straight to its endpoint: FastAPI describes the routes, and most are answered without it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, get_type_hints

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from genrail.serving.errors import Refusal

__all__ = ["Routes", "StraightRoute", "straight"]


class StraightRoute(APIRoute):
    """Answer what takes the request and at most one body of JSON, and gives a response; leave the rest to FastAPI.

    Dependencies, forms, files and validated answers are what FastAPI's handling of a request is made for; an endpoint
    that uses none of them pays for it all the same, half of the time that a request takes here.
    """

    def __init__(self, path: str, endpoint: Callable[..., object], **more: Any) -> None:
        super().__init__(path, endpoint, **more)
        hints = get_type_hints(endpoint, include_extras=True)
        gives = hints.pop("return", None)
        answers = isinstance(gives, type) and issubclass(gives, Response)
        bodies = {name: hint for name, hint in hints.items() if hint is not Request}
        models = [hint for hint in bodies.values() if isinstance(hint, type) and issubclass(hint, BaseModel)]
        self.is_straight = answers and len(models) == len(bodies) <= 1
        self._asks = [name for name, hint in hints.items() if hint is Request]
        self._body: tuple[str, type[BaseModel]] | None = next(zip(bodies, models, strict=False), None)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if not self.is_straight or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive, send)
        values: dict[str, object] = dict.fromkeys(self._asks, request)
        if self._body is not None:
            name, model = self._body
            values[name] = await _read(request, model)
        answer: Awaitable[Response] = self.endpoint(**values)
        await (await answer)(scope, receive, send)


Routes = partial(APIRouter, route_class=StraightRoute)


async def _read(request: Request, model: type[BaseModel]) -> BaseModel:
    """Read a body.

    Raises:
        RequestValidationError: It is not what the model describes.
        Refusal: 499; the client left before it was whole.
    """
    try:
        data = await request.body()
    except ClientDisconnect:
        raise Refusal(499, "the client has left", "left") from None
    try:
        return model.model_validate(json.loads(data)) if data else _missing()
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([one | {"loc": ("body", *one["loc"])} for one in found]) from None
    except json.JSONDecodeError as error:
        wrong = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error"}
        raise RequestValidationError([wrong]) from None
    except (UnicodeDecodeError, RecursionError):
        raise Refusal(400, "the body cannot be read; send JSON", "invalid") from None


def _missing() -> BaseModel:
    raise RequestValidationError([{"type": "missing", "loc": ("body",), "msg": "Field required"}])


def straight(routes: Iterable[BaseRoute], others: ASGIApp) -> ASGIApp:
    """Make an application that finds straight routes by method and path, and gives everything else to another.

    A method that no route of a path has is refused with all methods that there are: a router names those of one route.
    """
    found: dict[str, dict[str, StraightRoute]] = {}
    for route in routes:
        if isinstance(route, StraightRoute) and "{" not in route.path:
            found.setdefault(route.path, {}).update(dict.fromkeys(route.methods or (), route))

    async def lead(scope: Scope, receive: Receive, send: Send) -> None:
        methods = found.get(scope.get("path", ""))
        route = None if methods is None else methods.get(scope["method"])
        if methods is not None and route is None:
            raise HTTPException(405, headers={"Allow": ", ".join(methods)})
        if route is None or not route.is_straight:
            await others(scope, receive, send)
        else:
            scope["route"], scope["path_params"] = route, {}
            await route.handle(scope, receive, send)

    return lead
