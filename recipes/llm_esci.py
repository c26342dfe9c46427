"""Measure an untrained language model on product search: as a writer of titles on rails, and as a ranker.

    python recipes/llm_esci.py --data ../shared/data --model SmolLM2-135M
    python recipes/llm_esci.py --data ../shared/data --model Gemma-3-270M --part write
    python recipes/llm_esci.py --data ../shared/data --part rank --queries 30 --depth 20

The writer: on the rails, plain, and with what a title has anyway taken off while searching. The ranker: the first stage
is the fusion of BM25 and MiniLM; its best titles are scored, and mixed with it by a weight that is learnt on the other
folds of the queries. Nothing is trained. Intervals are paired by query. Seconds are processor seconds of this process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from folders import machine

from genrail import Catalog, Engine, Query, Ranking
from genrail.catalog import read_qrels, read_queries
from genrail.decoding import BeamSettings
from genrail.decoding.decoders import Calibrated, Decoder
from genrail.evaluation import Evaluation, evaluate
from genrail.evaluation.significance import paired_test
from genrail.evaluation.tables import text_table
from genrail.models.checkpoints import load_checkpoint
from genrail.models.prompts import Example
from genrail.ranking.language_model import QueryLikelihood, Relevance, TitleLikelihood
from genrail.rng import generator

METRICS = ("nDCG@10", "R@10")
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)  # of the ranker's score, per unit of the first stage's spread
FOLDS = 5
EXAMPLES = (  # written for this recipe, of no data set
    Example("Northwind Hiking Boots for Men, Waterproof, Brown, Size 10", query="waterproof boots men"),
    Example("Brightly LED Desk Lamp with USB Charging Port, White", query="desk light with usb"),
    Example("Little Chef Wooden Play Kitchen Set for Toddlers, 12 Pieces", query="toy kitchen"),
    Example("Aquapure Replacement Water Filter Cartridge, Pack of 3", query="water filter refill"),
)


@dataclass
class Writer:
    """Ask an engine with one decoder."""

    engine: Engine
    decoder: Decoder
    name: str

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query."""
        return self.engine.search_batch(queries, k, decoder=self.decoder)


def write(arguments: argparse.Namespace, catalog: Catalog, queries: dict[str, str], qrels: Any) -> dict[str, Any]:
    """Let the model write titles; give the figures of each way."""
    model = load_checkpoint(arguments.model, progress=_show)
    started = time.process_time()
    chat = {"auto": None, "yes": True, "no": False}[arguments.chat]
    examples = EXAMPLES if arguments.few_shot else ()
    engine = Engine.build(catalog, model=model, calibration=1.0, chat=chat, examples=examples, progress=_show)
    figures: dict[str, Any] = {"build seconds": round(time.process_time() - started, 1)}
    rails = BeamSettings(width=arguments.width, meaning="renormalised")
    ways: dict[str, Decoder] = {"plain": rails, "calibrated, 1": Calibrated(rails)}
    if arguments.all:
        ways["calibrated, .5"] = Calibrated(rails, 0.5)
        ways["calibrated, .75"] = Calibrated(rails, 0.75)
    rows = []
    for name, decoder in ways.items():
        started = time.process_time()
        found = evaluate(Writer(engine, decoder, name), queries, qrels, metrics=METRICS, k=10, latency_queries=0)
        seconds = (time.process_time() - started) / len(queries)
        figures[name] = {**_figures(found), "seconds a query": round(seconds, 3)}
        rows.append([name, *(f"{found.means[metric]:.4f}" for metric in METRICS), f"{seconds:.2f}"])
    print(text_table([f"{arguments.model} writes", *METRICS, "seconds"], rows), flush=True)
    return figures


