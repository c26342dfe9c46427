"""Build an engine without 5 % of the items, add them afterwards, and measure who finds them.

    python recipes/new_items.py ../shared/data/amazon_beauty
    python recipes/new_items.py any/folder --engine native --calibrate --vectors kept --json figures.json

What the folder may hold is told in `folders.py`. The dropped items (a seeded draw) are unknown to `Engine.build`; the
engine gets them by `Engine.add`. Test events are asked once: *unseen* targets are dropped items, *seen* ones were
trained on. Everything ranks the full catalogue, items of the history left out. Each lane is asked by itself too:
likeness of texts is what the policies of new items have to beat.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import folders
import numpy as np
from folders import machine, progress

from genrail.catalog import Catalog
from genrail.engine import Engine
from genrail.engine.rivals import lanes_of
from genrail.evaluation import bootstrap_interval, evaluate_next_item, leave_last_out
from genrail.evaluation.tables import text_table
from genrail.finders.calibrating_new_items import CalibrationSettings
from genrail.models.text_encoder import TextEncoder
from genrail.rng import generator
from genrail.types import NewItems, Query, Ranking, Retriever

SHARE = 0.05  # of the items are dropped, as in TIGER's cold-start protocol
METRICS = ["R@10", "nDCG@10"]


class WithPolicy:
    """Ask an engine with one policy of new items (a `Retriever`)."""

    def __init__(self, engine: Engine, policy: NewItems) -> None:
        self.engine, self.policy, self.catalog = engine, policy, engine.catalog
        self.name = f"{engine.name}, new_items={policy}"

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query."""
        return self.engine.search_batch([replace(query, new_items=self.policy) for query in queries], k)


def built(arguments: argparse.Namespace, vectors: Path) -> tuple[Engine, set[str]]:
    """Build without the dropped items, and add them; give the engine and their ids."""
    whole, events = folders.items(arguments.folder, arguments.seed), folders.events(arguments.folder)
    if events is None:
        raise SystemExit(f"{arguments.folder} holds no events; name the file sequences or interactions")
    drawn = generator(arguments.seed, "new items").permutation(len(whole))
    new = np.sort(drawn[: max(1, int(len(whole) * SHARE))])
    kept = np.setdiff1d(np.arange(len(whole)), new)
    columns = whole.columns
    catalog = Catalog.from_frame(whole.frame[kept], item_id=columns.item_id, title=columns.title, text=columns.text)
    limits = {name: value for name in ("epochs", "max_seconds") if (value := getattr(arguments, name)) is not None}
    encoder = TextEncoder.load(cache=vectors)
    engine = Engine.build(
        catalog,
        arguments.engine,
        interactions=events,
        encoder=encoder,
        seed=arguments.seed,
        progress=progress,
        **limits,
    )
    if arguments.calibrate:
        settings = CalibrationSettings(max_seconds=arguments.max_seconds, seed=arguments.seed)
        calibration = engine.calibrate_new_items(events, settings, progress=progress)
        print(json.dumps(calibration.to_dict()), flush=True)
    rows = whole.frame[new].to_dicts()
    engine.add(rows)
    return engine, {str(row[columns.item_id]) for row in rows}


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", default="fused", help="name of the engine's recipe")
    parser.add_argument("--calibrate", action="store_true", help="learn how new items compare; trains a second model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--users", type=int, default=10**9, help="test only so many users")
    parser.add_argument("--epochs", type=int, help="of the training, at most")
    parser.add_argument("--max-seconds", type=float, help="stop each training after this long")
    parser.add_argument("--vectors", type=Path, help="folder that keeps text vectors between runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    print(f"command: python {' '.join(sys.argv)}\n{json.dumps(machine())}")
    with tempfile.TemporaryDirectory() as passing:
        engine, new = built(arguments, arguments.vectors or Path(passing))
    events = folders.events(arguments.folder)
    assert events is not None
    catalog = engine.catalog
    split = leave_last_out(events.sequences(catalog), items=len(catalog))
    held_out = split.test.sample(arguments.users, arguments.seed)
    ids = np.asarray(catalog.item_ids, dtype=object)
    unseen = np.array([ids[row] in new for row in held_out.targets.tolist()], dtype=np.bool_)
    seen = ~unseen & (np.bincount(split.train.rows, minlength=len(catalog))[held_out.targets] > 0)
    methods: list[Retriever] = [WithPolicy(engine, policy) for policy in ("off", "auto", 0.2)]
    methods += lanes_of(engine, words=False).values()
    figures: dict[str, Any] = {"machine": machine(), "seed": arguments.seed, "dropped items": len(new)}
    figures |= {"unseen targets": int(unseen.sum()), "seen targets": int(seen.sum())}
    rows = []
    for method in methods:
        values = evaluate_next_item(method, held_out, catalog, metrics=METRICS, k=10, latency_queries=0).measured.values
        parts = {"unseen": unseen, "seen": seen}
        figures[method.name] = {
            part: {
                metric: bootstrap_interval(values[metric][mask], seed=arguments.seed).to_dict() for metric in METRICS
            }
            for part, mask in parts.items()
            if mask.any()
        }
        rows.append([method.name, *(_shown(values[metric][mask]) for mask in parts.values() for metric in METRICS)])
    print(f"{len(new)} new items; {unseen.sum()} unseen and {seen.sum()} seen test targets; seed {arguments.seed}")
    print(text_table(["", *(f"{part}: {metric}" for part in ("unseen", "seen") for metric in METRICS)], rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _shown(values: np.ndarray) -> str:
    if not len(values):
        return ""
    found = bootstrap_interval(values)
    return f"{found.mean:.4f} [{found.low or 0:.4f}, {found.high or 0:.4f}]"


if __name__ == "__main__":
    main()
