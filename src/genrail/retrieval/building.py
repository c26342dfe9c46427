"""From a catalogue to the first edition of an engine: vectors, identifiers, model, index."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog, Interactions
from genrail.constraints import warm_up
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.decoding.several import SeveralIndex
from genrail.errors import CatalogError, MissingPackageError, SettingsError
from genrail.identifiers import IdentifierTable
from genrail.identifiers.several import SeveralIdentifiers
from genrail.retrieval.edition import Edition
from genrail.retrieval.lanes import NativeLane, Progress, load_encoder
from genrail.retrieval.new_items import Memory
from genrail.rng import generator

if TYPE_CHECKING:
    from genrail.decoding import BeamSettings
    from genrail.identifiers import SemanticIds
    from genrail.models.text_encoder import Encoder
    from genrail.retrieval.calibrating_new_items import CalibrationSettings
    from genrail.retrieval.language_model_lane import LanguageModelLane, LanguageModelSettings
    from genrail.retrieval.new_item_scores import Calibration
    from genrail.training.native import TrainingReport
    from genrail.training.pairs import QueryPairs

__all__ = [
    "BuildSettings",
    "Coding",
    "build_language_model_edition",
    "build_native_edition",
    "native_edition",
    "require_torch",
    "train_edition",
]

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Judgements = Mapping[str, Mapping[str, float]]

COPURCHASE_DIMENSIONS = 64  # chosen on the validation items of Amazon Beauty; docs/results.md
MIN_EVENTS = 3  # a user with fewer is training data only, as in the leave-last-out protocol


@dataclass(frozen=True)
class BuildSettings:
    """Say how the native lane is built.

    Args:
        levels: Codes of an identifier before the de-duplicating one; 3 is TIGER's choice (Rajput et al. 2023).
        codes: Size of a codebook; None for 256, or a quarter of the items where there are fewer than 1,024.
        pseudo_queries: Made-up queries for each item, so that search works without a log.
        hold_out: Keep each user's last event out of training, so that `evaluate` is honest.
        max_seconds: Stop training after this long.
        seed: Same seed, same engine.
        train_items: Make up queries for so many items only, drawn by seed; None for all.
    """

    levels: int = 3
    codes: int | None = None
    pseudo_queries: int = 4
    hold_out: bool = True
    max_seconds: float | None = None
    seed: int = 0
    train_items: int | None = None

    def __post_init__(self) -> None:
        if self.train_items is not None and self.train_items < 1:
            raise SettingsError(f"train_items is {self.train_items}; give 1 or more")

    def codebook(self, items: int) -> int:
        """Choose the size of a codebook for so many items."""
        return self.codes if self.codes is not None else max(1, min(256, items // 4))


@dataclass(frozen=True)
class Coding:
    """Hold what a catalogue's texts became.

    Args:
        encoder: Made the vectors.
        vectors: Of the texts, (rows, dimensions).
        identifiers: The frozen codebooks.
        table: Identifier of each row.
        memory: What training histories hold, or None without interactions.
    """

    encoder: Encoder
    vectors: Vectors
    identifiers: SemanticIds
    table: IdentifierTable
    memory: Memory | None


def build_native_edition(
    catalog: Catalog, interactions: Interactions | None, encoder: Any, settings: BuildSettings, progress: Progress
) -> Edition:
    """Encode, quantise, train; see `Engine.build`."""
    require_torch()
    from genrail.identifiers import SemanticIds

    if not catalog.live.any():
        raise CatalogError("the catalogue has no items; read one with at least one row")
    found = load_encoder(encoder)
    vectors = found.encode(catalog.texts(), lambda done, total: progress("text vectors", done, total))
    progress("identifiers", 0, 1)
    codes = settings.codebook(int(catalog.live.sum()))
    memory = None if interactions is None else _memory(None, interactions, catalog, settings)
    described = vectors if memory is None else np.concatenate([vectors, memory.together], axis=1)
    identifiers = SemanticIds.fit(described[catalog.live], settings.levels, codes, settings.seed)
    order = generator(settings.seed, "de-duplicating codes").permutation(len(catalog))
    table = identifiers.assign(described, order=order)
    progress("identifiers", 1, 1)
    return native_edition(catalog, Coding(found, vectors, identifiers, table, memory), interactions, settings, progress)


def native_edition(
    catalog: Catalog, coding: Coding, interactions: Interactions | None, settings: BuildSettings, progress: Progress
) -> Edition:
    """Build index and model on identifiers that are there, and train the model."""
    from genrail.models.native import NativeModel
    from genrail.models.native_settings import NativeSettings

    table, identifiers = coding.table, coding.identifiers
    size = max(table.vocab_size, identifiers.codes)
    model = NativeModel.create(NativeSettings(), table.matrix(), coding.vectors, settings.seed, vocab_size=size)
    lane = NativeLane(coding.encoder, identifiers, model, settings.hold_out, coding.memory)
    edition = Edition(catalog, table, _index(catalog, table, progress), lane)
    _train(edition, interactions, None, settings, progress)
    return edition


def _memory(before: Memory | None, interactions: Interactions, catalog: Catalog, settings: BuildSettings) -> Memory:
    """Remember which items training histories hold, and which are taken together."""
    from genrail.training.copurchase import copurchase_vectors

    if before is None:
        rows, offsets = _sequences(interactions, catalog, hold_out=True)
        together = copurchase_vectors(rows, offsets, len(catalog), COPURCHASE_DIMENSIONS, seed=settings.seed)
        before = Memory(np.zeros(len(catalog), dtype=np.bool_), together)
    return before.taught(_sequences(interactions, catalog, settings.hold_out)[0])


def build_language_model_edition(
    catalog: Catalog, model: Any, settings: LanguageModelSettings | None, progress: Progress
) -> Edition:
    """Load a language model and let it write titles; see `Engine.build`."""
    require_torch()
    if not catalog.live.any():
        raise CatalogError("the catalogue has no items; read one with at least one row")
    lane = _language_model_lane(model, settings, catalog)
    progress("titles", 0, len(catalog))
    table = lane.identify(catalog, progress)
    progress("titles", len(catalog), len(catalog))
    return Edition(catalog, table, _index(catalog, table, progress), lane)


def _language_model_lane(model: Any, settings: LanguageModelSettings | None, catalog: Catalog) -> LanguageModelLane:
    from genrail.models.checkpoints import load_checkpoint
    from genrail.retrieval.language_model_lane import LanguageModelLane, LanguageModelSettings, catalog_facts

    settings = settings or LanguageModelSettings()
    facts = catalog_facts(catalog, settings.catalog_facts)

    if not isinstance(model, str | Path):
        if not hasattr(model, "prefill") or not hasattr(model, "tokenizer"):
            raise SettingsError(
                f"{model!r} is no language model; give a name, a folder, or what load_checkpoint returns"
            )
        return LanguageModelLane(model, None, settings, facts)
    return LanguageModelLane(load_checkpoint(model), None if Path(model).exists() else str(model), settings, facts)


def _index(
    catalog: Catalog, table: IdentifierTable | SeveralIdentifiers, progress: Progress
) -> LiveTrie | SeveralIndex:
    """Build the index of the live rows; the kernels are compiled here once per machine, where people see it."""
    progress("constraint kernels", 0, 1)
    warm_up(vocab_size=table.vocab_size)
    progress("constraint kernels", 1, 1)
    flat = table.flat if isinstance(table, SeveralIdentifiers) else table
    trie = LiveTrie(Trie.from_flat(flat.tokens, flat.offsets, flat.vocab_size, flat.end_token))
    index = SeveralIndex(trie, table.owners) if isinstance(table, SeveralIdentifiers) else trie
    gone = np.flatnonzero(~catalog.live)
    return index.remove(gone) if len(gone) else index


def train_edition(
    edition: Edition,
    interactions: Interactions | None,
    queries: Mapping[str, str] | None,
    qrels: Judgements | None,
    settings: BuildSettings,
    progress: Progress,
) -> tuple[Edition, TrainingReport]:
    """Train a copy of the edition's model further; see `Engine.train`."""
    lane = edition.lane
    if not isinstance(lane, NativeLane):
        raise SettingsError(f"only the native lane is trained here; this engine writes titles with {lane.name}")
    memory = lane.memory if interactions is None else _memory(lane.memory, interactions, edition.catalog, settings)
    held_out = lane.held_out and settings.hold_out
    copied = replace(lane, model=copy.deepcopy(lane.model), held_out=held_out, memory=memory)
    after = Edition(edition.catalog, edition.table, edition.index, copied)
    given = _judged_pairs(lane.encoder, edition.catalog, queries, qrels)
    return after, _train(after, interactions, given, settings, progress)


