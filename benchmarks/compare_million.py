"""Compare BM25, dense and the default engine on a large synthetic catalogue, and tell time and memory.

    python benchmarks/compare_million.py --items 1000000

Titles are drawn from a seeded vocabulary (brand, line, kind, attributes); a query is a title with words left out and
changed order, and its item is the one right answer. Vectors come from the hashing encoder: encoding 10^6 texts with a
transformer takes an hour on two cores and says nothing about what is measured here, which is whether everything is
built, asked and compared within memory. So read no quality into the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from genrail.catalog import Catalog
from genrail.engine import Engine
from genrail.evaluation import compare
from genrail.evaluation.building import BuildCost, folder_bytes
from genrail.finders import BM25, Dense
from genrail.models.tiny import HashingEncoder
from genrail.rng import generator

SYLLABLES = ("ba", "do", "fe", "gi", "ka", "lo", "mu", "ne", "po", "ri", "sa", "tu", "va", "xe", "zo", "qui")


def words(count: int, syllables: int, seed: int) -> np.ndarray:
    """Make words of so many syllables."""
    rng = generator(seed, "words", count, syllables)
    parts = np.array(SYLLABLES)[rng.integers(0, len(SYLLABLES), (count, syllables))]
    return np.array(["".join(row) for row in parts], dtype=object)


def draw(items: int, queries: int, seed: int) -> tuple[Catalog, dict[str, str], dict[str, dict[str, float]]]:
    """Draw a catalogue, queries, and which item each query is about."""
    rng = generator(seed, "catalogue", items)
    columns = [
        words(max(20, items // 200), 3, seed)[np.minimum(rng.zipf(1.3, items) - 1, max(20, items // 200) - 1)],
        words(2000, 4, seed)[rng.integers(0, 2000, items)],
        words(300, 2, seed)[rng.integers(0, 300, items)],
        words(50, 3, seed + 1)[rng.integers(0, 50, items)],
        words(5000, 3, seed + 2)[rng.integers(0, 5000, items)],
    ]
    titles = [" ".join(row) for row in zip(*columns, strict=True)]
    catalog = Catalog.from_items([{"id": f"i{row}", "title": title} for row, title in enumerate(titles)])
    chosen = rng.choice(items, queries, replace=False)
    asked, right = {}, {}
    for number, row in enumerate(chosen.tolist()):
        part = titles[row].split()
        kept = rng.permutation(len(part))[: len(part) - 1]
        asked[f"q{number}"] = " ".join(part[place] for place in kept)
        right[f"q{number}"] = {f"i{row}": 1.0}
    return catalog, asked, right


def built(name: str, make: Callable[[], Any], costs: dict[str, BuildCost]) -> Any:
    """Make a method, noting what it costs."""
    started = time.perf_counter()
    made = make()
    costs[name] = BuildCost(time.perf_counter() - started, folder_bytes(made), None)
    print(f"{name}: built in {costs[name].seconds:.0f} s, peak memory so far {peak():.0f} MiB", flush=True)
    return made


def peak() -> float:
    """Give the most memory this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def main() -> None:
    """Build, compare, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--train-seconds", type=float, default=120, help="of the native model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="write the report here (HTML)")
    options = parser.parse_args()
    packages = {name: version(name) for name in ("genrail", "torch", "numpy", "numba")}
    facts = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), **packages}
    print(json.dumps({**facts, "seed": options.seed, "command": " ".join(sys.argv)}), flush=True)
    started = time.perf_counter()
    catalog, queries, qrels = draw(options.items, options.queries, options.seed)
    print(f"{len(catalog):,} items in {time.perf_counter() - started:.0f} s, {peak():.0f} MiB", flush=True)
    encoder, costs = HashingEncoder(), dict[str, BuildCost]()
    methods = [
        built("BM25", lambda: BM25(catalog), costs),
        built("Dense", lambda: Dense(catalog, encoder, name="Dense", index="exact"), costs),
        built(
            "genrail",
            lambda: Engine.build(
                catalog, encoder=encoder, max_seconds=options.train_seconds, pseudo_queries=1, seed=options.seed
            ),
            costs,
        ),
    ]
    found = compare(methods, queries, qrels, metric="nDCG@10", seed=options.seed, latency_queries=50)
    for name, one in found.evaluations.items():
        means = ", ".join(f"{metric} {value:.4f}" for metric, value in one.means.items())
        p50 = "" if one.latency is None else f", p50 {one.latency.p50_milliseconds:.1f} ms"
        size = costs[name].index_bytes
        told = "" if size is None else f", {size / len(catalog):.0f} bytes an item"
        print(f"{name}: {means}{p50}{told}", flush=True)
    print(found.recommendation)
    print(f"{time.perf_counter() - started:.0f} s in all, peak memory {peak():.0f} MiB")
    if options.report is not None:
        found.write_html(options.report)


if __name__ == "__main__":
    main()
