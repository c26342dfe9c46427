"""The contract of every `Retriever`: engines and baselines inherit it and say how one is made."""

from __future__ import annotations

import math

import pytest

from genrail.catalog import Catalog
from genrail.errors import FilterError, QueryError
from genrail.types import Query, Retriever

WORDS = ("trail", "boot", "sandal", "wool", "winter", "red", "blue", "running")


def contract_catalog(items: int = 24) -> Catalog:
    """A small shop: two items of one title, one title that begins another, one removed item, prices for filters."""
    rows = [
        {
            "id": f"sku-{number}",
            "title": f"{WORDS[number % 8]} {WORDS[(number // 3) % 8]} {number}",
            "price": float(10 + 5 * number),
            "in_stock": number % 3 != 0,
        }
        for number in range(items)
    ]
    if items >= 4:
        rows[1]["title"] = rows[0]["title"]
        rows[3]["title"] = rows[2]["title"] + " wide"
    catalog = Catalog.from_items(rows, item_id="id", title="title")
    return catalog.remove([f"sku-{items - 1}"]) if items >= 4 else catalog


class RetrieverContract:
    """Promises that no retriever may break. Subclasses give `make`.

    `make` is called with catalogues of 1, 4 and 24 rows; the last row of the larger ones is removed. Histories name
    `sku-0`, `sku-1`, ...
    """

    reads_words = True
    reads_histories = True

    def make(self, catalog: Catalog) -> Retriever:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def catalog(cls):
        return contract_catalog()

    @pytest.fixture(scope="class")
    @classmethod
    def retriever(cls, catalog):
        return cls().make(catalog)

    def queries(self, **options) -> list[Query]:
        kinds = []
        if self.reads_words:
            kinds += [Query("trail boot", **options), Query("zzz nothing like it", **options)]
        if self.reads_histories:
            kinds += [Query(history=["sku-2", "sku-5"], **options)]
        if self.reads_words and self.reads_histories:
            kinds += [Query("wool", history=["sku-7"], **options)]
        return kinds

    def allowed(self, catalog: Catalog, query: Query) -> set[str]:
        """What may come out, worked out item by item."""
        mask = catalog.live if query.where is None else catalog.where(query.where)
        out = {item_id for item_id, ok in zip(catalog.item_ids, mask, strict=True) if ok}
        seen = set(query.history) if query.exclude_seen else set()
        return out - seen - set(query.exclude)

    def test_it_is_a_retriever_with_a_name(self, retriever):
        assert isinstance(retriever, Retriever)
        assert retriever.name.strip()

    @pytest.mark.parametrize("where", [None, "price < 60", "in_stock AND price > 40"])
    @pytest.mark.parametrize("exclude_seen", [True, False])
    def test_every_hit_is_in_the_catalog_and_allowed(self, retriever, catalog, where, exclude_seen):
        for query in self.queries(where=where, exclude_seen=exclude_seen, exclude=["sku-4", "not there"]):
            (ranking,) = retriever.search_batch([query], k=10)
            assert set(ranking.item_ids) <= self.allowed(catalog, query)

    @pytest.mark.parametrize("k", [1, 5, 22, 23, 24, 100])
    def test_k_hits_come_back_whenever_k_are_allowed(self, retriever, catalog, k):
        for query in self.queries():
            (ranking,) = retriever.search_batch([query], k=k)
            allowed = self.allowed(catalog, query)
            assert len(ranking) == min(k, len(allowed))
            assert ranking.exhausted == (len(allowed) < k)

    def test_no_item_comes_twice(self, retriever):
        for ranking in retriever.search_batch(self.queries(), k=100):
            assert len(set(ranking.item_ids)) == len(ranking)

    def test_hits_carry_id_title_rank_and_falling_finite_scores(self, retriever, catalog):
        for ranking in retriever.search_batch(self.queries(), k=100):
            scores = [hit.score for hit in ranking]
            assert all(math.isfinite(score) for score in scores)
            assert scores == sorted(scores, reverse=True)
            assert [hit.rank for hit in ranking] == list(range(1, len(ranking) + 1))
            for hit in ranking:
                assert hit.title == catalog.titles[catalog.row(hit.item_id)]
                assert dict(hit.attributes) == catalog.attributes(catalog.row(hit.item_id))

    def test_a_batch_gives_what_single_queries_give(self, retriever):
        queries = [*self.queries(), *self.queries(where="price < 60")]
        batch = retriever.search_batch(queries, k=7)
        for query, ranking in zip(queries, batch, strict=True):
            (alone,) = retriever.search_batch([query], k=7)
            assert ranking.item_ids == alone.item_ids
            assert [hit.score for hit in ranking] == pytest.approx([hit.score for hit in alone], abs=1e-5)

    def test_no_queries_no_rankings(self, retriever):
        assert retriever.search_batch([], k=5) == []

    def test_a_filter_that_leaves_nothing_gives_an_empty_exhausted_ranking(self, retriever):
        for ranking in retriever.search_batch(self.queries(where="price < 0"), k=5):
            assert len(ranking) == 0
            assert ranking.exhausted

    def test_an_unknown_field_in_a_filter_is_named(self, retriever):
        with pytest.raises(FilterError, match="colour_of_the_sole"):
            retriever.search_batch(self.queries(where="colour_of_the_sole = 1")[:1], k=5)

    def test_k_below_one_is_refused(self, retriever):
        with pytest.raises(QueryError):
            retriever.search_batch(self.queries(), k=0)

    def test_an_unknown_item_of_a_history_is_warned_of_and_the_others_used(self, retriever):
        if not self.reads_histories:
            pytest.skip("reads no histories")
        known = Query(history=["sku-2", "sku-5"])
        (with_stranger,) = retriever.search_batch([Query(history=["sku-2", "nobody-knows", "sku-5"])], k=5)
        (without,) = retriever.search_batch([known], k=5)
        assert with_stranger.item_ids == without.item_ids
        assert any("nobody-knows" in warning for warning in with_stranger.warnings)
        assert not any("not in the catalogue" in warning for warning in without.warnings)

    def test_a_history_of_strangers_alone_is_refused(self, retriever):
        with pytest.raises(QueryError):
            retriever.search_batch([Query(history=["nobody-knows"])], k=5)

    def test_a_removed_item_of_a_history_counts_as_unknown(self, retriever):
        if not self.reads_histories:
            pytest.skip("reads no histories")
        (ranking,) = retriever.search_batch([Query(history=["sku-23", "sku-2"])], k=5)
        assert "sku-23" not in ranking.item_ids
        assert any("sku-23" in warning for warning in ranking.warnings)

    def test_seen_items_come_out_only_when_they_are_kept(self, retriever, catalog):
        if not self.reads_histories:
            pytest.skip("reads no histories")
        for exclude_seen in (True, False):
            query = Query(history=["sku-2", "sku-5"], exclude_seen=exclude_seen)
            (ranking,) = retriever.search_batch([query], k=len(catalog))
            assert ({"sku-2", "sku-5"} & set(ranking.item_ids) == set()) == exclude_seen

    def test_a_catalog_of_one_item(self):
        retriever = self.make(contract_catalog(items=1))
        query = Query("trail") if self.reads_words else Query(history=["sku-0"], exclude_seen=False)
        (ranking,) = retriever.search_batch([query], k=3)
        assert ranking.item_ids == ["sku-0"]
        assert ranking.exhausted

    def test_two_items_with_one_title_are_both_reachable(self, retriever):
        ids = set()
        for ranking in retriever.search_batch(self.queries(exclude_seen=False), k=100):
            ids |= set(ranking.item_ids)
        assert {"sku-0", "sku-1"} <= ids
