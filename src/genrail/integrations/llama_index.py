"""An engine as a retriever of LlamaIndex.

Lies in `retrieval` because it calls an engine in this process and needs no server. Importing it needs the extra
``llama-index`` and takes seconds; nothing else in genrail imports it.
"""

from __future__ import annotations

import asyncio

from genrail.errors import MissingPackageError
from genrail.integrations.asking import OWN_NAMES, ask, content, metadata
from genrail.integrations.filters import comparison, joined
from genrail.types import Retriever

try:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
    from llama_index.core.vector_stores import MetadataFilters
except ImportError as error:
    raise MissingPackageError("llama-index-core", "llama-index", "The retriever for LlamaIndex") from error

__all__ = ["GenrailRetriever"]


class GenrailRetriever(BaseRetriever):
    """Find nodes for words: id and title of each item, its score, attributes and rank as metadata.

    ``retrieve`` and ``aretrieve`` are LlamaIndex's. Score, rank and log-probability are kept from the text that a
    language model or an embedding is given.

    Args:
        engine: An engine, or any other `Retriever`, such as `genrail.BM25`.
        k: How many nodes.
        where: A filter in our words.
        filters: A filter in LlamaIndex's; both hold.
        content: The attribute that becomes the nodes' text; the title otherwise.
        callback_manager: As LlamaIndex's retrievers take it.

    Raises:
        FilterError: `filters` uses an operator that a catalogue has no columns for: any, all, contains.
    """

    def __init__(
        self,
        engine: Retriever,
        k: int = 10,
        where: str | None = None,
        filters: MetadataFilters | None = None,
        content: str | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        self._engine = engine
        self._k = k
        self._filters = [where, None if filters is None else _where(filters)]
        self._content = content

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hidden = [name for name in OWN_NAMES if name != "title"]
        return [
            NodeWithScore(
                node=TextNode(
                    id_=hit.item_id,
                    text=content(hit, self._content),
                    metadata=metadata(hit),
                    excluded_llm_metadata_keys=hidden,
                    excluded_embed_metadata_keys=hidden,
                ),
                score=hit.score,
            )
            for hit in ask(self._engine, query_bundle.query_str, self._k, self._filters)
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _where(filters: MetadataFilters) -> str:
    """Write a tree of metadata filters as one of ours."""
    parts = [
        _where(one) if isinstance(one, MetadataFilters) else comparison(one.key, one.operator.value, one.value)
        for one in filters.filters
    ]
    return joined(parts, "and" if filters.condition is None else filters.condition.value)
