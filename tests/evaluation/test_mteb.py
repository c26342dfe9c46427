"""MTEB's search protocol, spoken by its words alone."""

import inspect

import pytest

from genrail.errors import QueryError
from genrail.evaluation.mteb import MTEBSearch
from genrail.finders import BM25

CORPUS = [
    {"id": "d1", "title": "Trail shoes", "text": "for long walks"},
    {"id": "d2", "title": "", "text": "a wool hat"},
    {"id": "d3", "title": "Walks", "text": "walks and shoes and walks"},
]
QUERIES = [{"id": "q1", "text": "shoes for walks"}, {"id": "q2", "text": "hat"}]


def test_the_protocol_has_its_words():
    for name, words in (("index", {"corpus"}), ("search", {"queries", "top_k", "top_ranked"})):
        asked = set(inspect.signature(getattr(MTEBSearch, name)).parameters)
        assert words | {"task_metadata", "hf_split", "hf_subset", "encode_kwargs"} <= asked
    assert hasattr(MTEBSearch(BM25), "mteb_model_meta")


def test_documents_come_back_with_falling_scores():
    adapter = MTEBSearch(BM25, batch_size=1)
    adapter.index(CORPUS, task_metadata=None, hf_split="test", hf_subset="default", encode_kwargs={})
    found = adapter.search(
        QUERIES, task_metadata=None, hf_split="test", hf_subset="default", top_k=2, encode_kwargs={}, top_ranked=None
    )
    assert set(found) == {"q1", "q2"}
    assert all(len(hits) == 2 and list(hits.values()) == sorted(hits.values(), reverse=True) for hits in found.values())
    assert set(found["q1"]) == {"d1", "d3"}
    assert next(iter(found["q2"])) == "d2"


def test_only_named_documents_are_ranked_again():
    adapter = MTEBSearch(BM25)
    adapter.index(CORPUS)
    assert set(adapter.search(QUERIES, top_k=5, top_ranked={"q1": ["d2", "d3"]})["q1"]) == {"d2", "d3"}


def test_nothing_indexed_is_said():
    with pytest.raises(QueryError, match="index"):
        MTEBSearch(BM25).search(QUERIES)
