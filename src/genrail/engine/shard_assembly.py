"""From the outputs of all shards to an engine: one catalogue, one table of identifiers, one index, one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from genrail.catalog import Catalog
from genrail.catalog.columns import Columns
from genrail.catalog.readers import merged
from genrail.catalog.validation import Report
from genrail.engine.engine import Engine
from genrail.engine.shard_plan import ShardPlan, read_shard
from genrail.engine.sharding import manifest, read_output
from genrail.errors import CatalogError, DamagedError, StorageError
from genrail.finders.fusing import FusedRecipe
from genrail.finders.native import NativeRecipe
from genrail.finding import Data, Edition
from genrail.models.encoders import require_torch
from genrail.rng import generator

if TYPE_CHECKING:
    from pathlib import Path

    from genrail.models.text_encoder import Encoder

__all__ = ["assemble", "joined_catalog"]


def assemble(
    plan: ShardPlan,
    *,
    encoder: Encoder | str | Path | None = None,
    pseudo_queries: int = 4,
    train_items: int | None = None,
    max_seconds: float | None = None,
    epochs: int | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Engine:
    """Put the shards of a catalogue together; `Engine.save` then publishes the engine, whole or not at all.

    Duplicates are told apart over the whole catalogue, the index is built, and the native model is trained here, in
    this process: with the same codebooks the engine is that of `Engine.build` on the whole catalogue.

    Args:
        plan: All its shards are done.
        encoder: An encoder object, if it is not one that can be loaded by name.
        pseudo_queries: See `NativeRecipe`.
        train_items: Make pseudo-queries for so many items, drawn by seed; None for all.
        max_seconds: Stop training after this long.
        epochs: Passes over the training data at most; None chooses by size.
        progress: Called with (stage, done, total).

    Raises:
        CatalogError: An id occurs in two shards.
        DamagedError: A shard was changed, or its output does not fit it.
        FingerprintError: Encoder or codebooks are not those of the plan.
        StorageError: Shards are not done.

    Memory: that of the whole catalogue: 4 bytes for each number of each vector, twice while the model is made.
    """
    require_torch()
    identifiers, loaded = plan.identifiers(), plan.load_encoder(encoder)
    _check_done(plan)
    catalog = joined_catalog(plan, progress)
    vectors = np.empty((len(catalog), loaded.dimensions), dtype=np.float32)
    codes = np.empty((len(catalog), identifiers.levels), dtype=np.int64)
    begin = 0
    for number, shard in enumerate(plan.shards, start=1):
        coded = read_output(plan, shard)
        end = begin + len(coded.item_ids)
        if coded.item_ids != catalog.item_ids[begin:end]:
            raise DamagedError(f"the output of {shard.name} is not of its items; remove {plan.outputs} and run again")
        vectors[begin:end], codes[begin:end] = coded.vectors, coded.codes
        begin = end
        progress("outputs", number, len(plan.shards))
    seed = plan.settings.seed
    table = identifiers.number(codes, order=generator(seed, "de-duplicating codes").permutation(len(catalog)))
    recipe = NativeRecipe(
        levels=identifiers.levels,
        codes=identifiers.codes,
        pseudo_queries=pseudo_queries,
        max_seconds=max_seconds,
        train_items=train_items,
        epochs=epochs,
    )
    data = Data(catalog, text_encoder=loaded, seed=seed).with_vectors(vectors)
    native = recipe.coded(data, vectors, identifiers, table, None, progress)
    fused = FusedRecipe(
        levels=recipe.levels,
        codes=recipe.codes,
        pseudo_queries=pseudo_queries,
        max_seconds=max_seconds,
        train_items=train_items,
        epochs=epochs,
    )
    return Engine(Edition(catalog, fused.around({"native": native}, data, progress)))


def _check_done(plan: ShardPlan) -> None:
    left = [status for status in manifest(plan) if status.status != "done"]
    if left:
        named = ", ".join(f"{status.name} is {status.status}" for status in left[:3])
        more = ", ..." if len(left) > 3 else ""
        raise StorageError(
            f"{len(left)} of {len(plan.shards)} shards are not done ({named}{more}); "
            f"run them: genrail shard run {plan.folder}"
        )


def joined_catalog(
    plan: ShardPlan, progress: Callable[[str, int, int], None] = lambda stage, done, total: None
) -> Catalog:
    """Read all shards as one catalogue.

    Raises:
        CatalogError: An id occurs in two shards.
        DamagedError: A shard is missing or was changed after it was planned.
    """
    parts: list[Catalog] = []
    for number, shard in enumerate(plan.shards, start=1):
        parts.append(read_shard(plan, shard))
        progress("catalogue", number, len(plan.shards))
    frames = [part.frame for part in parts]
    same = all(frame.schema == frames[0].schema for frame in frames)
    frame = (pl.concat(frames) if same else merged(frames)).rechunk()
    columns = Columns(plan.columns["item_id"], plan.columns["title"], tuple(plan.columns["text"]))
    _check_ids(plan, parts, frame.get_column(columns.item_id))
    return Catalog(frame, np.ones(len(frame), dtype=np.bool_), columns, _report(plan, parts))


def _check_ids(plan: ShardPlan, parts: list[Catalog], ids: pl.Series) -> None:
    if ids.n_unique() == len(ids):
        return
    twice = ids.filter(ids.is_duplicated())
    first = str(twice[0])
    names = [shard.name for shard, part in zip(plan.shards, parts, strict=True) if first in part]
    raise CatalogError(
        f"{len(twice) - twice.n_unique():,} item ids occur in more than one shard "
        f"({first!r} in {' and '.join(names)}); an id names one item: drop the copies and plan in a new folder"
    )


def _report(plan: ShardPlan, parts: list[Catalog]) -> Report:
    """Add up the reports of the shards; refused rows are counted through."""
    refused: list[tuple[int, str]] = []
    warnings: list[str] = []
    begin = 0
    for shard, part in zip(plan.shards, parts, strict=True):
        refused += [(begin + row, f"{shard.name}: {reason}") for row, reason in part.report.refused]
        warnings += [f"{shard.name}: {warning}" for warning in part.report.warnings]
        begin += part.report.rows_in
    return Report(str(plan.catalog), begin, sum(map(len, parts)), tuple(refused), tuple(warnings))
