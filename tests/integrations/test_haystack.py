"""An engine as a component of Haystack. Its telemetry is switched off before it is imported."""

from __future__ import annotations

import asyncio
import os

import pytest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
pytest.importorskip("haystack", reason='needs the extra: pip install "genrail[haystack]"')

from haystack import Document, Pipeline
from haystack.utils.filters import document_matches_filter

from genrail.catalog import Catalog
from genrail.errors import FilterError, SettingsError
from genrail.integrations.filters import from_haystack
from genrail.integrations.haystack import GenrailRetriever
from tests.integrations.contract import AdapterContract
from tests.shops import engine


class TestHaystack(AdapterContract):
    def make(self, retriever, k=10, where=None, content=None):
        return GenrailRetriever(retriever, top_k=k, where=where, content=content)

    def ask(self, adapter, words):
        return adapter.run(words)["documents"]

    async def ask_async(self, adapter, words):
        return (await adapter.run_async(words))["documents"]

    def plain(self, found):
        return found.id, found.content, found.score, found.meta


OURS = "genrail.integrations.haystack"
FILTERS = [
    {"field": "meta.price", "operator": "<", "value": 30},
    {"field": "meta.price", "operator": ">=", "value": 30.5},
    {"field": "meta.colour", "operator": "==", "value": "red"},
    {"field": "meta.colour", "operator": "!=", "value": "red"},
    {"field": "meta.note", "operator": "!=", "value": "it's 100% new"},
    {"field": "meta.note", "operator": "==", "value": "it's 100% new"},
    {"field": "meta.note", "operator": "==", "value": None},
    {"field": "meta.note", "operator": "!=", "value": None},
    {"field": "meta.note", "operator": "not in", "value": ["it's 100% new"]},
    {"field": "meta.colour", "operator": "in", "value": ["red", "blue"]},
    {"field": "meta.in_stock", "operator": "==", "value": True},
]
FILTERS += [
    {"operator": "AND", "conditions": FILTERS[:1] + FILTERS[3:5]},
    {"operator": "OR", "conditions": FILTERS[1:3]},
    {"operator": "NOT", "conditions": FILTERS[:1] + FILTERS[10:]},
    {"operator": "OR", "conditions": [{"operator": "NOT", "conditions": FILTERS[2:3]}, FILTERS[0]]},
]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_a_filter_allows_what_haystacks_own_evaluation_allows(filters):
    items = [
        {
            "sku": f"s{number}",
            "name": f"boot {number}",
            "price": 20 + number,
            "colour": ("red", "blue", "green")[number % 3],
            "in_stock": number % 2 == 0,
            "note": (None, "it's 100% new", "worn")[number // 3 % 3],
        }
        for number in range(24)
    ]
    catalog = Catalog.from_items(items)
    documents = [Document(id=item["sku"], content=item["name"], meta=item) for item in items]
    expected = [document_matches_filter(filters, document) for document in documents]
    assert catalog.where(from_haystack(filters)).tolist() == expected


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.price", "operator": "<"},
        {"field": "meta.price", "operator": "about", "value": 3},
        {"field": "meta.price", "operator": "<", "value": None},
        {"field": "meta.price", "operator": "in", "value": "red"},
        {"field": "meta.price", "operator": "in", "value": []},
        {"operator": "XOR", "conditions": FILTERS[:2]},
        {"operator": "AND", "conditions": []},
        {"price": 3},
    ],
    ids=str,
)
def test_a_filter_that_is_none_is_refused(filters):
    with pytest.raises(FilterError):
        GenrailRetriever(engine()).run("boot", filters=filters)


def test_a_run_says_how_many_and_adds_a_filter():
    retriever = GenrailRetriever(engine(), where="in_stock", filters=FILTERS[0])
    found = retriever.run("boot", filters=FILTERS[3], top_k=3)["documents"]
    wanted = "in_stock AND price < 30 AND colour != 'red'"
    assert [document.id for document in found] == engine().search("boot", k=3, where=wanted).item_ids


def test_a_pipeline_is_written_to_yaml_and_read_again(tmp_path):
    engine().save(tmp_path / "shop.genrail")
    pipeline = Pipeline()
    pipeline.add_component("search", GenrailRetriever(str(tmp_path / "shop.genrail"), top_k=3, filters=FILTERS[0]))
    text = pipeline.dumps()
    for one in (pipeline, Pipeline.loads(text, allowed_modules=[OURS])):
        found = one.run({"search": {"query": "boot"}})["search"]["documents"]
        assert [document.id for document in found] == engine().search("boot", k=3, where="price < 30").item_ids
    found = asyncio.run(Pipeline.loads(text, allowed_modules=[OURS]).run_async({"search": {"query": "boot"}}))[
        "search"
    ]["documents"]
    assert len(found) == 3


def test_an_engine_in_memory_cannot_be_written():
    with pytest.raises(SettingsError, match="save it"):
        GenrailRetriever(engine()).to_dict()
