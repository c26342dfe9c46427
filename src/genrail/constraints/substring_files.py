"""A substring index on disk: one `.npy` per array and a manifest; described in `docs/formats/substring.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genrail.arrays import Array
from genrail.constraints.files import Manifest, read_array, read_manifest, verify_checksums, write_array
from genrail.constraints.ngrams import first_out_of_order
from genrail.constraints.owners import Owners
from genrail.constraints.subset import Universe
from genrail.constraints.substring_segment import Segment, follow_lists
from genrail.errors import DamagedError
from genrail.types import JsonObject

__all__ = ["FORMAT", "MANIFEST", "SETTINGS", "VERSION", "read_segments", "write_segments"]


FORMAT = "genrail.substring"
VERSION = 1
MANIFEST = "substring.json"
_SEGMENTS = ("old", "new")
_ARRAYS = (
    *("text", "suffixes", "heads", "tok", "start", "first", "vocabulary", "begins", "rows"),
    *("live", "live_ranks"),
)
SETTINGS = ("vocab_size", "row_count", "longest", "frequent")


def write_segments(old: Segment, new: Segment, settings: Mapping[str, int], folder: Path) -> None:
    """Write the arrays of both segments, then the manifest with their types, shapes and checksums."""
    described = {}
    for part, segment in zip(_SEGMENTS, (old, new), strict=True):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for name, array in segment.arrays.items():
            described[f"{part}/{name}"] = write_array(folder / part / f"{name}.npy", array)
    manifest = {"format": FORMAT, "version": VERSION} | dict(settings)
    text = json.dumps({**manifest, "arrays": described}, indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_segments(folder: Path, *, mmap: bool, verify: bool) -> tuple[Segment, Segment, JsonObject]:
    """Read both segments and the settings of a folder; see `SubstringIndex.load`."""
    listed = tuple(f"{part}/{name}" for part in _SEGMENTS for name in _ARRAYS)
    page = Manifest(
        MANIFEST, FORMAT, (VERSION,), "a substring index", "SubstringIndex.save", entries=SETTINGS, arrays=listed
    )
    manifest = read_manifest(folder, page)
    segments = []
    for part in _SEGMENTS:
        described = {name: manifest["arrays"][f"{part}/{name}"] for name in _ARRAYS}
        if verify:
            verify_checksums(folder / part, described)
        arrays = {name: read_array(folder / part, name, described[name], mmap) for name in _ARRAYS}
        if wrong := _misfit(manifest, arrays) or (_wrong_content(manifest, arrays) if verify else ""):
            raise DamagedError(f"{folder / part}: {wrong}; restore the folder from a copy, or build the index again")
        segments.append(_segment(arrays))
    return segments[0], segments[1], {name: manifest[name] for name in SETTINGS}


def _segment(arrays: dict[str, Array]) -> Segment:
    live, live_ranks = arrays["live"], arrays["live_ranks"]
    documents, tokens = len(arrays["rows"]), len(arrays["suffixes"])
    return Segment(
        **{name: arrays[name] for name in _ARRAYS[:9]},
        documents=_universe(documents, live),
        ranks=_universe(tokens, live_ranks),
    )


def _misfit(manifest: JsonObject, arrays: dict[str, Array]) -> str:
    """Compare the arrays with each other: what is wrong here would be read outside of an array."""
    documents, tokens = len(arrays["rows"]), len(arrays["suffixes"])
    codes, text = len(arrays["vocabulary"]), arrays["text"]
    live, live_ranks = len(arrays["live"]), len(arrays["live_ranks"])
    whole = (
        all(array.ndim == 1 for array in arrays.values())
        and text.dtype == arrays["tok"].dtype
        and text.dtype in (np.dtype("<u2"), np.dtype("<u4"))
        and len(text) == tokens + documents
        and len(arrays["begins"]) == documents + 1
        and int(arrays["begins"][-1]) == len(text)
        and len(arrays["heads"]) == len(arrays["first"]) == codes + 1
        and int(arrays["heads"][-1]) == tokens
        and len(arrays["tok"]) == len(arrays["start"]) == int(arrays["first"][-1])
        and documents <= int(manifest["row_count"])
        and live in (0, (documents >> 6) + 1)
        and live_ranks in (0, (tokens >> 6) + 1)
        and (live == 0) == (live_ranks == 0)
        and (not documents or (int(text[-1]) == 0 and int(arrays["rows"][-1]) < int(manifest["row_count"])))
    )
    return "" if whole else "the arrays do not fit each other"


def _wrong_content(manifest: JsonObject, arrays: dict[str, Array]) -> str:
    """Say which rule of the format the content breaks; empty when it keeps all."""
    text, begins, vocabulary, rows = arrays["text"], arrays["begins"], arrays["vocabulary"], arrays["rows"]
    codes, ends = len(vocabulary) - 1, begins[1:].astype(np.int64) - 1
    if len(text) and int(text.max()) > codes:
        return "text.npy holds a code beyond the vocabulary"
    if begins[0] != 0 or np.any(begins[1:] <= begins[:-1]) or np.any(text[ends]) or np.sum(text == 0) != len(rows):
        return "begins.npy does not cut text.npy at its separators"
    if np.any(vocabulary[2:] <= vocabulary[1:-1]) or int(vocabulary.max()) >= int(manifest["vocab_size"]):
        return "vocabulary.npy does not ascend below the size of the vocabulary"
    if np.any(rows[1:] <= rows[:-1]):
        return "rows.npy does not ascend"
    segment = _segment(arrays)
    if first_out_of_order(segment.kernel, np.empty(len(text), dtype=np.uint32)) >= 0:
        return "suffixes.npy is not the sorted list of all suffixes"
    heads, tok, start, first = follow_lists(text, arrays["suffixes"], codes, int(manifest["frequent"]))
    expected = {"heads": heads, "tok": tok, "start": start, "first": first}
    if not all(np.array_equal(arrays[name], array) for name, array in expected.items()):
        return "the lists of what follows do not follow from the suffixes"
    live = np.zeros(len(rows), dtype=np.bool_)
    live[segment.documents.everything.ranks()] = True
    same = np.array_equal(segment.subset(live).ranks.bitmap(), segment.ranks.everything.bitmap())
    return "" if same else "live_ranks.npy does not follow from live.npy"


def _universe(size: int, live: Array) -> Universe:
    owners = Owners.uncounted(size)
    return Universe.of_words(owners, live) if len(live) else Universe.full(owners)
