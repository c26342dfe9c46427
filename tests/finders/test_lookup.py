"""Look-up finds what is named exactly, chooses its columns by their values, and scores nothing else."""

import pytest

from genrail import Engine
from genrail.catalog import Catalog
from genrail.errors import SettingsError
from genrail.finders import Lookup, LookupRecipe

SHOP = Catalog.from_items(
    [
        {
            "sku": f"A-{100 + n}",
            "name": name,
            "what it is": f"KB {500 + n}x",
            "code": 4006381333000 + n,
            "colour": ("red", "blue")[n % 2],
            "note": f"weighs {n} kg and more",
            "price": 10 * n + 5,
            "size": 30 + n,
        }
        for n, name in enumerate(["Café table", "Wool  hat", "Wool hat", "Oven 42", "Führer", "Clog", "42"])
    ]
)


def named(text):
    return {hit.item_id: hit.score for hit in Lookup(SHOP).search(text, k=10) if hit.score}


def test_columns_are_chosen_by_what_their_values_look_like():
    assert set(Lookup(SHOP).columns) == {"what it is", "code"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a-103", {"A-103": 1.0}),
        (" A-103 ", {"A-103": 1.0}),
        ("where is a-103?", {"A-103": 0.5}),
        ("kb 504x", {"A-104": 1.0}),
        ("4006381333005", {"A-105": 1.0}),
        ("wool hat", {"A-101": 1.0, "A-102": 1.0}),
        ("cafe\u0301 TABLE", {"A-100": 1.0}),
        ("42", {"A-106": 1.0}),
        ("clog in size 42", {}),
        ("red", {}),
        ("35", {}),
        ("!!!", {}),
    ],
)
def test_what_is_named_scores_and_nothing_else_does(text, found):
    assert named(text) == found
    assert len(Lookup(SHOP).search(text, k=5)) == 5


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="different is 2"):
        LookupRecipe(different=2)


def test_a_whole_title_comes_first_even_where_its_words_are_read_as_exclusions_and_bounds():
    titles = [
        "belt without holes - brown, up to 48",
        "belt - brown, up to 48",
        "brown belt holes",
        "holes in a brown belt",
    ]
    items = [{"id": f"b{row}", "title": title, "price": 10.0 + 60.0 * (row == 0)} for row, title in enumerate(titles)]
    engine = Engine.build(items, lanes=["bm25", "dense", "lookup"], encoder="hashing")
    for row, title in enumerate(titles):
        found = engine.search(title, k=1, explain=True)
        assert found.item_ids == [f"b{row}"]
        assert "lookup" in found[0].explanation["lanes"]
    assert "lookup" not in engine.describe()["weights for words"]


def test_a_number_that_is_updated_in_place_is_found_and_its_earlier_one_is_not(tmp_path):
    items = [{"id": f"i{n}", "title": f"thing {word}", "code": 40_000_000 + n} for n, word in enumerate("abcdefghij")]
    own = Engine.build(items, "lookup")
    assert own.search("40000003", k=10)[0].item_id == "i3"
    own.update([{"id": "i3", "code": 50_000_001}, {"id": "i4", "code": None}])
    assert own.catalog.row("i3") == 3  # in place
    for engine in (own, saved_and_loaded(own, tmp_path)):
        assert {hit.item_id for hit in engine.search("50000001", k=10) if hit.score > 0} == {"i3"}
        assert not [hit for number in ("40000003", "40000004") for hit in engine.search(number, k=10) if hit.score > 0]
    own.update([{"id": "i3", "code": 40_000_003}])
    assert {hit.item_id for hit in own.search("40000003", k=10) if hit.score > 0} == {"i3"}


def saved_and_loaded(own, folder):
    own.save(folder / "e")
    return Engine.load(folder / "e")
