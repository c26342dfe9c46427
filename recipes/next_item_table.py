"""Measure every next-item lane on one data set, in one table (leave-last-out), with pictures.

    recipes/recommend_beauty.sh ../shared/data/amazon_beauty figures
    python recipes/next_item_table.py any/folder --out figures
    python recipes/next_item_table.py any/folder --out figures --lanes Co-occurrence MiniLM     # some lanes
    python recipes/next_item_table.py any/folder --out figures --resume                   # keep lanes that are done

The folder is as for `recommend_beauty.py`. Each lane runs in a process of its own, so that its peak memory is its own.
What it answered is written under the output folder, and the table, the hybrids and the pictures are made from that.
Hybrids learn their weights on validation; the test items are looked at once, for the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from next_item_lanes import DEPTH, HYBRIDS, LANES, OPTIONAL, Data, Recorded, histories, parts, record, replay
from recommend_beauty import load, machine

from genrail.evaluation import Evaluation, HeldOut, bootstrap_interval, evaluate_next_item, paired_test
from genrail.evaluation.pictures import grouped_bars, lines, page, points, table
from genrail.evaluation.tables import text_table
from genrail.ranking import Fusion, FusionSettings
from genrail.types import Query

METRICS = ["R@5", "R@10", "nDCG@5", "nDCG@10", "RR@10"]
TITLES = [*METRICS[:-1], "MRR@10"]
BUCKETS = ("head", "torso", "tail", "new")
EXPLANATION = (
    "<p>Leave-last-out; histories of at most 20 items; every row ranks the whole catalogue. ± is half the width of a "
    "95 % bootstrap interval over users. Hybrids learnt their weights on validation; their memory, seconds and latency "
    "are sums over their lanes. Memory is the peak of a lane's process. Head, torso and tail hold a third of the "
    "training events each; new items have none.</p>"
)
EXCLUDED, KEPT = "test", "test, seen kept"
Asked = Mapping[str, tuple[HeldOut, bool]]


def run_lanes(arguments: argparse.Namespace) -> None:
    """Run each lane in a process of its own."""
    for name in arguments.lanes:
        if arguments.resume and (arguments.out / "lanes" / f"{name}.json").exists():
            print(f"{name}: kept from an earlier run", file=sys.stderr)
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, str(arguments.folder), "--out", str(arguments.out), "--only", name]
        command += ["--seed", str(arguments.seed)]
        command += [] if arguments.max_seconds is None else ["--max-seconds", str(arguments.max_seconds)]
        subprocess.run(command, check=True)


def hybrid(name: str, lanes: Sequence[Recorded], data: Data, asked: Asked) -> tuple[Fusion, dict[str, Any]]:
    """Fuse lanes, choosing how and with which weights on validation."""
    held_out, _ = asked["validation"]
    queries = [Query(history=past) for past in histories(data.catalog, held_out)]
    targets = np.asarray(data.catalog.item_ids, dtype=object)[held_out.targets].tolist()
    tried = []
    for method in ("reciprocal rank", "weighted", "scores"):
        settings = FusionSettings(method=method, depth=DEPTH)
        made, ndcg = Fusion(lanes, settings=settings, name=name).learnt_next_item(queries, targets)
        tried.append((ndcg, method, made))
        print(f"{name}, {method}: validation nDCG@10 {ndcg:.4f}, weights {made.weights}", file=sys.stderr, flush=True)
    best = max(tried, key=lambda entry: entry[0])[2]
    weights = dict(zip([lane.name for lane in lanes], best.weights, strict=True))
    facts = {
        "method": best.settings.method,
        "weights": weights,
        "validation nDCG@10 by method": {method: value for value, method, _ in tried},
    }
    return Fusion(lanes, best.weights, best.settings, name=name), facts


def costs_of_hybrid(lanes: Sequence[str], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the costs of the lanes: they are asked one after the other."""
    medians = [facts[lane]["latency"]["p50 ms"] for lane in lanes]
    return {
        "fit seconds": round(sum(facts[lane]["fit seconds"] for lane in lanes), 1),
        "latency": {"p50 ms": float(sum(medians)), "note": "sum over the lanes"},
        "peak memory MiB": sum(facts[lane]["peak memory MiB"] for lane in lanes),
        "curve": [],
    }


