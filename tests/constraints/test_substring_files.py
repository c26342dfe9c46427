"""Saved substring indexes: what is opened equals what was saved, and what was altered is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genrail.constraints.substring import SubstringIndex
from genrail.errors import DamagedError, FormatError
from tests.constraints.ngram_oracle import NgramOracle, compare_ngrams


def make():
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 9, size=int(rng.integers(0, 30))).tolist() for _ in range(60)]
    index = SubstringIndex.from_sequences(texts[:50], 9, longest=6, frequent=20).add(texts[50:]).remove([3, 55])
    return index, {row: tuple(text) for row, text in enumerate(texts) if row not in (3, 55)}


@pytest.fixture
def folder(tmp_path):
    make()[0].save(tmp_path / "index")
    return tmp_path / "index"


def edit(folder, change):
    manifest = json.loads((folder / "substring.json").read_text())
    change(manifest)
    (folder / "substring.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("mmap", [True, False])
def test_an_opened_index_equals_the_saved_one(folder, mmap):
    index, live = make()
    loaded = SubstringIndex.load(folder, mmap=mmap, verify=True)
    assert (len(loaded), loaded.longest, loaded.row_count, loaded.frequent) == (58, 6, 60, 20)
    for ours, theirs in ((index.old, loaded.old), (index.new, loaded.new)):
        for name, array in ours.arrays.items():
            read = theirs.arrays[name]
            assert np.array_equal(array, read) and array.dtype == read.dtype, name
            assert type(read) is np.ndarray and not read.flags.writeable, name  # compiled like arrays in memory
    compare_ngrams(loaded.add([[1]]), NgramOracle({**live, 60: (1,)}), np.random.default_rng(0))


def test_every_flipped_bit_is_found(folder):
    rng = np.random.default_rng(0)
    for path in sorted(folder.glob("*/*.npy")):
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), size=3):
            broken = bytearray(whole)
            broken[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(broken))
            with pytest.raises(DamagedError):
                SubstringIndex.load(folder, verify=True)
        path.write_bytes(whole)
    SubstringIndex.load(folder, verify=True)


@pytest.mark.parametrize("part", ["old", "new"])
@pytest.mark.parametrize("name", sorted(make()[0].old.arrays))
def test_a_missing_or_shortened_array_is_refused_by_name(folder, part, name):
    path = folder / part / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=f"{name}.npy"):
        SubstringIndex.load(folder)
    path.unlink()
    with pytest.raises(DamagedError, match=f"{name}.npy is missing"):
        SubstringIndex.load(folder)


def rewrite(folder, part, name, values):
    """Replace an array and its entry in the manifest, as a wrong writer would."""
    from genrail.constraints.files import sha256_of

    path = folder / part / f"{name}.npy"
    old = np.load(path)
    np.save(path, np.asarray(values(old.copy()), dtype=old.dtype))
    entry = {"dtype": old.dtype.str, "shape": list(np.load(path).shape), "sha256": sha256_of(path)}
    edit(folder, lambda manifest: manifest["arrays"].update({f"{part}/{name}": entry}))


def swapped(array):
    array[[4, 5]] = array[[5, 4]]
    return array


def doubled(array):
    array[5] = array[4]
    return array


def other_bit(array):
    array[0] ^= 1
    return array


@pytest.mark.parametrize(
    ("name", "values", "match"),
    [
        ("suffixes", swapped, "not the sorted list"),
        ("suffixes", doubled, "not the sorted list"),
        ("text", lambda text: np.where(text == 0, 0, 99), "beyond the vocabulary"),
        ("text", lambda text: np.where(np.arange(len(text)) == 1, 0, text), "separators"),
        ("rows", doubled, "rows.npy"),
        ("vocabulary", doubled, "vocabulary.npy"),
        ("start", other_bit, "lists of what follows"),
        ("live_ranks", other_bit, "live_ranks.npy"),
    ],
)
def test_content_that_breaks_a_rule_is_refused_when_it_is_verified(folder, name, values, match):
    rewrite(folder, "old", name, values)
    with pytest.raises(DamagedError, match=match):
        SubstringIndex.load(folder, verify=True)


@pytest.mark.parametrize("name", ["text", "suffixes", "begins", "heads", "first", "tok", "rows", "live"])
def test_arrays_that_do_not_fit_each_other_are_refused_without_reading_them(folder, name):
    rewrite(folder, "old", name, lambda array: array[:-1])
    with pytest.raises(DamagedError, match="do not fit each other"):
        SubstringIndex.load(folder)


def test_other_folders_are_refused(folder, tmp_path):
    with pytest.raises(FormatError, match=r"holds no substring\.json"):
        SubstringIndex.load(tmp_path)
    edit(folder, lambda manifest: manifest.update(version=9))
    with pytest.raises(FormatError, match="format version 9"):
        SubstringIndex.load(folder)
    edit(folder, lambda manifest: manifest.update(version=1, format="other"))
    with pytest.raises(FormatError, match="does not describe a substring index"):
        SubstringIndex.load(folder)
    (folder / "substring.json").write_text("{")
    with pytest.raises(DamagedError, match="not readable JSON"):
        SubstringIndex.load(folder)


def test_a_manifest_without_its_entries_is_refused(folder):
    edit(folder, lambda manifest: manifest["arrays"].pop("new/text"))
    with pytest.raises(DamagedError, match="lacks entries"):
        SubstringIndex.load(folder)
