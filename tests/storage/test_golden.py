"""Folders of every released format stay readable (B7).

`golden/format-1` was written by genrail 0.1.0::

    version = publish(folder, fill(1), details={"tag": 1, "fingerprints": {"tokenizer": "ab12"}})
    open_journal(version).append({"remove": ["sku-1"]})
    open_journal(version).append({"add": [{"sku": "sku-2", "name": "Gummistiefel für Ünal", "price": 9.5}]})
"""

import shutil
from pathlib import Path

import pytest

from genrail.storage import open_journal, open_version, publish, verify
from tests.storage.content import fill, tag_of, tree

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["format-1"])
def test_a_folder_of_an_earlier_format_is_read_unchanged(name):
    before = tree(GOLDEN / name)
    version = open_version(GOLDEN / name)
    assert tag_of(version) == 1
    assert version.details == {"tag": 1, "fingerprints": {"tokenizer": "ab12"}}
    assert (version.number, version.kind, version.genrail_version) == (1, "engine", "0.1.0")
    assert open_journal(version).records() == [
        {"remove": ["sku-1"]},
        {"add": [{"sku": "sku-2", "name": "Gummistiefel für Ünal", "price": 9.5}]},
    ]
    assert verify(GOLDEN / name) == []
    assert tree(GOLDEN / name) == before


@pytest.mark.parametrize("name", ["format-1"])
def test_a_folder_of_an_earlier_format_can_be_changed(name, tmp_path):
    folder = shutil.copytree(GOLDEN / name, tmp_path / "shop.genrail")
    open_journal(open_version(folder)).append({"remove": ["sku-2"]})
    assert len(open_journal(open_version(folder))) == 3
    assert tag_of(publish(folder, fill(2), details={"tag": 2})) == 2
    assert verify(folder) == []