def measure(retriever: Recorded | Fusion, data: Data, asked: Asked) -> dict[str, Evaluation]:
    """Measure on test, seen items excluded and kept."""
    return {
        part: evaluate_next_item(
            retriever, asked[part][0], data.catalog, exclude_seen=asked[part][1], metrics=METRICS, k=10,
            latency_queries=0,
        )
        for part in (EXCLUDED, KEPT)
    }  # fmt: skip


def rows_of_table(
    found: Mapping[str, Mapping[str, Evaluation]], facts: Mapping[str, Mapping[str, Any]], seed: int
) -> list[list[str]]:
    """Lay out a row per method and treatment of seen items, with half the width of 95 % intervals."""
    rows = []
    for part, words in ((EXCLUDED, "excluded"), (KEPT, "kept")):
        for name, evaluations in found.items():
            cells = []
            for metric in METRICS:
                interval = bootstrap_interval(evaluations[part].measured.values[metric], seed=seed)
                half = 0.0 if interval.low is None or interval.high is None else (interval.high - interval.low) / 2
                cells.append(f"{interval.mean:.4f} ±{half:.4f}")
            cost = facts[name]
            memory = f"{cost['peak memory MiB']:,}"
            rows.append([name, words, *cells, f"{cost['fit seconds']:.1f}", memory, str(seed)])
    return rows


HEADER = ["method", "seen items", *TITLES, "training s", "memory MiB", "seed"]


def buckets(data: Data, held_out: HeldOut) -> np.ndarray:
    """Tell each target's bucket: thirds of the training events by popularity of the item, and items without events."""
    counts = np.bincount(data.split.train.rows, minlength=len(data.catalog))
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    bucket = np.empty(len(counts), dtype=np.int64)
    bucket[order] = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    bucket[counts == 0] = 3
    return bucket[held_out.targets]


def by_bucket(found: Mapping[str, Mapping[str, Evaluation]], of_target: np.ndarray) -> dict[str, list[float]]:
    """Average R@10 over the targets of each bucket; NaN where there is none."""
    values: dict[str, list[float]] = {}
    for name, evaluations in found.items():
        recall = evaluations[EXCLUDED].measured.values["R@10"]
        chosen = [recall[of_target == bucket] for bucket in range(len(BUCKETS))]
        values[name] = [float(part.mean()) if len(part) else float("nan") for part in chosen]
    return values


def against_lanes(
    name: str, lanes: Sequence[str], found: Mapping[str, Mapping[str, Evaluation]], seed: int
) -> dict[str, Any]:
    """Compare a hybrid with the best of its lanes on test, user by user."""
    out: dict[str, Any] = {}
    for metric in ("R@10", "nDCG@10"):
        best = max(lanes, key=lambda lane: found[lane][EXCLUDED].means[metric])
        test = paired_test(
            found[name][EXCLUDED].measured.values[metric], found[best][EXCLUDED].measured.values[metric], seed=seed
        )
        out[metric] = {"best lane": best, **test.to_dict()}
    return out


