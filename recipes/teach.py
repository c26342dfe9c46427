"""Teach a language model on any folder, and measure it before and after.

    python recipes/teach.py ../shared/data/esci_small --part words --spelling kind-first --recipes distill --minutes 20
    python recipes/teach.py ../shared/data/scifact --part words --judged --recipes sft --minutes 30
    python recipes/teach.py ../shared/data/scifact --part words --judged --recipes grpo --engine kept/sft --rate 1e-4
    python recipes/teach.py ../shared/data/amazon_beauty --part histories --minutes 8 --users 300
    python recipes/teach.py ../shared/data/esci_small --part speed

What the folder may hold is told in `folders.py`. `words` teaches from the text of the catalogue, with `--judged` by the
queries of training too, and asks the judged queries of the test once, at the end; the teacher of `distill` is the
fusion of some lanes. `histories` compares the loss on rails with plain cross-entropy at equal processor time, `calrec`
the terms of CALRec with fine-tuning without them; what `--save` has kept already is measured, not taught again. `speed`
measures examples a second of one core and peak memory, as ratios within one run. `--minutes` are processor minutes of
each training; weights are chosen on requests that are held out. Intervals are paired.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import folders
import numpy as np
import torch
from folders import Words, machine, progress
from ranking import RRF, plain_fusions, ranked

import genrail
from genrail import Catalog, Engine, Interactions
from genrail.evaluation import Evaluation, evaluate, evaluate_next_item
from genrail.evaluation.significance import paired_test
from genrail.evaluation.splits import leave_last_out
from genrail.evaluation.tables import text_table
from genrail.finders.finder_scorer import FinderScorer
from genrail.memory import give_back_memory
from genrail.models.prompts import PromptTemplate
from genrail.types import Query

METRICS = ("nDCG@10", "R@10")
MEMORY = Path("/proc/self")
# Few words around a request: a model that is taught needs no instruction, and half of a short prompt is template else.
# What announces an answer stands before each title of a past too, so a target is read once, with the next past.
BRIEF = PromptTemplate(
    system="",
    search="{query}",
    recommendation="{history}",
    both="{history}\n{query}",
    empty="?",
    answer=">\n",
    line=">\n{title}",
)
LOSSES: dict[str, dict[str, Any]] = {"cross-entropy": {"loss": "cross-entropy"}, "rails": {"loss": "rails"}}
CALREC: dict[str, dict[str, Any]] = {
    "sft": {"recipe": "sft"},
    "calrec": {"recipe": "calrec"},
    "calrec, target-target alone": {"recipe": "calrec", "user_target": 0.0},
    "calrec, user-target alone": {"recipe": "calrec", "target_target": 0.0},
}
SPEEDS: dict[str, dict[str, Any]] = {
    "rails, lora, packed": {},
    "cross-entropy, lora, packed": {"loss": "cross-entropy"},
    "rails, all, packed": {"learns": "all"},
    "cross-entropy, all, packed": {"loss": "cross-entropy", "learns": "all"},
    "rails, lora, padded": {"pack_tokens": None},
    "rails, lora, packed, bfloat16": {"precision": "bfloat16"},
    "rails, top third, packed": {"learns": "top"},
}


def untaught(catalog: Catalog, arguments: argparse.Namespace) -> Engine:
    """Load the model, to be asked briefly, on the rails; or an engine that was taught before."""
    if arguments.engine is not None:
        return genrail.load(arguments.engine)
    return Engine.build(
        catalog, model=arguments.model, template=BRIEF, chat=False, spelling=arguments.spelling, progress=progress
    )


def taught(engine: Engine, arguments: argparse.Namespace, **how: Any) -> tuple[Engine, dict[str, Any]]:
    """Teach a copy of an engine for so many processor minutes."""
    own = Engine(engine.edition)
    settings = {"max_seconds": 60 * arguments.minutes, "clock": "processor", "epochs": 1000, "patience": 1000}
    settings |= {"learning_rate": arguments.rate, "learns": arguments.learns, "epoch": arguments.epoch}
    settings |= {"validation": arguments.validation, "precision": arguments.precision, **how}
    settings |= {} if arguments.layers is None else {"layers": arguments.layers}
    report: Any = own.train(seed=arguments.seed, progress=progress, **settings)
    data = ("queries", "qrels", "interactions", "teacher")
    told = {"settings": {name: str(value) for name, value in how.items() if name not in data}, **report.summary()}
    curve = [one.flat() for one in report.loop.history]
    for line in curve:
        print(json.dumps(line), flush=True)
    return own, {**told, "curve": curve}


def words(catalog: Catalog, train: Words | None, test: Words, arguments: argparse.Namespace) -> dict[str, Any]:
    """Teach from the text of the catalogue, with `--judged` by judged queries too, and ask those of the test."""
    before = untaught(catalog, arguments)
    wanted = not arguments.only_taught or arguments.rank or "distill" in arguments.recipes
    teacher = Engine.build(catalog, lanes=arguments.lanes, progress=progress) if wanted else None
    lexical = Engine.build(folders.items(arguments.folder, arguments.seed, title_only=True), "bm25")
    first: dict[str, Engine] = {"BM25, titles": lexical}
    if teacher is not None and not arguments.only_taught:
        first |= {"before": before, " + ".join(arguments.lanes): teacher}
    found = {name: _asked(engine, test) for name, engine in first.items()}
    rows = [[name, *_row(one)] for name, one in found.items()]
    figures: dict[str, Any] = {name: one.means for name, one in found.items()}
    for recipe in arguments.recipes:
        how: dict[str, Any] = {"made_up": arguments.made_up, "loss": arguments.loss}
        how |= {"made": "written", "query_file": arguments.written} if arguments.written else {}
        how |= {"teacher": teacher, "depth": arguments.depth} if recipe == "distill" else {}
        if train is not None and arguments.judged:
            judged = {query_id: train.qrels[query_id] for query_id in train.queries if query_id in train.qrels}
            how |= {"queries": train.queries, "qrels": judged}
        engine, told = taught(before, arguments, recipe=recipe, pseudo_queries=arguments.pseudo_queries, **how)
        _kept(engine, recipe, arguments)
        if arguments.rank and teacher is not None:
            scorer = FinderScorer(engine.edition.finder)
            asked = {query_id: Query(text) for query_id, text in test.queries.items()}
            stages = {RRF: plain_fusions(teacher)[RRF], "the fusion": teacher}
            for stage, first_stage in stages.items():
                of = f"the best 50 of {stage}"
                told[of] = ranked(of, scorer, first_stage, asked, test.qrels, 50, arguments.seed)
                print(of, json.dumps(told[of]), flush=True)
        one = _asked(engine, test)
        against = paired_test(*(each.measured.values["nDCG@10"] for each in (one, found["BM25, titles"])))
        figures[recipe] = {**one.means, "against BM25 on titles": against.to_dict(), **told}
        rows.append([recipe, *_row(one)])
        print(f"{recipe} against BM25 on titles, nDCG@10: {against.difference}")
        print(text_table([f"{arguments.model}, {arguments.spelling}", *METRICS], rows), flush=True)
    return figures


def _kept(engine: Engine, name: str, arguments: argparse.Namespace) -> None:
    if arguments.save is not None:
        engine.save(arguments.save / name)


def _asked(engine: Engine, test: Words) -> Evaluation:
    return evaluate(engine, test.queries, test.qrels, metrics=METRICS, k=10, latency_queries=0)


def _row(found: Evaluation) -> list[str]:
    return [f"{found.means[metric]:.4f}" for metric in METRICS]


def histories(
    catalog: Catalog, events: Interactions, ways: dict[str, dict[str, Any]], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Teach from histories in several ways, and ask what the test users took next; each is compared with the first."""
    before = untaught(catalog, arguments)
    split = leave_last_out(events.sequences(catalog), items=len(catalog))
    test = split.test.sample(min(arguments.users, len(split.test)), arguments.seed)
    engines = {"popularity": Engine.build(catalog, "popularity", interactions=events)}
    told: dict[str, dict[str, Any]] = {"popularity": {}}
    for name, how in ways.items():
        if arguments.save is not None and (arguments.save / name).exists():
            engines[name], told[name] = genrail.load(arguments.save / name), {}
            continue
        engines[name], told[name] = taught(before, arguments, interactions=events, pseudo_queries=0, **how)
        _kept(engines[name], name, arguments)
    values, figures, rows = {}, {}, []
    first = next(iter(ways))
    for name, engine in engines.items():
        found = evaluate_next_item(engine, test, catalog, metrics=METRICS, k=10, latency_queries=0)
        values[name] = np.array(found.measured.values["R@10"])
        figures[name] = {**found.means, **told[name]}
        rows.append([name, *_row(found), ""])
        if name in ways and name != first:
            compared = paired_test(values[name], values[first], seed=arguments.seed).difference
            figures[f"{name} - {first}, R@10"] = [compared.mean, compared.low, compared.high]
            rows[-1][-1] = str(compared)
        print(text_table([arguments.model, *METRICS, f"R@10 against {first}"], rows), flush=True)
    return figures


