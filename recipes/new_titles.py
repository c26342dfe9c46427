"""Leave 5 % of the titles out of a language model's training, add them afterwards, and measure who finds them.

    python recipes/new_titles.py ../shared/data/esci_small --minutes 10
    python recipes/new_titles.py any/folder --kinds titles --json figures.json

What the folder may hold is told in `folders.py`. The dropped items (a seeded draw) are unknown to the engine while it
is built and taught by queries that are cut out of the texts of the others; it gets them by `Engine.add`. Then queries
cut out of titles are asked, drawn by another seed than those of the training: of *unseen* items and of as many *seen*
ones, among the whole catalogue. `titles` writes titles, `codes` Semantic IDs whose codebooks do not know the dropped
items; BM25 stands beside both. `--minutes` are processor minutes of each training.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import folders
import numpy as np
import torch
from folders import machine, progress
from teach import BRIEF

from genrail import Catalog, Engine
from genrail.evaluation import bootstrap_interval
from genrail.evaluation.tables import text_table
from genrail.rng import generator
from genrail.training.pseudo_queries import pseudo_queries
from genrail.types import Query

SHARE = 0.05  # of the items are dropped, as in TIGER's cold-start protocol


def parted(whole: Catalog, seed: int) -> tuple[Catalog, np.ndarray, np.ndarray]:
    """Draw the items that are dropped; give the others as a catalogue, and the rows of both."""
    drawn = generator(seed, "new items").permutation(len(whole))
    new = np.sort(drawn[: max(1, int(len(whole) * SHARE))])
    kept = np.setdiff1d(np.arange(len(whole)), new)
    columns = whole.columns
    part = Catalog.from_frame(whole.frame[kept], item_id=columns.item_id, title=columns.title, text=columns.text)
    return part, kept, new


def taught(kind: str, catalog: Catalog, arguments: argparse.Namespace) -> Engine:
    """Build an engine of one kind, and teach it for so many processor minutes."""
    learning: dict[str, Any] = {"max_seconds": 60 * arguments.minutes, "clock": "processor", "epochs": 1000}
    learning |= {"patience": 1000, "precision": arguments.precision, "epoch": 1000, "pseudo_queries": 2}
    common = {"model": arguments.model, "template": BRIEF, "seed": arguments.seed, "progress": progress}
    if kind == "codes":
        return Engine.build(catalog, "codes", **common, **learning, learning_rate=arguments.rate / 5)
    engine = Engine.build(catalog, "titles", chat=False, spelling=arguments.spelling, **common)
    engine.train(
        seed=arguments.seed, progress=progress, layers=arguments.layers, learning_rate=arguments.rate, **learning
    )
    return engine


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=["titles", "codes"], default=["titles", "codes"])
    parser.add_argument("--model", default="SmolLM2-135M")
    parser.add_argument("--spelling", default="title", help="how items are called by titles")
    parser.add_argument("--minutes", type=float, default=10, help="processor minutes of each training")
    parser.add_argument("--layers", type=int, help="so many of the last blocks learn, of titles")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of LoRA; a whole model has a fifth")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of the activations")
    parser.add_argument("--queries", type=int, default=200, help="asked of unseen items, and of seen ones")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    whole = folders.items(arguments.folder, arguments.seed)
    catalog, kept, new = parted(whole, arguments.seed)
    rows = whole.frame[new].to_dicts()
    random = generator(arguments.seed, "asked")
    figures: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(), "items": len(whole)}
    figures["dropped"] = len(new)
    asked = {
        part: np.sort(random.choice(chosen, size=min(arguments.queries, len(new)), replace=False))
        for part, chosen in (("unseen", new), ("seen", kept))
    }
    table = []
    for kind in ("bm25", *arguments.kinds):
        engine = Engine.build(catalog, "bm25") if kind == "bm25" else taught(kind, catalog, arguments)
        engine.add(rows)
        shown = [kind]
        for part, chosen in asked.items():
            titles = [whole.titles[row] for row in chosen.tolist()]
            texts, places = pseudo_queries(titles, titles, 1, arguments.seed + 1)
            found = engine.search_batch([Query(text) for text in texts], 10)
            right = [whole.item_ids[int(chosen[place])] for place in places.tolist()]
            hits = np.array([item_id in one.item_ids for item_id, one in zip(right, found, strict=True)])
            recall = bootstrap_interval(hits.astype(np.float64), seed=arguments.seed)
            figures.setdefault(kind, {})[part] = recall.to_dict()
            shown.append(f"{recall.mean:.4f} [{recall.low or 0:.4f}, {recall.high or 0:.4f}]")
        table.append(shown)
        print(text_table([f"R@10, {len(asked['seen'])} each", *asked], table), flush=True)
    print(json.dumps(figures))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
