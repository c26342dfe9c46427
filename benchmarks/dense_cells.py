"""Measure exact dense search against a matrix product, and approximate search against both: recall, time, bytes.

    OMP_NUM_THREADS=1 python benchmarks/dense_cells.py --rows 1000000

Two kinds of data. `clusters`: a thousand rows around each centre, far from all others, so that a few cells hold every
neighbour: an upper bound that says little. `smooth`: no clusters at all, directions of falling variance (1, 1/2, 1/3,
...) as the principal components of text vectors have, where neighbours lie across the borders of cells: the harder
case. Queries are drawn like the rows, not from them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from importlib.metadata import version

import numpy as np

from genrail.finders.approximate import Cells, CellSettings
from genrail.finders.cosines import Cosines
from genrail.finders.parts import Rows
from genrail.rng import generator

SHARES = (1.0, 0.5, 0.1, 0.03, 0.001)  # of the rows that a filter allows
K = 10


def draw(data: str, rows: int, width: int, queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw vectors and, apart from them, queries, all of length 1."""
    rng = generator(seed, "vectors", data, rows)
    count = rows + queries
    if data == "clusters":
        centres = rng.standard_normal((max(2, rows // 1000), width), dtype=np.float32)
        vectors = centres[rng.integers(0, len(centres), count)]
        vectors += 0.7 * rng.standard_normal((count, width), dtype=np.float32)
    else:
        vectors = rng.standard_normal((count, width), dtype=np.float32)
        vectors /= np.sqrt(np.arange(1, width + 1, dtype=np.float32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:rows], vectors[rows:]


def compare(cells: Cells, whole: Rows, queries: np.ndarray, allowed: np.ndarray) -> dict[str, float]:
    """Give recall at K of cells, and median milliseconds of a matrix product, the exact search and the approximate."""
    times: dict[str, list[float]] = {"product": [], "exact": [], "cells": []}
    recalls, precedence = [], np.arange(len(allowed))
    for query in queries:
        began = time.perf_counter()
        scores = np.where(allowed, cells.vectors @ query, -np.inf)
        np.argpartition(-scores, K)
        times["product"].append(time.perf_counter() - began)
        began = time.perf_counter()
        right, _ = Cosines(whole, query).best(allowed, K, precedence)
        times["exact"].append(time.perf_counter() - began)
        began = time.perf_counter()
        rows, found = cells.best(query, allowed, K)
        best = rows[np.argsort(-found)[:K]]
        times["cells"].append(time.perf_counter() - began)
        recalls.append(len(set(best.tolist()) & set(right.tolist())) / K)
    medians = {name: 1000 * float(np.median(seconds)) for name, seconds in times.items()}
    return {"recall": float(np.mean(recalls)), **medians}


def main() -> None:
    """Build once; print a line for each number of probes and each filter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("smooth", "clusters"), default="smooth")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    packages = {name: version(name) for name in ("genrail", "numpy", "faiss-cpu")}
    facts = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS")}
    print(json.dumps({**facts, **packages, "seed": options.seed, "command": " ".join(sys.argv)}), flush=True)
    vectors, queries = draw(options.data, options.rows, options.width, options.queries, options.seed)
    started = time.perf_counter()
    cells = Cells.of(vectors, seed=options.seed)
    per_row = cells.index_bytes / options.rows
    print(f"{len(cells.centres)} cells built in {time.perf_counter() - started:.0f} s, {per_row:.0f} bytes a row more")
    whole, started = Rows.of(vectors), time.perf_counter()
    whole.bounds(queries[0])
    print(f"rounded for the first look in {time.perf_counter() - started:.1f} s", flush=True)
    rng = generator(options.seed, "filters")
    for probes in (16, 64, 128, 256, 512):
        cells.settings = CellSettings(probes=probes)
        for share in SHARES if probes == CellSettings().probes else (1.0,):
            allowed = rng.random(options.rows) < share
            found = compare(cells, whole, queries, allowed)
            print(
                f"probes {probes:3}, {share:6.1%} allowed: recall@{K} {found['recall']:.4f}, "
                f"product {found['product']:.1f} ms, exact {found['exact']:.1f} ms, cells {found['cells']:.2f} ms",
                flush=True,
            )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")  # KiB on Linux


if __name__ == "__main__":
    main()
