"""The web page: its files, and the two routes that only it needs."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from genrail.serving.browsers import check_images
from genrail.serving.door import caller
from genrail.serving.limits import check_question, costly_filter
from genrail.serving.questions import json_answer, unless_left
from genrail.serving.routing import Routes
from genrail.serving.schemas import Request as Body
from genrail.serving.schemas import Where
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings

__all__ = ["BESIDE", "PAGE_PATHS", "page_routes", "overview_routes"]

BESIDE = "/beside"  # where the second engine of a server answers
_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_SCRIPTS = ("page", "state", "parts", "filters", "suggest", "hits", "why", "rails", "beside", "map", "operate")
_FILES = ("page.css", "icon.svg", *(f"{name}.js" for name in _SCRIPTS))
_PAGES = {"/": "index.html", "/operate": "operate.html"}
PAGE_PATHS = frozenset({*_PAGES, "/favicon.ico", *(f"/static/{name}" for name in _FILES)})
_HEADERS = {
    # Nothing but this server's own files: no inline script can run, whatever a title says.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


class BranchesRequest(Body):
    """A place in the tree of identifiers."""

    prefix: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(default_factory=list, max_length=256)
    where: Where = None
    most: int = Field(64, ge=1, le=256, description="Continuations that are listed, those with the most items first.")
    titles: int = Field(3, ge=0, le=20, description="Items that are named below each.")


def page_routes(settings: ServeSettings) -> APIRouter:
    """Make the routes that give the page's files; they hold nothing of anybody, so they need no key.

    Raises:
        SettingsError: An origin of images that is none.
    """
    check_images(settings.images)
    routes = Routes(include_in_schema=False)
    held = {name: (files("genrail.serving") / "static" / name).read_bytes() for name in (*_PAGES.values(), *_FILES)}
    policy = _HEADERS["content-security-policy"].replace(
        "img-src 'self'", " ".join(["img-src 'self'", *settings.images])
    )

    def give(request: Request, name: str) -> Response:
        content = held[name]
        tag = f'"{sha256(content).hexdigest()[:16]}"'
        headers = _HEADERS | {"etag": tag, "content-security-policy": policy}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_KINDS[name.rpartition(".")[2]], headers=headers)

    def add(path: str, name: str) -> None:
        @routes.get(path)
        async def static(request: Request) -> Response:
            return give(request, name)

    for path, name in (_PAGES | {"/favicon.ico": "icon.svg"} | {f"/static/{name}": name for name in _FILES}).items():
        add(path, name)
    return routes


def overview_routes(service: Service, settings: ServeSettings, beside: bool) -> APIRouter:
    """Make the routes that tell what the engine holds."""
    routes = Routes(tags=["overview"])

    @routes.get("/v1/about")
    async def about(request: Request) -> Response:
        """Tell what can be asked: attributes to filter by, examples, and whether a second engine stands beside."""
        who = caller(request)
        page = await unless_left(request, service.call("about", {"tenant": who.tenant}, key=who.name))
        more = {"name": settings.name, "beside": BESIDE if beside else None, "images": settings.images}
        return json_answer(page | more | {"request_id": who.request_id})

    @routes.post("/v1/branches")
    async def branches(request: Request, body: BranchesRequest) -> Response:
        """List what can follow a prefix of identifiers, and items below each continuation."""
        who = caller(request)
        check_question(settings.limits, {"where": body.where}, 1)
        asked = body.model_dump() | {"tenant": who.tenant}
        if costly_filter(body.where):
            where = {"where": body.where, "tenant": who.tenant}
            await unless_left(request, service.call("filter", where, key=who.name))
        page = await unless_left(request, service.call("branches", asked, key=who.name))
        return json_answer(page | {"request_id": who.request_id})

    return routes
