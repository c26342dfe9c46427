"""Train the native model on next items and measure it (leave-last-out), from raw files, in one process.

    python recipes/recommend_beauty.py ../shared/data/amazon_beauty
    python recipes/recommend_beauty.py ../shared/data/amazon_beauty --validation        # never looks at the test items
    python recipes/recommend_beauty.py any/folder --json figures.json

The folder holds `items.csv` (or `.csv.gz`) with the columns item_id, title and attributes, and `sequences.csv` (or
`.csv.gz`) with one row per user and the item ids in order, separated by spaces. Items are renumbered in a seeded order,
because file order often tells what was taken first. The last event of each user is test, the one before validation, the
rest training; histories hold at most 20 items; every figure ranks the whole catalogue.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from genrail.catalog import Catalog, Interactions
from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.evaluation import Evaluation, HeldOut, Split, evaluate_next_item, leave_last_out
from genrail.evaluation.tables import text_table
from genrail.identifiers import SemanticIds
from genrail.models.native import NativeModel
from genrail.models.native_settings import NativeSettings
from genrail.models.text_encoder import TextEncoder
from genrail.rng import generator
from genrail.training import TrainingReport, TrainingSettings, copurchase_vectors, train_native
from genrail.training.copurchase import with_copurchase
from genrail.training.loop import Progress
from genrail.types import Hit, Query, Ranking

METRICS = ["R@5", "R@10", "nDCG@5", "nDCG@10"]
COPURCHASE = 64  # dimensions of the co-purchase vectors beside the text vectors


@dataclass(frozen=True)
class NativeRecommender:
    """Answer histories with the native model (a `Retriever`)."""

    catalog: Catalog
    model: NativeModel
    trie: Trie
    beam: int
    name: str = "native"

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each history."""
        found = [self.catalog.rows(query.history) for query in queries]
        histories = [rows[rows >= 0] for rows in found]
        contexts = [self.model.context(history=rows.tolist()) for rows in histories]
        seen = [
            self.trie.without(rows) if query.exclude_seen else None
            for query, rows in zip(queries, histories, strict=True)
        ]
        answers = beam_search(self.model, contexts, self.trie, BeamSettings(width=self.beam), seen, k)
        return [self._ranking(answer.rows, answer.log_probabilities, answer.exhausted) for answer in answers]

    def _ranking(self, rows: np.ndarray, scores: np.ndarray, exhausted: bool) -> Ranking:
        ids, titles = self.catalog.item_ids, self.catalog.titles
        hits = [
            Hit(ids[row], titles[row], score, rank + 1, score)
            for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True))
        ]
        return Ranking(tuple(hits), exhausted)


def find(folder: Path, stem: str) -> Path:
    """Find `stem.csv` or `stem.csv.gz`."""
    for path in (folder / f"{stem}.csv.gz", folder / f"{stem}.csv"):
        if path.exists():
            return path
    raise SystemExit(f"{folder} has neither {stem}.csv nor {stem}.csv.gz")


def load(folder: Path, seed: int) -> tuple[Catalog, Split]:
    """Read items and sequences, renumber the items, split."""
    # Title and attributes alone: other columns (such as an ASIN) may follow the order in which items were taken.
    catalog = Catalog.read(find(folder, "items"), item_id="item_id", title="title", text=("attributes",)).shuffled(seed)
    sequences = Interactions.read(find(folder, "sequences")).sequences(catalog)
    split = leave_last_out(sequences, items=len(catalog))
    for sentence in split.traps.sentences():
        print(f"note: {sentence}", file=sys.stderr)
    return catalog, split


