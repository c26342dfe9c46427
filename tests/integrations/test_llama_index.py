"""An engine as a retriever of LlamaIndex."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_index.core", reason='needs the extra: pip install "genrail[llama-index]"')

from llama_index.core.schema import MetadataMode, QueryBundle
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from genrail.errors import FilterError
from genrail.integrations.llama_index import GenrailRetriever
from tests.integrations.contract import AdapterContract
from tests.shops import engine


class TestLlamaIndex(AdapterContract):
    def make(self, retriever, k=10, where=None, content=None):
        return GenrailRetriever(retriever, k=k, where=where, content=content)

    def ask(self, adapter, words):
        return adapter.retrieve(words)

    async def ask_async(self, adapter, words):
        return await adapter.aretrieve(words)

    def plain(self, found):
        return found.node.node_id, found.node.text, found.score, found.node.metadata


def test_filters_of_llama_index():
    cheap = MetadataFilter(key="price", operator=FilterOperator.LT, value=30)
    red_or_blue = MetadataFilters(
        filters=[MetadataFilter(key="colour", value="red"), MetadataFilter(key="colour", value="blue")],
        condition=FilterCondition.OR,
    )
    filters = MetadataFilters(filters=[cheap, red_or_blue])
    found = GenrailRetriever(engine(), k=40, where="in_stock", filters=filters).retrieve(QueryBundle("boot"))
    wanted = "in_stock AND price < 30 AND colour IN ('red', 'blue')"
    assert [node.node_id for node in found] == engine().search("boot", k=40, where=wanted).item_ids
    filters.condition = FilterCondition.NOT
    found = GenrailRetriever(engine(), k=40, filters=filters).retrieve("boot")
    wanted = "NOT (price < 30 AND colour IN ('red', 'blue'))"
    assert [node.node_id for node in found] == engine().search("boot", k=40, where=wanted).item_ids


def test_an_operator_without_columns_is_refused_when_it_is_given():
    filters = MetadataFilters(filters=[MetadataFilter(key="colour", operator=FilterOperator.CONTAINS, value="r")])
    with pytest.raises(FilterError, match="contains"):
        GenrailRetriever(engine(), filters=filters)


def test_scores_are_kept_from_the_text_for_a_language_model():
    [found] = GenrailRetriever(engine(), k=1).retrieve("boot")
    text = found.node.get_content(metadata_mode=MetadataMode.LLM)
    assert "price" in text and "log_probability" not in text and "score" not in text
