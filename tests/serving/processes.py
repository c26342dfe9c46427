"""A server as its users start it: a process of its own, on a free port."""

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx

STARTING_SECONDS = 300  # how long a condition is waited for is no promise: a busy machine may take minutes
WAIT_SECONDS = 120
RUN = "from genrail.cli.main import run; run()"


class Server:
    """Hold a running `genrail serve`."""

    def __init__(self, folder, *words):
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, "serve", str(folder), "--port", "0", "--deadline", "120", *words],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines, self.url = [], None
        self._told = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if '"event": "serving"' in line:
                self.url = json.loads(line)["url"]
                self._told.set()
        self._told.set()

    def wait(self):
        self._told.wait(STARTING_SECONDS)
        assert self.url, "".join(self.lines)
        return self

    def log(self, event):
        """List the lines of one event, parsed."""
        pages = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [page for page in pages if page["event"] == event]

    def worker(self, place=0):
        """Give the process id of a worker."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return sorted(map(int, found.stdout.split()))[place]

    def stop(self, signal=None):
        if self.process.poll() is None:
            (self.process.terminate if signal is None else lambda: self.process.send_signal(signal))()
        return self.process.wait(WAIT_SECONDS)


@contextmanager
def server(folder, *words):
    """Start a server and stop it, whatever happens."""
    running = Server(folder, *words)
    try:
        running.wait()
        with httpx.Client(base_url=running.url, timeout=WAIT_SECONDS) as http:
            yield running, http
    finally:
        running.stop()
        if running.process.poll() is None:
            running.process.kill()


def until(condition, seconds=WAIT_SECONDS):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it has not come true in time"
        time.sleep(0.01)
