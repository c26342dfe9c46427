"""Publish, open, check, roll back and clean up the versions of a saved folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genrail.errors import DamagedError, DiskError, FormatError, SettingsError, StorageError
from genrail.storage.current import (
    CURRENT,
    NEXT,
    VERSION_NAME,
    VERSIONS,
    Current,
    journal_path,
    numbers,
    point,
    read_current,
    try_current,
    version_path,
)
from genrail.storage.files import DISK, MEBIBYTE, Files, naming, nearest_existing
from genrail.storage.journal import APPEND_WAIT_SECONDS, Position, fresh_journal, read_journal
from genrail.storage.lock import hold
from genrail.storage.manifest import LITTER, MANIFEST, Version, describe, parse_version, problems, read_version

__all__ = ["Draft", "check_target", "gc", "open_version", "publish", "publish_draft", "rollback", "verify", "versions"]

OUR_NAMES = frozenset({CURRENT, NEXT, VERSIONS, "build.lock", "build.owner", "append.lock", "append.owner"})
BUILDING = ".building"
REMOVING = ".removing"
LEFTOVER = re.compile(r"\d{6,12}\.(building|removing)")
JOURNAL_NAME = re.compile(r"\d{6,12}\.journal")
MARGIN = 1.2  # estimates err, and file systems need room for their own tables
MEND = "restore a snapshot, roll back to an earlier version or build again"


def check_target(folder: str | Path) -> None:
    """Refuse a place that cannot become, or is not, a saved folder of ours; changes nothing.

    Call it before an expensive build.

    Raises:
        FormatError: It is a file, a folder with other things in it, or one of a newer genrail.
        StorageError: It cannot be written to.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FormatError(f"{folder} is a file; give a new folder, or one that genrail saved")
    place = nearest_existing(folder)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise DiskError(f"{place} cannot be written to; give another place, or the right to write there")
    if not folder.exists() or try_current(folder) is not None:
        return
    foreign = _foreign_names(folder)
    if foreign:
        raise FormatError(
            f"{folder} holds other files ({', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''}); "
            "give a new or empty folder, or one that genrail saved"
        )


def _foreign_names(folder: Path) -> list[str]:
    """List what genrail did not put into a folder without a readable `CURRENT`."""
    foreign = {entry.name for entry in folder.iterdir()} - OUR_NAMES - LITTER
    if (folder / VERSIONS).is_dir():
        known = (VERSION_NAME, LEFTOVER, JOURNAL_NAME)
        names = {entry.name for entry in (folder / VERSIONS).iterdir()} - LITTER
        foreign |= {f"{VERSIONS}/{name}" for name in names if not any(pattern.fullmatch(name) for pattern in known)}
    return sorted(foreign)


@dataclass(frozen=True)
class Draft:
    """Hold what a version is made of.

    Args:
        write: Fills the directory it is given.
        kind: What is saved.
        details: For the manifest.
        changes: Gives the records that the new journal begins with; called while no change can be logged.
    """

    write: Callable[[Path], None]
    kind: str
    details: Mapping[str, object]
    changes: Callable[[], list[bytes]]


