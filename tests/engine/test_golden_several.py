"""An engine of several identifiers that an earlier version saved opens, answers as it did, and is saved anew."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from tests.engine.golden_several import GOLDEN

# As the version that wrote the folder answered.
RED_BOOT = {"t2": -38.3622, "t4": -38.3622, "t5": -38.3622, "new": -38.3622, "logged": -41.3554, "t3": -136.201}


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "engine")
    return tmp_path / "engine"


def answer(engine, **options):
    return {hit.item_id: hit.log_probability for hit in engine.search("red boot", **options)}


def test_the_folder_was_written_by_a_trie_of_identifiers():
    details = [json.loads((GOLDEN / f"versions/000001/trie/{part}/trie.json").read_text()) for part in ("old", "new")]
    assert [(each["version"], each["items"], each["row_count"]) for each in details] == [(1, 14, 14), (1, 3, 17)]


def test_it_answers_as_it_did(folder):
    engine = genrail.load(folder)
    assert answer(engine, k=10) == pytest.approx(RED_BOOT, abs=1e-3)
    assert set(answer(engine, k=3, where="price > 3")) == {"t4", "t5", "new"}
    assert len(engine) == 6 and engine.edition.finder.index.most_sequences == 3


def test_it_goes_on_changing_and_is_saved_in_the_new_form(folder, tmp_path):
    live = genrail.load(folder, live=True)
    live.add([{"id": "late", "title": "Nike Air green", "price": 7, "aliases": "green one | boot 2"}])
    live.remove(["t3"])
    expected = {item for item in RED_BOOT if item != "t3"} | {"late"}
    assert set(answer(live, k=10)) == expected
    live.merge()
    live.save(tmp_path / "again")
    for engine in (live, genrail.load(tmp_path / "again"), genrail.load(folder)):
        assert set(answer(engine, k=10)) == expected
    saved = genrail.load(tmp_path / "again")
    assert saved.edition.finder.index.row_count == len(saved.edition.finder.table) == 9
