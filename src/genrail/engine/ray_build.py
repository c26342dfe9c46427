"""Run the shards of a planned catalogue on a Ray cluster; Ray moves names only, the work is that of `sharding`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import genrail.errors
from genrail.engine.shard_plan import ShardPlan
from genrail.engine.sharding import ShardStatus, manifest, run_shard
from genrail.errors import GenrailError, MissingPackageError, SettingsError

__all__ = ["run_shards_on_ray", "start_ray"]

MEBIBYTE = 2**20
STORE_BYTES = 128 * MEBIBYTE  # names and pages pass through Ray, vectors do not


def start_ray(processors: int | None = None) -> Any:
    """Join the Ray that this process is part of, or start one on this machine; it reports nothing to anybody.

    Args:
        processors: That a new one may use; None for all.

    Raises:
        MissingPackageError: Ray is not installed.
    """
    if find_spec("ray") is None:
        raise MissingPackageError("ray", "ray", "building on Ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import, which reads it
    import ray

    if not ray.is_initialized():
        ray.init(
            num_cpus=processors,
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
    return ray


def run_shards_on_ray(
    plan: ShardPlan,
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[ShardStatus]:
    """Run all shards that are not done on Ray workers, each of which loads the text encoder once.

    Args:
        plan: In a folder, and of a catalogue, that every machine sees under the same name.
        workers: At once, one processor each. None may fail alone: a shard whose worker dies is given to another.
        progress: Called with ("shards", done, all).

    Raises:
        GenrailError: The first error of a worker; shards that were done stay done.
        MissingPackageError: Ray is not installed.
        SettingsError: Fewer than one worker.
    """
    if workers < 1:
        raise SettingsError(f"workers is {workers}; give 1 or more")
    left = [status.name for status in manifest(plan) if status.status != "done"]
    if left:
        ray = start_ray(workers)
        ray.data.DataContext.get_current().enable_progress_bars = False
        shards = ray.data.from_items([{"name": name} for name in left], override_num_blocks=len(left))
        pages = shards.map(
            _Worker,
            fn_constructor_args=(str(plan.folder.resolve()), str(plan.catalog.resolve())),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, len(left))),
            num_cpus=1,
        )
        for number, page in enumerate(pages.iter_rows(), start=1):
            if page["error"]:
                raise _as_error(page["error"], page["page"])
            progress("shards", len(plan.shards) - len(left) + number, len(plan.shards))
    return manifest(plan)


class _Worker:
    """Hold codebooks and encoder in a Ray worker."""

    def __init__(self, folder: str, catalog: str) -> None:
        self._failure: GenrailError | None = None
        try:
            self._plan = ShardPlan.load(folder, Path(catalog))
            self._identifiers, self._encoder = self._plan.identifiers(), self._plan.load_encoder()
        except GenrailError as error:
            self._failure = error

    def __call__(self, row: Mapping[str, object]) -> dict[str, str]:
        """Run one shard; errors travel as words."""
        try:
            if self._failure is not None:
                raise self._failure
            [shard] = self._plan.choose(str(row["name"]))
            status = run_shard(self._plan, shard, self._encoder, self._identifiers)
        except GenrailError as error:
            return {"error": type(error).__name__, "page": str(error)}
        return {"error": "", "page": json.dumps(asdict(status))}


def _as_error(kind: str, message: str) -> GenrailError:
    found = getattr(genrail.errors, kind, GenrailError)
    if found is MissingPackageError:  # takes its words apart
        return SettingsError(message)
    error: GenrailError = found(message)
    return error