def _train(
    edition: Edition,
    interactions: Interactions | None,
    given: QueryPairs | None,
    settings: BuildSettings,
    progress: Progress,
) -> TrainingReport:
    """Teach the edition's model, in place, from its catalogue's text, interactions and judged queries."""
    from genrail.training.native import train_native
    from genrail.training.native_settings import TrainingSettings
    from genrail.training.pairs import QueryPairs, encode_pseudo_queries

    lane, catalog = edition.lane, edition.catalog
    assert isinstance(lane, NativeLane)  # both callers made sure
    titles, texts = _taught(catalog, settings)
    pairs = encode_pseudo_queries(
        lambda texts: lane.encoder.encode(texts, lambda done, total: progress("pseudo-query vectors", done, total)),
        titles,
        texts,
        settings.pseudo_queries,
        settings.seed,
    )
    pairs = pairs.take(catalog.live[pairs.rows])
    if given is not None:
        pairs = QueryPairs(np.concatenate([pairs.vectors, given.vectors]), np.concatenate([pairs.rows, given.rows]))
    sequences = None if interactions is None else _sequences(interactions, catalog, settings.hold_out)
    targets = 0 if sequences is None else max(0, len(sequences[0]) - len(sequences[1]) + 1)
    return train_native(
        lane.model,
        sequences,
        pairs,
        TrainingSettings.for_size(len(catalog), targets, settings.max_seconds),
        seed=settings.seed,
        progress=lambda now: progress("training", round(now.seconds), round(now.seconds + now.seconds_left)),
    )


