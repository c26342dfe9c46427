"""Train TIGER, the reference, and measure it (leave-last-out), from raw files, in one process.

    python recipes/tiger_beauty.py ../shared/data/amazon_beauty --out figures          # full: a GPU, 1 to 2 hours
    python recipes/tiger_beauty.py ../shared/data/amazon_beauty --out figures --cpu    # shortened, half an hour

The folder and the split are those of `recommend_beauty.py`. Identifiers: residual k-means of the text vectors with
normalised residuals, 3 x 256 and a de-duplicating code; text alone, as in the paper. Full settings: 200,000 updates of
256 histories, AdamW, 3e-4 along a cosine after 10,000 steps, weight decay 0.035, dropout 0.2, the epoch chosen on
validation (what careful reproductions use; the paper's learning rate is unstable with AdamW). The shortened run has the
same model and batch, a higher learning rate, and ends by the clock; its learning curve is what it is for.

Written to the output folder: `tiger.json`, the learning curve (`tiger-curve.json`, `tiger-curve.html`), and after each
epoch a checkpoint from which the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from recommend_beauty import METRICS, load, machine, show

from genrail.catalog import Catalog
from genrail.evaluation import HeldOut, Split, evaluate_next_item
from genrail.evaluation.pictures import lines, page
from genrail.evaluation.tables import text_table
from genrail.finders.tiger import TIGER
from genrail.identifiers import SemanticIds
from genrail.models.text_encoder import TextEncoder
from genrail.rng import generator
from genrail.training.loop import LoopSettings
from genrail.training.tiger import TigerTraining


def training(cpu: bool, max_seconds: float) -> TigerTraining:
    """Choose the full settings, or the shortened ones."""
    if not cpu:
        loop = LoopSettings(
            epochs=200, learning_rate=3e-4, warm_up=10_000, weight_decay=0.035, averaging=0.999, patience=20
        )
        return TigerTraining(loop, steps_per_epoch=1000, validation_users=5000)
    loop = LoopSettings(
        epochs=1000,
        learning_rate=1e-3,
        warm_up=200,
        weight_decay=0.035,
        averaging=0.98,
        patience=1000,
        max_seconds=max_seconds,
    )
    return TigerTraining(loop, steps_per_epoch=100, validation_users=500, validation_beam=10)


def identifiers(catalog: Catalog, seed: int, cache: Path) -> Any:
    """Fit Semantic IDs to the texts."""
    cache.mkdir(parents=True, exist_ok=True)
    vectors = TextEncoder.load(cache=cache).encode(catalog.texts())
    codes = max(1, min(256, len(catalog) // 4))
    fitted = SemanticIds.fit(vectors, levels=3, codes=codes, seed=seed)
    order = generator(seed, "de-duplicating codes").permutation(len(catalog))
    return fitted.assign(vectors, order=order).matrix()


def measure(method: TIGER, held_out: HeldOut, catalog: Catalog, users: int | None, seed: int) -> dict[str, Any]:
    """Rank the catalogue for the users, seen items excluded and kept."""
    chosen = held_out if users is None else held_out.sample(users, seed)
    return {
        kind: evaluate_next_item(
            method, chosen, catalog, exclude_seen=excluded, metrics=METRICS, k=10, latency_queries=0
        )
        for kind, excluded in (("seen items excluded", True), ("seen items kept", False))
    }


def train(arguments: argparse.Namespace, catalog: Catalog, split: Split) -> tuple[TIGER, list[dict[str, float]]]:
    """Fit identifiers, train, and write the curve."""
    settings = training(arguments.cpu, arguments.max_seconds)
    device = "cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu"
    method = TIGER(
        catalog,
        split.train,
        identifiers(catalog, arguments.seed, arguments.out / "vectors"),
        training=settings,
        validation=split.validation,
        device=device,
        seed=arguments.seed,
        progress=show,
        checkpoint=arguments.out / "tiger-checkpoint.safetensors",
    )
    records = method.report.history if method.report is not None else ()
    steps = settings.steps_per_epoch or 0
    history = [
        {"updates": record.epoch * steps, "seconds": round(record.seconds), "loss": record.loss, **record.metrics}
        for record in records
    ]
    (arguments.out / "tiger-curve.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    drawn = lines({"validation": [(one["updates"], one["Recall@10"]) for one in history]}, "updates", "Recall@10")
    (arguments.out / "tiger-curve.html").write_text(page("TIGER", [("Learning curve", drawn)]), encoding="utf-8")
    return method, history


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with items.csv(.gz) and sequences.csv(.gz)")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures and the checkpoint")
    parser.add_argument("--cpu", action="store_true", help="the shortened run")
    parser.add_argument("--max-seconds", type=float, default=1800, help="of the shortened run's training")
    parser.add_argument("--test-users", type=int, help="measure so many users of the test instead of all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    catalog, split = load(arguments.folder, arguments.seed)
    method, history = train(arguments, catalog, split)
    found = measure(method, split.test, catalog, arguments.test_users, arguments.seed)
    facts = {
        "command": " ".join(sys.argv),
        "machine": machine() | {"device": str(method.model.device)},
        "seed": arguments.seed,
        "model": method.model.describe(),
        "users of the test": arguments.test_users or len(split.test),
        "seconds": round(time.perf_counter() - started),
        "peak memory MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "test": {kind: one.means for kind, one in found.items()},
    }
    (arguments.out / "tiger.json").write_text(json.dumps({**facts, "curve": history}, indent=1) + "\n", "utf-8")
    print(json.dumps(facts, indent=1))
    rows = [[kind, *[f"{one.means[metric]:.4f}" for metric in METRICS]] for kind, one in found.items()]
    print(text_table(["TIGER, test", *METRICS], rows))


if __name__ == "__main__":
    main()
