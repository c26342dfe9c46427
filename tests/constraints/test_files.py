"""Saved folders: what is opened equals what was saved, and what was altered is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.errors import DamagedError, FormatError
from tests.constraints.golden_folder import GOLDEN, golden_index
from tests.constraints.oracle import Oracle
from tests.constraints.walk import compare_walk

LIVE = {0: (7, 1, 300, 0), 1: (9, 9, 0), 2: (7, 1, 0), 4: (7, 1, 300, 0), 5: (301, 5, 5, 5, 0), 6: (7, 1, 299, 0)}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    Trie.from_matrix(rng.integers(0, 4, (200, 3)), vocab_size=4, heavy=8).remove([3, 5]).save(tmp_path / "trie")
    return tmp_path / "trie"


def test_the_golden_folder_opens_and_answers():
    index = LiveTrie.load(GOLDEN, verify=True)
    assert len(index) == 6 and index.row_count == 7
    for row, sequence in LIVE.items():
        assert index.sequence(row).tolist() == list(sequence)
    compare_walk(index, Oracle(LIVE), np.random.default_rng(0), row_count=7, end_token=0, steps=4)


def test_the_same_index_is_written_byte_for_byte_as_the_golden_folder(tmp_path):
    golden_index().save(tmp_path)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert written == sorted(path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file())
    for path in written:
        assert (tmp_path / path).read_bytes() == (GOLDEN / path).read_bytes(), path


@pytest.mark.parametrize("mmap", [True, False])
def test_an_opened_index_equals_the_saved_one(folder, mmap):
    trie = Trie.from_matrix(np.random.default_rng(0).integers(0, 4, (200, 3)), vocab_size=4, heavy=8).remove([3, 5])
    loaded = Trie.load(folder, mmap=mmap, verify=True)
    assert len(loaded) == 198
    for seed in range(5):
        live = {row: tuple(trie.sequence(row).tolist()) for row in range(200) if row not in (3, 5)}
        compare_walk(loaded, Oracle(live), np.random.default_rng(seed), row_count=200, end_token=None)


def test_every_flipped_bit_is_found(folder):
    Trie.load(folder, verify=True)
    rng = np.random.default_rng(0)
    for path in sorted(folder.glob("*.npy")):
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), size=12):
            broken = bytearray(whole)
            broken[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(broken))
            with pytest.raises(DamagedError):
                Trie.load(folder, verify=True)
        path.write_bytes(whole)
    Trie.load(folder, verify=True)


@pytest.mark.parametrize("name", ["rows", "off", "order", "tok", "start", "first", "level", "live"])
def test_a_missing_or_shortened_array_is_refused_without_verifying(folder, name):
    path = folder / f"{name}.npy"
    whole = path.read_bytes()
    if np.load(path).size:
        path.write_bytes(whole[:-1])
        with pytest.raises(DamagedError, match=name):
            Trie.load(folder)
        np.save(path, np.load(shutil.copy(_restored(path, whole), folder / "copy.npy"))[:-1])
        with pytest.raises(DamagedError, match=name):
            Trie.load(folder)
    path.unlink()
    with pytest.raises(DamagedError, match="missing"):
        Trie.load(folder)


def _restored(path, whole):
    path.write_bytes(whole)
    return path


def _edit_manifest(folder, **changes):
    path = folder / "trie.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_newer_format_is_refused_by_its_version(folder):
    _edit_manifest(folder, version=3)
    with pytest.raises(FormatError, match="version 3"):
        Trie.load(folder)


def test_a_foreign_folder_is_refused(tmp_path, folder):
    with pytest.raises(FormatError, match="holds no trie.json"):
        Trie.load(tmp_path)
    _edit_manifest(folder, format="other")
    with pytest.raises(FormatError, match="does not describe a trie"):
        Trie.load(folder)


def test_a_damaged_manifest_is_refused(folder):
    (folder / "trie.json").write_text('{"format": "genrail.trie", "version": 1}')
    with pytest.raises(DamagedError, match="lacks entries"):
        Trie.load(folder)
    (folder / "trie.json").write_text("{")
    with pytest.raises(DamagedError, match="not readable JSON"):
        Trie.load(folder)


@pytest.mark.parametrize("changes", [{"items": 199}, {"length": 4}, {"row_count": 10}, {"end_token": 0}])
def test_arrays_that_do_not_fit_the_manifest_are_refused(folder, changes):
    _edit_manifest(folder, **changes)
    with pytest.raises(DamagedError, match="do not fit"):
        Trie.load(folder)


@pytest.mark.parametrize("name", ["rows", "order", "tok", "start", "first"])
def test_wrong_content_with_a_right_checksum_is_found_by_verify(folder, name):
    import hashlib

    path = folder / f"{name}.npy"
    array = np.load(path).copy()
    array[[0, -1]] = array[[-1, 0]]
    np.save(path, array)
    manifest = json.loads((folder / "trie.json").read_text())
    manifest["arrays"][name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    _edit_manifest(folder, **manifest)
    with pytest.raises(DamagedError, match="build the index again"):
        Trie.load(folder, verify=True)
