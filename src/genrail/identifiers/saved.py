"""Write and read one saved object: arrays as ``.npy`` files beside one JSON page that lists them with checksums.

No pickle: arrays are read with ``allow_pickle=False`` and the page is plain JSON. Publishing a folder atomically is the
business of `genrail.storage`; this module only fills a folder that somebody else made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genrail.arrays import Array
from genrail.errors import DamagedError, FormatError
from genrail.types import JsonObject

__all__ = ["Saved", "fingerprint", "kind_of", "read", "write"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Saved:
    """Hold what was read: the kind of the object, its plain values and its arrays by name."""

    kind: str
    details: JsonObject
    arrays: dict[str, Array]


def fingerprint(details: Mapping[str, object], arrays: Mapping[str, Array]) -> str:
    """Digest plain values and arrays (shape, type and content) into 32 hexadecimal characters.

    >>> one = fingerprint({"levels": 3}, {"codebooks": np.zeros(2)})
    >>> one == fingerprint({"levels": 3}, {"codebooks": np.zeros(2)}), one == fingerprint({"levels": 4}, {})
    (True, False)
    """
    digest = hashlib.sha256(json.dumps(dict(details), sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {little.dtype.str} {little.shape}".encode())
        digest.update(little.data)
    return digest.hexdigest()[:32]


def write(folder: Path, name: str, kind: str, details: Mapping[str, object], arrays: Mapping[str, Array]) -> None:
    """Write ``name.json`` and one ``name.<array>.npy`` per array into an existing folder."""
    listed = {}
    for key, array in arrays.items():
        path = folder / f"{name}.{key}.npy"
        np.save(path, np.ascontiguousarray(array), allow_pickle=False)
        listed[key] = {"file": path.name, "sha256": _sha256(path), "shape": list(array.shape), "dtype": array.dtype.str}
    page = {"kind": kind, "format_version": FORMAT_VERSION, "details": dict(details), "arrays": listed}
    (folder / f"{name}.json").write_text(json.dumps(page, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path, name: str, kind: str | None = None) -> Saved:
    """Read what `write` left, checksums verified.

    Raises:
        DamagedError: A file is missing, truncated or altered.
        FormatError: The page describes another kind of object, or a newer format.
    """
    page = _page(folder / f"{name}.json")
    if kind is not None and page["kind"] != kind:
        raise FormatError(f"{folder / name}.json holds {page['kind']!r}, not {kind!r}; give the folder of a {kind!r}")
    arrays = {key: _array(folder, entry) for key, entry in page["arrays"].items()}
    return Saved(page["kind"], page["details"], arrays)


def kind_of(folder: Path, name: str) -> str:
    """Say which kind of object ``name.json`` describes."""
    return str(_page(folder / f"{name}.json")["kind"])


def _page(path: Path) -> JsonObject:
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; the folder is not whole, build or copy it again") from None
    except ValueError as error:
        raise DamagedError(f"{path} is not JSON ({error}); build or copy the folder again") from None
    expected = {"kind": str, "format_version": int, "details": dict, "arrays": dict}
    if not isinstance(page, dict) or any(not isinstance(page.get(key), type_) for key, type_ in expected.items()):
        raise FormatError(f"{path} is not a page of genrail; give a folder that genrail wrote")
    if page["format_version"] > FORMAT_VERSION:
        raise FormatError(
            f"{path} has format version {page['format_version']}, this genrail reads up to {FORMAT_VERSION}; "
            "install a newer genrail"
        )
    return page


def _array(folder: Path, entry: object) -> Array:
    if not isinstance(entry, dict) or Path(str(entry.get("file"))).name != entry.get("file"):
        raise FormatError(f"a page in {folder} lists a file that is not plainly inside the folder: {entry!r}")
    path = folder / entry["file"]
    if not path.is_file():
        raise DamagedError(f"{path} is missing; the folder is not whole, build or copy it again")
    if _sha256(path) != entry.get("sha256"):
        raise DamagedError(f"{path} is truncated or altered (checksum differs); build or copy the folder again")
    array: Array = np.load(path, allow_pickle=False)
    return array


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
