"""Disks that fail, processes that die, and power that goes: doubles of `genrail.storage.Files`.

Each counts the calls that change or read the disk and lets call number `at` go wrong. Running an act with `at` = 0, 1,
2 and so on, until it no longer goes wrong, tries every point at which it can be interrupted.
"""

import os
from pathlib import Path

from genrail.storage import Files


class Unsynced(Files):
    """Do not wait for the device: for tests that are about something else."""

    def sync(self, path):
        pass


UNSYNCED = Unsynced()


class Death(BaseException):
    """The process is gone; nothing catches this but the test."""


class CountingFiles(Files):
    """Let one call go wrong in a way that a subclass chooses.

    Args:
        at: Number of that call, 0 for the first.
    """

    def __init__(self, at):
        self.at = at
        self.calls = 0
        self.trace = []

    @property
    def went_wrong(self):
        return self.calls > self.at

    def happen(self, act, path, half=None):
        """Count one call; `half` does half of its work."""
        number = self.calls
        self.calls += 1
        self.trace.append((act, str(path)))
        if self.is_wrong(number):
            if half is not None:
                half()
            self.go_wrong(path)

    def is_wrong(self, number):
        return number == self.at

    def go_wrong(self, path):
        raise NotImplementedError

    def read(self, path):
        self.happen("read", path)
        return super().read(path)

    def digest(self, path):
        self.happen("digest", path)
        return super().digest(path)

    def make_directory(self, path):
        self.happen("make_directory", path)
        super().make_directory(path)

    def write(self, path, data):
        self.happen("write", path, lambda: Path(path).write_bytes(data[: len(data) // 2]))
        super().write(path, data)

    def append(self, path, data):
        self.happen("append", path, lambda: Files.append(self, path, data[: len(data) // 2]))
        super().append(path, data)

    def truncate(self, path, size):
        self.happen("truncate", path)
        super().truncate(path, size)

    def sync(self, path):
        self.happen("sync", path)  # and no real wait: what the device holds is a matter of `PowerCutFiles`

    def rename(self, old, new):
        self.happen("rename", new)
        super().rename(old, new)

    def remove(self, path):
        self.happen("remove", path)
        super().remove(path)

    def remove_tree(self, path):
        self.happen("remove_tree", path, lambda: self.remove_half(path))
        super().remove_tree(path)

    @staticmethod
    def remove_half(path):
        inside = sorted(child for child in Path(path).rglob("*") if child.is_file())
        for child in inside[: len(inside) // 2 + 1]:
            child.unlink()


class FailingFiles(CountingFiles):
    """Raise an OSError at one call, or at every call from there on.

    Args:
        at: Number of the call.
        number: errno, such as errno.ENOSPC.
        for_good: The disk stays broken.
    """

    def __init__(self, at, number, for_good=False):
        super().__init__(at)
        self.number = number
        self.for_good = for_good

    def is_wrong(self, number):
        return number >= self.at if self.for_good else number == self.at

    def go_wrong(self, path):
        raise OSError(self.number, os.strerror(self.number), str(path))


class DyingFiles(CountingFiles):
    """Do half of one call and nothing ever after, as a killed process does."""

    def is_wrong(self, number):
        return number >= self.at

    def happen(self, act, path, half=None):
        super().happen(act, path, half if self.calls == self.at else None)

    def go_wrong(self, path):
        raise Death


class PowerCutFiles(DyingFiles):
    """Die, and lose whatever was not synced: content of files, and names in directories.

    Harsher than any file system: nothing reaches the device before it is asked for. The files are real; beside them
    this keeps what the device holds, by inode, with a handle on each so that no inode number is used twice.

    Args:
        at: Number of the call at which the power goes.
        root: A directory whose state counts as durable now.
    """

    def __init__(self, at, root):
        super().__init__(at)
        self.root = root
        self.contents = {}
        self.names = {}
        self.handles = []
        for path in [root, *root.rglob("*")]:
            self.remember(path)

    def close(self):
        for handle in self.handles:
            os.close(handle)

    def remember(self, path):
        handle = os.open(path, os.O_RDONLY)
        self.handles.append(handle)
        if path.is_dir():
            children = [child for child in path.iterdir() if child.suffix not in (".lock", ".owner")]
            for child in children:
                self.handles.append(os.open(child, os.O_RDONLY))
            self.names[path.stat().st_ino] = {child.name: (child.stat().st_ino, child.is_dir()) for child in children}
        else:
            self.contents[path.stat().st_ino] = path.read_bytes()

    def sync(self, path):
        super().sync(path)
        if Path(path) == self.root or self.root in Path(path).parents:
            self.remember(Path(path))

    def survivors(self, target):
        """Write what the device holds into a new directory."""
        self.survive(self.root.stat().st_ino, target)

    def survive(self, inode, target):
        target.mkdir()
        for name, (child, is_directory) in self.names.get(inode, {}).items():
            if is_directory:
                self.survive(child, target / name)
            else:
                (target / name).write_bytes(self.contents.get(child, b""))


def interruptions(make):
    """Give doubles for call 0, 1, 2, ... until one is handed back without having gone wrong.

    >>> [double.at for double in interruptions(lambda at: CountingFiles(at)) if not setattr(double, "calls", 3)]
    [0, 1, 2, 3]
    """
    at = 0
    while True:
        double = make(at)
        yield double
        if not double.went_wrong:
            return
        at += 1
