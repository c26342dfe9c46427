"""Words that name values of the catalogue's own columns move items up; none is removed, and it can be switched off."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genrail
from genrail.catalog import Catalog
from genrail.engine.revising import only
from genrail.errors import SettingsError
from genrail.finders.soft_filters import SoftFilters, value_columns
from genrail.types import Query

COLOURS = ("red", "navy blue", "blue", "Off-White")
KINDS = ("Shoes > Boots", "Shoes > Sandals", "Care")


def item(row, **changes):
    values = {
        "id": f"i{row}",
        "title": f"article {row}",
        "colour": COLOURS[row % 4],
        "kind": KINDS[row % 3],
        "size": 36 + row % 5,
        "fit": "SML"[row % 3],
        "warm": row % 2 == 0,
        "labels": [["vegan", "new"], ["sale"], []][row % 3],
        "story": f"this one was made on the day number {row} of the year by somebody",
        "code": f"KB-{row}",
    }
    return values | changes


def shop(rows=24):
    return Catalog.from_items([item(row) for row in range(rows)], text=[])


def read(catalog, text):
    return {one.words: one.columns for one in SoftFilters.of(catalog, value_columns(catalog)).read(text)}


def built(catalog, **options):
    return genrail.Engine.build(catalog, lanes=["bm25", "lookup"], **options)


@pytest.fixture(scope="module")
def engine():
    return built(shop())


def test_columns_are_chosen_by_their_values_alone():
    assert value_columns(shop()) == ("colour", "kind", "size", "fit", "warm", "labels")
    renamed = Catalog.from_frame(shop().frame.rename({"colour": "story of its life", "story": "colour2"}), text=[])
    assert set(value_columns(renamed)) == {"story of its life", "kind", "size", "fit", "warm", "labels"}


@pytest.mark.parametrize(
    ("text", "words", "column"),
    [
        ("a RED article", "RED", "colour"),
        ("navy blue", "navy blue", "colour"),
        ("an off-white one", "off white", "colour"),
        ("an off white one", "off white", "colour"),
        ("boot for me", "boot", "kind"),
        ("women's sandals", "sandals", "kind"),
        ("something warm", "warm", "warm"),
        ("vegan", "vegan", "labels"),
        ("size 38 please", "size 38", "size"),
        ("fit M", "fit M", "fit"),
    ],
)
def test_a_value_is_read_whatever_its_endings_hyphens_and_capitals(text, words, column):
    assert read(shop(), text)[words] == (column,)


@pytest.mark.parametrize("text", ["38 articles", "m", "the day", "KB-3", "purple", "", "!!!", "off"])
def test_what_names_no_value_is_not_read(text):
    assert read(shop(), text) == {}


def test_a_value_that_one_item_has_is_not_read():
    assert (
        read(Catalog.from_items([*(item(row) for row in range(23)), item(23, colour="mauve")], text=[]), "mauve") == {}
    )


def test_words_that_stand_in_two_columns_ask_for_either():
    catalog = Catalog.from_items([item(row, labels=["red" if row % 5 == 0 else "old"]) for row in range(24)], text=[])
    filters = SoftFilters.of(catalog, value_columns(catalog))
    [red] = filters.read("red")
    assert red.columns == ("colour", "labels")
    held = filters.held(red, np.arange(24))
    assert held.tolist() == [row % 4 == 0 or row % 5 == 0 for row in range(24)]


def test_items_have_a_value_that_holds_the_words():
    catalog = shop()
    filters = SoftFilters.of(catalog, value_columns(catalog))
    held = filters.held(filters.read("blue")[0], np.arange(24))
    assert held.tolist() == ["blue" in COLOURS[row % 4] for row in range(24)]


WORDS = st.lists(
    st.sampled_from(["article", "1", "red", "blue", "navy", "boots", "warm", "vegan", "without", "size", "37", "zzz"]),
    min_size=1,
    max_size=6,
).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(words=WORDS, k=st.integers(1, 30))
def test_no_item_is_removed_and_off_is_the_order_without(engine, words, k):
    read, plain = engine.search(words, k=k), engine.search(words, k=k, soft_filters=False)
    assert len(read) == len(plain) == min(k, 24)
    assert set(engine.search(words, k=24).item_ids) == set(engine.catalog.item_ids)
    assert all("attributes" not in one or not one["wanted"] for one in plain.reading)
    if not read.reading:
        assert read == plain


def test_off_by_setting_is_off_by_question(engine):
    never = built(shop(), soft_filters=0)
    assert never.search("warm red article").to_dict() == engine.search("warm red article", soft_filters=False).to_dict()
    assert "soft filters" not in never.describe() and "colour" in engine.describe()["soft filters"]
    with pytest.raises(SettingsError, match="soft_filters is -1"):
        built(shop(), soft_filters=-1)


def test_what_was_read_is_said_and_explained():
    catalog = Catalog.from_items([item(row, title=f"article {row} {COLOURS[row % 4]}") for row in range(24)], text=[])
    ranking = built(catalog).search("red article", k=24, explain=True)
    [entry] = ranking.reading
    assert entry["words"] == "red" and entry["attributes"] == ["colour"] and entry["wanted"]
    assert 0.0 < entry["share"] <= 1.0
    for hit in ranking:
        assert hit.explanation["soft_filters"] == (["red"] if hit["colour"] == "red" else [])
    assert json.loads(json.dumps(ranking.to_dict()))["reading"] == [entry]


def test_items_with_the_value_come_before_others_that_are_alike():
    rows = [item(row, title="plain article", colour="red" if row % 3 else "green") for row in range(24)]
    engine = built(Catalog.from_items(rows, text=[]))
    best = engine.search("red article", k=24)
    colours = [hit["colour"] for hit in best]
    assert colours == sorted(colours, reverse=True)  # all red ones first
    assert engine.search("red article", k=24, soft_filters=False).item_ids != best.item_ids


def test_a_reading_that_no_good_hit_bears_out_moves_nothing():
    """ "Wax to warm feet" asks for wax, which is not warm."""
    rows = [
        item(row, title="warm feet" if row % 2 else f"wax to warm feet {row}", warm=row % 2 == 1) for row in range(24)
    ]
    engine = built(Catalog.from_items(rows, text=[]))
    read = engine.search("wax to warm feet")
    assert read.reading == () and read == engine.search("wax to warm feet", soft_filters=False)


def test_a_flag_tells_what_goes_without_where_the_text_does_not():
    rows = [
        item(row, title="sock for warm days" if row % 2 else "sock for cold days", warm=row % 2 == 0)
        for row in range(24)
    ]
    ranking = built(Catalog.from_items(rows, text=[])).search("sock not warm", k=12)
    assert not any(hit["warm"] for hit in ranking)
    assert ranking.reading == ({"words": "warm", "attributes": ["warm"], "wanted": False},)


def test_added_changed_and_removed_items_are_read_as_they_stand():
    engine = built(Catalog.from_items([item(row, title="plain article") for row in range(24)], text=[]))
    engine.add([item(row, title="plain article", colour="mauve") for row in (90, 91)])
    assert {hit.item_id for hit in engine.search("mauve article", k=26)} >= {"i90", "i91"}
    filters = engine.edition.finder.reader.filters
    assert [one.words for one in filters.read("mauve")] == ["mauve"]
    engine.update([{"id": "i0", "colour": "mauve"}])
    filters = engine.edition.finder.reader.filters
    [mauve] = filters.read("mauve")
    assert np.flatnonzero(filters.held(mauve, np.arange(26))).tolist() == [0, 24, 25]
    engine.remove(["i90", "i91"])
    assert not engine.edition.finder.reader.filters.read("mauve")


def test_a_grown_reader_reads_as_one_made_anew():
    engine = built(shop(8))
    for first, end in ((8, 9), (9, 10), (10, 16), (16, 24)):
        engine.add([item(row) for row in range(first, end)])
    grown, anew = engine.edition.finder.reader.filters, SoftFilters.of(engine.catalog, value_columns(shop(8)))
    for text in ("red boots", "navy blue vegan, size 38", "warm care"):
        one, other = grown.read(text), anew.read(text)
        assert [each.to_dict() for each in one] == [each.to_dict() for each in other]
        for left, right in zip(one, other, strict=True):
            assert np.array_equal(grown.held(left, np.arange(24)), anew.held(right, np.arange(24)))


def test_a_folder_reads_as_the_engine_did_and_an_older_one_reads_nothing(engine, tmp_path):
    engine.save(tmp_path / "shop")
    asked = [Query("warm red article"), Query("navy blue boots without size 38"), Query("vegan", ["i3"])]
    loaded = genrail.load(tmp_path / "shop")
    assert [one.to_dict() for one in loaded.search_batch(asked)] == [
        one.to_dict() for one in engine.search_batch(asked)
    ]
    finder = engine.edition.finder
    details = finder.save(tmp_path) | {"kind": "fused", "recipe": finder.recipe.to_dict()}
    older = type(finder).load(tmp_path, {name: one for name, one in details.items() if name != "soft_filters"}, shop())
    plain = genrail.Engine(type(engine.edition)(shop(), older)).search_batch(asked)
    off = engine.search_batch([replace(query, soft_filters=False) for query in asked])
    assert [one.to_dict() for one in plain] == [one.to_dict() for one in off]


def test_a_shop_without_such_columns_answers_as_before():
    catalog = Catalog.from_items(
        [{"id": f"d{row}", "title": f"paper {row}", "text": f"words {row}"} for row in range(9)]
    )
    engine = built(catalog)
    assert engine.edition.finder.reader.filters.columns == ()
    assert engine.search("paper 3 words") == engine.search("paper 3 words", soft_filters=False)


def test_whoever_may_see_some_items_learns_of_no_others_values(engine):
    seen = only(engine.edition, "colour = 'red'")
    assert not seen.finder.reader.filters.read("navy blue")
    assert [one.words for one in seen.finder.reader.filters.read("red or blue")] == ["red"]
