"""Run a server: check what it is told, listen, and end with an exit code that says why."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvicorn

from genrail import storage
from genrail.errors import GenrailError, SettingsError
from genrail.serving.application import create_application
from genrail.serving.browsers import check_origins, is_loopback
from genrail.serving.connections import guarded
from genrail.serving.keys import Keys, read_keys
from genrail.serving.logs import log_to
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings
from genrail.serving.workers import Workers
from genrail.storage.events import EventStore

__all__ = ["FileOfKeys", "listen", "run_server"]

_log = logging.getLogger("genrail.serving")
GAVE_UP = 3  # exit code: the model's process could not be kept alive
KEEP_ALIVE_SECONDS = 30


@dataclass
class FileOfKeys:
    """Give the keys of a file as they are now; a changed file is noticed within a second.

    A file that cannot be read any more leaves the keys as they were: a half-written file must not open a door.
    """

    path: Path
    _keys: Keys = field(init=False)
    _looked: float = field(init=False, default=0.0)
    _mark: tuple[int, int] = field(init=False, default=(0, 0))

    def __post_init__(self) -> None:
        self._keys = read_keys(self.path)
        self._mark = self._now()
        if not len(self._keys):
            raise SettingsError(f"{self.path} has no keys; make one with: genrail keys create {self.path} NAME")

    def __call__(self) -> Keys:
        """Give the keys."""
        if time.monotonic() - self._looked >= 1:
            self._looked = time.monotonic()
            try:
                mark = self._now()
                if mark != self._mark:
                    self._keys, self._mark = _never_none(read_keys(self.path)), mark
            except (OSError, GenrailError) as error:
                _log.error("the file of keys cannot be read", extra={"page": {"why": str(error)}})
        return self._keys

    def _now(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_mtime_ns, stat.st_ino


def _never_none(keys: Keys) -> Keys:
    """Keep the door closed when the last key is revoked: no keys at all would mean that none is asked for."""
    from genrail.serving.keys import Key

    return keys if len(keys) else Keys([Key("nobody")])


def listen(host: str, port: int) -> socket.socket:
    """Take a port.

    Raises:
        SettingsError: It is in use, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol must be named: only then does asyncio switch off Nagle's delay, 40 ms for every answer.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"port {port} of {host} is in use; give another --port, or 0 for a free one") from None
        raise SettingsError(f"{host}:{port} cannot be listened on ({error.strerror}); give another address") from None
    taken.set_inheritable(False)
    return taken


def _check_open(host: str, keys: Path | None, insecure: bool) -> None:
    if keys is None and not is_loopback(host):
        if not insecure:
            raise SettingsError(
                f"{host} can be reached by others and there are no keys; make one (genrail keys create keys.json NAME) "
                "and give --keys keys.json, or give --insecure to let everybody do everything"
            )
        _log.warning("everybody who reaches this server may change the engine", extra={"page": {"host": host}})


def run_server(
    folder: Path,
    settings: ServeSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    threads: int = 1,
    keys: Path | None = None,
    insecure: bool = False,
    beside: Path | None = None,
    events: Path | None = None,
    when_ready: Callable[[str], None] = lambda url: None,
) -> int:
    """Serve an engine until SIGTERM or SIGINT.

    Args:
        folder: The engine.
        settings: Sizes and deadlines.
        host: Address to listen on.
        port: 0 for a free one; the log says which.
        workers: Processes that hold the model.
        threads: Of torch, in each of them.
        keys: A file of keys; required beyond loopback.
        insecure: Lift that requirement.
        beside: A second engine, for the page's comparison; it has processes and a queue of its own.
        events: File in which what users did is kept; made if it is not there. None keeps nothing.
        when_ready: Called with the address once questions are answered.

    Returns:
        Exit code: 0 after a stop that was asked for, 3 if the model's process could not be kept alive.

    Raises:
        GenrailError: The port is taken, the engine cannot be opened, or a setting is wrong.
    """
    log_to()
    _check_open(host, keys, insecure)
    check_origins(settings.origins, keys is not None)
    for each in (folder, *([] if beside is None else [beside])):
        storage.live_version(each)  # no engine there: said before anything is started
    if settings.split and beside is None:
        raise SettingsError("a split needs two engines; give the second one with --beside")
    known: Callable[[], Keys] = Keys if keys is None else FileOfKeys(keys)
    taken = listen(host, port)
    backend = Workers(folder, workers, settings.beam_width, threads)
    service = Service(backend, settings)
    services, other = [(service, backend)], None
    if beside is not None:
        second = Workers(beside, workers, settings.beam_width, threads)
        other = Service(second, replace(settings, name=beside.name, split=0.0))
        services.append((other, second))
    store = None if events is None else EventStore(events)
    app = create_application(service, settings, known, other, store)
    config = uvicorn.Config(
        app,
        http=guarded(settings),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the client's address
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    for its, processes in services:
        processes.when_given_up = stop
        processes.when_died = its.metrics.worker_restarts.inc
    # What keeps the service from starting is raised below as a sentence; uvicorn would log its traceback.
    logging.getLogger("uvicorn.error").addFilter(lambda _: app.state.failure is None)
    url = f"http://{f'[{host}]' if ':' in host else host}:{taken.getsockname()[1]}"
    app.state.when_ready = lambda: _say(url, folder, workers, when_ready)
    # uvicorn raises the signal that ended it once more; a server that was asked to stop has done what it was told.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[taken]))
    except SystemExit:  # uvicorn's way to say that the application did not start
        pass
    finally:
        taken.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if app.state.failure is not None:
        raise app.state.failure
    return GAVE_UP if any(processes.given_up is not None for _, processes in services) else 0


def _say(url: str, folder: Path, workers: int, when_ready: Callable[[str], None]) -> None:
    # What is there now stays; looking through it for garbage would hold up everybody for a tenth of a second.
    gc.collect()
    gc.freeze()
    page = {"url": url, "engine": str(folder), "workers": workers, "pid": os.getpid()}
    _log.info("serving", extra={"page": page})
    when_ready(url)