def publish(
    folder: str | Path,
    write: Callable[[Path], None],
    kind: str = "engine",
    details: Mapping[str, object] | None = None,
    *,
    keep: int = 2,
    needs_bytes: int | None = None,
    base: Position | None = None,
    files: Files = DISK,
) -> Version:
    """Save a new version of a folder and make it the live one: whole, or not at all.

    Everything is written beside the live version, brought to the device, listed with checksums, and then made live by
    one rename. A crash, a full disk or an exception at any point leaves the earlier version live.

    Args:
        folder: New, empty, or saved by genrail.
        write: Fills the empty directory it is given with plain files.
        kind: What is saved; `open_version` asks for it.
        details: Plain values to keep in the manifest: settings, fingerprints.
        keep: How many versions stay, the live one included; older ones are removed.
        needs_bytes: Estimated size; refused at once when the disk has less than 1.2 times that.
        base: What the content was made from, `Journal.position`. Changes logged after it are carried over to the new
            version; a version published after it is an error. None replaces whatever there is.
        files: The disk.

    Returns:
        The new version.

    Raises:
        FormatError: The place holds something else.
        LockedError: Another process is publishing; names it.
        StorageError: The disk is full or failed, `write` left something that is no plain file, or `base` is outdated.

    Cost: every file is written, read once for its hash, and waited for.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "shop.genrail"
    >>> version = publish(folder, lambda path: (path / "items.txt").write_text("boots") and None, details={"items": 1})
    >>> version.number, open_version(folder).details, sorted(version.files)
    (1, {'items': 1}, ['items.txt'])
    """
    folder = Path(folder)
    draft = Draft(write, kind, details or {}, lambda: _changes_since(folder, base, files))
    return publish_draft(folder, draft, keep=keep, needs_bytes=needs_bytes, base=base, files=files)


def publish_draft(
    folder: Path,
    draft: Draft,
    *,
    keep: int,
    needs_bytes: int | None = None,
    base: Position | None = None,
    files: Files = DISK,
) -> Version:
    """Publish a draft; see `publish`."""
    if keep < 1:
        raise SettingsError(f"keep is {keep}; give 1 or more, the live version is one of them")
    check_target(folder)
    with naming(folder, "publishing", files):
        _require_space(folder, needs_bytes, files)
        _make_folder(folder, files)
        with hold(folder, "build"):
            _require_base(folder, base, files)
            _clean(folder, files)
            version = _build(folder, draft, files)
            # The new version is live; what cannot be removed now is removed next time.
            with suppress(OSError, StorageError):
                _collect(folder, keep, files)
    return version


def _require_space(folder: Path, needs_bytes: int | None, files: Files) -> None:
    if needs_bytes is None:
        return
    place = nearest_existing(folder)
    free = files.free_bytes(place)
    if free < MARGIN * needs_bytes:
        raise DiskError(
            f"the disk of {place} is too full: saving {folder} needs {int(MARGIN * needs_bytes) // MEBIBYTE} MiB, "
            f"it has {free // MEBIBYTE} MiB; make room or give another place"
        )


def _make_folder(folder: Path, files: Files) -> None:
    missing = [path for path in (folder / VERSIONS, *(folder / VERSIONS).parents) if not path.exists()]
    for path in reversed(missing):
        with suppress(FileExistsError):
            files.make_directory(path)
        files.sync(path.parent)


def _require_base(folder: Path, base: Position | None, files: Files) -> None:
    if base is None:
        return
    live = read_current(folder, files).live
    if live != base.number:
        raise StorageError(
            f"version {live} of {folder} went live after version {base.number} was opened; "
            "open the folder again and repeat the change"
        )


def _build(folder: Path, draft: Draft, files: Files) -> Version:
    current = try_current(folder, files)
    number = max([current.newest if current else 0, *numbers(folder)]) + 1
    path = version_path(folder, number)
    building = path.with_name(path.name + BUILDING)
    try:
        files.make_directory(building)
        draft.write(building)
        data = describe(building, number, draft.kind, draft.details, files)
        files.write(building / MANIFEST, data)
        files.sync(building / MANIFEST)
        files.sync(building)
        version = parse_version(data, path)
        with hold(folder, "append", APPEND_WAIT_SECONDS):
            journal = journal_path(folder, number)
            files.write(journal, fresh_journal(number, version.manifest_sha256, draft.changes()))
            files.sync(journal)
            files.rename(building, path)
            files.sync(path.parent)
            point(folder, Current(number, number, version.manifest_sha256), files)
    except BaseException:
        # Also when the user stops it. The first error is the one to report.
        with suppress(OSError, StorageError):
            _abandon(folder, number, files)
        raise
    return version


