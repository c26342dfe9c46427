"""Log the live changes of a version: a change is on the device before it is acknowledged.

A version's files never change. What is added or removed while it is live goes, one record per change, to the end of a
log beside it, `versions/000002.journal`. A record is 16 bytes of head, the change as JSON, and a newline::

    magic "GRJ1" | length of the JSON | checksum of JSON and newline | checksum of this head

Both checksums are CRC-32 continued from the record before, so records can't be dropped, moved or taken from another log
without notice. The first record says which version the log belongs to. A record that ends before its length was being
written when the process died: it was never acknowledged, and the next append cuts it off. Anything else that does not
check is damage and is refused by name.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from genrail.errors import DamagedError, FormatError, StorageError
from genrail.storage.current import journal_path, read_current
from genrail.storage.files import DISK, Files, naming
from genrail.storage.lock import hold
from genrail.storage.manifest import FORMAT_VERSION, UPGRADE, Version
from genrail.types import JsonObject

__all__ = ["Journal", "Position", "open_journal"]

HEAD = struct.Struct("<4sIII")
MAGIC = b"GRJ1"
LARGEST_RECORD = 2**30
APPEND_WAIT_SECONDS = 10.0  # others hold the lock for one append or one switch of versions, milliseconds each


@dataclass(frozen=True)
class Position:
    """Say what somebody has read: this many records of this version's journal."""

    number: int
    records: int


@dataclass(frozen=True)
class Scan:
    """Hold the whole records of a log, and what follows them.

    Args:
        payloads: JSON of each record, the first says what the log belongs to.
        ends: Offset behind each record.
        checks: Checksum of each record, which the next continues.
        torn_bytes: Length of an unfinished record at the end.
    """

    payloads: list[bytes]
    ends: list[int]
    checks: list[int]
    torn_bytes: int


def frame(payload: bytes, before: int) -> bytes:
    """Frame one record behind a record whose checksum was `before`."""
    body = payload + b"\n"
    head = struct.pack("<4sII", MAGIC, len(payload), crc32(body, before))
    return head + struct.pack("<I", crc32(head, before)) + body


def scan(data: bytes, path: Path) -> Scan:
    """Read framed records until the end or an unfinished one.

    Raises:
        DamagedError: A record is altered; names its number.
    """
    found = Scan([], [], [], 0)
    start = before = 0
    while start < len(data):
        length = _length(data, start, before)
        if length is None and not _unwritten(data[start:]):
            raise _damaged(path, len(found.payloads))
        end = start + HEAD.size + (length or 0) + 1
        # A file may have grown before its content reached the device: then its last bytes are zero.
        if length is None or end > len(data) or data[end - 1] == 0:
            return Scan(found.payloads, found.ends, found.checks, len(data) - start)
        before = _check(data[start:end], before, path, len(found.payloads))
        found.payloads.append(data[start + HEAD.size : end - 1])
        found.ends.append(end)
        found.checks.append(before)
        start = end
    return found


def _length(data: bytes, start: int, before: int) -> int | None:
    """Read the length from a whole head; None when the head is short or does not check."""
    head = data[start : start + HEAD.size]
    if len(head) < HEAD.size:
        return None
    magic, length, _, check = HEAD.unpack(head)
    return length if magic == MAGIC and check == crc32(head[:-4], before) else None


def _unwritten(rest: bytes) -> bool:
    return len(rest) < HEAD.size or not any(rest)


def _check(record: bytes, before: int, path: Path, number: int) -> int:
    _, _, check, _ = HEAD.unpack(record[: HEAD.size])
    if check != crc32(record[HEAD.size :], before):
        raise _damaged(path, number)
    return int(check)


def _damaged(path: Path, number: int) -> DamagedError:
    return DamagedError(
        f"{path} is damaged in record {number}; restore a snapshot, roll back to an earlier version or build again"
    )


def _header(number: int, manifest_sha256: str) -> dict[str, object]:
    return {
        "format": "genrail journal",
        "format_version": FORMAT_VERSION,
        "number": number,
        "manifest_sha256": manifest_sha256,
    }


def _encode(record: object) -> bytes:
    # Reading it back to compare would double the time of a record with 20,000 items.
    try:
        if not isinstance(record, dict):
            raise TypeError(f"it is a {type(record).__name__}")
        payload = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageError(
            f"this change cannot be written as JSON ({error}); give a dict of text, numbers, lists"
        ) from error
    if len(payload) > LARGEST_RECORD:
        raise StorageError(f"this change has {len(payload)} bytes, the limit is {LARGEST_RECORD}; split it")
    return payload


def fresh_journal(number: int, manifest_sha256: str, payloads: Iterable[bytes] = ()) -> bytes:
    """Make the bytes of a new log, with records carried over from an earlier one."""
    data = bytearray()
    before = 0
    for payload in (_encode(_header(number, manifest_sha256)), *payloads):
        record = frame(payload, before)
        before = crc32(record[HEAD.size :], before)
        data += record
    return bytes(data)


def read_journal(version: Version, files: Files = DISK) -> Scan:
    """Read and check a version's log.

    Raises:
        DamagedError: The log is missing, altered, or another version's.
        FormatError: A newer genrail wrote it.
    """
    path = journal_path(version.folder, version.number)
    if not path.is_file() or path.is_symlink():
        raise DamagedError(f"{path} is missing; restore a snapshot, roll back to an earlier version or build again")
    with naming(path, "reading", files):
        data = files.read(path)
    return read_payloads(data, path, version)


