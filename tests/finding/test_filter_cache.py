"""Filters that are kept and put together from their parts answer as filters evaluated anew."""

import numpy as np
import pytest

from genrail.catalog import Catalog
from genrail.engine import Engine
from genrail.errors import FilterError
from genrail.finding.kept import Kept
from genrail.finding.requests import FilterCache
from tests.shops import engine


def cache(**bounds):
    return FilterCache(engine().catalog, Kept(lambda mask: mask.nbytes, **bounds))


FILTERS = [
    "price < 20", "NOT price < 20", "price < 20 AND in_stock", "price < 20 OR colour = 'red'",
    "NOT (price < 20 AND in_stock) AND colour IN ('red', 'blue')", "NOT NOT in_stock",
    " OR ".join(f"price = {number}" for number in range(10, 40)),
]  # fmt: skip


def test_a_filter_put_together_from_its_parts_is_the_filter_itself():
    kept = cache()
    for expression in [*FILTERS, *FILTERS]:
        _, mask = kept.get(expression)
        assert np.array_equal(mask, engine().catalog.where(expression)), expression


def test_one_condition_has_one_name_however_it_is_written():
    kept = cache()
    assert kept.get("price  <  20")[0] == kept.get("price < 20")[0] != kept.get("price < 21")[0]


def test_removed_items_stay_out_of_a_negated_filter():
    own = Engine(engine().edition)
    own.remove(["s30"])
    _, mask = own.edition.filters.get("NOT price < 20")
    assert not mask[30]
    assert 10 < mask.sum() < 30


def test_parts_of_filters_are_evaluated_once(monkeypatch):
    kept, asked = cache(), []
    where = Catalog.where
    monkeypatch.setattr(Catalog, "where", lambda self, node: asked.append(node) or where(self, node))
    for expression in ("price < 20 AND in_stock", "in_stock AND NOT price < 20", "price < 20", "price  <  20"):
        kept.get(expression)
    assert len(asked) == 2


@pytest.mark.parametrize(("conditions", "masks"), [(16, 17), (17, 1)])
def test_a_long_filter_is_kept_as_one_mask_so_that_its_parts_push_no_others_out(conditions, masks):
    kept = cache()
    kept.get(" OR ".join(f"price = {number}" for number in range(conditions)))
    assert len(kept) == masks


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
    assert nothing.get("price < 20")[1].sum() == 10
    assert (len(nothing), nothing.nbytes) == (0, 0)


def test_a_key_that_is_kept_twice_counts_once_and_what_is_too_large_drops_nothing():
    kept = Kept(len, nbytes=10)
    assert [kept.keep("a", "pear"), kept.keep("a", "pear")] == ["pear", "pear"]
    assert (len(kept), kept.nbytes) == (1, 5)
    assert kept.keep("b", "a long word") == "a long word"
    assert kept.find("b") is None and kept.find("a") == "pear"


def test_a_number_and_a_truth_value_are_different_filters():
    kept = cache()
    assert kept.get("in_stock = true")[1].sum() > 0
    with pytest.raises(FilterError, match="true and false"):
        kept.get("in_stock = 1")
