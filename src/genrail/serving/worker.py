"""The process that holds the model. If it dies, the server lives on and starts another.

Started by `genrail.serving.workers` as ``python -m genrail.serving.worker`` with a socket; ends when the socket closes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from socket import socket
from threading import Thread

from genrail.serving.frames import Line, pack
from genrail.serving.host import Host, error_of
from genrail.serving.logs import log_to
from genrail.serving.threads import Left
from genrail.types import JsonObject

__all__ = ["main"]

SWITCH_SECONDS = 0.0002
FAILED = 4  # exit code: the engine cannot be opened


class Worker:
    """Answer frames: decodes one after the other in the main thread, the rest beside it."""

    def __init__(self, line: Line, host: Host) -> None:
        self._line = line
        self._host = host
        self._decodes: SimpleQueue[JsonObject] = SimpleQueue()
        self._left: set[int] = set()
        self._changing = ThreadPoolExecutor(1, "change")
        self._asking = ThreadPoolExecutor(4, "ask")

    def run(self) -> None:
        """Work until the server closes the line."""
        Thread(target=self._read, daemon=True).start()
        while True:
            page = self._decodes.get()
            number: int = page["id"]
            if page["name"] == "rerank":  # uses the text encoder, as decodes do
                self._reply(number, self._unless_left(number, partial(self._host.rerank, page["page"])))
            else:
                self._reply(number, partial(self._host.answer, page["page"], self._before_step(number)))
            self._left.discard(number)

    def _before_step(self, number: int) -> Callable[[], None]:
        def before_step() -> None:
            if number in self._left:
                raise Left("nobody waits for this answer")

        return before_step

    def _unless_left(self, number: int, call: Callable[[], JsonObject]) -> Callable[[], JsonObject]:
        def checked() -> JsonObject:
            self._before_step(number)()
            return call()

        return checked

    def _reply(self, number: int, call: Callable[[], JsonObject]) -> None:
        """Answer one call; whatever goes wrong in it is told, and only a line that is gone ends this process."""
        answer: JsonObject
        try:
            answer = {"id": number, "page": call()}
            data = pack(answer)
        except Left:
            data = pack({"id": number, "left": True})
        except Exception as error:
            data = pack({"id": number, "error": error_of(error)})
        self._send(data)

    def _send(self, data: bytes) -> None:
        try:
            self._line.write(data)
        except OSError:
            os._exit(0)  # the server is gone

    def _finish(self, number: int, call: Callable[[], JsonObject]) -> None:
        self._reply(number, call)
        self._left.discard(number)

    def _read(self) -> None:
        host = self._host
        calls: dict[str, Callable[[JsonObject, int], JsonObject]] = {
            "item": lambda page, _: host.item(page),
            "about": lambda page, _: host.about(page),
            "branches": lambda page, _: host.branches(page),
            "suggest": lambda page, _: host.suggest(page),
            "listed": lambda page, _: host.listed(page),
            "filter": lambda page, number: host.prepare(page, self._before_step(number)),
            "describe": lambda _, __: host.describe(),
            "state": lambda _, __: host.state(),
            "progress": lambda _, __: host.progress,
            "check_disk": lambda _, __: {"disk": host.check_disk()},
        }
        while (frame := self._line.receive()) is not None:
            name, number = frame["name"], frame["id"]
            if name == "beat":  # answered here: whoever hears it knows that this process is not stuck as a whole
                self._send(pack({"id": number, "beat": True}))
            elif name == "left":
                self._left.add(number)
            elif name == "change":
                host.settle()
                self._changing.submit(self._reply, number, partial(host.change, frame["page"]))
            elif name in calls:
                host.settle()
                call = self._unless_left(number, partial(calls[name], frame["page"], number))
                self._asking.submit(self._finish, number, call)
            else:
                self._decodes.put(frame)
        os._exit(0)


def main(words: list[str] | None = None) -> None:
    """Open an engine and answer frames about it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--beam-width", type=int, default=0)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--follower", action="store_true")
    given = parser.parse_args(words)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when its workers end
    # A decode takes the interpreter back a hundred times; while a version is read beside it, each time would cost 5 ms.
    sys.setswitchinterval(SWITCH_SECONDS)
    log_to()
    line = Line(socket(fileno=given.socket))
    try:
        host = _open(given)
    except Exception as error:
        line.send({"failed": error_of(error)})
        sys.exit(FAILED)
    line.send({"ready": host.state()})
    Worker(line, host).run()


def _open(given: argparse.Namespace) -> Host:
    from genrail.engine import Engine, MergeSettings

    try:
        import torch

        torch.set_num_threads(given.threads)
    except ImportError:
        pass  # the engine says what is missing
    merging = MergeSettings(automatic=not given.follower)
    host = Host(Engine.load(given.folder, live=True, merging=merging), given.beam_width or None)
    host.warm_up()
    return host


if __name__ == "__main__":
    main()
