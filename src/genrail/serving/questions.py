"""The routes that ask: search, recommend, similar, explain, many at once, and single items."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from genrail.serving.door import Caller, caller
from genrail.serving.errors import Refusal
from genrail.serving.frames import compact
from genrail.serving.limits import check_question, within
from genrail.serving.logs import about_text
from genrail.serving.routing import Routes
from genrail.serving.schemas import (
    ExplainRequest,
    Explanation,
    Item,
    MultiSearchAnswer,
    MultiSearchRequest,
    RecommendRequest,
    SearchAnswer,
    SearchRequest,
    SimilarRequest,
    Suggestions,
    SuggestRequest,
    Wishes,
)
from genrail.serving.service import Service
from genrail.serving.settings import Limits, ServeSettings
from genrail.types import JsonObject

__all__ = ["answered", "json_answer", "question_routes", "unless_left"]

# Of `Wishes`.
ARRANGED = {"offset", "min_score", "sort", "boost", "pin", "facets", "fields", "highlight", "soft_filters"}
T = TypeVar("T")
HistoryOf = Callable[[str, str | None], Awaitable[list[str]]]


async def unless_left(request: Request, answer: Awaitable[T]) -> T:
    """Wait for an answer, and give it up when the client hangs up.

    Raises:
        Refusal: 499; nobody reads it.
    """
    task, leaving = asyncio.current_task(), asyncio.ensure_future(_left(request))
    assert task is not None
    give_up = task.cancel

    def left(_: asyncio.Future[None]) -> None:
        give_up()

    leaving.add_done_callback(left)
    try:
        return await answer
    except asyncio.CancelledError:
        if not leaving.done():
            raise  # it was not the client who gave up
        task.uncancel()
        raise leaving.exception() or Refusal(499, "the client has left", "left") from None
    finally:
        leaving.remove_done_callback(left)
        leaving.cancel()


async def _left(request: Request) -> None:
    """Wait until the client hangs up; what it still sends, as the empty body of a GET, is no sign of that."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def json_answer(
    page: JsonObject | list[JsonObject], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Write a page as it is: its shape is known, so nothing is validated on the way out."""
    return Response(compact(page), status, headers, media_type="application/json")


def answered(page: JsonObject, who: Caller, began: float) -> JsonObject:
    """Add what every answer carries."""
    who.page["index_version"] = page.get("index_version")
    return page | {"took_ms": round((time.perf_counter() - began) * 1000, 3), "request_id": who.request_id}


def _question(body: Wishes) -> JsonObject:
    """Write a question as `Host` takes it."""
    page: JsonObject = {"where": body.where, "text": getattr(body, "query", None)}
    if isinstance(body, SearchRequest | RecommendRequest):
        page |= {"history": body.history, "exclude_seen": not body.include_seen}
    return page | body.model_dump(include=ARRANGED, exclude_defaults=True)


def question_routes(service: Service, settings: ServeSettings, history_of: HistoryOf) -> APIRouter:
    """Make the routes that ask.

    Args:
        service: Answers.
        settings: Its limits.
        history_of: Gives what is kept of a user of a tenant: item ids, oldest first.
    """
    routes = Routes(tags=["questions"])
    limits = settings.limits

    async def ask(request: Request, question: JsonObject, k: int, timeout_ms: int | None, **more: Any) -> JsonObject:
        began, who = time.perf_counter(), caller(request)
        check_question(limits, question, k)
        who.page.update(about_text(question.get("text"), settings.log_queries), k=k)
        asked = service.ask(question, k, tenant=who.tenant, timeout_ms=timeout_ms, key=who.name, **more)
        answer = await unless_left(request, asked)
        service.tally.count(question.get("text"), answer)
        return answered(answer, who, began)

    @routes.post("/v1/search", response_model=SearchAnswer)
    async def search(request: Request, body: SearchRequest) -> Response:
        """Find the best items for words, a past, or both."""
        return json_answer(await ask(request, _question(body), body.k, body.timeout_ms))

    @routes.post("/v1/recommend", response_model=SearchAnswer)
    async def recommend(request: Request, body: RecommendRequest) -> Response:
        """Recommend items to somebody with this past, given or kept."""
        question = _question(body)
        if body.user_id is not None:
            kept = await history_of(body.user_id, caller(request).tenant)
            question["history"] = [*kept, *body.history]
            if not question["history"]:
                raise Refusal(422, "nothing is kept of this user yet; give a history, or ask /v1/trending", "events")
        return json_answer(await ask(request, question, body.k, body.timeout_ms))

    @routes.post("/v1/similar", response_model=SearchAnswer)
    async def similar(request: Request, body: SimilarRequest) -> Response:
        """Recommend items to somebody who took this one."""
        question = _question(body) | {"similar": body.id}
        return json_answer(await ask(request, question, body.k, body.timeout_ms))

    @routes.post("/v1/explain", response_model=Explanation)
    async def explain(request: Request, body: ExplainRequest) -> Response:
        """Search, and show the steps of the decode and how far one item came."""
        question = _question(body) | {"item_id": body.item_id}
        wanted = {"beams": body.beams, "children": body.children}
        return json_answer(await ask(request, question, body.k, body.timeout_ms, explain=wanted))

    _add_multi_search(routes, service, limits)
    _add_suggestions(routes, service)
    _add_items(routes, service)
    return routes


def _add_multi_search(routes: APIRouter, service: Service, limits: Limits) -> None:
    @routes.post("/v1/multi-search", response_model=MultiSearchAnswer)
    async def multi_search(request: Request, body: MultiSearchRequest) -> Response:
        """Answer several searches together; one that cannot be answered gives its problem, the others their hits."""
        began, who = time.perf_counter(), caller(request)
        within("the number of requests", len(body.requests), limits.batch)
        within("the number of hits of all requests", sum(one.k for one in body.requests), limits.batch_hits)
        if (refusal := who.spend(len(body.requests) - 1, of=len(body.requests))) is not None:
            raise refusal
        for one in body.requests:
            check_question(limits, _question(one), one.k)

        async def each(one: SearchRequest) -> JsonObject:
            try:
                question, given = _question(one), one.timeout_ms
                return await service.ask(question, one.k, tenant=who.tenant, timeout_ms=given, key=who.name)
            except Refusal as refusal:
                return refusal.to_dict(who.request_id)

        results = await unless_left(request, asyncio.gather(*map(each, body.requests)))
        return json_answer(answered({"results": list(results)}, who, began))


def _add_suggestions(routes: APIRouter, service: Service) -> None:
    @routes.get("/v1/suggest", response_model=Suggestions)
    async def suggest(
        request: Request,
        typed: Annotated[str, Query(max_length=2048, description="What stands in the field.")],
        k: Annotated[int, Query(ge=1, le=50)] = 8,
    ) -> Response:
        """Complete what somebody types by words, phrases and titles."""
        return await complete(request, typed, k)

    @routes.post("/v1/suggest", response_model=Suggestions)
    async def suggest_in_body(request: Request, body: SuggestRequest) -> Response:
        """Complete what somebody types; the words travel in the body, so that no proxy logs them."""
        return await complete(request, body.typed, body.k)

    async def complete(request: Request, typed: str, k: int) -> Response:
        began, who = time.perf_counter(), caller(request)
        asked = {"typed": typed, "k": k, "tenant": who.tenant}
        page = await unless_left(request, service.call("suggest", asked))
        return json_answer(answered(page, who, began))


def _add_items(routes: APIRouter, service: Service) -> None:
    @routes.get("/v1/items/{item_id:path}", response_model=Item)
    async def item(request: Request, item_id: Annotated[str, Path(max_length=1024)]) -> Response:
        """Give one item."""
        who = caller(request)
        page = await unless_left(request, service.call("item", {"item_id": item_id, "tenant": who.tenant}))
        return json_answer(page | {"request_id": who.request_id})
