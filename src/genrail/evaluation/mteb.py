"""Let MTEB evaluate any retriever: its `SearchProtocol` (version 2), without importing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from genrail.errors import QueryError
from genrail.types import Query, Retriever

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["MTEBSearch"]


class MTEBSearch:
    """Speak MTEB's search protocol for a retriever that is built on the corpus MTEB brings.

    ``mteb.evaluate(MTEBSearch(BM25), tasks)``: MTEB calls `index` with a corpus, then `search` with queries. The words
    that follow the protocol are MTEB's; nothing of it is imported.

    Args:
        build: Makes a retriever of a catalogue, such as `BM25` or ``Engine.build``.
        meta: What MTEB is to show as the model (its ``ModelMeta``); None where it only is to search.
        batch_size: Queries per call.

    >>> from genrail.finders import BM25
    >>> adapter = MTEBSearch(BM25)
    >>> adapter.index([{"id": "a", "title": "", "text": "trail shoes"}, {"id": "b", "title": "", "text": "wool hat"}])
    >>> list(adapter.search([{"id": "q", "text": "shoes"}], top_k=1)["q"])
    ['a']
    """

    def __init__(self, build: Callable[[Catalog], Retriever], meta: object = None, batch_size: int = 32) -> None:
        self.build = build
        self.mteb_model_meta = meta
        self.batch_size = batch_size
        self._retriever: Retriever | None = None

    def index(
        self,
        corpus: Iterable[Mapping[str, object]],
        *,
        task_metadata: object = None,
        hf_split: str = "",
        hf_subset: str = "",
        encode_kwargs: Mapping[str, object] | None = None,
        **further: object,
    ) -> None:
        """Build the retriever on a corpus of documents with ``id``, ``text`` and perhaps ``title``."""
        from genrail.catalog import Catalog

        rows = [
            {
                "id": str(document["id"]),
                "title": str(document.get("title") or document.get("text") or document["id"]),
                "text": str(document.get("text") or ""),
            }
            for document in corpus
        ]
        self._retriever = self.build(Catalog.from_items(rows, item_id="id", title="title"))

    def search(
        self,
        queries: Iterable[Mapping[str, object]],
        *,
        task_metadata: object = None,
        hf_split: str = "",
        hf_subset: str = "",
        top_k: int = 100,
        encode_kwargs: Mapping[str, object] | None = None,
        top_ranked: Mapping[str, Iterable[str]] | None = None,
        **further: object,
    ) -> dict[str, dict[str, float]]:
        """Answer queries with ``id`` and ``text``: query id to document id to score.

        Args:
            queries: What is asked.
            task_metadata: Of MTEB, not used; likewise hf_split, hf_subset, encode_kwargs and further ones.
            top_k: Hits for each query.
            top_ranked: Query id to the documents that are to be ranked again; others are left out.

        Raises:
            QueryError: `index` was not called before.
        """
        from genrail.evaluation.runs import Run

        if self._retriever is None:
            raise QueryError("nothing is indexed; call index(corpus) before search(queries)")
        asked = {str(query["id"]): Query(str(query["text"])) for query in queries}
        wanted = {str(key): set(map(str, ids)) for key, ids in (top_ranked or {}).items()}
        depth = top_k if top_ranked is None else max(top_k, self._size())
        found = {}
        keys = list(asked)
        for first in range(0, len(keys), self.batch_size):
            part = keys[first : first + self.batch_size]
            for key, ranking in zip(
                part, self._retriever.search_batch([asked[key] for key in part], k=depth), strict=True
            ):
                found[key] = ranking
        scores = Run.from_rankings(found).scores()
        return {
            key: dict([pair for pair in hits.items() if top_ranked is None or pair[0] in wanted.get(key, ())][:top_k])
            for key, hits in scores.items()
        }

    def _size(self) -> int:
        catalog = getattr(self._retriever, "catalog", None)
        return 1000 if catalog is None else len(catalog)
