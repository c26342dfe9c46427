"""Measure the native model, trained on catalogue text only, beside BM25, TF-IDF and MiniLM on public search sets.

    python recipes/search_sets.py --data ../shared/data --sets esci_small xquad_en
    python recipes/search_sets.py --data ../shared/data --sets scifact --vectors vectors --json figures.json

The native model sees the items' texts and queries made up from them, no judged query. The baselines' figures are
deterministic (seed 0 orders equal scores). Encoding scifact takes minutes; with ``--vectors`` that is paid once. For
the data sets and their licences see the README in their folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genrail.catalog import Catalog, read_qrels, read_queries
from genrail.engine import Engine
from genrail.evaluation import DEFAULT_METRICS, Comparison, compare
from genrail.evaluation.tables import text_table
from genrail.finders import BM25, TFIDF, Dense
from genrail.models.text_encoder import TextEncoder


@dataclass(frozen=True)
class SearchSet:
    """Say where a set's files are, what is indexed, and what its README reports (R@5 ... MRR)."""

    items: str
    queries: str
    qrels: str
    text: tuple[str, ...]
    max_tokens: int
    published: dict[str, tuple[float, ...]]


SETS = {
    "esci_small": SearchSet(
        "products.csv.gz",
        "queries.csv.gz",
        "labels.csv.gz",
        text=(),  # the title only
        max_tokens=256,
        published={
            "BM25": (0.1407, 0.2675, 0.8504, 0.5890, 0.5707, 0.7592),
            "TF-IDF": (0.1346, 0.2404, 0.8028, 0.5224, 0.5151, 0.6705),
            "MiniLM": (0.1512, 0.2892, 0.8934, 0.5857, 0.5859, 0.7140),
        },
    ),
    "scifact": SearchSet(
        "corpus.csv.gz",
        "queries_test.csv.gz",
        "qrels_test.csv.gz",
        text=("text",),
        max_tokens=256,
        published={
            "BM25": (0.7362, 0.8187, 0.9127, 0.6577, 0.6863, 0.6528),
            "TF-IDF": (0.7276, 0.7743, 0.8916, 0.6112, 0.6280, 0.5937),
            "MiniLM": (0.7413, 0.7917, 0.9250, 0.6321, 0.6494, 0.6124),
        },
    ),
    "xquad_en": SearchSet(
        "corpus.csv.gz",
        "queries.csv.gz",
        "qrels.csv.gz",
        text=("text",),
        max_tokens=256,
        published={
            "BM25": (0.9874, 0.9933, 0.9966, 0.9639, 0.9658, 0.9568),
            "TF-IDF": (0.9866, 0.9899, 0.9924, 0.9527, 0.9539, 0.9417),
            "MiniLM": (0.9815, 0.9891, 1.0000, 0.9382, 0.9407, 0.9250),
        },
    ),
}


def measure(folder: Path, search_set: SearchSet, vectors: Path, seed: int) -> tuple[Comparison, dict[str, Any]]:
    """Build the methods on a set and compare them; gives the comparison and what building cost."""
    catalog = Catalog.read(folder / search_set.items, title="title", text=search_set.text)
    encoder = TextEncoder.load(max_tokens=search_set.max_tokens, cache=vectors)
    started = time.perf_counter()
    dense = Dense(catalog, encoder, name="MiniLM")
    encoded = time.perf_counter()
    engine = Engine.build(catalog, encoder=encoder, seed=seed, progress=_show)
    cost = {
        "items": len(catalog),
        "seconds to encode": round(encoded - started, 1),
        "seconds to build the native engine": round(time.perf_counter() - encoded, 1),
        "peak memory MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),  # KiB on Linux
    }
    comparison = compare(
        [BM25(catalog), TFIDF(catalog), dense, engine],
        read_queries(folder / search_set.queries),
        read_qrels(folder / search_set.qrels),
        seed=seed,
    )
    return comparison, cost


def _show(stage: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{stage}: {done}/{total}   ", end="", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Tell what this ran on."""
    names = ("genrail", "torch", "numpy", "bm25s", "scikit-learn", "sentence-transformers")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": cores,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in names},
    }


def table(comparison: Comparison, published: dict[str, tuple[float, ...]]) -> str:
    """Lay our figures above the published ones."""
    rows = []
    for name, evaluation in comparison.evaluations.items():
        rows.append([f"{name}, here", *[f"{evaluation.means[metric]:.4f}" for metric in DEFAULT_METRICS]])
        if name in published:
            rows.append([f"{name}, README", *[f"{value:.4f}" for value in published[name]]])
    return text_table(["method", *DEFAULT_METRICS], rows)


def main() -> None:
    """Print one table per set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--vectors", type=Path, help="folder that keeps the vectors between runs")
    parser.add_argument("--reports", type=Path, help="write one HTML report per set into this folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine(), "seed": arguments.seed, "sets": {}}
    print(json.dumps(figures["machine"], indent=2))
    with tempfile.TemporaryDirectory() as passing:
        for name in arguments.sets:
            vectors = arguments.vectors or Path(passing)
            comparison, cost = measure(arguments.data / name, SETS[name], vectors, arguments.seed)
            print(
                f"\n{name}: {cost}\n{table(comparison, SETS[name].published)}\n{comparison.recommendation}", flush=True
            )
            figures["sets"][name] = {**cost, **comparison.to_dict()}
            if arguments.reports is not None:
                arguments.reports.mkdir(parents=True, exist_ok=True)
                comparison.write_html(arguments.reports / f"{name}.html")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
