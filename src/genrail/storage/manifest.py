"""Describe a version: which files it has, how big they are, what they hash to, and what they are for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from genrail.errors import DamagedError, FormatError, StorageError
from genrail.storage.files import DISK, Files, naming
from genrail.types import JsonObject

__all__ = ["FORMAT_VERSION", "FileEntry", "Version", "describe", "read_version"]

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
UPGRADE = "pip install --upgrade genrail"
# File browsers leave these in any folder they show; nothing reads them.
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
# Names that mean the same plain file on every system: no drive, no backslash, no control character.
SAFE_PART = re.compile(r'[^\x00-\x1f\x7f/\\:*?"<>|]{1,255}')


@dataclass(frozen=True)
class FileEntry:
    """Hold what the manifest says of one file: its size in bytes and its sha256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Version:
    """Hold one published version; its files never change.

    Args:
        path: The directory with the files.
        number: 1 for the first; never given twice.
        kind: What was saved, such as "engine".
        details: As given to `publish`: settings, fingerprints.
        files: By name relative to `path`, with "/" between parts.
        created: When it was published, ISO 8601 in UTC.
        genrail_version: What wrote it.
        manifest_sha256: Of the manifest's bytes.
    """

    path: Path
    number: int
    kind: str
    details: JsonObject
    files: dict[str, FileEntry]
    created: str
    genrail_version: str
    manifest_sha256: str

    @property
    def folder(self) -> Path:
        """Give the saved folder that this is a version of."""
        return self.path.parent.parent

    @property
    def size(self) -> int:
        """Sum the bytes of all files."""
        return sum(entry.size for entry in self.files.values())


def own_version() -> str:
    """Tell the version of the genrail that is running, "unknown" when it was not installed as a package."""
    from importlib.metadata import PackageNotFoundError, version  # 20 ms that readers need not pay

    try:
        return version("genrail")
    except PackageNotFoundError:
        return "unknown"


