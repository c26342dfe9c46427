"""An engine as a folder: what lies where, and the checks that its parts belong together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from genrail import storage
from genrail.catalog import Catalog
from genrail.engine.replaying import replayed
from genrail.errors import DamagedError, FingerprintError, FormatError, GenrailError, StorageError
from genrail.finding import Edition, open_finder, save_finder
from genrail.storage.files import naming
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.models.text_encoder import Encoder

__all__ = ["KIND", "earlier_version", "follow", "load", "read_version", "refreshed", "roll_back", "save"]

KIND = "engine"


def save(
    edition: Edition, folder: Path, journal: storage.Journal | None, keep: int = 2, held_out: bool = True
) -> storage.Version | None:
    """Publish an edition as the next version of a folder.

    Args:
        edition: What to save.
        folder: Where.
        journal: The log that the edition has followed, if it is live in this very folder: changes that other processes
            logged meanwhile are carried over.
        keep: How many versions stay.
        held_out: Whether each user's last event was kept out of what was learnt.

    Returns:
        The new version if the edition is to `follow` it: it followed an earlier one of this folder.
    """
    details: dict[str, object] = {"catalog": edition.catalog.fingerprint, "items": len(edition), "held_out": held_out}

    def write(path: Path) -> None:
        (path / "catalog").mkdir()
        edition.catalog.save(path / "catalog")
        details["finder"] = save_finder(edition.finder, path)

    following = journal is not None and journal.version.folder.resolve() == folder.resolve()
    base = journal.position if journal is not None and following else None
    version = storage.publish(folder, write, kind=KIND, details=details, keep=keep, base=base)
    return version if following else None


def follow(edition: Edition, version: storage.Version) -> tuple[Edition, storage.Journal]:
    """Open the log of a version that was just published from this edition, and apply what was carried over into it."""
    journal = storage.open_journal(version)
    return replayed(edition, journal.records()), journal


def load(folder: Path, encoder: Encoder | None = None) -> tuple[Edition, storage.Journal]:
    """Open the live version of a folder and apply the changes logged since; every file is checked first."""
    version = storage.open_version(folder, kind=KIND)
    return read_version(version, encoder)


def refreshed(
    edition: Edition, journal: storage.Journal, encoder: Encoder | None = None
) -> tuple[Edition, storage.Journal]:
    """Apply what other processes logged since; or read the version that has gone live instead, after checking it."""
    version, folder = journal.version, journal.version.folder
    if storage.live_version(folder) != version.number:
        return read_version(storage.open_version(folder, kind=KIND), encoder)
    return replayed(edition, journal.refresh()), journal


def earlier_version(folder: Path) -> int:
    """Find the version that was published before the live one.

    Raises:
        StorageError: There is none.
    """
    live = storage.live_version(folder)
    earlier = [number for number in storage.versions(folder) if number < live]
    if not earlier:
        raise StorageError(
            f"{folder} has no version before the live one, {live}; it has: "
            f"{', '.join(map(str, storage.versions(folder)))}"
        )
    return earlier[-1]


def roll_back(folder: Path, number: int | None, encoder: Encoder | None = None) -> tuple[Edition, storage.Journal]:
    """Read an earlier version with its changes, None for the one before, and then make it the live one."""
    number = earlier_version(folder) if number is None else number
    edition, journal = read_version(storage.open_version(folder, kind=KIND, number=number), encoder)
    storage.rollback(folder, number)
    return replayed(edition, journal.refresh()), journal  # of a process that rolled back at the same moment


def read_version(version: storage.Version, encoder: Encoder | None) -> tuple[Edition, storage.Journal]:
    """Put the parts of a checked version together.

    Raises:
        DamagedError: Whoever sealed it sealed what is no engine: unknown details, arrays whose headers lie.
    """
    with _naming_the_folder(version):
        return _parts(version, encoder)


@contextmanager
def _naming_the_folder(version: storage.Version) -> Iterator[None]:
    try:
        with naming(version.path, "reading"):
            yield
    except ImportError:
        raise  # a package is missing, and the folder is well
    except GenrailError as error:
        if str(version.folder) in str(error):
            raise
        kind = type(error) if isinstance(error, StorageError) else DamagedError
        raise kind(f"{version.path} cannot be read: {error}") from error
    except Exception as error:
        raise DamagedError(
            f"{version.path} is whole and yet no engine that can be read ({type(error).__name__}: {error}); "
            "restore a snapshot, roll back to an earlier version or build again"
        ) from error


def _parts(version: storage.Version, encoder: Encoder | None) -> tuple[Edition, storage.Journal]:
    details, path = version.details, version.path
    catalog = Catalog.load(path / "catalog")
    if details["catalog"] != catalog.fingerprint:
        raise FingerprintError(
            f"the catalogue in {path} is {catalog.fingerprint}, the manifest says {details['catalog']}; "
            "restore the folder"
        )
    edition = Edition(catalog, open_finder(path, _finder_details(path, details), catalog, encoder))
    journal = storage.open_journal(version)
    return replayed(edition, journal.records()), journal


_EARLIER_KINDS = {"native": "native", "language model": "titles"}  # what engines before 0.2 called their only finder


def _finder_details(path: Path, details: JsonObject) -> JsonObject:
    """Find what the finder saved; before 0.2 it stood beside the rest."""
    if "finder" in details:
        found: JsonObject = details["finder"]
        return found
    kind = _EARLIER_KINDS.get(str(details.get("lane")))
    if kind is None:
        raise FormatError(
            f"{path} holds the lane {details.get('lane')!r}, which this version of genrail does not know; "
            "upgrade genrail, or build the engine again: genrail build CATALOG --out FOLDER"
        )
    return {**details, "kind": kind}
