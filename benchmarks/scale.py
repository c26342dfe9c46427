"""Measure what one item costs at each stage of a large catalogue; docs/scale.md extrapolates from it.

    OMP_NUM_THREADS=1 python benchmarks/scale.py

One core. Identifiers are drawn with the skew of real codes; titles are those of the demo shop.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from genrail import demo_catalog
from genrail.catalog import Catalog
from genrail.constraints.trie import Trie
from genrail.identifiers.residual_kmeans import ResidualKMeans
from genrail.identifiers.semantic_ids import SemanticIds
from genrail.models.encoders import load_encoder
from genrail.rng import generator

LEVELS, CODES, WIDTH = 3, 256, 384


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Give what a call gives, and its seconds."""
    began = time.perf_counter()
    found = call()
    return found, time.perf_counter() - began


def resident() -> int:
    """Give the bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def draw_codes(rows: int, seed: int) -> np.ndarray:
    """Draw identifiers of three skewed codes and a number that tells collisions apart."""
    rng = generator(seed, "codes", rows)
    shares = 1 / np.arange(1, CODES + 1) ** 0.5
    codes = rng.choice(CODES, (rows, LEVELS), p=shares / shares.sum())
    keys = codes @ np.array([CODES**2, CODES, 1])
    order = np.argsort(keys, kind="stable")
    first = np.r_[True, np.diff(keys[order]) != 0]
    begins = np.maximum.accumulate(np.where(first, np.arange(rows), 0))
    number = np.empty(rows, dtype=np.int64)
    number[order] = np.arange(rows) - begins
    return np.column_stack([codes, number]).astype(np.int32)


def text_stage(items: int) -> dict[str, float]:
    """Embed titles and texts of the demo shop."""
    catalog = demo_catalog()
    texts = catalog.texts()[:items]
    encoder = load_encoder(None)
    encoder.encode(texts[:32])
    vectors, seconds = timed(lambda: encoder.encode(texts))
    characters = sum(map(len, texts)) / len(texts)
    return {
        "items": len(texts),
        "characters": characters,
        "per_second": len(texts) / seconds,
        "bytes": vectors[0].nbytes,
    }


def code_stage(items: int, seed: int) -> dict[str, float]:
    """Fit codebooks on a sample and assign codes; number collisions."""
    vectors = generator(seed, "vectors").standard_normal((items, WIDTH), dtype=np.float32)
    quantizer, fitting = timed(lambda: ResidualKMeans(LEVELS, CODES, seed=seed).fit(vectors[:50_000]))
    codes, assigning = timed(lambda: quantizer.assign(vectors))
    _, numbering = timed(lambda: SemanticIds(quantizer).number(codes))
    return {
        "items": items,
        "fit_seconds": fitting,
        "per_second": items / assigning,
        "number_per_second": items / numbering,
    }


def trie_stage(rows: int, seed: int) -> dict[str, float]:
    """Build, save, map and ask a trie; compile a filter."""
    codes = draw_codes(rows, seed)
    vocabulary = max(CODES, int(codes.max()) + 1)
    trie, building = timed(lambda: Trie.from_matrix(codes, vocabulary))
    mask = generator(seed, "mask").random(rows) < 0.1
    subset, filtering = timed(lambda: trie.subset(mask))
    with tempfile.TemporaryDirectory() as folder:
        _, saving = timed(lambda: trie.save(Path(folder) / "trie"))
        loaded, loading = timed(lambda: Trie.load(Path(folder) / "trie"))
        disk = sum(file.stat().st_size for file in (Path(folder) / "trie").iterdir())
        assert len(loaded) == rows and len(subset) == mask.sum()
    return {
        "rows": rows, "longest_number": int(codes[:, -1].max()), "build_per_second": rows / building,
        "memory_bytes": trie.nbytes / rows, "disk_bytes": disk / rows, "save_seconds": saving,
        "map_seconds": loading, "filter_ns": filtering / rows * 1e9,
    }  # fmt: skip


def catalog_stage(rows: int) -> dict[str, float]:
    """Hold a catalogue in memory, its ids looked up."""
    demo = demo_catalog().frame
    copies = -(-rows // len(demo))
    frame = demo.select([demo[name].repeat_by(copies).explode() for name in demo.columns]).head(rows)
    ids = frame[demo_catalog().columns.item_id] + np.arange(len(frame)).astype(str)
    frame = frame.with_columns(ids.alias(demo_catalog().columns.item_id))
    catalog = Catalog.from_frame(frame, item_id=demo_catalog().columns.item_id, title=demo_catalog().columns.title)
    before = resident()
    _, looking = timed(lambda: catalog.rows([catalog.item_ids[0]]))
    lookup = resident() - before
    return {
        "rows": len(catalog), "frame_bytes": frame.estimated_size() / rows, "lookup_bytes": lookup / rows,
        "lookup_per_second": rows / looking,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--tries", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--catalog", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    packages = {name: version(name) for name in ("genrail", "numpy", "numba", "torch", "polars")}
    print(json.dumps({"command": sys.argv, "machine": platform.machine(), "cores": os.cpu_count(),
                      "load": os.getloadavg()[0], "python": platform.python_version(), **packages}))  # fmt: skip
    trie_stage(1000, given.seed)  # compiles the kernels
    stages: list[tuple[str, Callable[[], dict[str, float]]]] = [
        ("catalogue", lambda: catalog_stage(given.catalog)),
        *((f"trie {rows}", lambda rows=rows: trie_stage(rows, given.seed)) for rows in given.tries),
        ("codes", lambda: code_stage(given.vectors, given.seed)),
        ("texts", lambda: text_stage(given.texts)),
    ]
    for name, stage in stages:
        print(name, json.dumps({key: float(f"{value:.4g}") for key, value in stage().items()}), flush=True)


if __name__ == "__main__":
    main()
