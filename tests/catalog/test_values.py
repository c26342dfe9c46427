"""One way in for values: build, add and update read strings alike, and what stands in the way is named by row."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.catalog import Catalog
from genrail.catalog.amending import amend
from genrail.catalog.moments import MOMENT, as_written, read_moments, unit_of
from genrail.catalog.numbers import read_numbers
from genrail.catalog.values import TAGS, converted, inferred, tidy
from genrail.errors import CatalogError


def column(values):
    return tidy(pl.Series("c", values, dtype=pl.String))


def rows(values):
    return np.arange(1, len(values) + 1)


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1", "+3", "-5", "\u22122"], [1, 3, -5, -2]),
        (["1.5", ".5", "2e3", "7"], [1.5, 0.5, 2000.0, 7.0]),
        (["1,299.00", "5"], [1299.0, 5.0]),
        (["1,299", "899"], [1299, 899]),
        (["1.299,00", "9,90"], [1299.0, 9.9]),
        (["12,50", "9"], [12.5, 9.0]),
        (["1'299.50", "3"], [1299.5, 3.0]),
        (["1\u00a0299,50", "3"], [1299.5, 3.0]),
        (["$5", "-$6.50", "$1,000.00"], [5.0, -6.5, 1000.0]),
        (["5 €", "6,50 EUR"], [5.0, 6.5]),
        (["CHF 5", "chf 6"], [5, 6]),
        (["$5", "€6", "$7"], [5, None, 7]),  # a sum in another currency is no number of this column
        (["5 pcs", "6"], [None, 6]),
        (["007", "12"], [None, 12]),
        (["1234567890123456", "12"], [None, 12]),
        (["1e999", "."], [None, None]),
    ],
)
def test_numbers_as_shops_write_them(texts, numbers):
    assert read_numbers(pl.Series(texts)).values.to_list() == numbers


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T10:30:00Z",
        "2024-05-01 10:30:00+00",
        "2024-05-01 12:30:00+02",
        "2024-05-01 05:30-0500",
        "2024-05-01 10:30:00 UTC",
        "2024/5/1 10:30",
        "01.05.2024 10:30",
        "1 May 2024 10:30:00",
        "May 1, 2024 10:30 AM",
        "Wed, 01 May 2024 10:30:00 GMT",
        "  2024-05-01T10:30:00,000Z ",
    ],
)
def test_one_moment_in_its_usual_spellings(text):
    assert read_moments(pl.Series([text])).values.to_list() == [datetime(2024, 5, 1, 10, 30, tzinfo=UTC)]


@pytest.mark.parametrize("text", ["2024-13-01", "2024-02-30", "2024-05-01 25:00", "soon", "2024", "12345", "1.5.24"])
def test_what_is_no_moment(text):
    assert read_moments(pl.Series([text])).values.to_list() == [None]


def test_day_and_month_are_told_apart_by_the_column_or_not_at_all():
    found = read_moments(pl.Series(["13/05/2024", "01/02/2024"])).values
    assert as_written(found).to_list() == ["2024-05-13", "2024-02-01"]
    found = read_moments(pl.Series(["05/13/2024", "01/02/2024"])).values
    assert as_written(found).to_list() == ["2024-05-13", "2024-01-02"]
    unclear = read_moments(pl.Series(["03/04/2024"]))
    assert (unclear.values.to_list(), unclear.doubt) == ([None], "day and month cannot be told apart")


@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_what_is_written_of_a_moment_is_read_as_the_same(moments):
    column = pl.Series("when", [moment.replace(tzinfo=UTC) for moment in moments], dtype=MOMENT)
    assert read_moments(as_written(column)).values.to_list() == column.to_list()


def test_units_of_time_are_told_by_size():
    assert unit_of(pl.Series([1_500_000_000, 1_600_000_000])) == ("seconds", None)
    assert unit_of(pl.Series([1_500_000_000_000])) == ("milliseconds", None)
    assert unit_of(pl.Series([1, 2, 3])) == (None, None)
    assert unit_of(pl.Series([5, 1_500_000_000, 1_600_000_000_000])) == (None, (1, 2))


@pytest.mark.parametrize(
    ("texts", "kind", "note"),
    [
        (["1", "2.5"], pl.Float64, None),
        (["1", "2", "N/A", "-", "\\N", "none"], pl.Int64, "4 values"),
        (["9", "10", "ask us"], pl.String, '1 of 3 values is no number ("ask us" in row 3)'),
        (["$9", "$10", "€8"], pl.String, '"€8" in row 3'),
        (["$1,000.00", "$9"], pl.Float64, '"$1,000.00" as 1000.0'),
        (["01234", "99999"], pl.String, '"01234" in row 1 would lose digits'),
        (["4006381333931123", "1"], pl.String, "would lose digits"),
        (["yes", "NO", "unknown"], pl.Boolean, "taken for nothing"),
        (["2024-05-01", "2024-06-01 10:00 UTC"], MOMENT, None),
        (["2024-05-01", "2024-06-01", "soon"], pl.String, '"soon" in row 3'),
        (["01/02/2024", "03/04/2024"], pl.String, "day and month cannot be told apart"),
        (["red|wool", "red"], TAGS, None),
        (['["red", "a|b"]', "[]"], TAGS, None),
        (["a boot | in red", "b"], pl.String, None),
        (["red", "none"], pl.String, None),
        (["red", "NULL"], pl.String, '"NULL"'),
    ],
)
def test_types_are_inferred_and_what_stands_in_the_way_is_said(texts, kind, note):
    found = inferred(column(texts), rows(texts))
    assert found.values.dtype == kind
    assert (note in " ".join(found.notes)) if note else not found.notes


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["007", "yes", "1e5", "1.10"], pl.String(), ["007", "yes", "1e5", "1.10"]),
        (["12", "N/A"], pl.Int64(), [12, None]),
        (["12.5", "3"], pl.Int64(), [12.5, 3.0]),
        (["$1,000", "$5"], pl.Float64(), [1000.0, 5.0]),
        (["yes", "0", "f", "TRUE"], pl.Boolean(), [True, False, False, True]),
        (["a|b", '["c"]'], TAGS, [["a", "b"], ["c"]]),
    ],
)
def test_strings_follow_the_type_of_the_catalogue(texts, kind, values):
    assert converted(column(texts), kind, rows(texts), "new.csv").to_list() == values


@pytest.mark.parametrize(
    ("values", "kind"),
    [(["007"], pl.Int64()), (["cheap"], pl.Float64()), (["maybe"], pl.Boolean()), (["soon"], MOMENT)],
)
def test_another_type_is_refused_by_column_row_and_value(values, kind):
    with pytest.raises(CatalogError, match=rf'new\.csv: column "c" .*"{values[0]}" in row 1'):
        converted(column(values), kind, rows(values), "new.csv")
    with pytest.raises(CatalogError, match='"true" in row 1'):
        converted(pl.Series("c", [True]), pl.Int64(), np.array([1]), "new.csv")


BUILT = "sku,name,zip,price,ok,when,tags\n1,Boot,01234,9.5,yes,2024-05-01,red|wool\n2,Hat,98765,10,no,2024-06-01,red\n"
ADDED = "sku,name,zip,price,ok,when,tags\n3,7,00700,12,no,2024-07-01 00:00:00+00,blue\n"


def test_build_add_and_update_read_a_file_alike(tmp_path):
    """The promise of the issue: three ways in, one result."""
    (tmp_path / "built.csv").write_text(BUILT)
    (tmp_path / "added.csv").write_text(ADDED)
    (tmp_path / "all.csv").write_text(BUILT + ADDED.split("\n", 1)[1])
    (tmp_path / "changes.csv").write_text(ADDED.replace("3,7", "2,7"))
    shop = Catalog.read(tmp_path / "built.csv")
    whole = Catalog.read(tmp_path / "all.csv")
    more = shop.read_more(tmp_path / "added.csv")
    assert shop.add(more).frame.equals(whole.frame)
    assert shop.add(whole.records([2])).frame.equals(whole.frame)
    changes, report = shop.read_changes(tmp_path / "changes.csv")
    changed, _ = amend(shop, changes)
    assert changed.frame.drop("sku")[1].equals(whole.frame.drop("sku")[2])
    assert (report.rows_in, report.indexed, more.report.indexed) == (1, 1, 1)


def test_ragged_and_empty_rows_are_accounted_for_by_every_way_in(tmp_path):
    (tmp_path / "built.csv").write_text(BUILT)
    shop = Catalog.read(tmp_path / "built.csv")
    (tmp_path / "more.csv").write_text("sku,name,price\n3,Clog,5\n4\n,,\n5,,\n")
    report = shop.read_more(tmp_path / "more.csv").report
    assert (report.rows_in, report.indexed) == (4, 1)
    assert [row for row, _ in report.refused] == [2, 3, 4]
    (tmp_path / "changes.csv").write_text("sku,price\n1,5\n2\n,\n,7\n")
    changes, report = shop.read_changes(tmp_path / "changes.csv")
    assert changes == [{"sku": "1", "price": 5.0}]
    assert [row for row, _ in report.refused] == [2, 3, 4]
    (tmp_path / "wrong.csv").write_text("sku,name,price\n3,Clog,cheap\n")
    with pytest.raises(CatalogError, match='wrong.csv: column "price" holds numbers, and "cheap" in row 1 is none'):
        shop.read_more(tmp_path / "wrong.csv")


def test_a_refused_item_in_memory_stops_the_change():
    shop = Catalog.from_items([{"id": "a", "title": "A"}])
    with pytest.raises(CatalogError, match="item 2 is refused, so nothing was changed: no words"):
        shop.add([{"id": "b", "title": "B"}, {"id": "c", "title": " "}])


def test_text_is_composed_and_without_blanks_everywhere():
    mac = "Cafe\u0301"
    shop = Catalog.from_items([{" id ": f" {mac}", "title": f"{mac} ", "brand": mac, "tags": [f" {mac}"]}])
    assert shop.item_ids == ["Café"]
    assert shop.titles == ["Café"]
    assert shop.rows([mac, f" {mac} "]).tolist() == [0, 0]
    for where in (f"brand = '{mac}'", f"tags HAS '{mac}'", f"title LIKE '{mac}'"):
        assert shop.where(where).tolist() == [True]


def test_infinities_and_durations_become_values_that_json_can_hold():
    frame = pl.DataFrame(
        {"id": ["a", "b"], "title": ["A", "B"], "x": [float("inf"), 1.5], "length": [60_000_000, None]}
    )
    shop = Catalog.from_frame(frame.with_columns(pl.col("length").cast(pl.Duration("us"))))
    assert shop.records([0, 1]) == [
        {"id": "a", "title": "A", "x": None, "length": 60.0},
        {"id": "b", "title": "B", "x": 1.5, "length": None},
    ]
    assert "1 infinite values" in " ".join(shop.report.warnings)


def test_html_is_not_read_as_words_and_what_is_no_html_stays():
    shop = Catalog.from_items(
        [
            {"id": "1", "title": "Tom &amp; Jerry", "text": "<p>Soft&nbsp;<b>blue</b></p><script>track(1)</script>"},
            {"id": "2", "title": "</s>", "text": "5 < 6 <sid_0_12> & more"},
        ]
    )
    assert shop.texts() == ["Tom & Jerry. Soft blue", "</s>. 5 < 6 <sid_0_12> & more"]
    assert shop.titles[0] == "Tom &amp; Jerry"
    assert "hold HTML" in " ".join(shop.report.warnings)


def test_a_catalogue_saved_before_there_were_moments_and_tags_still_loads(tmp_path):
    """Format 1 held lists as strings joined by | and dates as text."""
    old = Catalog.from_items([{"id": "a", "title": "A", "tags": "red|wool x | y"}])
    assert old.frame.schema["tags"] == pl.String
    old.save(tmp_path)
    page = (tmp_path / "catalog.json").read_text()
    (tmp_path / "catalog.json").write_text(
        page.replace('"format": 2', '"format": 1').replace(',\n  "left_out": []', "")
    )
    loaded = Catalog.load(tmp_path)
    assert loaded.fingerprint == old.fingerprint
    assert loaded.where("tags HAS 'red'").tolist() == [True]


def test_moments_and_tags_survive_saving(tmp_path):
    shop = Catalog.from_items([{"id": "a", "title": "A", "when": "2024-05-01T10:00:00.25Z", "tags": ["x", "y"]}])
    shop.save(tmp_path)
    loaded = Catalog.load(tmp_path)
    assert loaded.frame.equals(shop.frame)
    assert loaded.fingerprint == shop.fingerprint
    assert loaded.attributes(0) == {"when": "2024-05-01T10:00:00.25Z", "tags": ["x", "y"]}


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("when > '2024-05-01'", "bc"),
        ("when = '1 May 2024'", "a"),
        ("when IN ('2024-05-01', '2024-05-02T12:00+02')", "ab"),
        ("when BETWEEN '2024-05-01' AND '2024-05-02T10:00:00Z'", "ab"),
        ("when < 1714644000000", "a"),  # milliseconds of 2024-05-02T10:00Z
        ("when != '2024-05-01'", "bc"),
        ("tags HAS 'red'", "ac"),
        ("tags NOT HAS 'red'", "b"),
        ("NOT tags HAS 'red'", "bd"),
        ("tags LIKE 'red%'", "abc"),
        ("tags IS NULL", "d"),
    ],
)
def test_filters_compare_moments_and_tags(where, kept):
    shop = Catalog.from_items(
        [
            {"id": "a", "title": "A", "when": "2024-05-01", "tags": ["red", "wool"]},
            {"id": "b", "title": "B", "when": "2024-05-02T10:00Z", "tags": ["redwood"]},
            {"id": "c", "title": "C", "when": "2025-01-01", "tags": ["wool", "red"]},
            {"id": "d", "title": "D"},
        ]
    )
    assert "".join(item for item, keep in zip(shop.item_ids, shop.where(where), strict=True) if keep) == kept


def test_typed_values_become_the_type_of_the_catalogue_where_nothing_is_lost():
    shop = Catalog.from_items([{"id": "a", "title": "A", "size": 38, "new": True}])
    grown = shop.add(
        [{"id": "b", "title": "B", "size": 39.0, "new": 0}, {"id": "c", "title": "C", "size": 40, "new": 1}]
    )
    assert grown.frame.select("size", "new").rows() == [(38, True), (39, False), (40, True)]
    assert grown.frame.schema["size"] == pl.Int64
