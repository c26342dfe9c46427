"""Measure an untrained language model on any folder: as a writer of titles on rails, and as a ranker.

    python recipes/language_model.py ../shared/data/esci_small --model SmolLM2-135M
    python recipes/language_model.py ../shared/data/esci_small --model Gemma-3-270M --part write
    python recipes/language_model.py ../shared/data/scifact --part rank --queries 100 --dtype bfloat16
    python recipes/language_model.py ../shared/data/amazon_beauty --part recommend --users 500
    python recipes/language_model.py any/folder --part recommend --first shop.genrail --scorers rails kept/rails

What the folder may hold is told in `folders.py`. The writer answers the judged queries of the test in several ways:
with the prompts, spellings and ends that are named, plain and calibrated; each is compared with the first one. The
ranker looks again at what a first stage found: RRF of BM25 and MiniLM for words, co-occurrence for histories;
its scores are mixed with the first stage's by a weight that is learnt on the other folds of the queries, and shrunk.
Nothing is trained; a scorer may be the folder of an engine that was taught (`teach.py --save`), and `--first` one whose
best items are ranked instead. `--queries` and `--users` draw some by the seed. Intervals are paired by query. Seconds
are processor seconds of this process, for each query.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import folders
import torch
from folders import Words, machine, progress
from ranking import RRF, plain_fusions, ranked

import genrail
from genrail import Catalog, Engine, Query, Ranking
from genrail.decoding import BeamSettings
from genrail.decoding.decoders import Calibrated, Decoder
from genrail.evaluation import evaluate
from genrail.evaluation.significance import paired_test
from genrail.evaluation.splits import leave_last_out
from genrail.evaluation.tables import text_table
from genrail.finders.finder_scorer import FinderScorer
from genrail.finding.registry import scorer_named
from genrail.models.checkpoints import load_checkpoint
from genrail.models.prompts import Example
from genrail.rng import generator

METRICS = ("nDCG@10", "R@10")
RAILS = "rails"  # among the scorers: the writer's own scores of these titles
EXAMPLES = (  # written for this recipe, of no data set
    Example("Northwind Hiking Boots for Men, Waterproof, Brown, Size 10", query="waterproof boots men"),
    Example("Brightly LED Desk Lamp with USB Charging Port, White", query="desk light with usb"),
    Example("Little Chef Wooden Play Kitchen Set for Toddlers, 12 Pieces", query="toy kitchen"),
    Example("Aquapure Replacement Water Filter Cartridge, Pack of 3", query="water filter refill"),
)
PROMPTS: dict[str, dict[str, Any]] = {
    "chat": {"chat": None},  # the model's own chat format, where it has one
    "plain": {"chat": False},
    "few-shot": {"chat": False, "examples": EXAMPLES},
}


@dataclass
class Writer:
    """Ask an engine with one decoder."""

    engine: Engine
    decoder: Decoder
    name: str

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query."""
        return self.engine.search_batch(queries, k, decoder=self.decoder)


