"""The routes that change the engine: for admin keys."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from genrail.serving.door import caller
from genrail.serving.errors import Refusal
from genrail.serving.jobs import Job
from genrail.serving.limits import check_items, within
from genrail.serving.questions import answered, json_answer
from genrail.serving.routing import Routes
from genrail.serving.schemas import ChangeAnswer, ChangeState, IndexState, ItemIds, Items, Nothing, RollbackRequest
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings
from genrail.types import JsonObject

__all__ = ["change_routes"]

LATER: dict[int | str, dict[str, Any]] = {202: {"model": ChangeState, "description": "It goes on; ask its Location."}}


class _Changes:
    """Begin changes for the routes, and tell what became of them."""

    def __init__(self, service: Service, settings: ServeSettings) -> None:
        self._service = service
        self._settings = settings

    async def make(self, request: Request, verb: str, **values: Any) -> Response:
        """Answer when the change is made, or after a while that it goes on."""
        began, who = time.perf_counter(), caller(request)
        job = self._service.begin({"verb": verb, **values})
        page = await job.wait(self._settings.change_wait_seconds)
        if page is not None:
            return json_answer(answered(_live(page), who, began))
        found = await self._told(job) | {"request_id": who.request_id}
        return json_answer(found, 202, {"Location": f"/v1/index/changes/{job.name}"})

    async def make_items(self, request: Request, verb: str, items: list[JsonObject]) -> Response:
        """Make a change of items that are within their limits."""
        column = (await self._service.call("describe"))["engine"]["title_column"]
        check_items(self._settings.limits, items, str(column))
        return await self.make(request, verb, items=items)

    async def tell(self, request: Request, name: str) -> Response:
        """Answer how far a change is."""
        job = self._service.jobs.find(name)
        if job is None:
            raise Refusal(404, f"no change {name!r} is known; those of the last 64 that ended are remembered")
        return json_answer(await self._told(job) | {"request_id": caller(request).request_id})

    async def _told(self, job: Job) -> JsonObject:
        page: JsonObject = {"change": job.name, "verb": job.verb, "status": job.status}
        if job.status == "running":
            page["progress"] = await self._service.call("progress")
        elif job.status == "done":
            page["result"] = _live(job.task.result())
        elif (refusal := job.refusal) is not None:
            page["problem"] = {"status": refusal.status, "detail": refusal.detail}
        return page


def _live(page: JsonObject) -> JsonObject:
    return {name: page[name] for name in ("changed", "items", "index_version", "model_version")}


def change_routes(service: Service, settings: ServeSettings) -> APIRouter:
    """Make the routes that change the engine."""
    routes = Routes(prefix="/v1/index", tags=["index"])
    changes = _Changes(service, settings)

    @routes.get("", response_model=IndexState)
    async def state(request: Request) -> Response:
        """Tell what is live, which versions there are, and whether the engine on disk is whole."""
        page = await service.call("describe")
        names = ("items", "index_version", "model_version", "versions", "engine")
        kept = {name: page[name] for name in names}
        return json_answer(kept | {"disk": service.disk, "request_id": caller(request).request_id})

    @routes.get("/changes/{change}", response_model=ChangeState)
    async def told(request: Request, change: Annotated[str, Path(max_length=64)]) -> Response:
        """Tell how far a change is that was answered 202, and what came of it."""
        return await changes.tell(request, change)

    @routes.post("/add", response_model=ChangeAnswer, responses=LATER)
    async def add(request: Request, body: Items) -> Response:
        """Add items; they are on the disk and can be found when this returns."""
        return await changes.make_items(request, "add", body.items)

    @routes.post("/update", response_model=ChangeAnswer, responses=LATER)
    async def update(request: Request, body: Items) -> Response:
        """Change titles and attributes; what an item does not give keeps its value."""
        return await changes.make_items(request, "update", body.items)

    @routes.post("/remove", response_model=ChangeAnswer, responses=LATER)
    async def remove(request: Request, body: ItemIds) -> Response:
        """Remove items; no request that starts after this returned can find them."""
        within("the number of items", len(body.ids), settings.limits.items)
        return await changes.make(request, "remove", ids=body.ids)

    @routes.post("/publish", response_model=ChangeAnswer, responses=LATER)
    async def publish(request: Request, body: Nothing) -> Response:
        """Merge all changes into the index and publish the engine as the next version of its folder."""
        return await changes.make(request, "publish")

    @routes.post("/rollback", response_model=ChangeAnswer, responses=LATER)
    async def rollback(request: Request, body: RollbackRequest) -> Response:
        """Go back to an earlier version, with the changes logged on it."""
        return await changes.make(request, "rollback", version=body.version)

    @routes.post("/reload", response_model=ChangeAnswer, responses=LATER)
    async def reload(request: Request, body: Nothing) -> Response:
        """Take over what another process published or logged in the folder: a new catalogue, identifiers or model."""
        return await changes.make(request, "reload")

    return routes
