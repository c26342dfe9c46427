"""Let one process write at a time, and say who it is."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from genrail.errors import LockedError
from genrail.storage.files import naming, open_new

__all__ = ["hold"]

PATIENCE_SECONDS = 0.5  # to learn who holds the lock: the holder may be about to write its name


@contextmanager
def hold(folder: Path, name: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock `name` of a folder.

    The operating system drops the lock when its process ends, however it ends; so a lock is never stale, only the note
    `name.owner` beside it can be, and the next holder overwrites that.

    Args:
        folder: An existing saved folder.
        name: "build" (held during a whole publish) or "append" (held during one append, and while versions are
            switched).
        wait_seconds: How long to wait for another holder.

    Raises:
        LockedError: Somebody else holds it; names process, host and age.
        StorageError: The folder cannot be written to.
    """
    lock = FileLock(folder / f"{name}.lock")
    with naming(folder / f"{name}.lock", "locking"):
        try:
            lock.acquire(timeout=wait_seconds, poll_interval=0.01)
        except Timeout:
            raise LockedError(f"{folder} {_holder(folder / f'{name}.owner')}; wait until it is done") from None
    try:
        _sign(folder / f"{name}.owner")
        yield
    finally:
        with suppress(OSError):
            (folder / f"{name}.owner").unlink()
        lock.release()


def _sign(path: Path) -> None:
    """Note who holds the lock; a courtesy to others, so a failure to write it is no failure."""
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
    with suppress(OSError), open_new(path) as file:
        file.write(json.dumps(owner).encode())


def _holder(path: Path) -> str:
    """Say in words who holds the lock."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError, KeyError, TypeError):
            owner = json.loads(path.read_text(encoding="utf-8"))
            pid, host, since = int(owner["pid"]), str(owner["host"]), float(owner["since"])
            if host != socket.gethostname() or _alive(pid):
                age = max(0, round(time.time() - since))
                return f"is being written by process {pid} on {host}, for {age} s now"
        time.sleep(0.02)
    return "is being written by another process, which has left no name"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there, and not ours
    return True
