"""An engine on Ray Serve: replicas that answer as `genrail serve` does and share the memory-mapped index."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrail import storage
from genrail.engine.engine import Engine
from genrail.errors import MissingPackageError, SettingsError
from genrail.serving.application import create_application
from genrail.serving.errors import Refusal
from genrail.serving.host import Host
from genrail.serving.running import FileOfKeys
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings
from genrail.serving.threads import Threads
from genrail.types import JsonObject

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["ReadOnlyThreads", "application", "deploy", "replica_application"]


class ReadOnlyThreads(Threads):
    """Answer questions and refuse changes, of which the other replicas would not hear."""

    async def call(self, name: str, page: JsonObject) -> JsonObject:
        """Ask the host for something else than a change.

        Raises:
            Refusal: It is a change.
        """
        if name == "change":
            raise Refusal(
                405, "replicas do not change the engine; change its folder with genrail add, and deploy it again", "ray"
            )
        return await super().call(name, page)


def replica_application(folder: str | Path, settings: ServeSettings, keys: str | Path | None = None) -> FastAPI:
    """Make the application of one replica: the routes of `genrail serve`, without changes.

    Args:
        folder: The engine, as this machine sees it; the index is mapped, so replicas of a machine share its memory.
        settings: Of each replica; its queue is its own.
        keys: A file of keys; None lets everybody ask.

    Raises:
        GenrailError: The engine or the keys cannot be read.
    """
    backend = ReadOnlyThreads(Host(Engine.load(folder), settings.beam_width))
    service = Service(backend, settings)
    return create_application(service, settings, None if keys is None else FileOfKeys(Path(keys)))


def deploy(
    folder: str | Path,
    *,
    replicas: int = 1,
    processors: float = 1.0,
    settings: ServeSettings | None = None,
    keys: str | Path | None = None,
) -> Any:
    """Make a Ray Serve application of an engine; `ray.serve.run` starts it.

    Ray listens on loopback unless `ray.serve.start` was told otherwise; give keys then.

    Args:
        folder: The engine.
        replicas: Processes that hold it.
        processors: That Ray reserves for each.
        settings: Of each replica.
        keys: A file of keys made by ``genrail keys create``.

    Raises:
        FormatError: There is no engine in the folder.
        MissingPackageError: Ray Serve is not installed.
        SettingsError: Fewer than one replica.
    """
    if replicas < 1:
        raise SettingsError(f"replicas is {replicas}; give 1 or more")
    storage.live_version(folder)
    if find_spec("ray") is None:
        raise MissingPackageError("ray", "ray", "serving on Ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import, which reads it
    from ray import serve

    place, chosen = str(Path(folder).resolve()), settings or ServeSettings()
    known = None if keys is None else str(Path(keys).resolve())

    def build() -> FastAPI:
        return replica_application(place, chosen, known)

    made = serve.deployment(
        serve.ingress(build)(),
        name="genrail",
        num_replicas=replicas,
        max_ongoing_requests=chosen.queue + chosen.batch,
        max_queued_requests=replicas * chosen.queue,
        graceful_shutdown_timeout_s=chosen.drain_seconds,
        ray_actor_options={"num_cpus": processors},
    )
    return made.bind()


def application(arguments: dict[str, str]) -> Any:
    """Make the application from words, for ``serve run genrail.serving.ray_deployment:application engine=FOLDER``.

    Args:
        arguments: `engine` (a folder), and perhaps `replicas`, `processors`, `keys`.

    Raises:
        SettingsError: `engine` is absent, a number is none, or there is another word.
    """
    unknown = sorted(arguments.keys() - {"engine", "replicas", "processors", "keys"})
    if unknown or "engine" not in arguments:
        raise SettingsError(
            f"the deployment was given {sorted(arguments)}; "
            "give engine=FOLDER, and perhaps replicas=, processors=, keys="
        )
    try:
        replicas, processors = int(arguments.get("replicas", 1)), float(arguments.get("processors", 1))
    except ValueError as error:
        raise SettingsError(f"replicas and processors are numbers ({error})") from None
    return deploy(arguments["engine"], replicas=replicas, processors=processors, keys=arguments.get("keys"))
