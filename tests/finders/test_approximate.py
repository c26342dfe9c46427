"""Cells find nearly what an exact search finds, obey every filter, and never give fewer items than are allowed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("faiss", reason='needs the extra: pip install "genrail[ann]"')

from genrail.catalog import Catalog
from genrail.errors import DamagedError, MissingPackageError, SettingsError
from genrail.finders import Dense
from genrail.finders import approximate as module
from genrail.finders.approximate import Cells, CellSettings, wants_cells
from genrail.finders.readings import pack
from genrail.finding import Added, Change
from genrail.types import Query

ROWS, WIDTH = 6000, 16


def clustered(rows, seed=0, clusters=60):
    """Draw unit vectors around unit centres."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((clusters, WIDTH))
    vectors = centres[random.integers(0, clusters, rows)] + 0.5 * random.standard_normal((rows, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Drawn:
    """Encode a text to the vector of its number."""

    vectors = clustered(50, seed=1)

    def encode(self, texts):
        return self.vectors[[int(text) % 50 for text in texts]]


@pytest.fixture(scope="module")
def shop():
    items = [{"id": f"i{row}", "title": f"item {row}", "price": row % 100} for row in range(ROWS)]
    return Catalog.from_items(items)


@pytest.fixture(scope="module")
def exact(shop):
    return Dense(shop, Drawn(), vectors=clustered(ROWS), index="exact")


@pytest.fixture(scope="module")
def cells(shop):
    return Dense(shop, Drawn(), vectors=clustered(ROWS), index="approximate", cells=CellSettings(probes=20))


@pytest.mark.parametrize("where", [None, "price < 50", "price < 10", "price = 3"])
def test_nearly_everything_that_is_best_is_found(exact, cells, where):
    queries = [Query(str(number), where=where) for number in range(50)]
    found, right = cells.search_batch(queries, k=10), exact.search_batch(queries, k=10)
    shares = [len(set(one.item_ids) & set(other.item_ids)) / 10 for one, other in zip(found, right, strict=True)]
    assert np.mean(shares) >= 0.95


@pytest.mark.parametrize("where", [None, "price < 50", "price < 5"])
def test_vectors_without_clusters_are_found_too_whatever_the_filter(shop, where):
    random = np.random.default_rng(2)
    vectors = random.standard_normal((ROWS + 50, WIDTH)) / np.sqrt(np.arange(1, WIDTH + 1))

    class Smooth:
        def encode(self, texts):
            return vectors[[ROWS + int(text) for text in texts]]

    queries = [Query(str(number), where=where) for number in range(50)]
    some = CellSettings(probes=60)  # of 310 cells
    found, right = (
        Dense(shop, Smooth(), vectors=vectors[:ROWS], index=index, cells=some).search_batch(queries, k=10)
        for index in ("approximate", "exact")
    )
    shares = [len(set(one.item_ids) & set(other.item_ids)) / 10 for one, other in zip(found, right, strict=True)]
    assert np.mean(shares) >= 0.9


def test_scores_are_those_of_the_exact_search(exact, cells):
    for number in range(5):
        right = {hit.item_id: hit.score for hit in exact.search(str(number), k=100)}
        for hit in cells.search(str(number), k=10):
            if hit.item_id in right:
                assert hit.score == pytest.approx(right[hit.item_id], abs=1e-6)


@pytest.mark.parametrize("k", [1, 10, 59, 60, 61, 1000])
def test_a_narrow_filter_is_searched_exactly_and_wholly(exact, cells, k):
    found, right = (one.search("3", k=k, where="price = 3") for one in (cells, exact))
    assert found.item_ids == right.item_ids
    assert len(found) == min(k, 60) and found.exhausted == (k > 60)


def test_more_hits_than_the_cells_hold_are_found_by_looking_everywhere(shop):
    narrow = Dense(shop, Drawn(), vectors=clustered(ROWS), index="approximate", cells=CellSettings(cells=500, probes=1))
    assert len(narrow.search("4", k=2000)) == 2000
    assert len(narrow.search("4", k=ROWS + 1)) == ROWS


def test_histories_leave_out_what_was_seen(exact, cells):
    past = ["i5", "i17", "i40"]
    found, right = (one.search_batch([Query(history=past)], k=20)[0] for one in (cells, exact))
    assert len(set(found.item_ids) & set(right.item_ids)) >= 18
    assert not set(past) & set(found.item_ids)
    both = Query("3", history=past)
    assert cells.search_batch([both], k=20) == exact.search_batch([both], k=20)


def test_the_same_seed_gives_the_same_cells_and_another_gives_others():
    vectors = clustered(800)
    first, again, other = (Cells.of(vectors, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.centres, again.centres) and np.array_equal(first.cell_of, again.cell_of)
    assert not np.array_equal(first.centres, other.centres)


def test_saved_cells_answer_as_before(shop, cells, tmp_path):
    details = cells.save(tmp_path)
    loaded = Dense.load(tmp_path, details, shop, Drawn())
    queries = [Query("1"), Query("2", where="price < 30"), Query(history=["i1"])]
    assert loaded.search_batch(queries, k=7) == cells.search_batch(queries, k=7)
    assert loaded.cells.settings == cells.cells.settings
    assert loaded.index_bytes > loaded.vectors.nbytes


@pytest.mark.parametrize("damage", ["missing", "cut", "another width", "beyond the cells", "fewer rows"])
def test_damaged_cells_are_refused(shop, cells, tmp_path, damage):
    details = cells.save(tmp_path)
    if damage == "missing":
        (tmp_path / "cells.npy").unlink()
    elif damage == "cut":
        (tmp_path / "cell_of.npy").write_bytes((tmp_path / "cell_of.npy").read_bytes()[:200])
    elif damage == "another width":
        np.save(tmp_path / "cells.npy", cells.cells.centres[:, :3])
    elif damage == "beyond the cells":
        np.save(tmp_path / "cell_of.npy", cells.cells.cell_of + len(cells.cells.centres))
    else:
        np.save(tmp_path / "cell_of.npy", cells.cells.cell_of[:-1])
    with pytest.raises(DamagedError):
        Dense.load(tmp_path, details, shop, Drawn())


def test_auto_is_exact_for_few_rows_and_without_faiss(shop, monkeypatch):
    assert Dense(shop, Drawn(), vectors=clustered(ROWS)).cells is None
    assert not wants_cells("auto", module.AUTO_ROWS - 1)
    assert wants_cells("auto", module.AUTO_ROWS)
    assert not wants_cells("exact", 10**9)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert not wants_cells("auto", module.AUTO_ROWS)
    with pytest.raises(MissingPackageError, match=r"genrail\[ann\]"):
        wants_cells("approximate", 10)


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingsError, match="exact"):
        wants_cells("fast", 10)
    for wrong in ({"cells": 0}, {"probes": 0}, {"exact_share": 1.5}):
        with pytest.raises(SettingsError):
            CellSettings(**wrong)


def test_edges_one_row_zero_vectors_and_equal_vectors():
    one = Catalog.from_items([{"id": "a", "title": "x"}])
    assert Dense(one, Drawn(), vectors=clustered(1), index="approximate").search("1", k=3).item_ids == ["a"]
    many = Catalog.from_items([{"id": f"i{row}", "title": "x"} for row in range(200)])
    for vectors in (np.zeros((200, WIDTH)), np.ones((200, WIDTH))):
        found = Dense(many, Drawn(), vectors=vectors, index="approximate").search("1", k=200)
        assert set(found.item_ids) == set(many.item_ids)


def test_dense_does_not_import_faiss_unless_it_is_used():
    import subprocess

    code = "import sys, genrail.finders; genrail.finders.Dense; print('faiss' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_items_that_came_later_are_found_beside_the_cells_and_taken_into_them(shop, cells):
    """Added vectors are scored one by one until `compact`; filters and removals hold for them too."""
    random = np.random.default_rng(5)
    new = [{"id": f"new{row}", "title": f"item {row}", "price": 3} for row in range(30)]
    catalog = shop.add(new).remove(["new7", "i5"])
    vectors = Drawn.vectors[random.integers(0, 50, size=30)]
    rows = range(ROWS, ROWS + 30)
    grown = cells.grow(catalog, Change((Added.of(catalog, rows, pack(vectors)),), np.array([5, ROWS + 7])))
    whole = Dense(catalog, Drawn(), vectors=np.concatenate([clustered(ROWS), vectors]), index="exact")
    for finder in (grown, grown.compact()):
        for text in ("1", "2"):
            found, right = (one.search(text, k=40, where="price = 3") for one in (finder, whole))
            assert found.item_ids == right.item_ids
            assert not {"new7", "i5"} & set(finder.search(text, k=200).item_ids)
    assert grown.pending > 0 and grown.compact().pending == 0
    assert cells.search("1", k=5) == cells.search("1", k=5) and len(cells.catalog) == ROWS
