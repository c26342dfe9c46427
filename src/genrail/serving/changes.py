"""The routes that change the engine: for admin keys."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from genrail.serving.door import caller
from genrail.serving.limits import check_items, within
from genrail.serving.questions import answered, json_answer
from genrail.serving.schemas import ChangeAnswer, IndexState, ItemIds, Items, Nothing, RollbackRequest
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings

__all__ = ["change_routes"]


def change_routes(service: Service, settings: ServeSettings) -> APIRouter:
    """Make the routes that change the engine."""
    routes = APIRouter(prefix="/v1/index", tags=["index"])
    limits = settings.limits

    async def change(request: Request, verb: str, **values: Any) -> Response:
        began, who = time.perf_counter(), caller(request)
        page = await service.change({"verb": verb, **values})
        kept = {name: page[name] for name in ("changed", "items", "index_version", "model_version")}
        return json_answer(answered(kept, who, began))

    async def title_column() -> str:
        return str((await service.call("describe"))["engine"]["title_column"])

    @routes.get("", response_model=IndexState)
    async def state(request: Request) -> Response:
        """Tell what is live, which versions there are, and whether the engine on disk is whole."""
        page = await service.call("describe")
        names = ("items", "index_version", "model_version", "versions", "engine")
        kept = {name: page[name] for name in names}
        return json_answer(kept | {"disk": service.disk, "request_id": caller(request).request_id})

    @routes.post("/add", response_model=ChangeAnswer)
    async def add(request: Request, body: Items) -> Response:
        """Add items; they are on the disk and can be found when this returns."""
        check_items(limits, body.items, await title_column())
        return await change(request, "add", items=body.items)

    @routes.post("/update", response_model=ChangeAnswer)
    async def update(request: Request, body: Items) -> Response:
        """Change titles and attributes; what an item does not give keeps its value."""
        check_items(limits, body.items, await title_column())
        return await change(request, "update", items=body.items)

    @routes.post("/remove", response_model=ChangeAnswer)
    async def remove(request: Request, body: ItemIds) -> Response:
        """Remove items; no request that starts after this returned can find them."""
        within("the number of items", len(body.ids), limits.items)
        return await change(request, "remove", ids=body.ids)

    @routes.post("/publish", response_model=ChangeAnswer)
    async def publish(request: Request, body: Nothing) -> Response:
        """Merge all changes into the index and publish the engine as the next version of its folder."""
        return await change(request, "publish")

    @routes.post("/rollback", response_model=ChangeAnswer)
    async def rollback(request: Request, body: RollbackRequest) -> Response:
        """Go back to an earlier version, with the changes logged on it."""
        return await change(request, "rollback", version=body.version)

    @routes.post("/reload", response_model=ChangeAnswer)
    async def reload(request: Request, body: Nothing) -> Response:
        """Take over what another process published or logged in the folder: a new catalogue, identifiers or model."""
        return await change(request, "reload")

    return routes