def read_payloads(data: bytes, path: Path, version: Version) -> Scan:
    """Read and check the bytes of a version's log; raises what `read_journal` does."""
    found = scan(data, path)
    if not found.payloads:
        raise _damaged(path, 0)
    try:
        header = json.loads(found.payloads[0])
        newer = header.get("format_version", 0) > FORMAT_VERSION
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _damaged(path, 0) from None
    if newer:
        raise FormatError(
            f"{path} has format version {header['format_version']}, newer than this genrail reads: {UPGRADE}"
        )
    if header != _header(version.number, version.manifest_sha256):
        raise DamagedError(f"{path} belongs to another version; restore a snapshot, roll back or build again")
    return found


class Journal:
    """Append to and read the log of one version; made by `open_journal`.

    A process that appends must have read everything before: when another has appended meanwhile, `append` refuses and
    `refresh` gives what is new. Any number of processes may read.
    """

    def __init__(self, version: Version, found: Scan, files: Files) -> None:
        self.version = version
        self.path = journal_path(version.folder, version.number)
        self._files = files
        self._take(found)

    def _take(self, found: Scan) -> None:
        self._end = found.ends[-1]
        self._check = found.checks[-1]
        self._count = len(found.payloads) - 1
        self.torn_bytes = found.torn_bytes

    def __len__(self) -> int:
        return self._count

    @property
    def position(self) -> Position:
        """Say how far this process has read; give it to `publish` as `base`."""
        return Position(self.version.number, self._count)

    def records(self) -> list[JsonObject]:
        """List the changes known to this object, oldest first.

        Raises:
            DamagedError: The log was altered meanwhile.
        """
        found = read_journal(self.version, self._files)
        return [json.loads(payload) for payload in found.payloads[1 : self._count + 1]]

    def refresh(self) -> list[JsonObject]:
        """Read what other processes have appended since, oldest first.

        Raises:
            DamagedError: The log was altered, or lost records that were there.
        """
        found = read_journal(self.version, self._files)
        if len(found.payloads) <= self._count or found.checks[self._count] != self._check:
            raise DamagedError(f"{self.path} lost records that were there; restore a snapshot or build again")
        known = self._count
        self._take(found)
        return [json.loads(payload) for payload in found.payloads[known + 1 :]]

    def append(self, record: Mapping[str, object]) -> Position:
        """Log one change; when this returns, the change survives a crash and a power cut.

        A change is one record, however many items it holds: all of it is there, or nothing.

        Args:
            record: Plain values: text, numbers, lists and dicts of these. As always in JSON, keys come back as text and
                tuples as lists.

        Returns:
            The position behind it.

        Raises:
            StorageError: The disk failed, another process appended meanwhile, or another version went live; the
                change is not logged.
            LockedError: Another process held the log for too long.

        Cost: one write and one wait for the device.
        """
        payload = _encode(record)
        with hold(self.version.folder, "append", APPEND_WAIT_SECONDS), naming(self.path, "appending to", self._files):
            self._require_live()
            self._require_read()
            data = frame(payload, self._check)
            try:
                self._files.append(self.path, data)
                self._files.sync(self.path)
            except BaseException:
                self._undo()
                raise
            self._end += len(data)
            self._check = crc32(data[HEAD.size :], self._check)
            self._count += 1
        return self.position

    def _require_live(self) -> None:
        current = read_current(self.version.folder, self._files)
        if (current.live, current.manifest_sha256) != (self.version.number, self.version.manifest_sha256):
            raise StorageError(
                f"version {current.live} of {self.version.folder} went live after version {self.version.number} was "
                "opened; open the folder again and repeat the change"
            )

    def _require_read(self) -> None:
        """Refuse unless everything in the log has been read; cut an unfinished record."""
        size = self.path.stat().st_size
        if size == self._end:
            return
        found = read_journal(self.version, self._files)
        if found.checks[-1] != self._check or len(found.payloads) != self._count + 1:
            raise StorageError(
                f"another process changed {self.version.folder} after it was read; call refresh, apply what is new "
                "and repeat"
            )
        self._files.truncate(self.path, self._end)
        self._files.sync(self.path)
        self.torn_bytes = 0

    def _undo(self) -> None:
        # If this fails too, the record stays, unfinished or whole but unacknowledged; the next append sees it.
        with suppress(OSError):
            self._files.truncate(self.path, self._end)
            self._files.sync(self.path)


def open_journal(version: Version, *, files: Files = DISK) -> Journal:
    """Open the log of live changes beside a version; changes nothing on disk.

    `torn_bytes` of the result tells whether an unfinished, never acknowledged record was found at the end.

    Raises:
        DamagedError: The log is missing, altered, or another version's.
        FormatError: A newer genrail wrote it.

    >>> import tempfile
    >>> from genrail.storage import open_version, publish
    >>> folder = Path(tempfile.mkdtemp()) / "shop.genrail"
    >>> version = publish(folder, lambda path: None)
    >>> open_journal(version).append({"remove": ["sku-7"]})
    Position(number=1, records=1)
    >>> open_journal(open_version(folder)).records()
    [{'remove': ['sku-7']}]
    """
    return Journal(version, read_journal(version, files), files)