def seal(page: Mapping[str, object]) -> bytes:
    """Write plain values as JSON that carries its own checksum.

    Raises:
        StorageError: A value is not plain (str, int, float, bool, None, lists and dicts of these).

    >>> b'"seal": "sha256:' in seal({"a": 1})
    True
    """
    try:
        body = json.dumps(page, sort_keys=True, allow_nan=False)
        # Keys that are not text, and tuples, would come back as something else.
        if json.loads(body) != page:
            raise ValueError("it does not come back as it was given")
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageError(
            f"these values cannot be saved as JSON ({error}); give text, numbers, lists, dicts"
        ) from error
    sealed = {**page, "seal": f"sha256:{sha256(body.encode()).hexdigest()}"}
    return (json.dumps(sealed, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def unseal(data: bytes, path: Path) -> JsonObject:
    """Read what `seal` wrote.

    Raises:
        DamagedError: A byte differs.
        FormatError: A newer genrail wrote it.
    """
    try:
        page = json.loads(data)
        if not isinstance(page, dict):
            raise ValueError("it holds no object")
        _refuse_newer(page, path)
        seal_given = page.pop("seal", None)
        if seal(page) != data or seal_given is None:
            raise ValueError("its checksum differs")
    except (ValueError, RecursionError, StorageError) as error:
        if isinstance(error, FormatError):
            raise
        raise DamagedError(
            f"{path} is damaged ({error}); build again, restore a snapshot or roll back to a whole version"
        ) from None
    return page


def _refuse_newer(page: Mapping[str, object], path: Path) -> None:
    version = page.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise FormatError(
            f"{path} has format version {version}, this genrail ({own_version()}) reads up to {FORMAT_VERSION}; "
            f"upgrade it: {UPGRADE}"
        )


def safe_name(name: object) -> bool:
    r"""Tell whether a name from a manifest or archive leads to a plain file inside the version.

    >>> [safe_name(name) for name in ("a/b.npy", "../a", "/a", "a//b", "a\\b", "C:a", "")]
    [True, False, False, False, False, False, False]
    """
    if not isinstance(name, str) or len(name) > 1024:
        return False
    return all(SAFE_PART.fullmatch(part) and part not in (".", "..") for part in name.split("/"))


def walk(root: Path, inside: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """List everything below a directory that is not a directory, by relative name; links are listed, not followed."""
    with os.scandir(root / inside) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        name = f"{inside}/{entry.name}" if inside else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from walk(root, name)
        elif entry.name not in LITTER:
            yield name, entry


def describe(path: Path, number: int, kind: str, details: Mapping[str, object], files: Files) -> bytes:
    """Make the manifest of the files in a directory, and make the files durable.

    Returns:
        The bytes to write as `manifest.json`.

    Raises:
        StorageError: A link, a device, a name that not every system can hold, or details that are not plain JSON.
    """
    listed = {}
    for name, entry in walk(path):
        if name == MANIFEST or not safe_name(name) or not entry.is_file(follow_symlinks=False):
            raise StorageError(f"{path / name} cannot be published; write plain files with plain names, not {MANIFEST}")
        files.sync(path / name)
        size, digest = files.digest(path / name)
        listed[name] = {"bytes": size, "sha256": digest}
    directories = [Path(root) for root, _, _ in os.walk(path, topdown=False)]
    for directory in directories:
        files.sync(directory)
    return seal(
        {
            "format": "genrail folder",
            "format_version": FORMAT_VERSION,
            "genrail_version": own_version(),
            "number": number,
            "kind": kind,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "details": dict(details),
            "files": listed,
        }
    )


def read_version(path: Path, number: int, files: Files = DISK) -> Version:
    """Read the manifest of a version; its other files are not looked at.

    Raises:
        DamagedError: The manifest is missing, altered, or another version's.
        FormatError: A newer genrail wrote it.
    """
    if path.is_symlink() or path.parent.is_symlink():
        raise FormatError(f"{path} is reached by a symbolic link; copy the real directory to this place")
    try:
        with naming(path / MANIFEST, "reading", files):
            data = files.read(path / MANIFEST) if not (path / MANIFEST).is_symlink() else b""
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise DamagedError(f"{path / MANIFEST} is missing; restore a snapshot or build again") from None
        raise
    version = parse_version(data, path)
    if version.number != number:
        raise DamagedError(
            f"{path / MANIFEST} belongs to version {version.number}, not {number}; restore a snapshot or build again"
        )
    return version


def parse_version(data: bytes, path: Path) -> Version:
    """Turn the bytes of a manifest into a Version at `path`.

    Raises:
        DamagedError: A byte differs, or a file name leads outside the version.
        FormatError: A newer genrail wrote it.
    """
    page = unseal(data, path / MANIFEST)
    try:
        listed = {
            name: FileEntry(int(entry["bytes"]), str(entry["sha256"])) for name, entry in dict(page["files"]).items()
        }
        version = Version(
            path=path,
            number=int(page["number"]),
            kind=str(page["kind"]),
            details=dict(page["details"]),
            files=listed,
            created=str(page["created"]),
            genrail_version=str(page["genrail_version"]),
            manifest_sha256=sha256(data).hexdigest(),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path / MANIFEST} lacks what a manifest has ({error!r}); build again") from None
    unsafe = [name for name in listed if not safe_name(name) or name == MANIFEST]
    if unsafe:
        raise DamagedError(
            f"{path / MANIFEST} lists {unsafe[0]!r}, which is no file inside the version; do not use this folder"
        )
    return version


def problems(version: Version, *, full: bool, files: Files = DISK) -> Iterator[str]:
    """Find what differs between a version's files and its manifest, one sentence part each.

    Args:
        version: Read by `read_version`.
        full: Hash every byte; otherwise names, types and sizes only.
        files: The disk.

    Cost: full reads every byte once, about 1 GB/s where the processor has SHA instructions.
    """
    found = dict(walk(version.path))
    found.pop(MANIFEST, None)
    for name, expected in version.files.items():
        entry = found.pop(name, None)
        if entry is None:
            yield f"{version.path / name} is missing"
        elif not entry.is_file(follow_symlinks=False):
            yield f"{version.path / name} is not a plain file"
        elif (size := entry.stat(follow_symlinks=False).st_size) != expected.size:
            yield f"{version.path / name} has {size} bytes instead of {expected.size}"
        elif full and files.digest(version.path / name)[1] != expected.sha256:
            yield f"{version.path / name} is altered (its sha256 differs)"
    # A loader may look for optional files by name, so an unlisted file can change what is loaded.
    for name in found:
        yield f"{version.path / name} is not in the manifest"