def _changes_since(folder: Path, base: Position | None, files: Files) -> list[bytes]:
    """Read what was logged after `base`, so that it is carried over."""
    if base is None:
        return []
    version = read_version(version_path(folder, base.number), base.number, files)
    payloads = read_journal(version, files).payloads[1:]
    if len(payloads) < base.records:
        raise DamagedError(f"{journal_path(folder, base.number)} lost records that were there; {MEND}")
    return payloads[base.records :]


def _abandon(folder: Path, number: int, files: Files) -> None:
    """Remove what a failed build left, unless it is live after all."""
    current = try_current(folder, files)
    path = version_path(folder, number)
    if current is None or current.newest < number:
        if path.exists():
            _remove(path, files)
        if journal_path(folder, number).exists():
            files.remove(journal_path(folder, number))
    _clean(folder, files)


def _remove(path: Path, files: Files) -> None:
    """Remove a version so that a half removed one never bears a version's name."""
    removing = path.with_name(path.name + REMOVING)
    files.rename(path, removing)
    files.sync(path.parent)
    files.remove_tree(removing)


def _clean(folder: Path, files: Files) -> list[str]:
    """Remove what interrupted processes left; the caller holds the build lock, so nobody is building."""
    current = try_current(folder, files)
    removed = []
    if (folder / NEXT).exists():
        files.remove(folder / NEXT)
        removed.append(NEXT)
    # Without a readable CURRENT a finished version may be all there is left: keep it.
    for number in numbers(folder):
        if current and number > current.newest:
            _remove(version_path(folder, number), files)
            removed.append(f"{VERSIONS}/{number:06d}")
    for entry in sorted((folder / VERSIONS).iterdir()):
        if LEFTOVER.fullmatch(entry.name):
            files.remove_tree(entry)
            removed.append(f"{VERSIONS}/{entry.name}")
        elif JOURNAL_NAME.fullmatch(entry.name) and not entry.with_suffix("").exists():
            files.remove(entry)
            removed.append(f"{VERSIONS}/{entry.name}")
    return removed


def _collect(folder: Path, keep: int, files: Files) -> list[str]:
    """Remove all but the live version and the newest others."""
    live = read_current(folder, files).live
    others = [number for number in numbers(folder) if number != live]
    removed = []
    for number in others[: max(0, len(others) - (keep - 1))]:
        _remove(version_path(folder, number), files)
        if journal_path(folder, number).exists():
            files.remove(journal_path(folder, number))
        removed.append(f"{VERSIONS}/{number:06d}")
    return removed


def open_version(
    folder: str | Path,
    kind: str | None = "engine",
    number: int | None = None,
    verify: Literal["full", "sizes"] = "full",
    *,
    files: Files = DISK,
) -> Version:
    """Open the live version of a folder, or an earlier one, after checking that it is whole.

    The version's files stay at least until two newer versions have been published (`keep`); read or map them at once.

    Args:
        folder: Made by `publish`.
        kind: What it must hold; None for anything.
        number: None for the live version.
        verify: "full" hashes every byte; "sizes" trusts content and checks names and sizes.
        files: The disk.

    Raises:
        DamagedError: A file is missing, truncated, altered, or not in the manifest; names it.
        FormatError: Not a saved folder, of another kind, or of a newer format.
        StorageError: No such version.

    Cost: full reads every byte once.
    """
    if verify not in ("full", "sizes"):
        raise SettingsError(f'verify is {verify!r}; give "full" or "sizes"')
    folder = Path(folder)
    while True:
        current = read_current(folder, files) if number is None else None
        try:
            return _open(folder, current, number, kind, verify == "full", files)
        except StorageError:
            # Two versions may have been published, and this one removed, since CURRENT was read.
            if current is None or read_current(folder, files) == current:
                raise


