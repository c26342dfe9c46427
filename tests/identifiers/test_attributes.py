"""Codes that are words: which columns are chosen, what later items get, and that they come back from a folder."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genrail.catalog import Catalog
from genrail.errors import DamagedError, FormatError, IdentifierError, SettingsError
from genrail.identifiers import SemanticIds
from genrail.identifiers.attributes import AttributeCodes
from genrail.identifiers.quantizer import Quantizer, ReadsItems, load_quantizer
from genrail.identifiers.schemes import identified

BRANDS = ("Ecco", "Nike", "Clarks", "Merrell")


def item(number, **changes):
    return {
        "id": f"s{number}",
        "title": f"shoe {number}",
        "serial": f"KB-{number}",
        "brand": BRANDS[number % 4],
        "category": "boots" if number < 15 else "sandals",
        "house": BRANDS[number % 4].upper(),
        "shop": "main street",
        "note": "rare" if number == 3 else None,
        "price": number % 3,
        **changes,
    }


@pytest.fixture(scope="module")
def shop():
    return Catalog.from_items([item(number) for number in range(20)])


def refuse():
    raise AssertionError("texts are not needed")


def test_columns_of_shared_words_are_chosen_the_broadest_first(shop):
    """Not numbers, not what every item has alone, not what all share or few have, not what says the same again."""
    codes = AttributeCodes().fit_items(shop)
    assert list(codes.columns) == ["category", "brand"]
    assert codes.columns["category"] == ["boots", "sandals"]
    assert (codes.levels, codes.codes, codes.dimensions) == (2, 2 + 4, 2)
    assert list(AttributeCodes(levels=1).fit_items(shop).columns) == ["category"]
    assert isinstance(codes, Quantizer) and isinstance(codes, ReadsItems)


def test_identifiers_read_as_words_and_a_number_tells_duplicates_apart(shop):
    ids, table = identified("attributes", shop, refuse, 3, None, 0)
    said = [ids.quantizer.spell(sequence) for sequence in table.matrix().tolist()]
    assert len(set(said)) == 20
    for row, words in enumerate(said):
        assert words.startswith(f"category {item(row)['category']} / brand {item(row)['brand']} / number ")
    assert ids.quantizer.spell([]) == ""


def test_later_items_keep_to_the_frozen_words(shop):
    ids, table = identified("attributes", shop, refuse, 3, None, 0)
    new = Catalog.from_items([item(30), item(31, brand="Birkenstock"), item(32, brand=None, category="")])
    grown = ids.extend(table, ids.quantizer.describe_items(new))
    assert grown.part(range(20)) == table
    said = [ids.quantizer.spell(sequence[:2]) for sequence in grown.matrix()[20:].tolist()]
    assert said == ["category sandals / brand Clarks", "category sandals / brand other", "category none / brand none"]


def test_values_beyond_the_codebook_are_other(shop):
    codes = AttributeCodes(codes=4).fit_items(shop)
    assert codes.columns["brand"] == ["Clarks", "Ecco"]
    assert codes.assign(codes.describe_items(shop))[1].tolist() == [2, 0]


def test_removed_items_do_not_choose(shop):
    part = shop.remove([f"s{number}" for number in range(15, 20)])
    assert list(AttributeCodes().fit_items(part).columns) == ["brand"]


def test_it_comes_back_from_its_folder(shop, tmp_path):
    ids, _ = identified("attributes", shop, refuse, 3, None, 0)
    ids.save(tmp_path)
    again = SemanticIds.load(tmp_path)
    assert again.fingerprint == ids.fingerprint
    assert np.array_equal(again.quantizer.decode([[2, 3]]), ids.quantizer.decode([[2, 3]]))
    page = tmp_path / "codebooks.json"
    whole = json.loads(page.read_text())
    for details in ({}, {"columns": []}, {"columns": [1]}):
        page.write_text(json.dumps({**whole, "details": details}))
        with pytest.raises(DamagedError):
            load_quantizer(tmp_path)
    page.write_text(json.dumps({**whole, "kind": "elsewhere.quantizer"}))
    with pytest.raises(FormatError, match=r"elsewhere\.quantizer"):
        load_quantizer(tmp_path)


def test_a_catalogue_without_such_columns_and_vectors_are_refused():
    plain = Catalog.from_items([{"id": str(n), "title": f"item {n}", "price": n} for n in range(6)])
    with pytest.raises(SettingsError, match="choose kmeans"):
        AttributeCodes().fit_items(plain)
    with pytest.raises(IdentifierError, match="fit_items"):
        AttributeCodes().fit(np.zeros((3, 2)))
    with pytest.raises(IdentifierError, match="not fitted"):
        AttributeCodes().assign(np.zeros((3, 2)))