def rank(arguments: argparse.Namespace, catalog: Catalog, queries: dict[str, str], qrels: Any) -> dict[str, Any]:
    """Score the first stage's best titles with the model; give the figures of each scorer, alone and mixed."""
    model: Any = load_checkpoint(arguments.model, progress=_show)
    scorers = {
        "query": lambda: QueryLikelihood(model),
        "title": lambda: TitleLikelihood(model),
        "relevance": lambda: Relevance(model),
    }
    first = Engine.build(catalog, lanes=["bm25", "dense"], progress=_show)
    rankings = first.search_batch([Query(text) for text in queries.values()], k=arguments.depth)
    base = np.array([_ndcg(ranking.item_ids, qrels[one]) for one, ranking in zip(queries, rankings, strict=True)])
    figures: dict[str, Any] = {"first stage nDCG@10": float(base.mean())}
    rows = [["BM25 + MiniLM", f"{base.mean():.4f}", "", "", ""]]
    for name in arguments.scorers:
        scorer = scorers[name]()
        started = time.process_time()
        scores = [
            scorer.score(text, [], [hit.title for hit in ranking])
            for text, ranking in zip(queries.values(), rankings, strict=True)
        ]
        seconds = (time.process_time() - started) / len(queries)
        table = np.array(
            [
                [_ndcg(_mixed(ranking, found, weight), qrels[one]) for weight in (*WEIGHTS, np.inf)]
                for one, ranking, found in zip(queries, rankings, scores, strict=True)
            ]
        )
        mixed, weights = _cross_fitted(table[:, :-1], arguments.seed)
        test = paired_test(mixed, base, seed=arguments.seed)
        low, high = test.difference.low, test.difference.high
        figures[name] = {
            "alone": float(table[:, -1].mean()),
            "mixed": float(mixed.mean()),
            "weights of the folds": weights,
            "difference": [float(mixed.mean() - base.mean()), low, high],
            "seconds a query": round(seconds, 2),
        }
        interval = f"{mixed.mean() - base.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
        rows.append([name, f"{mixed.mean():.4f}", interval, f"{table[:, -1].mean():.4f}", f"{seconds:.2f}"])
        print(text_table(["ranker", "mixed nDCG@10", "against the first stage", "alone", "seconds"], rows), flush=True)
    return figures


def _mixed(ranking: Ranking, scores: Any, weight: float) -> list[str]:
    """Order a first stage's hits by its score plus the ranker's, each brought to one spread within the query."""
    own = np.array([hit.score for hit in ranking])
    total = _spread(scores) if weight == np.inf else _spread(own) + weight * _spread(scores)
    return [ranking.item_ids[place] for place in np.argsort(-total, kind="stable")]


def _spread(values: Any) -> Any:
    return (values - values.mean()) / (values.std() or 1.0)


def _cross_fitted(table: Any, seed: int) -> tuple[Any, list[float]]:
    """Answer each fold of the queries with the weight that was best on the others."""
    order = generator(seed, "folds").permutation(len(table))
    mixed, weights = np.zeros(len(table)), []
    for fold in np.array_split(order, FOLDS):
        others = np.setdiff1d(order, fold)
        best = int(table[others].mean(axis=0).argmax())
        mixed[fold] = table[fold, best]
        weights.append(WEIGHTS[best])
    return mixed, weights


def _ndcg(item_ids: Sequence[str], grades: Any, cutoff: int = 10) -> float:
    gains = np.array([max(0.0, grades.get(item_id, 0.0)) for item_id in item_ids[:cutoff]])
    ideal = np.sort([max(0.0, grade) for grade in grades.values()])[::-1][:cutoff]
    best = float((ideal / np.log2(np.arange(len(ideal)) + 2)).sum())
    return float((gains / np.log2(np.arange(len(gains)) + 2)).sum()) / best if best else 0.0


def _figures(found: Evaluation) -> dict[str, float]:
    return {metric: round(found.means[metric], 4) for metric in METRICS}


def _show(stage: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{stage}: {done}/{total}   ", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Print tables, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds esci_small")
    parser.add_argument("--model", default="SmolLM2-135M")
    parser.add_argument("--part", choices=["write", "rank"], nargs="+", default=["write", "rank"])
    parser.add_argument("--queries", type=int, default=75, help="the first so many")
    parser.add_argument("--width", type=int, default=20, help="beams of the writer")
    parser.add_argument("--chat", choices=["auto", "yes", "no"], default="auto", help="the chat template")
    parser.add_argument("--few-shot", action="store_true", help="show four answered requests in each prompt")
    parser.add_argument("--all", action="store_true", help="further weights of the calibration")
    parser.add_argument("--depth", type=int, default=50, help="titles that are ranked")
    parser.add_argument("--scorers", nargs="+", choices=["query", "title", "relevance"], default=["query"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = arguments.data / "esci_small"
    catalog = Catalog.read(folder / "products.csv.gz", title="title")
    asked = read_queries(folder / "queries.csv.gz")
    queries = dict(list(asked.items())[: arguments.queries])
    qrels = {one: grades for one, grades in read_qrels(folder / "labels.csv.gz").items() if one in queries}
    figures: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine()}
    if "write" in arguments.part:
        figures["write"] = write(arguments, catalog, queries, qrels)
    if "rank" in arguments.part:
        figures["rank"] = rank(arguments, catalog, queries, qrels)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
