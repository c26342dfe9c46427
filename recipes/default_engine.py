"""Measure the engine that `Engine.build` makes by default, beside each of its lanes, on any folder of data.

    python recipes/default_engine.py ../shared/data/amazon_beauty --seeds 3
    python recipes/default_engine.py ../shared/data/esci_small --title-only
    python recipes/default_engine.py ../shared/data/scifact --vectors vectors
    python recipes/default_engine.py any/folder --json figures.json

What the folder may hold is told in `folders.py`; the last event of each user is the test, which the engine never sees.
Items are renumbered in a seeded order, because the order of a file often tells what was taken first. All figures rank
the whole catalogue. Intervals are paired bootstrap intervals over queries or users.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import folders
import numpy as np
from folders import Words, machine, progress
from ranking import plain_fusions

from genrail.catalog import Catalog, Interactions
from genrail.engine import Engine
from genrail.engine.rivals import lanes_of
from genrail.evaluation import Evaluation, evaluate, evaluate_next_item, leave_last_out
from genrail.evaluation.significance import paired_test
from genrail.evaluation.slices import Slice, by_negation
from genrail.evaluation.tables import text_table
from genrail.finders.fused import Fused
from genrail.models.text_encoder import TextEncoder
from genrail.types import Query, Retriever

METRICS = ["R@5", "R@10", "R@100", "nDCG@10", "MRR"]


class Named:
    """Show an engine under another name (a `Retriever`)."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.catalog, self.search_batch, self.name = engine.catalog, engine.search_batch, name


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Take the settings of lanes and training that were given."""
    lanes = {} if arguments.lanes is None else {"lanes": arguments.lanes.split(",")}
    return lanes | {
        name: value for name in ("epochs", "max_seconds") if (value := getattr(arguments, name)) is not None
    }


def retrievers(engine: Engine, words: bool) -> list[Retriever]:
    """List the engine, its lanes alone, and for words two plain fusions of BM25 and vectors."""
    finder = engine.edition.finder
    assert isinstance(finder, Fused)
    listed: list[Retriever] = [Named(engine, "genrail, default"), *lanes_of(engine, words).values()]
    if words and {"bm25", "dense"} <= set(finder.lanes):
        listed += [Named(fused, name) for name, fused in plain_fusions(engine).items()]
    return listed


def interval(one: Evaluation, other: Evaluation, metric: str) -> str:
    """Tell by how much one is better than another, with a paired 95 % bootstrap interval."""
    return gain(one.measured.values[metric], other.measured.values[metric])


def gain(one: Any, other: Any) -> str:
    """Tell by how much some values are higher than others of the same queries, with the interval where there is one."""
    found = paired_test(one, other).difference
    interval = "" if found.low is None else f" [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{found.mean:+.4f}{interval}"


def show(title: str, evaluations: Mapping[str, Evaluation], metrics: Sequence[str]) -> None:
    """Print a table, and the default's lead over the best of the others."""
    rows = [[name, *(f"{one.means[metric]:.4f}" for metric in metrics)] for name, one in evaluations.items()]
    print(f"\n{title}\n{text_table(['method', *metrics], rows)}")
    default, *others = evaluations.values()
    if not others:
        return
    best = max(others, key=lambda one: one.means["nDCG@10"])
    name = next(name for name, one in evaluations.items() if one is best)
    print(f"default over {name}, nDCG@10: {interval(default, best, 'nDCG@10')}", flush=True)


def on_words(engine: Engine, test: Words) -> dict[str, Evaluation]:
    """Measure judged queries."""
    return {
        one.name: evaluate(one, test.queries, test.qrels, metrics=METRICS, latency_queries=0)
        for one in retrievers(engine, words=True)
    }


