"""Spellings of items: templates over columns, a column that says what an item is, brands moved to the end."""

from __future__ import annotations

import pytest

from genrail.catalog import Catalog
from genrail.errors import SettingsError
from genrail.identifiers.wording import Wording

BRANDS = ("Otter Creek", "Ecco", "Quickfell")
KINDS = ("trail boot", "sandal", "rain boot", "sneaker")


@pytest.fixture
def shop():
    return Catalog.from_items(
        [
            {
                "id": f"i{row}",
                "title": f"{brand} {kind} {colour}",
                "brand": brand,
                "category": f"Shoes > Outdoor > {kind.title()}s" if colour == "red" else "",
                "tags": f"new|{kind}|{colour}",
            }
            for row, (brand, kind, colour) in enumerate(
                (b, k, c) for b in BRANDS for k in KINDS for c in ("red", "blue")
            )
        ]
    )


def test_a_title_is_called_by_its_title(shop):
    plain = Wording.fit(shop, ["title"])
    assert plain.plain
    assert plain.words(shop, 0) == ["Otter Creek trail boot red"]
    assert plain == Wording()


def test_what_an_item_is_stands_first_where_it_is_known(shop):
    kind = Wording.fit(shop, ["kind-first"])
    assert not kind.plain
    assert kind.words(shop, 0) == ["Trail Boots, Outdoor: Otter Creek trail boot red"]
    assert kind.words(shop, 1) == ["Otter Creek trail boot blue"]  # no category


def test_words_that_open_titles_go_behind(shop):
    later = Wording.fit(shop, ["brand-last"])
    assert later.words(shop, 0) == ["trail boot red Otter Creek"]
    assert later.words(shop, 9) == ["trail boot blue Ecco"]
    more = shop.add([{"id": "x", "title": "Ecco"}, {"id": "y", "title": "Ecco - lace boot"}])
    assert later.words(more, len(shop)) == ["Ecco"]  # something must stay
    assert later.words(more, len(shop) + 1) == ["lace boot Ecco -"]


def test_templates_name_columns_and_several_spellings_are_told_apart(shop):
    both = Wording.fit(shop, ["title", "{category}: {brand-last}", "{title}"])
    assert both.words(shop, 0) == ["Otter Creek trail boot red", "Trail Boots, Outdoor: trail boot red Otter Creek"]
    assert Wording.fit(shop, ["A {category}, {brand}"]).words(shop, 1) == ["Otter Creek"]
    named = Catalog.from_items([{"id": "a", "name": "boot | sandal", "brand": "Ecco"}])
    assert Wording.fit(named, ["{brand} {name}"]).words(named, 0) == ["Ecco boot | sandal"]
    assert Wording.fit(shop, ["{tags}; {title}"]).words(shop, 0)[0].endswith("Otter Creek trail boot red")


def test_a_new_item_is_called_by_what_was_fitted(shop):
    later = Wording.fit(shop, ["brand-last"])
    grown = shop.add([{"id": "x", "title": "Ecco Quickfell hybrid"}])
    assert later.words(grown, len(shop)) == ["hybrid Ecco Quickfell"]


def test_what_cannot_be_spelled_is_refused(shop):
    with pytest.raises(SettingsError, match='no column is named "colour"; there are id'):
        Wording.fit(shop, ["{colour} {title}"])
    with pytest.raises(SettingsError, match="give title, kind-first, brand-last or a template"):
        Wording.fit(shop, ["brand first"])
    with pytest.raises(SettingsError, match="names nothing"):
        Wording.fit(shop, [])
    bare = Catalog.from_items([{"id": "a", "title": "boot"}])
    with pytest.raises(SettingsError, match="no column looks as if it said what an item is"):
        Wording.fit(bare, ["kind-first"])
