"""Rank ways to make identifiers by their quality report, train the native engine with each, and compare the two orders.

    python recipes/identifiers.py ../shared/data/amazon_beauty --epochs 3 --users 4000
    python recipes/identifiers.py any/folder --identifiers kmeans rqvae --seeds 3 --vectors kept --json figures.json

Every engine is built as a user builds it: ``Engine.build(catalog, "native", identifiers="rqvae", ...)``. What the
report ranks by was settled before any training: the share of items bought one after the other (training events) that
stand under one prefix, averaged over the first two depths. Each user's last event is the test, unseen by the engines.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import folders
import numpy as np
from folders import machine, progress
from scipy.stats import spearmanr

from genrail.engine import Engine
from genrail.evaluation import evaluate_next_item, leave_last_out
from genrail.evaluation.tables import text_table
from genrail.finders.generative import generative_part
from genrail.identifiers.quality import adjacent_pairs, measure
from genrail.models.text_encoder import TextEncoder

WAYS = ("kmeans", "rqvae", "pq", "lsh")
DEPTHS = 2  # of prefixes that the report ranks by; a third code leaves hardly two items together
METRICS = ["R@10", "nDCG@10"]
COLUMNS = ["before", "neighbours", "colliding", *METRICS]


def one_way(way: str, folder: Path, arguments: argparse.Namespace, seed: int, vectors: Path) -> dict[str, float]:
    """Build an engine with one kind of identifiers; give the report's figures and those of the test."""
    catalog, events = folders.items(folder, seed), folders.events(folder)
    if events is None:
        raise SystemExit(f"{folder} holds no events; name the file sequences or interactions")
    split = leave_last_out(events.sequences(catalog), items=len(catalog))
    encoder = TextEncoder.load(cache=vectors)
    engine = Engine.build(
        catalog,
        "native",
        interactions=events,
        encoder=encoder,
        identifiers=way,
        epochs=arguments.epochs,
        seed=seed,
        progress=progress,
    )
    part = generative_part(engine.edition.finder)
    assert part is not None
    pairs = adjacent_pairs(split.train.offsets, split.train.rows)
    codes = max(2, min(256, len(catalog) // 4))
    quality = measure(part.table, codes=codes, vectors=encoder.encode(catalog.texts()), copurchased=pairs)
    found = evaluate_next_item(engine, split.test.sample(arguments.users, 0), catalog, metrics=METRICS, k=10,
                               latency_queries=0)  # fmt: skip
    depths = quality.depths[:DEPTHS]
    before = float(np.mean([depth.copurchased for depth in depths]))
    return {"before": before, "neighbours": depths[-1].neighbours, "colliding": quality.colliding, **found.means}


def _mean(values: list[float]) -> str:
    """Print a mean, with the range where there are several."""
    spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--identifiers", nargs="+", default=WAYS, choices=WAYS, help="which ways are tried")
    parser.add_argument("--seeds", type=int, default=1, help="repeat with so many seeds")
    parser.add_argument("--epochs", type=int, help="for every engine, at most")
    parser.add_argument("--users", type=int, default=5000, help="test users measured")
    parser.add_argument("--vectors", type=Path, help="folder that keeps text vectors between runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    print(f"command: python {' '.join(sys.argv)}\n{json.dumps(machine())}")
    ways: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as passing:
        for seed in range(arguments.seeds):
            for way in arguments.identifiers:
                started = time.perf_counter()
                found = one_way(way, arguments.folder, arguments, seed, arguments.vectors or Path(passing))
                for name, value in found.items():
                    ways.setdefault(way, {}).setdefault(name, []).append(value)
                print(f"seed {seed}, {way}: {found} after {time.perf_counter() - started:.0f} s", flush=True)
    names = sorted(ways, key=lambda name: float(np.mean(ways[name]["before"])))
    header = ["identifiers", "bought together", "text neighbours", "colliding", *METRICS]
    print(text_table(header, [[name, *[_mean(ways[name][column]) for column in COLUMNS]] for name in names]))
    for metric in METRICS if len(names) > 1 else ():
        orders = [[float(np.mean(ways[name][key])) for name in names] for key in ("before", metric)]
        if all(len(set(order)) > 1 for order in orders):
            print(f"Spearman of the report's order with {metric}: {spearmanr(*orders).statistic:.2f}")
    if arguments.json is not None:
        figures: dict[str, Any] = {"machine": machine(), "folder": arguments.folder.name, "ways": ways}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