def sentences(comparisons: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say what the hybrids gain over their best lanes."""
    return [
        f"{name} against {one['best lane']}, {metric}: {one['difference']['mean']:+.4f} "
        f"[{one['difference']['low']:+.4f}, {one['difference']['high']:+.4f}] {one['verdict']}"
        for name, both in comparisons.items()
        for metric, one in both.items()
        if one["difference"]["low"] is not None
    ]


def pictures(
    found: Mapping[str, Mapping[str, Evaluation]],
    facts: Mapping[str, Mapping[str, Any]],
    shares: Sequence[float],
    recall: Mapping[str, Sequence[float]],
) -> list[tuple[str, str]]:
    """Draw learning curves, recall by bucket, and recall against latency."""
    curves = {
        name: [(one["seconds"], one[metric]) for one in cost["curve"] if metric in one]
        for name, cost in facts.items()
        for metric in [next((key for one in cost["curve"] for key in one if key.lower() == "ndcg@10"), "")]
    }
    places = {name: (facts[name]["latency"]["p50 ms"], both[EXCLUDED].means["R@10"]) for name, both in found.items()}
    groups = [f"{bucket} ({share:.1%} of targets)" for bucket, share in zip(BUCKETS, shares, strict=True)]
    return [
        ("Learning curves", lines(curves, "seconds of training", "validation nDCG@10")),
        ("Recall@10 by popularity of the target", grouped_bars(groups, recall, "R@10")),
        ("Recall@10 against latency of one request", points(places, "median milliseconds", "R@10")),
    ]


def report(data: Data, asked: Asked, names: Sequence[str], folder: Path) -> None:
    """Print the table, write figures.json and report.html."""
    lanes, facts = {}, {}
    for name in names:
        lanes[name], facts[name] = replay(name, data, asked)
    found = {name: measure(lane, data, asked) for name, lane in lanes.items()}
    comparisons = {}
    for name, members in HYBRIDS.items():
        used = [member for member in members if member in lanes]
        if len(used) < len(members):
            continue
        fusion, chosen = hybrid(name, [lanes[member] for member in used], data, asked)
        found[name] = measure(fusion, data, asked)
        facts[name] = {**costs_of_hybrid(used, facts), **chosen}
        comparisons[name] = against_lanes(name, used, found, data.seed)
    rows = rows_of_table(found, facts, data.seed)
    of_target = buckets(data, asked[EXCLUDED][0])
    shares = [float((of_target == bucket).mean()) for bucket in range(len(BUCKETS))]
    recall = by_bucket(found, of_target)
    print(text_table(HEADER, rows))
    print("\n".join(sentences(comparisons)))
    figures = {
        "command": " ".join(["python", "recipes/next_item_table.py", *sys.argv[1:]]),
        "data": {"folder": folder.name, "items": len(data.catalog), **data.split.traps.to_dict()},
        "machine": machine(),
        "seed": data.seed,
        "costs": facts,
        "metrics": {
            name: {
                part: {
                    metric: bootstrap_interval(values, seed=data.seed).to_dict()
                    for metric, values in evaluation.measured.values.items()
                }
                for part, evaluation in both.items()
            }
            for name, both in found.items()
        },
        "hybrids against their best lanes": comparisons,
        "buckets": {"names": BUCKETS, "share of targets": shares, "R@10": recall},
    }
    (data.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    notes = "".join(f"<p>{line}</p>" for line in sentences(comparisons))
    sections = [("Table", EXPLANATION + table(HEADER, rows) + notes), *pictures(found, facts, shares, recall)]
    made_on = json.dumps(machine(), indent=1)
    html = page(f"Next items: {folder.name}", [*sections, ("Machine", f"<pre>{made_on}</pre>")])
    (data.out / "report.html").write_text(html, encoding="utf-8")


def main() -> None:
    """Run the lanes, then print the table and write figures and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with items.csv(.gz) and sequences.csv(.gz)")
    parser.add_argument("--out", type=Path, required=True, help="folder for answers, figures.json and report.html")
    usual = [name for name in LANES if name not in OPTIONAL]
    parser.add_argument("--lanes", nargs="+", choices=list(LANES), default=usual)
    parser.add_argument("--only", choices=list(LANES), help="run this lane in this process and make no table")
    parser.add_argument("--resume", action="store_true", help="keep lanes that the output folder already has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-seconds", type=float, help="stop each training after this long")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only is None:
        run_lanes(arguments)
    catalog, split = load(arguments.folder, arguments.seed)
    if not len(split.test):
        raise SystemExit(f"{arguments.folder}: no user has three events or more; there is nothing to test on")
    data = Data(catalog, split, arguments.seed, arguments.out, arguments.max_seconds)
    asked = parts(split, arguments.seed)
    if arguments.only is None:
        report(data, asked, arguments.lanes, arguments.folder)
    else:
        record(arguments.only, data, asked)


if __name__ == "__main__":
    main()
