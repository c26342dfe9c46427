"""The contract of every adapter: what comes out is what the engine gives, whatever the framework calls it."""

from __future__ import annotations

import asyncio

import pytest

from genrail.catalog import Catalog
from genrail.errors import FilterError, QueryError, SettingsError
from genrail.types import Query
from tests.shops import engine


class AdapterContract:
    """Subclasses give `make`, `ask`, `ask_async`, and `plain`: a found thing as (id, text, score, metadata)."""

    def make(self, retriever, k=10, where=None, content=None):
        raise NotImplementedError

    def ask(self, adapter, words):
        raise NotImplementedError

    async def ask_async(self, adapter, words):
        raise NotImplementedError

    def plain(self, found):
        raise NotImplementedError

    def asked(self, adapter, words):
        return [self.plain(found) for found in self.ask(adapter, words)]

    def expected(self, ranking):
        return [
            (
                hit.item_id,
                hit.title,
                hit.score,
                {
                    **hit.attributes,
                    "title": hit.title,
                    "score": hit.score,
                    "rank": hit.rank,
                    "log_probability": hit.log_probability,
                },
            )
            for hit in ranking
        ]

    @pytest.mark.parametrize("where", [None, "price < 30", "in_stock AND colour = 'red'"])
    @pytest.mark.parametrize("k", [1, 7])
    def test_ids_order_scores_and_metadata_are_the_engines(self, k, where):
        adapter = self.make(engine(), k=k, where=where)
        for words in ("blue boot", "sandal", "etwas Warmes"):
            assert self.asked(adapter, words) == self.expected(engine().search(words, k=k, where=where))

    def test_a_filter_that_leaves_nothing_gives_nothing(self):
        assert self.asked(self.make(engine(), where="price < 0"), "boot") == []

    def test_any_retriever_can_be_adapted(self):
        from genrail import BM25

        bm25 = BM25(engine().catalog)
        assert self.asked(self.make(bm25, k=4), "red boot") == self.expected(
            bm25.search_batch([Query("red boot")], 4)[0]
        )

    def test_asking_at_the_same_time_gives_the_same(self):
        words = ["blue boot", "sandal", "red clog", "slipper"]
        adapter = self.make(engine(), k=5)

        async def together():
            return await asyncio.gather(*[self.ask_async(adapter, one) for one in words])

        answers = [[self.plain(found) for found in answer] for answer in asyncio.run(together())]
        assert answers == [self.asked(adapter, one) for one in words]

    def test_an_attribute_can_be_the_text(self):
        [first, *_] = self.asked(self.make(engine(), content="colour"), "red boot")
        assert first[1] == first[3]["colour"]

    def test_an_attribute_named_as_one_of_ours_is_not_lost(self):
        from genrail import BM25

        catalog = Catalog.from_items(
            [{"sku": "a", "name": "boot", "score": 4}, {"sku": "b", "name": "clog", "score": 5}]
        )
        [found] = self.asked(self.make(BM25(catalog), k=1), "boot")
        assert found[3]["attribute_score"] == 4 and found[3]["score"] == found[2]

    def test_mistakes_are_told_in_our_words(self):
        with pytest.raises(QueryError):
            self.ask(self.make(engine()), "  ")
        with pytest.raises(QueryError):
            self.ask(self.make(engine(), k=0), "boot")
        with pytest.raises(FilterError, match="colour_of_the_sole"):
            self.ask(self.make(engine(), where="colour_of_the_sole = 1"), "boot")
        with pytest.raises(SettingsError, match="descripton"):
            self.ask(self.make(engine(), content="descripton"), "boot")
