"""Measure BM25, TF-IDF and MiniLM on public search sets, beside the figures published with the data.

    python recipes/search_baselines.py --data ../shared/data --sets esci_small xquad_en
    python recipes/search_baselines.py --data ../shared/data --sets scifact --vectors ~/.cache/genrail-vectors

The figures are deterministic (seed 0 orders equal scores). Encoding scifact takes about ten minutes on one core; with
``--vectors`` that is paid once. The folder of the data sets and their licences: see its README.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from genrail.baselines import BM25, TFIDF, Dense
from genrail.catalog import Catalog, read_qrels, read_queries
from genrail.evaluation import DEFAULT_METRICS, Comparison, compare
from genrail.evaluation.tables import text_table
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


def measure(folder: Path, search_set: SearchSet, vectors: Path | None) -> Comparison:
    """Build the three methods on a set and compare them."""
    catalog = Catalog.read(folder / search_set.items, title="title", text=search_set.text)
    started = time.perf_counter()
    encoder = TextEncoder.load(max_tokens=search_set.max_tokens, cache=vectors)
    dense = Dense(catalog, encoder, name="MiniLM")
    print(f"encoded {len(catalog)} items in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return compare(
        [BM25(catalog), TFIDF(catalog), dense],
        read_queries(folder / search_set.queries),
        read_qrels(folder / search_set.qrels),
    )


def table(comparison: Comparison, published: dict[str, tuple[float, ...]]) -> str:
    """Lay our figures above the published ones."""
    rows = []
    for name, evaluation in comparison.evaluations.items():
        rows.append([f"{name}, here", *[f"{evaluation.means[metric]:.4f}" for metric in DEFAULT_METRICS]])
        rows.append([f"{name}, README", *[f"{value:.4f}" for value in published[name]]])
    return text_table(["method", *DEFAULT_METRICS], rows)


def main() -> None:
    """Print one table per set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--vectors", type=Path, help="folder that keeps the vectors between runs")
    parser.add_argument("--reports", type=Path, help="write one HTML report per set into this folder")
    arguments = parser.parse_args()
    for name in arguments.sets:
        comparison = measure(arguments.data / name, SETS[name], arguments.vectors)
        print(f"\n{name}\n{table(comparison, SETS[name].published)}\n{comparison.recommendation}")
        if arguments.reports is not None:
            arguments.reports.mkdir(parents=True, exist_ok=True)
            comparison.write_html(arguments.reports / f"{name}.html")


if __name__ == "__main__":
    main()