def build(catalog: Catalog, split: Split, vectors: np.ndarray, seed: int) -> NativeModel:
    """Make identifiers from texts and training co-purchases, and an untrained model that writes them."""
    together = copurchase_vectors(split.train.rows, split.train.offsets, len(catalog), COPURCHASE, seed=seed)
    described = with_copurchase(vectors, together, COPURCHASE)
    codes = max(1, min(256, len(catalog) // 4))
    identifiers = SemanticIds.fit(described, levels=3, codes=codes, seed=seed)
    order = generator(seed, "de-duplicating codes").permutation(len(catalog))
    table = identifiers.assign(described, order=order)
    return NativeModel.create(NativeSettings(), table.matrix(), vectors, seed, max(table.vocab_size, codes))


def train(model: NativeModel, split: Split, seed: int, max_seconds: float | None) -> TrainingReport:
    """Train on the training sequences, choosing the epoch on validation."""
    held_out = split.validation
    validation = [(held_out.history(user).tolist(), int(held_out.targets[user])) for user in range(len(held_out))]
    targets = max(0, len(split.train.rows) - len(split.train.offsets) + 1)
    return train_native(
        model,
        (split.train.rows, split.train.offsets),
        settings=TrainingSettings.for_size(model.items, targets, max_seconds),
        validation=validation,
        seed=seed,
        progress=show,
    )


def show(now: Progress) -> None:
    """Print a line per epoch."""
    if now.step == now.steps:
        best = "  ".join(f"{name} {value:.4f}" for name, value in now.best.items())
        left = f"{now.seconds:.0f} s, at most {now.seconds_left:.0f} s left"
        print(f"epoch {now.epoch}: loss {now.loss:.3f}, {left}  best before: {best}", file=sys.stderr, flush=True)


def measure(recommender: NativeRecommender, held_out: HeldOut, catalog: Catalog) -> dict[str, Evaluation]:
    """Rank the catalogue for every user, seen items excluded and kept."""
    return {
        kind: evaluate_next_item(
            recommender, held_out, catalog, exclude_seen=excluded, metrics=METRICS, k=10, latency_queries=0
        )
        for kind, excluded in (("seen items excluded", True), ("seen items kept", False))
    }


def latency(recommender: NativeRecommender, held_out: HeldOut, requests: int = 500) -> dict[str, float]:
    """Time requests one by one at beam 20, k = 10, after a warm-up, in milliseconds."""
    settings = BeamSettings(width=20)
    seconds = []
    for user in range(min(requests + 20, len(held_out))):
        history = held_out.history(user)
        started = time.perf_counter()
        context = recommender.model.context(history=history.tolist())
        beam_search(recommender.model, [context], recommender.trie, settings, [recommender.trie.without(history)], 10)
        seconds.append(time.perf_counter() - started)
    kept = np.array(seconds[20:] or seconds) * 1000
    return {"p50 ms": float(np.percentile(kept, 50)), "p99 ms": float(np.percentile(kept, 99))}


def machine() -> dict[str, Any]:
    """Tell what this ran on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = {name: version(name) for name in ("genrail", "torch", "numpy", "numba", "sentence-transformers")}
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": cores,
        "python": platform.python_version(),
    } | {"packages": packages}


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with items.csv(.gz) and sequences.csv(.gz)")
    parser.add_argument(
        "--validation", action="store_true", help="report on validation only; leave the test items alone"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beam", type=int, default=50, help="beams for the table")
    parser.add_argument("--max-seconds", type=float, help="stop training after this long")
    parser.add_argument(
        "--vectors", type=Path, help="folder that keeps text vectors between runs; then the start is warm"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def lap(name: str) -> None:
        seconds[name] = round(time.perf_counter() - started - sum(seconds.values()), 1)
        print(f"{name}: {seconds[name]} s", file=sys.stderr, flush=True)

    catalog, split = load(arguments.folder, arguments.seed)
    lap("read")
    vectors = TextEncoder.load(cache=arguments.vectors).encode(catalog.texts())
    lap("text vectors")
    model = build(catalog, split, vectors, arguments.seed)
    lap("identifiers")
    report = train(model, split, arguments.seed, arguments.max_seconds)
    lap("training")
    recommender = NativeRecommender(
        catalog, model, Trie.from_matrix(model.table.codes(), model.vocab_size), arguments.beam
    )
    parts = {"validation": split.validation} | ({} if arguments.validation else {"test": split.test})
    found = {part: measure(recommender, held_out, catalog) for part, held_out in parts.items()}
    lap("measuring")
    answer_times = latency(recommender, split.validation)
    figures = {
        "machine": machine(),
        "seed": arguments.seed,
        "beam": arguments.beam,
        "items": len(catalog),
        "seconds": seconds,
        "peak memory MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),  # KiB on Linux
        "latency, one request, beam 20, k 10": answer_times,
        "training": report.to_dict(),
        "model": model.describe(),
        "metrics": {part: {kind: one.means for kind, one in both.items()} for part, both in found.items()},
    }
    print(json.dumps({name: value for name, value in figures.items() if name not in ("training", "metrics")}, indent=2))
    rows = [
        [f"{part}, {kind}", *[f"{one.means[metric]:.4f}" for metric in METRICS]]
        for part, both in found.items()
        for kind, one in both.items()
    ]
    print(text_table(["native model", *METRICS], rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
