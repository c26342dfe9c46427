"""Measure the next-item baselines on Amazon Beauty (leave-last-out), beside the figures published with the data.

    python recipes/next_item_baselines.py --data ../shared/data/amazon_beauty
    python recipes/next_item_baselines.py --data ../shared/data/amazon_beauty --tune     # settings, on validation only

Items are renumbered in a seeded order, because the file numbers them by first appearance, which gives answers away.
Every figure ranks the full catalogue; histories hold at most 20 items. ``--seed`` is of the renumbering and of
the order between equal scores.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import replace
from pathlib import Path

from genrail.catalog import Catalog, Interactions
from genrail.evaluation import DEFAULT_METRICS, Split, evaluate_next_item, leave_last_out
from genrail.evaluation.tables import text_table
from genrail.finders import TFIDF, Cooccurrence, CooccurrenceRecipe, ItemKNN, Popularity
from genrail.types import Retriever

# R@5, R@10, R@100, nDCG@5, nDCG@10 with seen items excluded, and R@10 with seen items kept (README of the data;
# item-kNN is its row with recency decay).
PUBLISHED = {
    "Popularity": (0.0068, 0.0110, 0.0544, 0.0039, 0.0053, 0.0106),
    "Item-kNN": (0.0477, 0.0694, 0.1725, 0.0338, 0.0408, 0.0581),
    "Co-occurrence": (0.0620, 0.0850, 0.1942, 0.0459, 0.0533, 0.0793),
    "TF-IDF content": (0.0523, 0.0734, 0.1866, 0.0376, 0.0444, 0.0645),
}
METRICS = DEFAULT_METRICS[:5]


def load(folder: Path, seed: int) -> tuple[Catalog, Split]:
    """Read the set and split it, printing the traps."""
    catalog = Catalog.read(folder / "items.csv.gz", item_id="item_id", title="title", text=("attributes",))
    catalog = catalog.shuffled(seed)
    sequences = Interactions.read(folder / "sequences.csv.gz").sequences(catalog)
    split = leave_last_out(sequences, items=len(catalog))
    for sentence in split.traps.sentences():
        print(f"note: {sentence}", file=sys.stderr)
    return catalog, split


def methods(catalog: Catalog, split: Split, seed: int) -> list[Retriever]:
    """Make every baseline from the training events and the texts."""
    return [
        Popularity(catalog, split.train, seed=seed),
        ItemKNN(catalog, split.train, seed=seed),
        Cooccurrence(catalog, split.train, seed=seed),
        TFIDF(catalog, seed=seed),
    ]


def report(catalog: Catalog, split: Split, seed: int) -> str:
    """Measure every baseline on test, with seen items excluded and kept."""
    rows = []
    for method in methods(catalog, split, seed):
        excluded = evaluate_next_item(method, split.test, catalog, metrics=METRICS, progress=_progress(method.name))
        kept = evaluate_next_item(
            method, split.test, catalog, metrics=["R@10"], k=10, exclude_seen=False, latency_queries=0
        )
        figures = [*(excluded.means[metric] for metric in METRICS), kept.means["R@10"]]
        rows.append([f"{method.name}, here", *[f"{value:.4f}" for value in figures]])
        rows.append([f"{method.name}, README", *[f"{value:.4f}" for value in PUBLISHED[method.name]]])
    return text_table(["method", *METRICS, "R@10, seen kept"], rows)


def tune(catalog: Catalog, split: Split) -> str:
    """Try settings of co-occurrence on validation and list the best ten."""
    found = []
    grid = itertools.product((0.5, 0.7, 0.8, 0.9), (0.1, 0.2, 0.3), (0.2, 0.3, 0.4, 0.5))
    for distance_decay, backward, decay in grid:
        settings = replace(CooccurrenceRecipe(), distance_decay=distance_decay, backward=backward, decay=decay)
        method = Cooccurrence(catalog, split.train, settings)
        means = evaluate_next_item(
            method, split.validation, catalog, metrics=["nDCG@10", "R@10"], k=10, latency_queries=0
        ).means
        found.append((means["nDCG@10"], means["R@10"], settings))
        print(f"{settings}: nDCG@10 {means['nDCG@10']:.4f}", file=sys.stderr)
    found.sort(key=lambda entry: -entry[0])
    rows = [[str(settings), f"{ndcg:.4f}", f"{recall:.4f}"] for ndcg, recall, settings in found[:10]]
    return text_table(["settings", "validation nDCG@10", "validation R@10"], rows)


def _progress(name: str):  # noqa: ANN202  a callback of two integers
    def show(done: int, total: int) -> None:
        if done == total:
            print(f"{name}: {total} users", file=sys.stderr)

    return show


def main() -> None:
    """Print the table, or the settings that validation prefers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with items.csv.gz and sequences.csv.gz")
    parser.add_argument("--tune", action="store_true", help="list settings of co-occurrence by validation instead")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    catalog, split = load(arguments.data, arguments.seed)
    print(tune(catalog, split) if arguments.tune else report(catalog, split, arguments.seed))


if __name__ == "__main__":
    main()
