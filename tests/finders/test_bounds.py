"""Bounds on numbers in a query: read where the column is clear, said, and nothing is removed."""

import pytest

import genrail
from genrail.catalog import Catalog
from genrail.finders.bounds import number_columns, read_bounds


def shop(**more):
    return Catalog.from_items(
        [{"id": f"i{row}", "title": f"trail boot {row}", "price": 10.5 + row, **{k: v + row for k, v in more.items()}}
         for row in range(30)],
        text=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "column", "least", "most"),
    [
        ("boot under 30", "price", None, 30.0),
        ("boot below $30, red", "price", None, 30.0),
        ("boot for at least 20 euros", "price", 20.0, None),
        ("boot between 20 and 10", "price", 10.0, 20.0),
        ("boot up to 1,500.50", "price", None, 1500.5),
        ("boot, price over 12,5", "price", 12.5, None),
    ],
)
def test_bounds_are_read(text, column, least, most):
    catalog = shop()
    wanted, [bound] = read_bounds(text, catalog, number_columns(catalog))
    told = bound.to_dict()
    assert (told["attributes"], told.get("least"), told.get("most")) == ([column], least, most)
    assert "boot" in wanted and not any(sign.isdigit() for sign in wanted)


@pytest.mark.parametrize("text", ["boot under 3 kg", "under 30", "boot 30", "understand 30", "boot overnight"])
def test_what_is_not_clear_stays_words(text):
    catalog = shop()
    wanted, bounds = read_bounds(text, catalog, number_columns(catalog))
    assert wanted == text and (not bounds or text == "under 30")


def test_several_columns_of_numbers_want_a_name_or_money():
    catalog = shop(year=2000)
    columns = number_columns(catalog)
    assert read_bounds("boot under 30", catalog, columns) == ("boot under 30", ())
    assert read_bounds("boot under 30 euros", catalog, columns)[1][0].column == "price"
    assert read_bounds("boot with year over 2010", catalog, columns)[1][0].column == "year"


def test_items_out_of_bounds_come_last_and_stay():
    engine = genrail.Engine.build(shop(), lanes=["bm25", "lookup"])
    found = engine.search("trail boot under 20", k=30)
    prices = [hit["price"] for hit in found]
    assert len(found) == 30 and all(price <= 20 for price in prices[:10]) and prices[10] > 20
    assert {"words": "under 20", "attributes": ["price"], "wanted": True, "most": 20.0} in found.reading
    plain = engine.search("trail boot under 20", k=30, soft_filters=False)
    assert {hit.item_id for hit in plain} == {hit.item_id for hit in found} and not plain.reading


def test_a_bound_that_no_item_near_keeps_changes_nothing():
    engine = genrail.Engine.build(shop(), lanes=["bm25", "lookup"])
    found = engine.search("trail boot under 5", k=30)
    assert not found.reading and found.item_ids == engine.search("trail boot", k=30).item_ids
