"""Work on the shards of a planned catalogue: texts to vectors to codes, one output file and one status page each.

Any scheduler may run any shard at any time, twice or at once: what a shard gives is decided by its bytes and the plan.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.engine.shard_plan import Shard, ShardPlan, read_shard, write_whole
from genrail.errors import DamagedError, StorageError
from genrail.identifiers import SemanticIds
from genrail.models.text_encoder import Encoder
from genrail.storage import DISK
from genrail.storage.files import naming
from genrail.storage.manifest import safe_name, seal, unseal

__all__ = ["Coded", "ShardStatus", "manifest", "read_output", "run_shard", "run_shards", "status_of"]

State = Literal["done", "missing", "stale", "damaged"]


@dataclass(frozen=True)
class ShardStatus:
    """Say how one shard stands: a line of the manifest.

    Args:
        name: Of the shard.
        status: ``done``; ``missing``: not run yet; ``stale``: of other input or fingerprints; ``damaged``: its output
            or its page is not what was written.
        rows: Items that have codes.
        input_sha256: Of the shard.
        output: File name of the output.
        output_sha256: Of the output.
        encoder: Fingerprint.
        codebooks: Fingerprint.
        seconds: That the work took.
    """

    name: str
    status: State
    rows: int = 0
    input_sha256: str = ""
    output: str = ""
    output_sha256: str = ""
    encoder: str = ""
    codebooks: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Coded:
    """Hold the output of a shard: ids, codes (items, levels) and vectors (items, dimensions), in the shard's order."""

    item_ids: list[str]
    codes: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]


def status_of(plan: ShardPlan, shard: Shard) -> ShardStatus:
    """Tell how a shard stands; the whole output is read to be sure.

    Raises:
        FormatError: The page is of a newer genrail.
    """
    path = _page_path(plan, shard)
    if not path.is_file():
        return ShardStatus(shard.name, "missing")
    try:
        page = unseal(path.read_bytes(), path)
        page.pop("format_version")
        found = ShardStatus(**page)
        if found.name != shard.name or not safe_name(found.output) or "/" in found.output:
            raise DamagedError(f"{path} is the page of another shard")
    except (DamagedError, TypeError, KeyError):
        return ShardStatus(shard.name, "damaged")
    expected = (shard.sha256, plan.encoder["fingerprint"], plan.codebooks)
    if (found.input_sha256, found.encoder, found.codebooks) != expected:
        return _marked(found, "stale")
    output = plan.outputs / found.output
    with suppress(OSError):
        if DISK.digest(output)[1] == found.output_sha256:
            return found
    return _marked(found, "damaged")


def manifest(plan: ShardPlan) -> list[ShardStatus]:
    """List how all shards stand, in catalogue order."""
    return [status_of(plan, shard) for shard in plan.shards]


def run_shard(plan: ShardPlan, shard: Shard, encoder: Encoder, identifiers: SemanticIds) -> ShardStatus:
    """Give the items of one shard vectors and codes, unless that was done already.

    The output gets a name of its own content and its final name when it is whole and on the device; only then its page
    says ``done``. So a process may be killed at any moment, and several may work on one shard.

    Raises:
        CatalogError: The shard holds no items, or one id twice.
        DamagedError: The shard is missing or was changed after it was planned.
        StorageError: The disk is full or failed.
    """
    found = status_of(plan, shard)
    if found.status == "done":
        return found
    began = time.monotonic()
    catalog = read_shard(plan, shard)
    vectors = np.asarray(encoder.encode(catalog.texts()), dtype=np.float32)
    coded = Coded(catalog.item_ids, identifiers.quantizer.assign(vectors), vectors)
    output, digest = _write_output(plan, shard, coded)
    done = ShardStatus(
        name=shard.name,
        status="done",
        rows=len(coded.item_ids),
        input_sha256=shard.sha256,
        output=output,
        output_sha256=digest,
        encoder=str(plan.encoder["fingerprint"]),
        codebooks=plan.codebooks,
        seconds=round(time.monotonic() - began, 3),
    )
    write_whole(_page_path(plan, shard), seal({"format_version": 1, **asdict(done)}))
    return done


def run_shards(
    plan: ShardPlan,
    which: str | None = None,
    encoder: Encoder | str | Path | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[ShardStatus]:
    """Run shards one after the other in this process; those that are done are skipped.

    Args:
        plan: From `plan_shards` or `ShardPlan.load`.
        which: See `ShardPlan.choose`.
        encoder: An encoder object, if it is not one that can be loaded by name.
        progress: Called with ("shards", done, all).

    Raises:
        FingerprintError: Encoder or codebooks are not those of the plan.
        SettingsError: There is no such shard.
    """
    shards = plan.choose(which)
    identifiers, loaded = plan.identifiers(), plan.load_encoder(encoder)
    found = []
    for number, shard in enumerate(shards, start=1):
        found.append(run_shard(plan, shard, loaded, identifiers))
        progress("shards", number, len(shards))
    return found


def read_output(plan: ShardPlan, shard: Shard) -> Coded:
    """Read the output of a shard that is done.

    Raises:
        StorageError: It is not done, or damaged.
    """
    from pyarrow import parquet

    found = status_of(plan, shard)
    if found.status != "done":
        raise StorageError(f"{shard.name} is {found.status}; run it: genrail shard run {plan.folder}")
    table = parquet.read_table(plan.outputs / found.output)
    if table.num_rows != found.rows:
        raise DamagedError(f"{plan.outputs / found.output} has {table.num_rows} rows, its page says {found.rows}")

    def flat(name: str) -> Array:
        values: Array = table.column(name).combine_chunks().flatten().to_numpy()
        return values.reshape(table.num_rows, -1)

    return Coded(table.column("item_id").to_pylist(), flat("codes").astype(np.int64), flat("vector"))


def _marked(status: ShardStatus, state: State) -> ShardStatus:
    return ShardStatus(**{**asdict(status), "status": state})


def _page_path(plan: ShardPlan, shard: Shard) -> Path:
    return plan.outputs / f"{shard.name}.json"


def _write_output(plan: ShardPlan, shard: Shard, coded: Coded) -> tuple[str, str]:
    """Write ids, codes and vectors as Parquet; gives the file's name and sha256."""
    import pyarrow as pa
    from pyarrow import parquet

    width, levels = coded.vectors.shape[1], coded.codes.shape[1]
    table = pa.table(
        {
            "item_id": pa.array(coded.item_ids, pa.string()),
            "codes": pa.FixedSizeListArray.from_arrays(pa.array(coded.codes.astype(np.int32).ravel()), levels),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(coded.vectors.ravel()), width),
        }
    )
    part = plan.outputs / f"{shard.name}.{os.getpid()}.part"
    with naming(plan.outputs, "writing"):
        parquet.write_table(table, part, compression="zstd")
        digest = DISK.digest(part)[1]
        output = f"{shard.name}-{digest[:16]}"
        DISK.sync(part)
        DISK.rename(part, plan.outputs / output)
        DISK.sync(plan.outputs)
    return output, digest
