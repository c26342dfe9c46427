"""An engine as a component of Haystack.

Lies in `retrieval` because it calls an engine in this process and needs no server. Importing it needs the extra
``haystack``; nothing else in genrail imports it. **Haystack reports its use to its makers** unless the environment
variable ``HAYSTACK_TELEMETRY_ENABLED`` is ``False`` before it is imported.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from genrail.engine.engine import Engine
from genrail.errors import MissingPackageError, SettingsError
from genrail.integrations.asking import ask, content, metadata
from genrail.integrations.filters import from_haystack
from genrail.types import Json, JsonObject, Retriever

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as error:
    raise MissingPackageError("haystack-ai", "haystack", "The retriever for Haystack") from error

__all__ = ["GenrailRetriever"]


@component
class GenrailRetriever:
    """Find documents for words: id and title of each item, its score, attributes and rank as ``meta``.

    Args:
        engine: A saved engine's folder, opened at the first use; or an engine or other `Retriever` in memory, with
            which a pipeline cannot be written to YAML.
        top_k: How many documents, unless a run says otherwise.
        where: A filter in our words.
        filters: A filter in Haystack's. All filters hold, those of a run too.
        content: The attribute that becomes the documents' text; the title otherwise.
    """

    def __init__(
        self,
        engine: str | Path | Retriever,
        top_k: int = 10,
        where: str | None = None,
        filters: JsonObject | None = None,
        content: str | None = None,
    ) -> None:
        self.engine, self.top_k, self.where, self.filters, self.content = engine, top_k, where, filters, content
        self._opened: Retriever | None = None if isinstance(engine, str | Path) else engine

    def warm_up(self) -> None:
        """Open the engine's folder, once."""
        if self._opened is None:
            self._opened = Engine.load(cast("str | Path", self.engine))

    def to_dict(self) -> dict[str, Json]:
        """Write the settings; the engine by its folder.

        Raises:
            SettingsError: The engine is one in memory.
        """
        if not isinstance(self.engine, str | Path):
            raise SettingsError("an engine in memory cannot be written to a pipeline file; save it and give the folder")
        settings = {"top_k": self.top_k, "where": self.where, "filters": self.filters, "content": self.content}
        return default_to_dict(self, engine=str(self.engine), **settings)  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, data: JsonObject) -> GenrailRetriever:
        """Make the component from what `to_dict` wrote."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]

    @component.output_types(documents=list[Document])
    def run(self, query: str, filters: JsonObject | None = None, top_k: int | None = None) -> dict[str, list[Document]]:
        """Search; the arguments of a run go before those of the component, filters beside them."""
        self.warm_up()
        assert self._opened is not None
        given = [self.where, *[from_haystack(one) for one in (self.filters, filters) if one]]
        ranking = ask(self._opened, query, self.top_k if top_k is None else top_k, given)
        documents = [
            Document(id=hit.item_id, content=content(hit, self.content), meta=metadata(hit), score=hit.score)
            for hit in ranking
        ]
        return {"documents": documents}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: JsonObject | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Search in a thread, as `run`."""
        return await asyncio.to_thread(self.run, query, filters, top_k)
