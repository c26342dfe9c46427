"""What users did, kept as it comes in: one SQLite file, durable, apart for each tenant, and erased for one user."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from genrail.errors import DamagedError, DiskError, FormatError

__all__ = ["Event", "EventStore", "is_event_store"]

FORMAT = 1
APPLICATION = 0x67656E72  # "genr", in the head of the file
DAY = 86_400.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    tenant TEXT NOT NULL, user TEXT NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL, time REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_user ON events (tenant, user, time);
CREATE INDEX IF NOT EXISTS events_by_time ON events (tenant, time);
"""


@dataclass(frozen=True)
class Event:
    """Say that a user did something with an item.

    Args:
        user: The caller's own id of the user.
        item: Of the item.
        kind: Such as view, click, cart or purchase.
        time: Seconds since 1970.
    """

    user: str
    item: str
    kind: str
    time: float


def is_event_store(path: Path) -> bool:
    """Tell whether a file is one of these, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3\x00") and int.from_bytes(head[68:72], "big") == APPLICATION


class EventStore:
    """Keep events in a file. Threads may share one, and processes one file.

    Args:
        path: Made if it is not there.
        clock: Seconds since 1970.

    Raises:
        FormatError: The file is none of ours, or of a newer version.
        DiskError: It cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     store = EventStore(Path(folder) / "events.sqlite")
    ...     store.add([Event("ann", "a", "view", 1.0), Event("ann", "b", "view", 2.0)], tenant="")
    ...     print(store.history("ann", tenant=""), store.forget("ann", tenant=""), store.history("ann", tenant=""))
    ...     store.close()
    ['a', 'b'] 2 []
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._lock = Lock()
        if path.exists() and path.stat().st_size and not is_event_store(path):
            raise FormatError(f"{path} holds no events of genrail; name another file, or a new one")
        with self._failing("opening"):
            self._base = sqlite3.connect(path, check_same_thread=False, timeout=10.0, isolation_level=None)
            version = int(self._base.execute("PRAGMA user_version").fetchone()[0])
            if version > FORMAT:
                raise FormatError(f"{path} has format {version}, this version reads up to {FORMAT}; upgrade genrail")
            self._base.execute(f"PRAGMA application_id = {APPLICATION}")
            self._base.execute(f"PRAGMA user_version = {FORMAT}")
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")  # on the disk before it is acknowledged
            self._base.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
            self._base.create_function("EXP2", 1, _exp2, deterministic=True)
            self._base.executescript(_SCHEMA)

    @contextmanager
    def _failing(self, act: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            said = f"{act} {self.path} failed ({error}); make room or check its permissions, and repeat"
            raise DiskError(said) from error
        except sqlite3.DatabaseError as error:
            raise DamagedError(f"{self.path} is damaged ({error}); restore it, or name a new file") from error

    def add(self, events: Sequence[Event], *, tenant: str) -> None:
        """Keep events, all or none; they are on the disk when this returns.

        Raises:
            DiskError: They cannot be written; none is kept.
        """
        rows = [(tenant, one.user, one.item, one.kind, one.time) for one in events]
        with self._lock, self._failing("writing"):
            self._base.execute("BEGIN IMMEDIATE")
            try:
                self._base.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
                self._base.execute("COMMIT")
            except BaseException:
                self._base.execute("ROLLBACK")
                raise

    def history(self, user: str, *, tenant: str, most: int = 100) -> list[str]:
        """List the items of a user's last events, oldest first."""
        asked = "SELECT item FROM events WHERE tenant = ? AND user = ? ORDER BY time DESC, rowid DESC LIMIT ?"
        return [str(item) for (item,) in self._read(asked, (tenant, user, most))][::-1]

    def trending(self, *, tenant: str, days: float = 7.0, most: int = 1000) -> list[tuple[str, float]]:
        """List the items that most users did something with lately, each with its weight.

        A user counts once for an item, by the last event; half as much for each third of the days that it lies back.
        """
        now = self._clock()
        asked = (
            "SELECT item, SUM(weight) AS total FROM (SELECT item, MAX(EXP2((time - ?) / ?)) AS weight FROM events "
            "WHERE tenant = ? AND time > ? AND time <= ? GROUP BY item, user) GROUP BY item "
            "ORDER BY total DESC, item LIMIT ?"
        )
        since = now - days * DAY
        found = self._read(asked, (now, days * DAY / 3.0, tenant, since, now, most))
        return [(str(item), float(weight)) for item, weight in found]

    def by_day(self, *, days: int = 14) -> list[tuple[str, int]]:
        """Count the events of the last days, tenants together: (YYYY-MM-DD in UTC, events), the latest first."""
        asked = (
            "SELECT date(time, 'unixepoch') AS day, COUNT(*) FROM events WHERE time > ? AND time <= ? "
            "GROUP BY day ORDER BY day DESC"
        )
        now = self._clock()
        return [(str(day), int(count)) for day, count in self._read(asked, (now - days * 86_400, now))]

    def forget(self, user: str, *, tenant: str) -> int:
        """Erase what is known of a user; nothing of it is left in the file.

        Returns:
            How many events there were.
        """
        with self._lock, self._failing("writing"):
            done = self._base.execute("DELETE FROM events WHERE tenant = ? AND user = ?", (tenant, user)).rowcount
            self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return int(done)

    def of_user(self, user: str, *, tenant: str) -> list[Event]:
        """List all that is known of a user, oldest first."""
        asked = "SELECT user, item, kind, time FROM events WHERE tenant = ? AND user = ? ORDER BY time, rowid"
        return [Event(*row) for row in self._read(asked, (tenant, user))]

    def everything(self) -> list[tuple[str, str, str, float]]:
        """Give user, item, kind and time of all events, to learn from; users of a tenant carry its name."""
        asked = "SELECT CASE tenant WHEN '' THEN user ELSE tenant || '/' || user END, item, kind, time FROM events"
        return self._read(asked + " ORDER BY time, rowid", ())

    def _read(self, asked: str, values: tuple[object, ...]) -> list[Any]:
        with self._lock, self._failing("reading"):
            return self._base.execute(asked, values).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()


def _exp2(exponent: float) -> float:
    return float(2.0**exponent)
