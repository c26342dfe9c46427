"""Say which version is live: the file `CURRENT`, replaced in one step."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from genrail.errors import DamagedError, FormatError, StorageError
from genrail.storage.files import DISK, Files, naming
from genrail.storage.manifest import FORMAT_VERSION, seal, unseal

__all__ = ["Current", "live_version", "point", "read_current", "try_current"]

CURRENT = "CURRENT"
NEXT = "CURRENT.new"
VERSIONS = "versions"
VERSION_NAME = re.compile(r"\d{6,12}")


def version_path(folder: Path, number: int) -> Path:
    """Name the directory of a version."""
    return folder / VERSIONS / f"{number:06d}"


def journal_path(folder: Path, number: int) -> Path:
    """Name the log of a version's live changes."""
    return folder / VERSIONS / f"{number:06d}.journal"


@dataclass(frozen=True)
class Current:
    """Hold what `CURRENT` says.

    Args:
        live: Number of the version to open.
        newest: Highest number ever published; a version above it was never finished.
        manifest_sha256: Of the live version's manifest.
    """

    live: int
    newest: int
    manifest_sha256: str

    def encode(self) -> bytes:
        """Write it as sealed JSON."""
        return seal(
            {
                "format": "genrail pointer",
                "format_version": FORMAT_VERSION,
                "live": f"{self.live:06d}",
                "newest": f"{self.newest:06d}",
                "manifest_sha256": self.manifest_sha256,
            }
        )


def read_current(folder: Path, files: Files = DISK) -> Current:
    """Read which version is live.

    Raises:
        FormatError: The folder is missing, a file, not ours, or of a newer genrail.
        DamagedError: `CURRENT` is missing from a folder of ours, or altered.
    """
    path = folder / CURRENT
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise FormatError(f"{folder} {what}; give a folder that genrail saved")
    if not path.is_file() or path.is_symlink():
        if numbers(folder):
            raise DamagedError(
                f"{path} is missing; roll back to one of the versions in {folder / VERSIONS}, or build again"
            )
        raise FormatError(f"{folder} holds no genrail version ({CURRENT} is missing); give a folder that genrail saved")
    with naming(path, "reading", files):
        data = files.read(path)
    page = unseal(data, path)
    try:
        return Current(int(page["live"]), int(page["newest"]), str(page["manifest_sha256"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path} lacks what it should hold ({error!r}); roll back or build again") from None


def live_version(folder: str | Path) -> int:
    """Read the number of the live version, without checking that it is whole.

    Raises:
        FormatError: Not a saved folder, or one of a newer genrail.
        DamagedError: `CURRENT` is missing or altered.
    """
    return read_current(Path(folder)).live


def try_current(folder: Path, files: Files = DISK) -> Current | None:
    """Read which version is live, or None when `CURRENT` is missing or damaged.

    Raises:
        FormatError: A newer genrail wrote it, so nothing here may be touched.
    """
    if not (folder / CURRENT).is_file():
        return None
    try:
        return read_current(folder, files)
    except DamagedError:
        return None


def point(folder: Path, current: Current, files: Files) -> None:
    """Make a version the live one, in one durable step; on failure the earlier one stays.

    Raises:
        OSError: The disk failed.
    """
    path = folder / CURRENT
    before = path.read_bytes() if path.exists() else None
    _replace(folder, current.encode(), files)
    try:
        files.sync(folder)
    except OSError:
        # The new name is visible but may not survive a power cut, and the caller is told that it failed.
        with suppress(OSError):
            if before is None:
                files.remove(path)
            else:
                _replace(folder, before, files)
        raise


def _replace(folder: Path, data: bytes, files: Files) -> None:
    files.write(folder / NEXT, data)
    files.sync(folder / NEXT)
    files.rename(folder / NEXT, folder / CURRENT)


def numbers(folder: Path) -> list[int]:
    """List the numbers of all version directories, finished or not, ascending."""
    try:
        names = [entry.name for entry in (folder / VERSIONS).iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(f"{folder / VERSIONS} cannot be listed ({error.strerror})") from error
    return sorted(int(name) for name in names if VERSION_NAME.fullmatch(name) and f"{int(name):06d}" == name)