def _taught(catalog: Catalog, settings: BuildSettings) -> tuple[list[str], list[str]]:
    """Give titles and texts by row, empty where no queries are to be made up."""
    titles, texts = catalog.titles, catalog.texts()
    if settings.train_items is None or settings.train_items >= len(catalog):
        return titles, texts
    random = generator(settings.seed, "taught items")
    chosen = np.zeros(len(catalog), dtype=np.bool_)
    chosen[random.choice(len(catalog), settings.train_items, replace=False)] = True
    kept = chosen.tolist()

    def only(column: list[str]) -> list[str]:
        return [text if keep else "" for text, keep in zip(column, kept, strict=True)]

    return only(titles), only(texts)


def calibrated_edition(
    edition: Edition,
    interactions: Interactions,
    settings: CalibrationSettings,
    beam: BeamSettings,
    hold_out: bool,
    progress: Progress,
) -> tuple[Edition, Calibration]:
    """Calibrate new items; see `Engine.calibrate_new_items`."""
    from genrail.retrieval.calibrating_new_items import calibrate, recalibrated

    found = calibrate(
        edition,
        *_sequences(interactions, edition.catalog, hold_out),
        beam,
        settings,
        lambda now: progress("calibration", round(now.seconds), round(now.seconds + now.seconds_left)),
    )
    return recalibrated(edition, found), found


def _sequences(interactions: Interactions, catalog: Catalog, hold_out: bool) -> tuple[Rows, Rows]:
    """List events as flat rows and offsets, without the last one of each user that `evaluate` would test."""
    interactions.account(catalog)  # refuses events that are hardly any of this catalogue
    found = interactions.sequences(catalog)
    if not hold_out:
        return found.rows, found.offsets
    lengths = np.diff(found.offsets)
    tested = lengths >= MIN_EVENTS
    kept = np.ones(len(found.rows), dtype=np.bool_)
    kept[found.offsets[1:][tested] - 1] = False
    return found.rows[kept], np.concatenate([[0], np.cumsum(lengths - tested)])


def _judged_pairs(
    encoder: Encoder, catalog: Catalog, queries: Mapping[str, str] | None, qrels: Judgements | None
) -> QueryPairs | None:
    """Turn judged queries into (vector, item) pairs; items with a grade above 0 count."""
    from genrail.training.pairs import QueryPairs

    if queries is None or qrels is None:
        return None
    wanted = [
        (queries[query_id], item_id)
        for query_id, grades in qrels.items()
        for item_id, grade in grades.items()
        if grade > 0 and query_id in queries
    ]
    rows = catalog.rows([item_id for _, item_id in wanted])
    known = np.flatnonzero(rows >= 0)
    if not len(known):
        raise SettingsError("no judged item of these queries is in the catalogue; check that both use the same ids")
    texts: Sequence[str] = [wanted[place][0] for place in known.tolist()]
    return QueryPairs(np.asarray(encoder.encode(texts), dtype=np.float32), rows[known])


def require_torch() -> None:
    """Refuse to go on without torch, before anything costly is done."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("torch", "torch,offline", "building an engine") from error
