"""Engines saved by earlier versions open and answer as they did; the folders were written once and stay as they are."""

import json
import shutil
from pathlib import Path

import pytest

import genrail
from genrail.types import Query

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def earlier(tmp_path):
    shutil.copytree(GOLDEN / "engine-0.1", tmp_path / "e")
    return tmp_path / "e"


def test_an_engine_of_version_0_1_opens_with_its_log_and_answers_as_it_did(earlier):
    expected = json.loads((GOLDEN / "0.1.answers.json").read_text())
    own = genrail.load(earlier)
    asked = {
        "words": Query("red boot"),
        "history": Query(history=["s1", "s2"], new_items="off"),
        "both": Query("boot", ["s1"]),
        "filter": Query("boot", where="price > 14"),
    }
    for name, query in asked.items():
        found = own.search_batch([query], 4)[0]
        assert found.item_ids == [item_id for item_id, _ in expected[name]], name
        assert [hit.score for hit in found] == pytest.approx([score for _, score in expected[name]], abs=1e-4)


def test_it_is_changed_merged_and_saved_in_the_present_format(earlier, tmp_path):
    own = genrail.load(earlier, live=True)
    own.add([{"sku": "n2", "name": "purple clog", "colour": "purple", "price": 8, "in_stock": True}])
    own.merge()
    own.save(tmp_path / "new")
    for one in (genrail.load(earlier), genrail.load(tmp_path / "new")):
        assert sorted(one.search("purple", k=20).item_ids) == sorted(own.search("purple", k=20).item_ids)
        assert len(one) == len(own) == 9
