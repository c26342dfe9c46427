"""Touch the disk: the one seam through which storage changes anything, so that tests can make any call fail."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import BinaryIO

from genrail.errors import DiskError, GenrailError

__all__ = ["DISK", "Files", "naming", "open_new"]

MEBIBYTE = 2**20
# EFBIG is what a process under RLIMIT_FSIZE sees, EDQUOT one over its quota.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Writers of Rust (safetensors, Parquet) raise their own types, with the system's number in the message.
SYSTEM_NUMBER = re.compile(r"os error (\d+)")
# numpy's writer loses the number of the system.
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


# A link in the place of a file would have us write wherever whoever made it likes; Windows has no such flag.
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


def open_new(path: Path) -> BinaryIO:
    """Make a file that is readable by its owner only; what stood there is removed first, and no link is followed.

    Raises:
        OSError: It cannot be made, or somebody makes one there at this very moment.
    """
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINKS | getattr(os, "O_BINARY", 0), 0o600)
    return os.fdopen(handle, "wb")


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | NO_LINKS, 0o666)


class Files:
    """Read and change files; tests give another one whose calls fail, write half, or stop for good.

    Every method raises OSError. None is atomic but `rename`; nothing is durable before `sync`.
    """

    def read(self, path: Path) -> bytes:
        """Read a whole file."""
        return path.read_bytes()

    def digest(self, path: Path) -> tuple[int, str]:
        """Measure and hash a file: its size in bytes and its sha256."""
        with path.open("rb") as file:
            digest = file_digest(file, "sha256")
            return file.tell(), digest.hexdigest()

    def make_directory(self, path: Path) -> None:
        """Make one directory; its parent exists, it does not."""
        path.mkdir()

    def write(self, path: Path, data: bytes) -> None:
        """Make a file, or replace its content in place; a link there is refused."""
        with open(path, "wb", opener=_without_links) as file:
            file.write(data)

    def append(self, path: Path, data: bytes) -> None:
        """Write behind the end of an existing file."""
        with open(path, "r+b", buffering=0, opener=_without_links) as file:
            file.seek(0, os.SEEK_END)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file down to its first `size` bytes."""
        os.truncate(path, size)

    def sync(self, path: Path) -> None:
        """Wait until a file's content, or a directory's list of names, is on the device."""
        if path.is_dir() and os.name == "nt":
            return  # Windows has no handle for this; NTFS journals its names
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or directory a new name in the same file system, atomically; a file there is replaced."""
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def remove_tree(self, path: Path) -> None:
        """Remove a directory with all that is in it; links are removed, not followed."""
        shutil.rmtree(path)

    def free_bytes(self, path: Path) -> int:
        """Tell how many bytes this user may still write beside an existing path."""
        return shutil.disk_usage(path).free


DISK = Files()


@contextmanager
def naming(path: Path, act: str, files: Files = DISK) -> Iterator[None]:
    """Turn an error of the disk into a DiskError that names the path; other exceptions pass unchanged.

    Args:
        path: What is being touched, when the error itself does not say.
        act: What is being done, such as "publishing".
        files: Tells the space that is left.
    """
    try:
        yield
    except GenrailError:
        raise
    except Exception as error:
        sentence = _sentence(error, path, act, files)
        if sentence is None:
            raise
        raise DiskError(sentence) from error


def _sentence(error: Exception, path: Path, act: str, files: Files) -> str | None:
    number = _number(error)
    where = error.filename if isinstance(error, OSError) and error.filename else path
    untouched = "what was published before is untouched"
    if number in DISK_FULL:
        return (
            f"the disk is full while {act} {where} ({_free(path, files)} MiB free); make room and repeat, {untouched}"
        )
    if SHORT_WRITE.search(str(error)):
        return (
            f"the disk took only a part while {act} {where} ({_free(path, files)} MiB free); make room or check the "
            f"disk, and repeat, {untouched}"
        )
    # A callback may also fail on a network; that is not for storage to reword.
    if number is None or isinstance(error, ConnectionError | TimeoutError):
        return None
    return f"{act} {where} failed ({os.strerror(number)}); check the disk and the right to use it, {untouched}"


def _number(error: Exception) -> int | None:
    """Find the number that the system gave an error, whoever raised it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if os.strerror(errno.ENOSPC) in str(error):
        return errno.ENOSPC
    found = SYSTEM_NUMBER.search(str(error))
    return int(found[1]) if found else None


def _free(path: Path, files: Files) -> str:
    try:
        return str(files.free_bytes(nearest_existing(path)) // MEBIBYTE)
    except OSError:
        return "unknown"


def nearest_existing(path: Path) -> Path:
    """Walk up from a path to the first that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