def speed(catalog: Catalog, arguments: argparse.Namespace) -> dict[str, Any]:
    """Learn from the same few requests in several ways; give requests a processor second, and peak memory (Linux)."""
    before = untaught(catalog, arguments)
    figures: dict[str, Any] = {}
    for name, how in SPEEDS.items():
        count = arguments.requests
        settings = {"pseudo_queries": 1, "validation": 0, "epoch": count, "epochs": 1, **how}
        give_back_memory()
        MEMORY.joinpath("clear_refs").write_text("5")  # forget earlier peaks
        held = resident("VmRSS")
        started = time.process_time()
        report: Any = Engine(before.edition).train(seed=arguments.seed, clock="processor", **settings)
        figures[name] = {"megabytes at the peak": resident("VmHWM") - held}
        figures[name] |= {"requests a second": count / report.loop.seconds, "weights": report.weights}
        figures[name]["seconds with preparation"] = time.process_time() - started
        first = figures[next(iter(figures))]["requests a second"]
        figures[name]["ratio"] = figures[name]["requests a second"] / first
        print(name, json.dumps(figures[name]), flush=True)
    return figures


def resident(name: str) -> int:
    """Read how much memory this process holds (VmRSS) or held at most (VmHWM), megabytes."""
    lines = MEMORY.joinpath("status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--part", nargs="+", choices=["words", "histories", "calrec", "speed"], default=["words", "histories"]
    )
    parser.add_argument("--model", default="SmolLM2-135M")
    parser.add_argument("--spelling", default="title", help="how items are called: title, kind-first, brand-last, ...")
    parser.add_argument("--engine", type=Path, help="go on from an engine that was kept; grpo needs one")
    parser.add_argument("--recipes", nargs="+", default=["sft", "distill"])
    parser.add_argument("--minutes", type=float, default=10, help="processor minutes of each training")
    parser.add_argument("--learns", default="lora", choices=["lora", "all", "top"])
    parser.add_argument("--layers", type=int, help="so many of the last blocks learn")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of the activations")
    parser.add_argument("--rate", type=float, default=5e-4, help="learning rate")
    parser.add_argument("--epoch", type=int, default=1000, help="requests between two validations")
    parser.add_argument("--validation", type=int, default=48, help="requests that are held out")
    parser.add_argument("--pseudo-queries", type=int, default=2, help="made-up queries for each item")
    parser.add_argument("--made-up", type=int, help="at most so many of them")
    parser.add_argument("--judged", action="store_true", help="learn from the judged queries of training too")
    parser.add_argument("--rank", action="store_true", help="let the taught model rank the lanes' best 50 too")
    parser.add_argument("--save", type=Path, help="keep what was taught in this folder, by name")
    parser.add_argument("--written", help="file of queries that the untaught model writes, instead of cut ones")
    parser.add_argument("--loss", default="rails", help="rails, cross-entropy, pairwise, listwise or prefix-margin")
    parser.add_argument("--depth", type=int, default=10, help="items that the teacher lists")
    parser.add_argument("--lanes", nargs="+", default=["bm25", "dense"], help="of the teacher, fused")
    parser.add_argument("--only-taught", action="store_true", help="measure neither the untaught model nor the teacher")
    parser.add_argument("--queries", type=int, help="the first so many of the test")
    parser.add_argument("--focus", help="a filter: the targets of CALRec's second stage")
    parser.add_argument("--users", type=int, default=300, help="test users, drawn by the seed")
    parser.add_argument("--requests", type=int, default=96, help="of the measurement of speed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args()


def main() -> None:
    """Print tables, and one line of JSON."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    catalog, events = folders.items(arguments.folder, arguments.seed), folders.events(arguments.folder)
    train, test = Words.both(arguments.folder)
    figures: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(), "items": len(catalog)}
    if "words" in arguments.part and test is not None:
        asked = dict(list(test.queries.items())[: arguments.queries])
        figures["queries"] = len(asked)
        judged = {query_id: grades for query_id, grades in test.qrels.items() if query_id in asked}
        figures["words"] = words(catalog, train, Words(asked, judged), arguments)
    focus = {"calrec, two stages": {"recipe": "calrec", "focus": arguments.focus}} if arguments.focus else {}
    for part, ways in (("histories", LOSSES), ("calrec", {**CALREC, **focus})):
        if part in arguments.part and events is not None:
            figures[part] = histories(catalog, events, ways, arguments)
    if "speed" in arguments.part:
        figures["speed"] = speed(catalog, arguments)
    print(json.dumps(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