def show_soft_filters(engine: Engine, test: Words) -> None:
    """Print what reading values of the catalogue's columns brings: on all queries, where one was read, on negations."""
    finder = engine.edition.finder
    assert isinstance(finder, Fused)
    if not finder.reader.filters.columns:
        print("soft filters: no column of this catalogue has values that items share")
        return
    off = finder.replaced(reader=replace(finder.reader, strength=0.0))
    sides = {"read": engine, "not read": Engine(type(engine.edition)(engine.catalog, off))}
    metrics = ["nDCG@10"]
    found = {
        name: evaluate(one, test.queries, test.qrels, metrics=metrics, latency_queries=0).measured.by_query("nDCG@10")
        for name, one in sides.items()
    }
    asked = {key: Query(text) for key, text in test.queries.items()}
    answers = zip(asked, engine.search_batch(list(asked.values()), 10), strict=True)
    named = frozenset(key for key, ranking in answers if any("share" in one for one in ranking.reading))
    rows = []
    for part in [Slice("all", frozenset(asked)), Slice("a value was read", named), *by_negation(asked)]:
        keys = [key for key in found["read"] if key in part.query_ids]
        if keys:
            on, without = (np.array([values[key] for key in keys]) for values in found.values())
            rows.append([part.name, str(len(keys)), f"{on.mean():.4f}", f"{without.mean():.4f}", gain(on, without)])
    columns = ["queries", "number", "values read", "not read", "difference"]
    print(f"\nsoft filters, nDCG@10: {engine.describe()['soft filters']}\n{text_table(columns, rows)}", flush=True)


def show_negations(found: Mapping[str, Evaluation], test: Words) -> None:
    """Print how the methods do on queries that say what is not wanted, where there are some."""
    asked = {key: Query(text) for key, text in test.queries.items()}
    with_one = next((part for part in by_negation(asked) if part.name == "with a negation"), Slice("none", frozenset()))
    values = {name: one.measured.by_query("nDCG@10") for name, one in found.items()}
    default = next(iter(values.values()))
    keys = [key for key in default if key in with_one.query_ids]
    if keys:
        told = {name: np.array([each[key] for key in keys]) for name, each in values.items()}
        first = next(iter(told.values()))
        rows = [[name, f"{one.mean():.4f}", "" if one is first else gain(first, one)] for name, one in told.items()]
        columns = [f"{with_one.name}, {len(keys)} queries", "nDCG@10", "default's lead"]
        print(f"\n{text_table(columns, rows)}", flush=True)


def on_histories(engine: Engine, events: Interactions, users: int | None, exclude_seen: bool) -> dict[str, Evaluation]:
    """Measure each user's last event."""
    split = leave_last_out(events.sequences(engine.catalog), items=len(engine.catalog))
    held_out = split.test if users is None else split.test.sample(users)
    return {
        one.name: evaluate_next_item(one, held_out, engine.catalog, exclude_seen=exclude_seen)
        for one in retrievers(engine, words=False)
    }


