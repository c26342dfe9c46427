"""A saved folder: numbered versions with checksums, published whole or not at all, and a log of live changes.

::

    shop.genrail/
    ├── CURRENT                  which version is live
    └── versions/
        ├── 000001/              files and manifest.json; never changed
        ├── 000001.journal       what was added and removed while it was live
        └── 000002/ ...

No pickle; JSON here, and whatever plain files the caller writes. The bytes are described in ``docs/formats.md``.
"""

from genrail.storage.archive import restore, snapshot
from genrail.storage.current import live_version
from genrail.storage.files import DISK, Files
from genrail.storage.folder import check_target, gc, open_version, publish, rollback, verify, versions
from genrail.storage.journal import Journal, Position, open_journal
from genrail.storage.manifest import FORMAT_VERSION, FileEntry, Version

__all__ = [
    "DISK",
    "FORMAT_VERSION",
    "FileEntry",
    "Files",
    "Journal",
    "Position",
    "Version",
    "check_target",
    "gc",
    "live_version",
    "open_journal",
    "open_version",
    "publish",
    "restore",
    "rollback",
    "snapshot",
    "verify",
    "versions",
]