def _open(
    folder: Path, current: Current | None, number: int | None, kind: str | None, full: bool, files: Files
) -> Version:
    number = current.live if current else number
    if number is None or (current is None and number not in versions(folder)):
        listed = ", ".join(map(str, versions(folder))) or "none"
        raise StorageError(f"{folder} has no version {number}; it has: {listed}")
    version = read_version(version_path(folder, number), number, files)
    if current and version.manifest_sha256 != current.manifest_sha256:
        raise DamagedError(f"{version.path / MANIFEST} is not the manifest that was published; {MEND}")
    if kind is not None and version.kind != kind:
        raise FormatError(f"{folder} holds {version.kind!r}, not {kind!r}; give the folder of a {kind!r}")
    with naming(version.path, "reading", files):
        problem = next(problems(version, full=full, files=files), None)
    if problem:
        raise DamagedError(f"{problem}; {MEND}")
    return version


def versions(folder: str | Path) -> list[int]:
    """List the numbers of the published versions, ascending; the live one is that of `open_version`."""
    current = try_current(Path(folder))
    return [number for number in numbers(Path(folder)) if current is None or number <= current.newest]


def verify(folder: str | Path, *, files: Files = DISK) -> list[str]:
    """Check every byte of every version and journal, and list what is wrong; an empty list means whole.

    Raises:
        FormatError: Not a saved folder.
    """
    folder = Path(folder)
    found = []
    try:
        live: int | None = open_version(folder, None, files=files).number
    except FormatError:
        raise
    except StorageError as error:
        found.append(str(error))
        live = None
    for number in versions(folder):
        found += _problems_of(folder, number, number == live, files)
    return list(dict.fromkeys(found))


def _problems_of(folder: Path, number: int, checked: bool, files: Files) -> list[str]:
    """List what is wrong with one version and its journal."""
    try:
        version = read_version(version_path(folder, number), number, files)
        with naming(version.path, "reading", files):
            found = [] if checked else [f"{problem}; {MEND}" for problem in problems(version, full=True, files=files)]
        torn = read_journal(version, files).torn_bytes
    except StorageError as error:
        return [str(error)]
    if torn:
        path = journal_path(folder, number)
        found.append(
            f"{path} ends in {torn} bytes of a change that was never acknowledged; the next change cuts them off"
        )
    return found


def rollback(folder: str | Path, number: int, *, files: Files = DISK) -> Version:
    """Make an earlier, whole version the live one again, with the changes logged while it was live.

    Nothing is removed. Also mends a folder whose `CURRENT` is lost.

    Raises:
        DamagedError: That version is not whole; the live one stays.
        LockedError: Another process is publishing.
        StorageError: No such version, or the disk failed.
    """
    folder = Path(folder)
    if not folder.is_dir() or not numbers(folder):
        read_current(folder, files)
        raise StorageError(f"{folder} has no version {number}; it has: none")
    with naming(folder, "rolling back", files), hold(folder, "build"):
        version = open_version(folder, None, number, files=files)
        read_journal(version, files)
        current = try_current(folder, files)
        newest = current.newest if current else max(versions(folder))
        with hold(folder, "append", APPEND_WAIT_SECONDS):
            point(folder, Current(number, newest, version.manifest_sha256), files)
    return version


def gc(folder: str | Path, keep: int = 2, *, files: Files = DISK) -> list[str]:
    """Remove what interrupted processes left, and versions beyond `keep`.

    Never removes the live version. While another process builds, it refuses instead of guessing what is in use.

    Returns:
        Names of what was removed, relative to the folder.

    Raises:
        LockedError: Another process is publishing.
        FormatError: Not a saved folder.
        DamagedError: `CURRENT` is lost, so that the live version is not known; leftovers are removed, versions stay.
    """
    if keep < 1:
        raise SettingsError(f"keep is {keep}; give 1 or more, the live version is one of them")
    folder = Path(folder)
    if not (folder / VERSIONS).is_dir():
        read_current(folder, files)
    check_target(folder)
    with naming(folder, "cleaning", files), hold(folder, "build"):
        removed = _clean(folder, files)
        if numbers(folder) or (folder / CURRENT).exists():
            removed += _collect(folder, keep, files)
    return removed