def latency(engine: Engine, queries: Sequence[Query]) -> dict[str, float]:
    """Time requests one by one after a warm-up, in milliseconds."""
    seconds = []
    for query in queries:
        started = time.perf_counter()
        engine.search_batch([query], 10)
        seconds.append(time.perf_counter() - started)
    kept = np.array(seconds[len(seconds) // 10 :]) * 1000
    return {"p50 ms": round(float(np.median(kept)), 2), "p99 ms": round(float(np.percentile(kept, 99)), 2)}


def built(
    folder: Path, catalog: Catalog, events: Interactions | None, arguments: Any, seed: int, vectors: Path
) -> Engine:
    """Build the default engine, or take the one that was kept."""
    encoder = TextEncoder.load(max_tokens=arguments.max_tokens, cache=vectors)
    kept = None if arguments.engine is None else arguments.engine / f"{folder.name}-{seed}"
    if kept is not None and kept.exists():
        return Engine.load(kept, encoder=encoder)
    train, _ = Words.both(folder)
    given = {} if train is None or arguments.no_train else {"queries": train.queries, "qrels": train.qrels}
    if events is not None and arguments.papers_split:
        events = without_last(events, catalog)
    engine = Engine.build(
        catalog,
        interactions=events,
        **given,
        encoder=encoder,
        seed=seed,
        progress=progress,
        **settings_of(arguments),
    )
    if kept is not None:
        engine.save(kept)
    return engine


def measure(folder: Path, arguments: argparse.Namespace, seed: int, vectors: Path) -> dict[str, Any]:
    """Build the default engine on a folder and measure it; give the figures."""
    catalog, events = folders.items(folder, seed, arguments.title_only), folders.events(folder)
    _, test = Words.both(folder)
    started = time.perf_counter()
    engine = built(folder, catalog, events, arguments, seed, vectors)
    for name, lane in engine.edition.finder.parts.items():
        if lane.report is not None:
            print(json.dumps({f"training of {name}": lane.report.to_dict()}), flush=True)
    facts: dict[str, Any] = {
        "folder": folder.name,
        "seed": seed,
        "items": len(engine),
        "build seconds": round(time.perf_counter() - started, 1),
        "peak memory MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),  # KiB on Linux
    }
    print(json.dumps(facts))
    for name, value in engine.describe().items():
        if name.startswith("weights"):
            print(f"{name}: {value}", flush=True)
    tables: dict[str, dict[str, Evaluation]] = {}
    if test is not None:
        tables["words"] = on_words(engine, test)
        show_soft_filters(engine, test)
        facts["latency, words"] = latency(engine, [Query(text) for text in list(test.queries.values())[:200]])
    if events is not None:
        for seen in ("excluded", "kept"):
            tables[f"histories, seen {seen}"] = on_histories(engine, events, arguments.users, seen == "excluded")
        pasts = [list(past) for _, past in zip(range(200), _pasts(events, engine.catalog), strict=False)]
        facts["latency, histories"] = latency(engine, [Query(history=past) for past in pasts])
    if test is not None:
        show_negations(tables["words"], test)
    for name, table in tables.items():
        show(f"{folder.name}, seed {seed}, {name}", table, METRICS if name == "words" else METRICS[:4])
        facts[name] = {key: one.means for key, one in table.items()}
    print(json.dumps({name: value for name, value in facts.items() if name.startswith("latency")}), flush=True)
    return facts


def _pasts(events: Interactions, catalog: Catalog) -> Any:
    sequences = events.sequences(catalog)
    for user in range(len(sequences.user_ids)):
        rows = sequences.rows[sequences.offsets[user] : sequences.offsets[user + 1] - 1]
        if len(rows):
            yield [catalog.item_ids[row] for row in rows.tolist()]


def without_last(events: Interactions, catalog: Catalog) -> Interactions:
    """Leave out each user's last event, so that the engine holds out, and never learns from, the one before it."""
    sequences = events.sequences(catalog)
    ids = catalog.item_ids
    ends = sequences.offsets[1:] - 1
    return Interactions.from_sequences(
        {
            user: [ids[row] for row in sequences.rows[begin:end].tolist()]
            for user, begin, end in zip(sequences.user_ids, sequences.offsets[:-1], ends, strict=True)
            if end > begin
        }
    )


def main() -> None:
    """Measure one folder, once for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--title-only", action="store_true", help="read the titles and no further text")
    parser.add_argument("--no-train", action="store_true", help="do not give the engine the training queries")
    parser.add_argument("--max-tokens", type=int, default=256, help="where texts are cut for the text encoder")
    parser.add_argument("--lanes", help="build these lanes instead of the default ones, for example bm25,dense,lookup")
    parser.add_argument(
        "--papers-split",
        action="store_true",
        help="as in papers: the engine learns from all but each user's last two events (as a shop: all but the last)",
    )
    parser.add_argument("--users", type=int, help="test only so many users")
    parser.add_argument("--seeds", type=int, default=1, help="repeat with so many seeds")
    parser.add_argument("--epochs", type=int, help="of the native model, at most")
    parser.add_argument("--max-seconds", type=float, help="stop the training of the native model after this long")
    parser.add_argument("--vectors", type=Path, help="folder that keeps text vectors between runs")
    parser.add_argument("--engine", type=Path, help="folder that keeps the engines that were built, to measure again")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    print(f"command: python {' '.join(sys.argv)}\n{json.dumps(machine())}")
    with tempfile.TemporaryDirectory() as passing:
        vectors = arguments.vectors or Path(passing)
        figures = [measure(arguments.folder, arguments, seed, vectors) for seed in range(arguments.seeds)]
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({"machine": machine(), "runs": figures}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
