"""A trie on disk: one `.npy` per array and a manifest; the format is described in `docs/formats/trie.md`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genrail.arrays import Array
from genrail.constraints.bits import bits_at
from genrail.constraints.building import first_unsorted, heavy_edges
from genrail.errors import DamagedError, FormatError
from genrail.types import JsonObject

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Manifest",
    "SEVERAL",
    "VERSION",
    "read_array",
    "read_manifest",
    "read_trie",
    "sha256_of",
    "verify_checksums",
    "write_array",
    "write_trie",
]


FORMAT = "genrail.trie"
VERSION = 1  # every row has one identifier
SEVERAL = 2  # as 1, and a row may have several: a reader that knows only 1 would count ranks as items
MANIFEST = "trie.json"
_ARRAYS = ("rows", "off", "order", "tok", "start", "first", "level", "live")
_SETTINGS = ("vocab_size", "length", "end_token", "row_count", "heavy")


def write_trie(folder: Path, settings: Mapping[str, object], arrays: dict[str, Array], several: bool) -> None:
    """Write arrays, then the manifest with their types, shapes and checksums.

    Args:
        folder: Made if need be.
        settings: Vocabulary, length, end token, rows and `heavy`, by the names of the format.
        arrays: By the names of the format.
        several: A row may have several identifiers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = {name: write_array(folder / f"{name}.npy", arrays[name]) for name in _ARRAYS}
    manifest = {"format": FORMAT, "version": SEVERAL if several else VERSION, "items": len(arrays["order"])}
    manifest |= {name: settings[name] for name in _SETTINGS}
    text = json.dumps({**manifest, "arrays": described}, indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_trie(folder: Path, *, mmap: bool, verify: bool) -> tuple[JsonObject, dict[str, Array], bool]:
    """Read what `write_trie` wrote, and check it; arguments and errors as for `Trie.load`."""
    page = Manifest(
        MANIFEST, FORMAT, (VERSION, SEVERAL), "a trie", "Trie.save", entries=("items", *_SETTINGS), arrays=_ARRAYS
    )
    manifest = read_manifest(folder, page)
    if verify:
        verify_checksums(folder, {name: manifest["arrays"][name] for name in _ARRAYS})
    arrays = {name: read_array(folder, name, manifest["arrays"][name], mmap) for name in _ARRAYS}
    _check_shapes(folder, manifest, arrays)
    if verify and (wrong := _wrong_content(manifest, arrays)):
        raise DamagedError(f"{folder}: {wrong}; build the index again")
    return {name: manifest[name] for name in _SETTINGS}, arrays, manifest["version"] == SEVERAL


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Manifest(NamedTuple):
    """Say what describes the arrays of an index in its folder.

    Args:
        name: Of the file.
        kind: What its entry `format` must be.
        versions: Versions of the format that this genrail reads.
        what: The index, for messages.
        writer: The method that writes such folders, for messages.
        entries: What must be in it besides.
        arrays: Which arrays it must describe.
    """

    name: str
    kind: str
    versions: tuple[int, ...]
    what: str
    writer: str
    entries: tuple[str, ...]
    arrays: tuple[str, ...]


def read_manifest(folder: Path, page: Manifest) -> JsonObject:
    """Read the page of a folder.

    Raises:
        DamagedError: It is no JSON, or lacks an entry.
        FormatError: It is not there, of another kind, or of another version.
    """
    path = folder / page.name
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError(f"{folder} holds no {page.name}; give a folder written by {page.writer}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedError(f"{path} is not readable JSON ({error}); restore the folder from a copy") from None
    if not isinstance(manifest, dict) or manifest.get("format") != page.kind:
        raise FormatError(f"{path} does not describe {page.what}")
    if manifest.get("version") not in page.versions:
        raise FormatError(
            f"{path} is of format version {manifest.get('version')}; this genrail reads "
            f"{' and '.join(map(str, page.versions))}: update genrail, or build the index again"
        )
    described = manifest.get("arrays")
    known = isinstance(described, dict) and all(name in described for name in page.arrays)
    if not known or any(name not in manifest for name in page.entries):
        raise DamagedError(f"{path} lacks entries; restore the folder from a copy")
    return manifest


def write_array(path: Path, array: Array) -> dict[str, object]:
    """Write one array; return what a page says of it: type, shape and checksum."""
    np.save(path, array, allow_pickle=False)
    return {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": sha256_of(path)}


def read_array(folder: Path, name: str, described: JsonObject, mmap: bool) -> Array:
    """Open `name`.npy, refusing another type or shape than the manifest describes."""
    path = folder / f"{name}.npy"
    try:
        loaded = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; restore the folder from a copy") from None
    except Exception as error:  # NumPy lets many kinds through when a header is broken: token, syntax, memory errors
        raise DamagedError(f"{path} is damaged ({error}); restore the folder from a copy") from None
    array: Array = np.asarray(loaded)  # a plain view: kernels are compiled for arrays, not for np.memmap
    array.setflags(write=False)
    if array.dtype.str != described.get("dtype") or list(array.shape) != described.get("shape"):
        raise DamagedError(
            f"{path} holds {array.dtype.str} {list(array.shape)}, the manifest says {described.get('dtype')} "
            f"{described.get('shape')}; restore the folder from a copy"
        )
    return array


def _check_shapes(folder: Path, manifest: JsonObject, arrays: dict[str, Array]) -> None:
    """Compare the arrays with each other: what is wrong here would be read outside of an array."""
    items, ragged = int(manifest["items"]), manifest["end_token"] is not None
    tokens = items * int(manifest["length"])
    if ragged:
        tokens = int(arrays["off"][-1]) if len(arrays["off"]) == items + 1 else -1
    edges = len(arrays["tok"])
    level = arrays["level"]
    whole = (
        all(array.ndim == 1 for array in arrays.values())
        and (ragged or len(arrays["off"]) == 0)
        and len(arrays["rows"]) == tokens
        and len(arrays["order"]) == items
        and (manifest["version"] == SEVERAL or items <= int(manifest["row_count"]))
        and arrays["tok"].dtype == arrays["rows"].dtype
        and len(arrays["start"]) == edges == len(arrays["first"]) - 1
        and (int(level[-1]) if len(level) else -1) == edges
        and len(arrays["live"]) in (0, (items >> 6) + 1)
    )
    if not whole:
        raise DamagedError(f"the arrays in {folder} do not fit each other; restore the folder from a copy")


def verify_checksums(folder: Path, described: Mapping[str, JsonObject]) -> None:
    """Hash the files of some arrays, and compare with what a page says of them.

    Raises:
        DamagedError: A file is another one.
    """
    for name, entry in described.items():
        path = folder / f"{name}.npy"
        if path.exists() and sha256_of(path) != entry.get("sha256"):
            raise DamagedError(f"{path} was altered after it was written; restore the folder from a copy")


def _by_life(order: Array, live: Array) -> tuple[Array, Array]:
    """List the rows of the live ranks, and those of the removed ones."""
    alive = bits_at(live, np.arange(len(order)))
    return order[alive], order[~alive]


def _wrong_content(manifest: JsonObject, arrays: dict[str, Array]) -> str:
    """Say which rule of the format the content breaks; empty when it keeps all."""
    items, length, heavy = int(manifest["items"]), int(manifest["length"]), int(manifest["heavy"])
    rows, off, order = arrays["rows"], arrays["off"], arrays["order"]
    if len(off) and (off[0] != 0 or np.any(off[1:] <= off[:-1])):
        return "off.npy does not ascend"
    if len(rows) and int(rows.max()) >= int(manifest["vocab_size"]):
        return "rows.npy holds a token outside the vocabulary"
    several, live = manifest["version"] == SEVERAL, arrays["live"]
    if items and int(order.max()) >= int(manifest["row_count"]):
        return "order.npy names a row beyond the last one"
    if not several and len(np.unique(order)) != items:
        return "order.npy does not name each catalogue row once"
    if len(live) and int(live[-1]) >> (items & 63):
        return "live.npy marks ranks beyond the last item"
    if several and len(live) and len(np.intersect1d(*_by_life(order, live))):
        return "live.npy marks some identifiers of a row and not others"
    if first_unsorted(rows, off, length, order) >= 0:
        return "rows.npy is not sorted"
    edges = heavy_edges(rows, off, length, items, heavy)
    same = all(np.array_equal(arrays[name], getattr(edges, name)) for name in ("tok", "start", "first", "level"))
    return "" if same else "the lists of children do not follow from the rows"
