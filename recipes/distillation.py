"""Teach the native model by the rankings of other lanes, or by rewards, and measure what that gives.

    python recipes/distillation.py ../shared/data/amazon_beauty --papers-split --lanes bm25,dense,cooccurrence
    python recipes/distillation.py ../shared/data/xquad_en --lanes bm25,dense --queries 20
    python recipes/distillation.py ../shared/data/scifact --lanes bm25,dense --queries 4 --codes 72 --levels 1
    python recipes/distillation.py ../shared/data/xquad_en --lanes bm25,dense --identifiers atomic --beside-words
    python recipes/distillation.py any/folder --reward rank --json figures.json

Two engines of the same lanes and settings are built: in one the native lane learns from the catalogue's text and the
histories alone, in the other also from what its other lanes would answer (`--share`, `--temperature`, `--histories`,
`--queries`). With `--reward` the first is then taught by rewards instead (GRPO). Both are measured, alone and fused, on
what neither has seen; intervals are paired bootstrap intervals. Folders and splits are those of `default_engine.py`.
With `--beside-words` both read vectors that hold the words of a text too, and are compared with the lanes of an engine
that reads the text encoder's alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folders
from default_engine import METRICS, interval, on_histories, on_words, without_last
from folders import Words, machine, progress

from genrail.engine import Engine
from genrail.evaluation import Evaluation
from genrail.evaluation.tables import text_table
from genrail.models.text_encoder import TextEncoder
from genrail.models.words_beside import WordsBeside

DEFAULT = "genrail, default"


def tables(engine: Engine, arguments: argparse.Namespace) -> dict[str, dict[str, Evaluation]]:
    """Measure an engine and each of its lanes."""
    found: dict[str, dict[str, Evaluation]] = {}
    _, test = Words.both(arguments.folder)
    if test is not None:
        found["words"] = on_words(engine, test)
    if (events := folders.events(arguments.folder)) is not None:
        for seen in ("excluded", "kept"):
            found[f"histories, seen {seen}"] = on_histories(engine, events, arguments.users, seen == "excluded")
    return found


def show(kind: str, runs: Mapping[str, Mapping[str, Evaluation]]) -> dict[str, Any]:
    """Print all methods of all engines, and what the teaching changed."""
    metrics = METRICS if kind == "words" else METRICS[:4]
    rows = [
        [f"{method} ({name})", *(f"{one.means[metric]:.4f}" for metric in metrics)]
        for name, run in runs.items()
        for method, one in run.items()
        if name in ("plain", "alone") or method in ("native", DEFAULT)
    ]
    print(f"\n{kind}\n{text_table(['method', *metrics], rows)}")
    plain, told = runs["plain"], {}
    others = {name: one for name, one in runs.get("alone", plain).items() if name not in ("native", DEFAULT)}
    for name, run in runs.items():
        for method in ("native", DEFAULT) if name != "alone" else ():
            rivals = [(method, plain[method])] if name != "plain" else []
            rivals += list(others.items())
            for rival, one in rivals:
                found = {metric: interval(run[method], one, metric) for metric in ("R@10", "nDCG@10")}
                told[f"{method} ({name}) over {rival}"] = found
    for pair, differences in told.items():
        print(f"{pair}: " + ", ".join(f"{metric} {said}" for metric, said in differences.items()), flush=True)
    means = {name: {method: one.means for method, one in run.items()} for name, run in runs.items()}
    return {"means": means, "differences": told}


def build(arguments: argparse.Namespace, seed: int, vectors: Path, recipe: str | None) -> Engine:
    """Build an engine whose native lane learns by this recipe, `sft` or `distill`; for None, one without this lane."""
    folder, encoder = arguments.folder, TextEncoder.load(max_tokens=arguments.max_tokens, cache=vectors)
    catalog, events = folders.items(folder, seed, arguments.title_only), folders.events(folder)
    if events is not None and arguments.papers_split:
        events = without_last(events, catalog)
    names = ("epochs", "learning_rate", "max_seconds", "identifiers", "levels", "codes", "pseudo_queries")
    given = {name: getattr(arguments, name) for name in names}
    if recipe is None:
        lanes = arguments.lanes.split(",")
        return Engine.build(catalog, interactions=events, encoder=encoder, seed=seed, progress=progress, lanes=lanes)
    lessons = {name: getattr(arguments, name) for name in ("share", "temperature", "histories", "queries", "depth")}
    return Engine.build(
        catalog,
        interactions=events,
        encoder=WordsBeside(encoder) if arguments.beside_words else encoder,
        seed=seed,
        progress=progress,
        lanes=["native", *arguments.lanes.split(",")],
        learning={"recipe": recipe, "distillation": {key: one for key, one in lessons.items() if one is not None}},
        **{name: value for name, value in given.items() if value is not None},
    )


def measure(arguments: argparse.Namespace, seed: int, vectors: Path) -> dict[str, Any]:
    """Build, teach and measure with one seed; give the figures."""
    runs: dict[str, dict[str, dict[str, Evaluation]]] = {}
    reports: dict[str, Any] = {}
    alone = [("alone", None)] if arguments.beside_words else []
    for name, recipe in (*alone, ("plain", "sft"), ("taught", "distill")):
        if name == "taught" and arguments.reward is not None:
            continue
        started = time.perf_counter()
        engine = build(arguments, seed, vectors, recipe)
        reports[name] = {"build seconds": round(time.perf_counter() - started, 1), **engine.describe()}
        runs[name] = tables(engine, arguments)
        if arguments.reward is not None and recipe is not None:
            events = folders.events(arguments.folder)
            if events is not None and arguments.papers_split:
                events = without_last(events, engine.catalog)
            report = engine.train(
                interactions=events, seed=seed, progress=progress, recipe="grpo", reward=arguments.reward
            )
            reports["rewarded"] = None if report is None else report.to_dict()
            runs["rewarded"] = tables(engine, arguments)
    print(json.dumps({"folder": arguments.folder.name, "seed": seed, "reports": reports}, default=str), flush=True)
    kinds = runs["plain"]
    return {kind: show(kind, {name: run[kind] for name, run in runs.items()}) for kind in kinds}


def main() -> None:
    """Measure one folder, once for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lanes", default="bm25,dense,cooccurrence", help="beside native; they are the teacher")
    parser.add_argument("--share", type=float, help="of a target's probability, for the teacher's items")
    parser.add_argument("--temperature", type=float, help="of the teacher's scores")
    parser.add_argument("--histories", type=int, help="that the teacher is asked about")
    parser.add_argument("--queries", type=int, help="made-up ones for each item that the teacher is asked about")
    parser.add_argument("--depth", type=int, help="items that the teacher lists")
    parser.add_argument("--pseudo-queries", type=int, help="for each item, learnt without the teacher")
    parser.add_argument("--identifiers", help="how items become codes: kmeans, rqvae, pq, lsh, attributes or atomic")
    parser.add_argument("--levels", type=int)
    parser.add_argument("--codes", type=int)
    parser.add_argument("--reward", help="teach by this reward instead: hit, rank, likeness or teacher")
    parser.add_argument("--beside-words", action="store_true", help="read the words of texts beside their vectors")
    parser.add_argument("--title-only", action="store_true", help="read the titles and no further text")
    parser.add_argument("--max-tokens", type=int, default=256, help="where texts are cut for the text encoder")
    parser.add_argument("--papers-split", action="store_true", help="see default_engine.py")
    parser.add_argument("--users", type=int, help="test only so many users")
    parser.add_argument("--seeds", type=int, default=1, help="repeat with so many seeds")
    parser.add_argument("--epochs", type=int, help="of the native model, at most")
    parser.add_argument("--learning-rate", type=float, help="of the native model, the highest")
    parser.add_argument("--max-seconds", type=float, help="stop the training of the native model after this long")
    parser.add_argument("--vectors", type=Path, help="folder that keeps text vectors between runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    print(f"command: python {' '.join(sys.argv)}\n{json.dumps(machine())}")
    with tempfile.TemporaryDirectory() as passing:
        vectors = arguments.vectors or Path(passing)
        figures = [measure(arguments, seed, vectors) for seed in range(arguments.seeds)]
    if arguments.json is not None:
        text = json.dumps({"machine": machine(), "runs": figures}, indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