def write(catalog: Catalog, words: Words, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the model write titles; print and give the figures of each way."""
    model: Any = load_checkpoint(arguments.model, dtype=arguments.dtype, progress=progress, packed=True)
    rails = BeamSettings(width=arguments.width, meaning="renormalised")
    rows: list[dict[str, Any]] = []
    first: Any = None  # the values of the first way, query by query: all others are compared with it
    for prompt, spelling, end in product(arguments.prompts, arguments.spellings, arguments.ends):
        settings = {**PROMPTS[prompt], "spelling": spelling, "end": end, "calibration": max(arguments.weights)}
        started = time.process_time()
        engine = Engine.build(catalog, model=model, progress=progress, **settings)
        build = time.process_time() - started
        for weight in arguments.weights:
            decoder: Decoder = Calibrated(rails, weight) if weight else rails
            started = time.process_time()
            way = Writer(engine, decoder, f"{prompt}, {spelling}, {end}, weight {weight}")
            found = evaluate(way, words.queries, words.qrels, metrics=METRICS, k=10, latency_queries=0)
            seconds = (time.process_time() - started) / len(words.queries)
            figures = {metric: round(found.means[metric], 4) for metric in METRICS}
            told = {"prompt": prompt, "spelling": spelling, "end": end, "weight": weight, **figures}
            values = found.measured.values[METRICS[0]]
            first = values if first is None else first
            test = paired_test(values, first, seed=arguments.seed)
            told[f"{METRICS[0]} against the first"] = str(test.difference)
            rows.append({**told, "seconds": round(seconds, 3), "build seconds": round(build, 1)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    _table(f"{arguments.model} writes", rows)
    return rows


def rank(first: Engine, asked: Mapping[str, Query], qrels: Any, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the model look again at what a first stage found; print and give the figures of each scorer."""
    model = load_checkpoint(arguments.model, dtype=arguments.dtype, progress=progress, packed=True)
    rows: list[dict[str, Any]] = []
    for name in arguments.scorers:
        if Path(name).is_dir():
            scorer: Any = FinderScorer(genrail.load(name).edition.finder)
        elif name == RAILS:
            spelled = {"model": model, "spelling": arguments.spellings[0], "calibration": 1.0}
            writer = Engine.build(first.catalog, "titles", progress=progress, **spelled)
            scorer = FinderScorer(writer.edition.finder)
        else:
            scorer = scorer_named(name, {"model": model, "text": arguments.text, "memory": arguments.memory})
        rows.append(ranked(name, scorer, first, asked, qrels, arguments.depth, arguments.seed))
    _table(f"{arguments.model} ranks {arguments.depth} of {first.name}, nDCG@10, {len(asked)} asked", rows)
    return rows


def histories(first: Engine, events: Any, arguments: argparse.Namespace) -> tuple[dict[str, Query], Any]:
    """Ask for the last event of some users."""
    catalog = first.catalog
    split = leave_last_out(events.sequences(catalog), items=len(catalog))
    held_out = split.test.sample(arguments.users, arguments.seed)
    ids = catalog.item_ids
    asked = {
        str(place): Query(history=[ids[row] for row in held_out.history(place).tolist()])
        for place in range(len(held_out))
    }
    return asked, {str(place): {ids[int(row)]: 1.0} for place, row in enumerate(held_out.targets)}


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        print(
            text_table([title, *rows[0]], [["", *(str(value) for value in row.values())] for row in rows]), flush=True
        )


def drawn(words: Words, most: int, seed: int) -> Words:
    """Draw some of the queries that have a right item, in their order."""
    judged = [one for one in words.queries if any(grade > 0 for grade in words.qrels.get(one, {}).values())]
    chosen = sorted(generator(seed, "queries").permutation(len(judged))[:most].tolist())
    return Words({judged[place]: words.queries[judged[place]] for place in chosen}, words.qrels)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="SmolLM2-135M")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--part", choices=["write", "rank", "recommend"], nargs="+", default=["write", "rank"])
    parser.add_argument("--queries", type=int, default=150, help="judged queries, drawn by the seed")
    parser.add_argument("--users", type=int, default=500, help="users whose last event is asked for")
    parser.add_argument("--prompts", nargs="+", choices=list(PROMPTS), default=list(PROMPTS))
    parser.add_argument("--spellings", nargs="+", default=["title"])
    parser.add_argument("--ends", nargs="+", choices=["eos", "newline"], default=["eos"], help="what closes a title")
    parser.add_argument("--weights", nargs="+", type=float, default=[0.0, 0.5, 1.0], help="of the calibration")
    parser.add_argument("--width", type=int, default=20, help="beams of the writer")
    parser.add_argument("--depth", type=int, default=50, help="items that are ranked")
    parser.add_argument(
        "--scorers", nargs="+", default=["query-likelihood"], help=f"kinds of scorers, {RAILS}, or folders of engines"
    )
    parser.add_argument("--first", type=Path, help="a kept engine whose best items are ranked by recommend")
    parser.add_argument("--text", choices=["title", "all"], default="all", help="what a ranker reads of an item")
    parser.add_argument("--memory", type=int, default=2048, help="megabytes for what the ranker made of the items")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args()


def main() -> None:
    """Print tables, and one line of JSON."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    catalog, events = folders.items(arguments.folder, arguments.seed), folders.events(arguments.folder)
    test = Words.both(arguments.folder)[1]
    figures: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(), "items": len(catalog)}
    if test is not None:
        words = drawn(test, arguments.queries, arguments.seed)
        figures["queries"] = len(words.queries)
        if "write" in arguments.part:
            figures["write"] = write(catalog, words, arguments)
        if "rank" in arguments.part:
            first = plain_fusions(Engine.build(catalog, lanes=["bm25", "dense"], progress=progress))[RRF]
            asked = {key: Query(text) for key, text in words.queries.items()}
            figures["rank"] = rank(first, asked, words.qrels, arguments)
    if events is not None and "recommend" in arguments.part:
        if arguments.first is None:
            first = Engine.build(catalog, "cooccurrence", interactions=events, progress=progress)
        else:
            first = genrail.load(arguments.first)
        figures["recommend"] = rank(first, *histories(first, events, arguments), arguments)
    print(json.dumps(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
