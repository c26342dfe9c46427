"""An engine as a retriever of LangChain.

Lies in `retrieval` because it calls an engine in this process and needs no server. Importing it needs the extra
``langchain``; nothing else in genrail imports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from genrail.errors import MissingPackageError
from genrail.integrations.asking import ask, content, metadata

try:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise MissingPackageError("langchain-core", "langchain", "The retriever for LangChain") from error

__all__ = ["GenrailRetriever"]


class GenrailRetriever(BaseRetriever):
    """Find documents for words: id and title of each item, score, rank and attributes as metadata.

    ``invoke``, ``batch``, ``ainvoke`` and ``abatch`` are LangChain's. ``invoke`` and ``ainvoke`` also take `k`, `where`
    and `history` for one call; a `where` of the call holds together with that of the retriever.

    Args:
        engine: An engine, or any other `Retriever`, such as `genrail.BM25`.
        k: How many documents, unless a call says otherwise.
        where: A filter that holds for every call.
        content: The attribute that becomes the documents' text; the title otherwise.

    Raises (in calls):
        QueryError: No words, or k is out of range.
        FilterError: A filter cannot be read.
        SettingsError: The catalogue has no attribute `content`.
    """

    engine: Any
    k: int = 10
    where: str | None = None
    content: str | None = None

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        where: str | None = None,
        history: Sequence[str] = (),
    ) -> list[Document]:
        return self._documents(query, k, where, history)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        where: str | None = None,
        history: Sequence[str] = (),
    ) -> list[Document]:
        return await asyncio.to_thread(self._documents, query, k, where, history)

    def _documents(self, query: str, k: int | None, where: str | None, history: Sequence[str]) -> list[Document]:
        ranking = ask(self.engine, query, self.k if k is None else k, [self.where, where], history)
        return [
            Document(page_content=content(hit, self.content), metadata=metadata(hit), id=hit.item_id) for hit in ranking
        ]
