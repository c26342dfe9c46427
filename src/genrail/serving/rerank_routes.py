"""Rerank routes in the shapes that Cohere, Jina and vLLM clients send, and in that of text-embeddings-inference."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from genrail.serving.door import caller
from genrail.serving.limits import within
from genrail.serving.questions import json_answer, unless_left
from genrail.serving.routing import Routes
from genrail.serving.schemas import Words
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings
from genrail.types import JsonObject

__all__ = ["rerank_routes"]


class Text(BaseModel):
    """A document as some clients send it."""

    text: Words


class RerankRequest(BaseModel):
    """What Cohere, Jina and vLLM clients send; fields that only they know are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra={"examples": [{"query": "warm boots", "documents": ["Winter boot", "Sandal"], "top_n": 1}]},
    )

    query: Words = Field(min_length=1)
    documents: list[Words | Text] = Field(min_length=1)
    top_n: int | None = Field(None, ge=0, description="0 or nothing for all.")
    model: str | None = None
    return_documents: bool = True


class TeiRequest(BaseModel):
    """What text-embeddings-inference clients send."""

    model_config = ConfigDict(extra="ignore", strict=True)

    query: Words = Field(min_length=1)
    texts: list[Words] = Field(min_length=1)
    return_text: bool = False


def rerank_routes(service: Service, settings: ServeSettings) -> APIRouter:
    """Make the rerank routes."""
    routes = Routes(tags=["rerank"])
    limits = settings.limits

    async def scored(request: Request, query: str, documents: list[str]) -> JsonObject:
        within("the length of the query in characters", len(query), limits.query_characters)
        within("the number of documents", len(documents), limits.documents)
        for place, document in enumerate(documents):
            within(f"the length of document {place} in characters", len(document), limits.document_characters)
        return await unless_left(request, service.rerank(query, documents, caller(request).name))

    @routes.post("/rerank")
    @routes.post("/v1/rerank")
    @routes.post("/v2/rerank")
    async def rerank(request: Request, body: RerankRequest) -> Response:
        """Order texts by how well they fit a query; relevance_score is 0 to 1."""
        texts = [one.text if isinstance(one, Text) else one for one in body.documents]
        page = await scored(request, body.query, texts)
        order = sorted(range(len(texts)), key=lambda place: (-page["scores"][place], place))
        results: list[JsonObject] = []
        for place in order[: body.top_n or len(order)]:
            result = {"index": place, "relevance_score": page["scores"][place]}
            results.append(result | ({"document": {"text": texts[place]}} if body.return_documents else {}))
        usage = {"prompt_tokens": page["tokens"], "total_tokens": page["tokens"]}
        return json_answer(
            {
                "id": caller(request).request_id,
                "model": body.model or f"genrail-{page['model_version']}",
                "usage": usage,
                "results": results,
            }
        )

    @routes.post("/tei/rerank")
    async def tei_rerank(request: Request, body: TeiRequest) -> Response:
        """Order texts, in the shape of text-embeddings-inference: a bare list."""
        page = await scored(request, body.query, body.texts)
        order = sorted(range(len(body.texts)), key=lambda place: (-page["scores"][place], place))
        found = [{"index": place, "score": page["scores"][place]} for place in order]
        if body.return_text:
            found = [one | {"text": body.texts[one["index"]]} for one in found]
        return json_answer(found)

    return routes
