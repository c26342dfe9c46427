"""Schemes by name: sizes that fit, the same identifiers as by hand, and names that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.engine import Engine
from genrail.errors import SettingsError
from genrail.identifiers import SemanticIds
from genrail.identifiers.quantizer import quantizers, register_quantizer
from genrail.identifiers.schemes import codebook_size, described, identified, reads_items, spelled
from genrail.models.tiny import HashingEncoder
from tests.shops import shop


@pytest.mark.parametrize("items", [1, 2, 7, 12, 40, 1024, 50_000])
def test_a_size_chosen_by_itself_is_one_that_the_quantizer_takes(items):
    assert codebook_size("kmeans", items) == max(1, min(256, items // 4))
    size = codebook_size("lsh", items)
    assert 2 <= size <= 256 and size & (size - 1) == 0
    assert size <= max(2, items // 4) < 2 * size or size == 256


def test_atomic_identifiers_have_a_code_for_each_item_and_new_ones_join_the_nearest_when_none_is_left():
    catalog = shop(24)
    vectors = HashingEncoder(16).encode(catalog.texts())
    vectors[7] = vectors[3]
    ids, table = identified("atomic", catalog, lambda: vectors, 3, None, 0)
    codes = table.matrix()[:, 0]
    assert ids.levels == 1 and len(set(codes.tolist())) == 23 and codes[7] == codes[3]
    others = HashingEncoder(16).encode([f"plough {number}" for number in range(70)])
    grown = ids.extend(table, np.concatenate([vectors[[5]], others[:60]]), vocab_size=table.vocab_size)
    assert grown.matrix()[24, 0] == codes[5] and grown.matrix()[25:, 0].tolist() == list(range(23, 83))
    full = ids.extend(grown, others[60:], vocab_size=table.vocab_size).matrix()
    assert full[85:90, 0].tolist() == list(range(83, 88)) and full[90:, 0].max() < 23
    assert len(np.unique(full, axis=0)) == len(full)
    with pytest.raises(SettingsError, match="codes is 20, but atomic identifiers have one for each of 23"):
        identified("atomic", catalog, lambda: vectors, 3, 20, 0)


@pytest.mark.parametrize("name", ["kmeans", "pq", "lsh"])
def test_identifiers_are_those_of_the_quantizer_fitted_on_live_items(name):
    catalog = shop(24).remove(["s3"])
    vectors = HashingEncoder(16).encode(catalog.texts())
    ids, table = identified(name, catalog, lambda: vectors, 2, None, 0)
    assert len(table) == 24 and table.length == 3 and not reads_items(ids)
    assert np.array_equal(table.matrix()[:, :2], ids.quantizer.assign(vectors))
    assert len(np.unique(table.matrix(), axis=0)) == 24
    again = SemanticIds(type(ids.quantizer)(levels=2, codes=ids.codes, seed=0).fit(vectors[catalog.live]))
    assert again.fingerprint == ids.fingerprint
    assert described(ids, catalog, lambda: vectors) is vectors
    row = 5
    prefix = table.matrix()[row].tolist()
    assert spelled(ids, prefix, catalog, table) == f"e.g. {catalog.titles[row]}"


def test_names_that_are_taken_missing_or_unknown_are_refused():
    assert quantizers()[:6] == ["kmeans", "rqvae", "pq", "lsh", "attributes", "atomic"]
    with pytest.raises(SettingsError, match="give kmeans, rqvae, pq, lsh, attributes, atomic"):
        codebook_size("k-means", 40)
    for kind in ("kmeans", "", None):
        with pytest.raises(SettingsError):
            register_quantizer(type("Other", (), {"kind": kind}))


def test_an_engine_of_atomic_identifiers_is_saved_and_grows(tmp_path):
    pytest.importorskip("torch")
    catalog = shop(24)
    engine = Engine.build(catalog, "native", encoder="words+hashing", identifiers="atomic", epochs=1, pseudo_queries=2)
    asked = catalog.titles[5]
    assert engine.search(asked, k=3)[0].title == asked
    engine.save(tmp_path / "e")
    loaded = Engine.load(tmp_path / "e", live=True)
    assert loaded.search(asked, k=24).item_ids == engine.search(asked, k=24).item_ids
    loaded.add([{"sku": "new", "name": "heavy snow plough", "colour": "red"}])
    assert loaded.search("heavy snow plough", k=3).item_ids[0] == "new"
    assert set(loaded.search("red", k=30).item_ids) == {*catalog.item_ids, "new"}
