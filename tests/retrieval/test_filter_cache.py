"""Filters that are kept and put together from their parts answer as filters evaluated anew."""

import numpy as np
import pytest
from genrail.retrieval.requests import FilterCache

from genrail.catalog import Catalog
from genrail.errors import FilterError
from genrail.retrieval import Engine
from tests.retrieval.shops import engine


def cache(**bounds):
    edition = engine().edition
    return FilterCache(edition.catalog, edition.index, **bounds)


FILTERS = [
    "price < 20", "NOT price < 20", "price < 20 AND in_stock", "price < 20 OR colour = 'red'",
    "NOT (price < 20 AND in_stock) AND colour IN ('red', 'blue')", "NOT NOT in_stock",
    " OR ".join(f"price = {number}" for number in range(10, 40)),
]  # fmt: skip


def test_a_filter_put_together_from_its_parts_is_the_filter_itself():
    kept = cache()
    for expression in [*FILTERS, *FILTERS]:
        mask, subset = kept.get(expression)
        expected = engine().catalog.where(expression)
        assert np.array_equal(mask, expected), expression
        assert len(subset) == expected.sum()
        own = engine().edition.index.subset(expected)
        assert np.array_equal(subset.old.ranks(), own.old.ranks())


def test_removed_items_stay_out_of_a_negated_filter():
    own = Engine(engine().edition)
    own.remove(["s30"])
    mask, subset = own.edition.filters.get("NOT price < 20")
    assert not mask[30]
    assert len(subset) == mask.sum()


def test_parts_of_filters_are_evaluated_once(monkeypatch):
    kept, asked = cache(), []
    where = Catalog.where
    monkeypatch.setattr(Catalog, "where", lambda self, node: asked.append(node) or where(self, node))
    for expression in ("price < 20 AND in_stock", "in_stock AND NOT price < 20", "price < 20", "price  <  20"):
        kept.get(expression)
    assert len(asked) == 2


def test_what_filters_are_kept_is_bounded_by_number_and_by_bytes():
    few = cache(entries=3)
    for below in range(20):
        few.get(f"price < {below}")
    assert len(few) == 3
    one = cache()
    one.get("price < 20")
    small = cache(nbytes=3 * one.nbytes + 10)
    for below in range(20, 40):
        small.get(f"price < {below}")
        assert small.nbytes <= 3 * one.nbytes + 10
    assert len(small) == 3
    nothing = cache(nbytes=10)
    assert nothing.get("price < 20")[0].sum() == 10
    assert (len(nothing), nothing.nbytes) == (0, 0)


def test_a_number_and_a_truth_value_are_different_filters():
    kept = cache()
    assert kept.get("in_stock = true")[0].sum() > 0
    with pytest.raises(FilterError, match="true and false"):
        kept.get("in_stock = 1")
