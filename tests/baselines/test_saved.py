"""A saved baseline answers as before; a damaged or foreign folder is refused by name."""

import json

import numpy as np
import pytest

from genrail.baselines import BM25, TFIDF, Content, Cooccurrence, Dense, ItemKNN, Popularity
from genrail.errors import DamagedError, FingerprintError, FormatError, SettingsError
from genrail.types import Query
from tests.baselines.test_contract import Letters, events
from tests.contracts.retriever import contract_catalog

SHOP = contract_catalog()
METHODS = {
    "bm25": (lambda: BM25(SHOP, k1=0.9, b=0.4, seed=3), BM25.load),
    "tfidf": (lambda: TFIDF(SHOP, seed=3), TFIDF.load),
    "dense": (
        lambda: Dense(SHOP, Letters(), name="Letters"),
        lambda folder, catalog: Dense.load(folder, catalog, Letters()),
    ),
    "popularity": (lambda: Popularity(SHOP, events(SHOP), seed=3), Popularity.load),
    "cooccurrence": (lambda: Cooccurrence(SHOP, events(SHOP), seed=3), Cooccurrence.load),
    "item_knn": (lambda: ItemKNN(SHOP, events(SHOP), seed=3), ItemKNN.load),
    "content": (lambda: Content(BM25(SHOP), decay=0.5), lambda folder, catalog: Content.load(folder, BM25(catalog))),
}
QUERIES = [Query("trail boot"), Query(history=["sku-2", "sku-5"]), Query("wool", history=["sku-7"], where="price < 80")]


@pytest.fixture(params=METHODS)
def kind(request):
    return request.param


def test_a_loaded_baseline_answers_as_before(kind, tmp_path):
    make, load = METHODS[kind]
    before = make()
    before.save(tmp_path / "saved")
    after = load(tmp_path / "saved", SHOP)
    assert after.name == before.name
    for k in (3, 30):
        assert after.search_batch(QUERIES, k=k) == before.search_batch(QUERIES, k=k)


def test_only_plain_formats_are_written(kind, tmp_path):
    METHODS[kind][0]().save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".npy"}
    for path in tmp_path.glob("*.npy"):
        np.load(path, allow_pickle=False)


def test_another_catalog_is_refused(kind, tmp_path):
    make, load = METHODS[kind]
    make().save(tmp_path)
    with pytest.raises(FingerprintError, match="another catalogue"):
        load(tmp_path, SHOP.remove(["sku-1"]))


def test_each_file_is_needed_and_whole(kind, tmp_path):
    make, load = METHODS[kind]
    make().save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(DamagedError, match=path.name):
            load(tmp_path, SHOP)
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DamagedError):
            load(tmp_path, SHOP)
        path.write_bytes(whole)


def test_another_kind_and_a_newer_format_are_refused(tmp_path):
    BM25(SHOP).save(tmp_path)
    with pytest.raises(FormatError, match="'bm25', not a 'tfidf'"):
        TFIDF.load(tmp_path, SHOP)
    values = json.loads((tmp_path / "baseline.json").read_text())
    (tmp_path / "baseline.json").write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(FormatError, match="format 99"):
        BM25.load(tmp_path, SHOP)


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    BM25(SHOP).save(tmp_path)
    np.save(tmp_path / "indices.npy", np.load(tmp_path / "indices.npy") + 1000)
    with pytest.raises(DamagedError, match="do not fit"):
        BM25.load(tmp_path, SHOP)


def test_another_encoder_is_refused(tmp_path):
    class Marked(Letters):
        fingerprint = "letters-1"

    Dense(SHOP, Marked()).save(tmp_path)
    with pytest.raises(FingerprintError, match="another encoder"):
        Dense.load(tmp_path, SHOP, Letters())


def test_content_over_another_source_is_refused(tmp_path):
    Content(BM25(SHOP)).save(tmp_path)
    with pytest.raises(SettingsError, match="saved over BM25, not TF-IDF"):
        Content.load(tmp_path, TFIDF(SHOP))
