"""Rank identifiers by their quality report before any training, train a model on each, and compare the two orders.

    python recipes/identifiers_beauty.py ../shared/data/amazon_beauty
    python recipes/identifiers_beauty.py any/folder --seeds 0 1 2 --epochs 5 --vectors kept --json figures.json

Data, split and renumbering are those of `recommend_beauty.py`. Random codes, random hyperplanes (LSH), product
quantization, RQ-VAE and residual k-means are made from the same text vectors, 3 x 256 codes and one that tells
duplicates apart; residual k-means also from texts and training co-purchases together, which is the engine's default.
What the report ranks by was settled before training: the share of items bought one after the other (training events)
that stand under one prefix, averaged over the first two depths.

So that identifiers alone make the difference, the native model is given no text vectors and no free vectors: items are
their codes. All get the same number of epochs, and are measured on the same test users, seen items excluded.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from recommend_beauty import COPURCHASE, NativeRecommender, load, machine, show
from scipy.stats import spearmanr

from genrail.constraints import Trie
from genrail.evaluation import Split, evaluate_next_item
from genrail.evaluation.tables import text_table
from genrail.identifiers import RQVAE, ProductQuantization, RandomHyperplanes, ResidualKMeans, SemanticIds
from genrail.identifiers.quality import adjacent_pairs, measure
from genrail.identifiers.table import IdentifierTable
from genrail.models.native import NativeModel
from genrail.models.native_settings import NativeSettings
from genrail.models.text_encoder import TextEncoder
from genrail.rng import generator
from genrail.training import TrainingSettings, copurchase_vectors, train_native
from genrail.training.copurchase import with_copurchase

LEVELS = 3
DEPTHS = 2  # of prefixes that the report ranks by; a third code leaves hardly two items together
NATIVE = NativeSettings(free_embeddings=False)  # codes alone stand for items
METRICS = ["R@10", "nDCG@10"]


def made(vectors: np.ndarray, quantizer: Any, seed: int) -> IdentifierTable:
    """Fit a quantizer and give every item an identifier."""
    identifiers = SemanticIds.fit(vectors, quantizer=quantizer)
    return identifiers.assign(vectors, order=generator(seed, "de-duplicating codes").permutation(len(vectors)))


def random_codes(items: int, codes: int, seed: int) -> IdentifierTable:
    """Draw codes that know nothing of the items."""
    drawn = generator(seed, "random codes").integers(codes, size=(items, LEVELS))
    last, used = np.zeros(items, dtype=np.int64), dict[tuple[int, ...], int]()
    for row, found in enumerate(map(tuple, drawn.tolist())):
        last[row] = used.get(found, 0)
        used[found] = int(last[row]) + 1
    return IdentifierTable.from_matrix(np.column_stack([drawn, last]), max(codes, int(last.max()) + 1))


def recipes(vectors: np.ndarray, described: np.ndarray, codes: int, seed: int) -> dict[str, Callable[[], Any]]:
    """Name the ways to make identifiers."""
    bits = 1 << (codes.bit_length() - 1)
    return {
        "random": lambda: random_codes(len(vectors), codes, seed),
        "LSH": lambda: made(vectors, RandomHyperplanes(LEVELS, bits, seed), seed),
        "product quantization": lambda: made(vectors, ProductQuantization(LEVELS, codes, seed), seed),
        "RQ-VAE": lambda: made(vectors, RQVAE(LEVELS, codes, seed, epochs=60), seed),
        "residual k-means": lambda: made(vectors, ResidualKMeans(LEVELS, codes, seed), seed),
        "residual k-means, co-purchase too": lambda: made(described, ResidualKMeans(LEVELS, codes, seed), seed),
    }


def trained(table: IdentifierTable, split: Split, epochs: int, seed: int) -> NativeModel:
    """Train a model for which items are their codes."""
    nothing = np.zeros((len(table), 1), dtype=np.float32)
    model = NativeModel.create(NATIVE, table.matrix(), nothing, seed, table.vocab_size)
    held_out = split.validation
    validation = [(held_out.history(user).tolist(), int(held_out.targets[user])) for user in range(len(held_out))]
    settings = TrainingSettings.for_size(model.items, len(split.train.rows) - len(split.train.offsets) + 1, None)
    settings = replace(settings, loop=replace(settings.loop, epochs=epochs), validation_users=1000)
    sequences = split.train.rows, split.train.offsets
    train_native(model, sequences, settings=settings, validation=validation, seed=seed, progress=show)
    return model


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with items.csv(.gz) and sequences.csv(.gz)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of identifiers, weights and batches")
    parser.add_argument("--epochs", type=int, default=5, help="for every model; 9 to 12 would be enough")
    parser.add_argument("--users", type=int, default=5000, help="test users measured")
    parser.add_argument("--vectors", type=Path, help="folder that keeps text vectors between runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file, after every model")
    arguments = parser.parse_args()
    catalog, split = load(arguments.folder, 0)
    vectors = TextEncoder.load(cache=arguments.vectors).encode(catalog.texts())
    codes = max(2, min(256, len(catalog) // 4))
    pairs = adjacent_pairs(split.train.offsets, split.train.rows)
    together = copurchase_vectors(split.train.rows, split.train.offsets, len(catalog), COPURCHASE, seed=0)
    described = with_copurchase(vectors, together, COPURCHASE)
    asked = split.test.sample(arguments.users, 0)
    report: dict[str, Any] = {"machine": machine(), "epochs": arguments.epochs, "users": len(asked), "ways": {}}
    ways: dict[str, dict[str, Any]] = report["ways"]
    for seed in arguments.seeds:
        for name, make in recipes(vectors, described, codes, seed).items():
            started = time.perf_counter()
            table = make()
            quality = measure(table, codes=codes, vectors=vectors, copurchased=pairs)
            depths = quality.depths[:DEPTHS]
            one = ways.setdefault(name, {"before": [], "neighbours": [], "colliding": [], **{m: [] for m in METRICS}})
            one["before"].append(float(np.mean([depth.copurchased for depth in depths])))
            one["neighbours"].append(float(np.mean([depth.neighbours for depth in depths])))
            one["colliding"].append(quality.colliding)
            print(f"seed {seed}, {name}: {one['before'][-1]:.4f} before training", file=sys.stderr, flush=True)
            model = trained(table, split, arguments.epochs, seed)
            recommender = NativeRecommender(catalog, model, Trie.from_matrix(table.matrix(), table.vocab_size), 20)
            found = evaluate_next_item(recommender, asked, catalog, metrics=METRICS, k=10, latency_queries=0)
            for metric in METRICS:
                one[metric].append(found.means[metric])
            seconds = time.perf_counter() - started
            print(f"seed {seed}, {name}: {found.means} after {seconds:.0f} s", file=sys.stderr, flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    names = sorted(ways, key=lambda name: np.mean(ways[name]["before"]))
    columns = ["before", "neighbours", "colliding", *METRICS]
    rows = [[name, *[_mean(ways[name][column]) for column in columns]] for name in names]
    print(json.dumps({name: value for name, value in report.items() if name != "ways"}, indent=2))
    print(text_table(["identifiers", "bought together", "text neighbours", "colliding", *METRICS], rows))
    for metric in METRICS:
        orders = [[float(np.mean(ways[name][key])) for name in names] for key in ("before", metric)]
        print(f"Spearman of the report's order with {metric}: {spearmanr(*orders).statistic:.2f}")


def _mean(values: list[float]) -> str:
    """Print a mean, with the range where there are several."""
    spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


if __name__ == "__main__":
    main()
