"""An engine as a folder: what lies where, and the checks that its parts belong together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genrail import storage
from genrail.catalog import Catalog
from genrail.constraints.segments import LiveTrie
from genrail.decoding import BeamSettings
from genrail.decoding.several import SeveralIndex
from genrail.errors import DamagedError, FingerprintError, FormatError, GenrailError, StorageError
from genrail.identifiers.several import SeveralIdentifiers, load_identifiers
from genrail.retrieval.edition import Edition
from genrail.retrieval.lanes import Lane, NativeLane
from genrail.retrieval.replaying import replayed
from genrail.storage.files import naming

__all__ = ["KIND", "earlier_version", "follow", "load", "read_version", "refreshed", "roll_back", "save"]

KIND = "engine"


def save(
    edition: Edition, beam: BeamSettings, folder: Path, journal: storage.Journal | None, keep: int = 2
) -> storage.Version | None:
    """Publish an edition as the next version of a folder.

    Args:
        edition: What to save.
        beam: How it is searched.
        folder: Where.
        journal: The log that the edition has followed, if it is live in this very folder: changes that other processes
            logged meanwhile are carried over.
        keep: How many versions stay.

    Returns:
        The new version if the edition is to `follow` it: it followed an earlier one of this folder.
    """

    def write(path: Path) -> None:
        for room in ("catalog", "identifiers", "trie"):
            (path / room).mkdir()
        edition.catalog.save(path / "catalog")
        edition.table.save(path / "identifiers")
        edition.index.save(path / "trie")
        edition.lane.save(path)

    details = {
        **edition.lane.details(),
        "beam": asdict(beam),
        "catalog": edition.catalog.fingerprint,
        "identifiers": edition.table.fingerprint,
        "items": len(edition.index),
    }
    following = journal is not None and journal.version.folder.resolve() == folder.resolve()
    base = journal.position if journal is not None and following else None
    version = storage.publish(folder, write, kind=KIND, details=details, keep=keep, base=base)
    return version if following else None


def follow(edition: Edition, version: storage.Version) -> tuple[Edition, storage.Journal]:
    """Open the log of a version that was just published from this edition, and apply what was carried over into it."""
    journal = storage.open_journal(version)
    return replayed(edition, journal.records()), journal


def load(folder: Path, encoder: Any = None) -> tuple[Edition, BeamSettings, storage.Journal]:
    """Open the live version of a folder and apply the changes logged since; every file is checked first."""
    version = storage.open_version(folder, kind=KIND)
    with _naming_the_folder(version):
        beam = BeamSettings(**version.details["beam"])
    edition, journal = read_version(version, encoder)
    return edition, beam, journal


def refreshed(edition: Edition, journal: storage.Journal, encoder: Any = None) -> tuple[Edition, storage.Journal]:
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


def roll_back(folder: Path, number: int | None, encoder: Any = None) -> tuple[Edition, storage.Journal]:
    """Read an earlier version with its changes, None for the one before, and then make it the live one."""
    number = earlier_version(folder) if number is None else number
    edition, journal = read_version(storage.open_version(folder, kind=KIND, number=number), encoder)
    storage.rollback(folder, number)
    return replayed(edition, journal.refresh()), journal  # of a process that rolled back at the same moment


def read_version(version: storage.Version, encoder: Any) -> tuple[Edition, storage.Journal]:
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
    except (GenrailError, ImportError):
        raise
    except Exception as error:
        raise DamagedError(
            f"{version.path} is whole and yet no engine that can be read ({type(error).__name__}: {error}); "
            "restore a snapshot, roll back to an earlier version or build again"
        ) from error


def _parts(version: storage.Version, encoder: Any) -> tuple[Edition, storage.Journal]:
    details, path = version.details, version.path
    catalog = Catalog.load(path / "catalog")
    table = load_identifiers(path / "identifiers")
    for name, expected, found in (
        ("catalogue", details["catalog"], catalog.fingerprint),
        ("identifiers", details["identifiers"], table.fingerprint),
    ):
        if expected != found:
            raise FingerprintError(f"the {name} in {path} is {found}, the manifest says {expected}; restore the folder")
    lane = _lane(path, details, encoder)
    trie = LiveTrie.load(path / "trie")
    index = SeveralIndex(trie, table.owners) if isinstance(table, SeveralIdentifiers) else trie
    edition = Edition(catalog, table, index, lane)
    journal = storage.open_journal(version)
    return replayed(edition, journal.records()), journal


def _lane(path: Path, details: dict[str, Any], encoder: Any) -> Lane:
    if details["lane"] == "native":
        return NativeLane.load(path, details, encoder)
    if details["lane"] == "language model":
        from genrail.retrieval.language_model_lane import LanguageModelLane

        return LanguageModelLane.load(path, details)
    raise FormatError(
        f"{path} holds the lane {details['lane']!r}, which this version of genrail does not know; upgrade genrail"
    )
