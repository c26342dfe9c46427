"""A `genrail serve` of its own for `benchmarks/serve.py`, and what it holds: memory, files, threads."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Server", "serving"]

SERVE = "from genrail.cli.main import run; run()"


class Server:
    """Hold a running `genrail serve`."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log", delete=False)  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "serve", str(folder), "--port", "0", *words], stderr=self.log
        )
        while '"event": "serving"' not in (text := Path(self.log.name).read_text()):
            if self.process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{text}")
            time.sleep(0.1)
        self.port = int(re.findall(r'"url": "http://127.0.0.1:(\d+)"', text)[0])

    @property
    def workers(self) -> list[int]:
        """List the processes that hold the model."""
        return list(map(int, subprocess.check_output(["pgrep", "-P", str(self.process.pid)], text=True).split()))

    @property
    def megabytes(self) -> float:
        """Sum the resident memory of server and workers."""
        pids = [self.process.pid, *self.workers]
        sizes = [re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) for pid in pids]
        return sum(int(size[0]) for size in sizes) / 1024

    @property
    def held(self) -> tuple[int, int]:
        """Count the open files and the threads of server and workers."""
        pids = [self.process.pid, *self.workers]
        rooms = [[len(list(Path(f"/proc/{pid}/{room}").iterdir())) for pid in pids] for room in ("fd", "task")]
        return sum(rooms[0]), sum(rooms[1])


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[Server]:
    """Start a server and stop it."""
    server = Server(folder, *words)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
