"""The catalogue is a value: rows are append-only, ids are unique among the live, nothing is lost silently."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from genrail.catalog import Catalog, Columns
from genrail.errors import CatalogError, DamagedError, FormatError


def items(*ids, **more):
    return [{"id": item_id, "title": f"title of {item_id}", **more} for item_id in ids]


letters = st.characters(categories=["L", "N", "P", "S"], exclude_characters="\ufffd")
words = st.text(letters, min_size=1, max_size=8)
values = st.one_of(st.none(), st.integers(-(2**62), 2**62), st.text(max_size=5))
records = st.lists(
    st.fixed_dictionaries(
        {"id": words, "title": words}, optional={"price": st.none() | st.floats(-1e6, 1e6), "extra": values}
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda record: record["id"],
)


@given(records)
@settings(max_examples=50, deadline=None)
def test_what_is_saved_is_loaded(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("catalog")
    catalog = Catalog.from_items(rows)
    catalog = catalog.remove(catalog.item_ids[:1])
    catalog.save(folder)
    loaded = Catalog.load(folder)
    assert loaded.frame.equals(catalog.frame)
    assert loaded.columns == catalog.columns
    assert loaded.report == catalog.report
    assert loaded.live.tolist() == catalog.live.tolist()
    assert loaded.fingerprint == catalog.fingerprint
    assert loaded.rows(catalog.item_ids).tolist() == [-1, *range(1, len(catalog))]


class CatalogMachine(RuleBasedStateMachine):
    """Compare a catalogue with a dictionary from id to row, over any order of changes."""

    def __init__(self):
        super().__init__()
        self.catalog = Catalog.from_items(items("seed"))
        self.rows = {"seed": 0}
        self.length = 1
        self.older: list[tuple[Catalog, dict[str, int]]] = []

    def put(self, ids):
        for item_id in ids:
            self.rows[item_id] = self.length
            self.length += 1

    ids = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True)

    @rule(ids=ids)
    def add(self, ids):
        self.older.append((self.catalog, dict(self.rows)))
        if any(item_id in self.rows for item_id in ids):
            with pytest.raises(CatalogError, match="update"):
                self.catalog.add(items(*ids))
        else:
            self.catalog = self.catalog.add(items(*ids))
            self.put(ids)

    @rule(ids=ids)
    def remove(self, ids):
        self.older.append((self.catalog, dict(self.rows)))
        if all(item_id in self.rows for item_id in ids):
            self.catalog = self.catalog.remove(ids)
            for item_id in ids:
                del self.rows[item_id]
        else:
            with pytest.raises(CatalogError, match="cannot be removed"):
                self.catalog.remove(ids)

    @rule(ids=ids)
    def update(self, ids):
        self.catalog = self.catalog.update(items(*ids, price=len(ids)))
        self.put(ids)

    @invariant()
    def agrees(self):
        for catalog, rows in [(self.catalog, self.rows), *self.older[-3:]]:
            assert catalog.rows([*"abcdef", "seed"]).tolist() == [
                rows.get(item_id, -1) for item_id in [*"abcdef", "seed"]
            ]
            assert np.flatnonzero(catalog.live).tolist() == sorted(rows.values())
        assert len(self.catalog) == self.length


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(max_examples=30, stateful_step_count=12, deadline=None)


def test_older_values_do_not_change():
    first = Catalog.from_items(items("a", "b"))
    fingerprint = first.fingerprint
    second = first.remove(["a"]).add(items("a", "c", colour="red"))
    assert (first.item_ids, first.live.tolist(), first.row("a")) == (["a", "b"], [True, True], 0)
    assert first.rows(["c"]).tolist() == [-1]
    assert first.attribute_names == []
    assert second.row("a") == 2
    assert first.fingerprint == fingerprint != second.fingerprint
    with pytest.raises(ValueError, match="read-only"):
        first.live[0] = False


def test_many_additions_stay_findable():
    catalog = Catalog.from_items(items("first"))
    for number in range(100):
        catalog = catalog.add(items(f"item-{number}"))
    assert catalog.rows([f"item-{number}" for number in range(100)]).tolist() == list(range(1, 101))
    assert catalog.frame.n_chunks() <= 33


def test_one_item_and_all_titles_equal():
    assert len(Catalog.from_items(items("only"))) == 1
    same = Catalog.from_items([{"id": str(n), "title": "Boot"} for n in range(50)])
    assert len(same) == 50
    assert "50 items share their title" in same.report.warnings[0]


def test_a_title_of_5000_characters_is_kept_whole():
    catalog = Catalog.from_items([{"id": "a", "title": "x" * 5000}])
    assert len(catalog.titles[0]) == 5000
    assert "longer than 1,024 characters" in catalog.report.warnings[0]


@pytest.mark.parametrize("title", ["", "   ", None, "\u200b", "\x1b"])
def test_an_empty_title_falls_back_to_the_id_when_there_is_other_text(title):
    catalog = Catalog.from_items([{"id": "a", "title": title, "text": "words"}, {"id": "b", "title": "B", "text": "w"}])
    assert catalog.titles == ["a", "B"]
    assert catalog.texts() == ["words", "B. w"]
    assert "1 items have no title" in " ".join(catalog.report.warnings)


@pytest.mark.parametrize(
    "title", ["x", "🥾", "حذاء", "کفش‌ها", "靴", "👩‍👧", "<|im_end|>", "<sid_0_12>", "</s>", "=cmd|'/c'!A1"]
)
def test_titles_of_all_kinds_are_kept_as_given(title):
    assert Catalog.from_items([{"id": "a", "title": title}]).titles == [title]


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("a\x1b[2Jb", "a[2Jb"),
        ("a\u202eb", "ab"),
        ("\ufeffa\u200bb", "ab"),
        ("two\r\nlines\tand\u2028more", "two lines and more"),
        ("a\x00b\x9bc", "abc"),
    ],
)
def test_control_characters_never_reach_a_title(title, kept):
    assert Catalog.from_items([{"id": "a", "title": title}]).titles == [kept]


def test_ids_are_kept_to_the_letter_or_refused():
    odd = ["a", "A", "ä", "a" * 300, "1", "01", "/../x", "id with space", "NULL", "1e5", "x,y"]
    catalog = Catalog.from_items(items(*odd))
    assert catalog.item_ids == odd
    catalog = Catalog.from_items(items("ok", "bad\x1b", "bad\u202e", "ba\nd"))
    assert catalog.item_ids == ["ok"]
    assert [row for row, _ in catalog.report.refused] == [2, 3, 4]


def test_number_ids_become_strings_and_are_found_by_number():
    catalog = Catalog.from_items([{"id": 12, "title": "x"}])
    assert (catalog.item_ids, catalog.row(12)) == (["12"], 0)


def test_columns_are_guessed_and_can_be_given():
    row = {
        "ProductID": "p",
        "SKU": "s",
        "Product Name": "n",
        "url": "https://x.example/1",
        "note": "two words",
        "ean": "0012",
    }
    frame = pl.DataFrame([row])
    assert Catalog.from_frame(frame, title="Product Name").columns == Columns("SKU", "Product Name", ("note",))
    given = Catalog.from_frame(frame, item_id="ProductID", title="Product Name", text=["note", "ean"])
    assert given.columns == Columns("ProductID", "Product Name", ("note", "ean"))
    assert Catalog.from_frame(frame, title="note", text=[]).columns.text == ()
    for wrong, message in (
        ({"item_id": "SKUU"}, 'no column "SKUU".*did you mean "SKU"'),
        ({"title": "Product name"}, 'did you mean "Product Name"'),
        ({"title": "note", "text": "nothing"}, 'no column "nothing"'),
        ({"item_id": "note", "title": "note"}, "cannot be both"),
    ):
        with pytest.raises(CatalogError, match=message):
            Catalog.from_frame(frame, **wrong)


def test_types_of_a_file_without_types(tmp_path):
    (tmp_path / "a.csv").write_text(
        "id,title,whole,number,flag,answer,code,zero_one,mixed,empty,signed,huge\n"
        "1,a,3,1.5,true,yes,007,0,12,,+3,123456789012345678901234567890\n"
        "2,b,,2e3,FALSE,No,010,1,x,,-0.5,1\n"
    )
    frame = Catalog.read(tmp_path / "a.csv").frame
    found = {name: frame[name].to_list() for name in frame.columns[2:]}
    assert found == {
        "whole": [3, None],
        "number": [1.5, 2000.0],
        "flag": [True, False],
        "answer": [True, False],
        "code": ["007", "010"],
        "zero_one": [0, 1],
        "mixed": ["12", "x"],
        "empty": [None, None],
        "signed": [3.0, -0.5],
        "huge": ["123456789012345678901234567890", "1"],
    }


def test_added_items_follow_the_types_of_the_catalogue():
    catalog = Catalog.from_items(items("a", price=10))
    wider = catalog.add(items("b", price=9.5))
    assert wider.frame["price"].to_list() == [10.0, 9.5]
    assert catalog.add(items("b", price="12")).frame["price"].to_list() == [10, 12]
    with pytest.raises(CatalogError, match='column "price"'):
        catalog.add(items("b", price="cheap"))
    more = catalog.add(items("b", colour="red"))
    assert more.attributes(0) == {"price": 10}
    assert more.attributes(1) == {"colour": "red"}


def test_a_catalogue_is_added_to_a_catalogue_whatever_its_names():
    other = Catalog.from_items([{"sku": "x", "name": "X", "price": 1}, {"sku": "gone", "name": "G"}]).remove(["gone"])
    both = Catalog.from_items(items("a")).add(other)
    assert both.item_ids == ["a", "x"]
    assert both.titles[1] == "X"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.row("zzz"), "no item has the id 'zzz'"),
        (lambda c: c.remove(["a"]).row("a"), "it was removed"),
        (lambda c: c.remove("a"), "one string"),
        (lambda c: c.remove(["zzz", "a"]), "'zzz'"),
        (lambda c: c.add([]), "nothing to add"),
        (lambda c: c.add(items("a")), "update"),
        (lambda c: c.add(items("x", "x")), "duplicate"),
        (lambda c: c.add([{"id": "x"}]), "title"),
        (lambda c: c.add(["x"]), "give dictionaries"),
        (lambda c: c.attributes(9), "row 9"),
        (lambda c: Catalog.from_items([]), "no rows"),
        (lambda c: Catalog.from_items([{"id": "a", "title": " "}]), "none of its 1 rows can be an item"),
        (lambda c: Catalog.from_items(items("a", **{"genrail:live": 1})), "reserved"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(CatalogError, match=message):
        call(Catalog.from_items(items("a", "b")))


def test_shuffled_holds_the_same_items_in_a_seeded_order():
    catalog = Catalog.from_items(items(*(str(n) for n in range(200)))).remove(["7"])
    one, two, three = catalog.shuffled(1), catalog.shuffled(1), catalog.shuffled(2)
    assert one.fingerprint == two.fingerprint != three.fingerprint
    assert set(one.item_ids) == set(three.item_ids) == set(catalog.item_ids) - {"7"}
    assert one.titles[one.row("12")] == "title of 12"


def test_the_fingerprint_sees_every_value_and_no_history():
    plain = Catalog.from_items([*items("a", price=1), *items("b", price=2)])
    grown = Catalog.from_items(items("a", price=1)).add(items("b", price=2))
    assert plain.fingerprint == grown.fingerprint
    others = [
        Catalog.from_items([*items("a", price=1), *items("b", price=3)]),
        Catalog.from_items([*items("a", price=1), *items("b")]),
        Catalog.from_items([*items("b", price=1), *items("a", price=2)]),
        plain.remove(["a"]),
        Catalog.from_items([{"id": "a", "title": "xy"}, {"id": "b", "title": "z"}]),
        Catalog.from_items([{"id": "a", "title": "x"}, {"id": "b", "title": "yz"}]),
    ]
    assert len({plain.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_a_damaged_or_newer_folder_is_refused(tmp_path):
    with pytest.raises(DamagedError):
        Catalog.load(tmp_path)
    Catalog.from_items(items("a", "b")).save(tmp_path)
    table = tmp_path / "items.parquet"
    whole, details = table.read_bytes(), json.loads((tmp_path / "catalog.json").read_text())
    table.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedError, match="damaged"):
        Catalog.load(tmp_path)
    table.write_bytes(whole)
    for change, error in (({"format": 99}, FormatError), ({"rows": 3}, DamagedError), ({"columns": {}}, DamagedError)):
        (tmp_path / "catalog.json").write_text(json.dumps(details | change))
        with pytest.raises(error):
            Catalog.load(tmp_path)


def test_describe_shows_what_was_guessed():
    text = Catalog.from_items(items("a", price=1)).describe()
    assert "id:         id" in text
    assert "price (whole numbers)" in text
    assert "1 rows = 1 items + 0 refused" in text


@pytest.mark.slow
def test_a_million_items_fit(tmp_path):
    count = 1_000_000
    numbers = pl.Series(np.arange(count))
    frame = pl.DataFrame(
        {"sku": "sku-" + numbers.cast(pl.String), "name": "Boot " + numbers.cast(pl.String), "price": numbers % 100}
    )
    frame.write_csv(tmp_path / "a.csv")
    catalog = Catalog.read(tmp_path / "a.csv", allow_large=True)
    assert len(catalog) == count
    assert catalog.where("price < 50").sum() == count // 2
    assert catalog.rows(["sku-999999", "nothing"]).tolist() == [count - 1, -1]
    catalog.add([{"sku": "new", "name": "New boot"}]).save(tmp_path)
    assert Catalog.load(tmp_path).row("new") == count
