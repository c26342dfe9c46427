"""Put the live version and its changes into one file, and publish it again from there."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfileobj
from typing import IO, cast

from genrail.errors import DamagedError, FormatError, StorageError
from genrail.storage.files import DISK, Files, naming, open_new
from genrail.storage.folder import Draft, open_version, publish_draft
from genrail.storage.journal import fresh_journal, read_journal, read_payloads
from genrail.storage.lock import hold
from genrail.storage.manifest import MANIFEST, Version, parse_version, problems

__all__ = ["restore", "snapshot"]

JOURNAL = "journal"
INSIDE = "files/"
CHUNK = 2**20
PIECE = 2**16
# What the tar reader raises at headers that make no sense.
NOT_READABLE = (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError)
# Manifest, journal and tar's own headers are read into memory, and a hostile archive may declare anything.
LARGEST_HEADER = 2**20  # of tar: long names and times, a few kilobytes of ours
LARGEST_MANIFEST = 16 * 2**20  # 100,000 files
LARGEST_JOURNAL = 2**30
MOST_PACKED = 32  # times the archive's size that a journal may unpack to; JSON packs to a tenth or so


def snapshot(folder: str | Path, archive: str | Path, *, files: Files = DISK) -> Version:
    """Copy the live version and its changes into a new archive, tar with gzip.

    The same state gives the same bytes.

    Args:
        folder: Made by `publish`.
        archive: A file that does not exist yet, such as ``shop-2026-11.tar.gz``.
        files: The disk.

    Returns:
        The version that was copied.

    Raises:
        StorageError: The archive exists, the disk is full, or the folder is not whole; no archive is left.
        LockedError: Another process is publishing.

    Cost: every byte is read twice and compressed once.
    """
    folder, archive = Path(folder), Path(archive)
    if archive.exists():
        raise StorageError(f"{archive} exists; give the name of a new file")
    open_version(folder, None, verify="sizes", files=files)  # not ours: refused before a lock is made
    partial = archive.with_name(archive.name + ".partial")
    # The lock keeps the version from being removed meanwhile; changes may go on.
    with naming(archive, "writing", files), hold(folder, "build"):
        version = open_version(folder, None, files=files)
        try:
            _pack(version, partial, files)
            files.sync(partial)
            files.rename(partial, archive)
            files.sync(archive.absolute().parent)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    return version


def _pack(version: Version, path: Path, files: Files) -> None:
    payloads = read_journal(version, files).payloads[1:]
    pages = {
        MANIFEST: files.read(version.path / MANIFEST),
        JOURNAL: fresh_journal(version.number, version.manifest_sha256, payloads),
    }
    with (
        open_new(path) as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, data in pages.items():
            tar.addfile(_member(name, len(data)), io.BytesIO(data))
        for name, entry in version.files.items():
            with (version.path / name).open("rb") as file:
                tar.addfile(_member(INSIDE + name, entry.size), file)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def restore(archive: str | Path, folder: str | Path, *, keep: int = 2, files: Files = DISK) -> Version:
    """Publish the content of a snapshot, changes included, as the next version of a folder.

    Args:
        archive: Made by `snapshot`, perhaps on another machine.
        folder: New, empty, or saved by genrail; what is live there stays until the snapshot is whole.
        keep: How many versions stay, the live one included.
        files: The disk.

    Raises:
        DamagedError: The archive is truncated or altered.
        FormatError: It is no snapshot, or holds links, devices, or names that lead outside.
        StorageError: The disk is full, or the place is not ours; nothing is published.
        LockedError: Another process is publishing.
    """
    archive = Path(archive)
    with _reading(archive) as (tar, stream):
        packed = _read_pages(tar, archive, Path(folder))
        draft = Draft(
            write=lambda building: _unpack(tar, stream, packed.version, building, archive),
            kind=packed.version.kind,
            details=packed.version.details,
            changes=lambda: packed.payloads,
        )
        return publish_draft(Path(folder), draft, keep=keep, needs_bytes=packed.version.size, files=files)


@dataclass(frozen=True)
class Packed:
    """Hold what the first two members of an archive say."""

    version: Version
    payloads: list[bytes]


@contextmanager
def _reading(archive: Path) -> Iterator[tuple[tarfile.TarFile, gzip.GzipFile]]:
    if not archive.is_file():
        raise FormatError(f"{archive} is no file; give an archive that genrail made")
    try:
        with (
            gzip.open(archive, "rb") as stream,
            tarfile.open(fileobj=cast(IO[bytes], _Bounded(stream, archive)), mode="r:") as tar,
        ):
            yield tar, stream
    except (*NOT_READABLE, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedError(
            f"{archive} is truncated, altered or no snapshot ({error}); make or copy it again"
        ) from error


class _Bounded:
    """Let tar read headers in bounded pieces: it would read one of any declared size at once."""

    def __init__(self, stream: gzip.GzipFile, archive: Path) -> None:
        self._stream = stream
        self._archive = archive
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """Read that many bytes.

        Raises:
            FormatError: More than any header of ours.
        """
        if not 0 <= size <= LARGEST_HEADER:
            raise FormatError(f"{self._archive} is no genrail snapshot (it declares a header of {size} bytes)")
        return self._stream.read(size)


def _read_pages(tar: tarfile.TarFile, archive: Path, folder: Path) -> Packed:
    pages = []
    journal = min(LARGEST_JOURNAL, max(LARGEST_HEADER, MOST_PACKED * archive.stat().st_size))
    for name, most in ((MANIFEST, LARGEST_MANIFEST), (JOURNAL, journal)):
        member = tar.next()
        if member is None or member.name != name or not _plain(member):
            raise FormatError(f"{archive} is no genrail snapshot ({name} is not where it should be)")
        if not 0 <= member.size <= most:
            raise FormatError(f"{archive} is no genrail snapshot ({name} declares {member.size} bytes, {most} at most)")
        content = _content(tar, member)
        pages.append(b"".join(iter(lambda content=content: content.read(PIECE), b"")))  # type: ignore[misc]
    version = parse_version(pages[0], archive)
    found = read_payloads(pages[1], archive / JOURNAL, version)
    if found.torn_bytes:
        raise DamagedError(f"{archive} is damaged: its journal is cut short; make or copy it again")
    return Packed(version, found.payloads[1:])


def _plain(member: tarfile.TarInfo) -> bool:
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> io.BufferedReader:
    content = tar.extractfile(member)
    assert isinstance(content, io.BufferedReader)  # `_plain` was asked before
    return content


def _unpack(tar: tarfile.TarFile, stream: gzip.GzipFile, version: Version, building: Path, archive: Path) -> None:
    """Write the members that the manifest lists, and nothing else."""
    while (member := tar.next()) is not None:
        name = member.name.removeprefix(INSIDE)
        # The manifest's names were checked when it was parsed: none leads outside.
        expected = version.files.get(name) if member.name.startswith(INSIDE) else None
        if expected is None or not _plain(member) or member.size != expected.size:
            raise FormatError(
                f"{archive} holds {member.name!r}, which is not in its manifest as a plain file of this size"
            )
        target = building / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            copyfileobj(_content(tar, member), file, PIECE)
    # The checksum of the whole archive stands at its end; without it a shortened journal could pass.
    while stream.read(CHUNK):
        pass
    problem = next(problems(replace(version, path=building), full=True), None)
    if problem:
        raise DamagedError(f"{archive} is damaged: {problem}; make or copy it again")
