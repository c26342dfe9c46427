"""Measure n-grams as identifiers on any folder of texts and judged queries, beside words, vectors and written titles.

    python recipes/seal.py ../shared/data/xquad_en --pseudo-queries 2
    python recipes/seal.py ../shared/data/scifact --learn --validation 80 --set max_seconds=1800 --set layers=12
    python recipes/seal.py ../shared/data/scifact --queries 100 --methods bm25

What the folder may hold is told in `folders.py`. With `--learn` the model is taught by the queries of training, but for
`--validation` of them, on which the weights of the fusion with BM25 are learnt; with `--pseudo-queries` by queries made
up of the texts themselves. Nothing else is chosen here: the settings are those of the recipe. The test is asked once.
Intervals are paired by query; seconds are processor seconds of this process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import folders
import torch
from folders import Words, machine, progress

import genrail
from genrail.catalog import Catalog
from genrail.cli.reading import read_settings
from genrail.engine import Engine
from genrail.evaluation.significance import paired_test
from genrail.evaluation.tables import text_table
from genrail.finders.fusing import FusedRecipe
from genrail.finders.seal import Seal
from genrail.finding import Data, Edition, Finder, FindOptions, resolve
from genrail.models.checkpoints import load_checkpoint
from genrail.rng import generator
from genrail.types import Query, Ranking

METRICS = ("nDCG@10", "R@10", "R@100")
TOGETHER = 60  # queries that all methods answer in turn: as many as a finder remembers what it wrote for


@dataclass
class Recorded:
    """Give the answers that a finder gave before, and tell what they cost."""

    name: str
    finder: Any
    answers: dict[str, Ranking] = field(default_factory=dict)
    seconds: float = 0.0

    def ask(self, texts: Sequence[str], k: int) -> None:
        """Ask the finder, and remember."""
        started = time.process_time()
        found = self.finder.search_batch([Query(text) for text in texts], k)
        self.seconds += time.process_time() - started
        self.answers |= dict(zip(texts, found, strict=True))

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Give what was remembered."""
        return [self.answers[str(query.text)] for query in queries]


def taken(words: Words, count: int, seed: int, purpose: str) -> tuple[Words, Words]:
    """Part judged queries into so many, drawn by seed, and the others."""
    ids = [query_id for query_id in words.queries if query_id in words.qrels]
    order = [ids[place] for place in generator(seed, purpose).permutation(len(ids))]
    return (
        Words({query_id: words.queries[query_id] for query_id in order[:count]}, words.qrels),
        Words({query_id: words.queries[query_id] for query_id in order[count:]}, words.qrels),
    )


def seal_variants(finder: Seal) -> dict[str, Finder]:
    """Give the same n-grams weighed in both ways; what is written once serves both."""
    best = replace(finder.recipe, evidence=replace(finder.recipe.evidence, scoring="best"))
    alone = finder.retuned(best)
    assert alone is not None
    return {"SEAL, intersective": finder, "SEAL, best n-gram (LM+FM)": alone}


def fused_with(finder: Seal, catalog: Catalog, validation: Words | None, seed: int) -> Finder:
    """Fuse with BM25; weights are learnt on validation queries, where there are any."""
    judged = {} if validation is None else {"queries": validation.queries, "qrels": _of(validation)}
    data = Data(catalog, text_encoder="hashing", seed=seed, **judged)
    return FusedRecipe(("bm25", "seal")).around({"seal": finder}, data, progress)


def calls_of(finder: Seal, texts: Sequence[str]) -> float:
    """Count the calls of the model for a query, of the last ones that were answered."""
    edition = Edition(finder.catalog, finder)
    requests = [resolve(Query(text), finder.catalog, edition.filters) for text in texts]
    written = finder.write(requests, [None] * len(requests), FindOptions())
    return round(sum(part.calls for parts in written for part in parts) / max(1, len(texts)), 1)


def _of(words: Words) -> Mapping[str, Mapping[str, float]]:
    return {query_id: words.qrels[query_id] for query_id in words.queries if query_id in words.qrels}


def measured(methods: Sequence[Recorded], test: Words) -> tuple[dict[str, Any], list[list[str]]]:
    """Ask all methods; give figures and rows of a table."""
    texts = list(dict.fromkeys(test.queries.values()))
    for first in range(0, len(texts), TOGETHER):
        for method in methods:
            progress(f"asking {method.name}", first, len(texts))
            method.ask(texts[first : first + TOGETHER], 100)
    found = genrail.compare(methods, test.queries, _of(test), metrics=METRICS, k=100, latency_queries=0)
    base = found.evaluations["BM25"]
    figures, rows = {}, []
    for method in methods:
        one = found.evaluations[method.name]
        against = paired_test(*(each.measured.values["nDCG@10"] for each in (one, base)))
        seconds = method.seconds / len(texts)
        figures[method.name] = {
            **{metric: one.means[metric] for metric in METRICS},
            "against BM25": against.to_dict(),
            "seconds a query": seconds,
        }
        told = "" if method.name == "BM25" else str(against.difference)
        rows.append([method.name, *(f"{one.means[metric]:.4f}" for metric in METRICS), told, f"{seconds:.3f}"])
    return figures, rows


def _others(names: Sequence[str], catalog: Catalog, model: Any) -> dict[str, Finder]:
    """Build what SEAL is compared with."""
    made: dict[str, Callable[[], Engine]] = {
        "BM25": lambda: Engine.build(catalog, "bm25"),
        "MiniLM": lambda: Engine.build(catalog, "dense", progress=progress),
        "titles": lambda: Engine.build(catalog, "titles", model=model, calibration=1.0, progress=progress),
    }
    wanted = {name: build for name, build in made.items() if name.lower() in names}
    return {name: build().edition.finder for name, build in wanted.items()}


def main() -> None:
    """Print tables, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="SmolLM2-135M")
    parser.add_argument("--learn", action="store_true", help="teach the model by the queries of training")
    parser.add_argument("--pseudo-queries", type=int, default=0, help="made-up queries of each item to learn from")
    parser.add_argument("--title-only", action="store_true", help="read the titles and no further text")
    parser.add_argument("--set", action="append", default=[], help="a further setting, as of genrail build --set")
    parser.add_argument("--validation", type=int, default=40, help="queries of training that are kept for choosing")
    parser.add_argument("--queries", type=int, help="test only so many queries, drawn by the seed")
    parser.add_argument("--methods", nargs="+", default=["bm25", "minilm", "titles"], metavar="NAME")
    parser.add_argument("--save", type=Path, help="keep the engine in this folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    catalog = folders.items(arguments.folder, arguments.seed, title_only=arguments.title_only)
    train, test = Words.both(arguments.folder)
    if test is None:
        raise SystemExit(f"{arguments.folder} holds no judged queries; see folders.py for the names of the files")
    test = test if arguments.queries is None else taken(test, arguments.queries, arguments.seed, "test")[0]
    validation = None
    if train is not None:
        validation, train = taken(train, arguments.validation, arguments.seed, "validation")
    model: Any = load_checkpoint(arguments.model, progress=progress, packed=True)
    lessons = {} if train is None or not arguments.learn else {"queries": train.queries, "qrels": _of(train)}
    started = time.process_time()
    engine = Engine.build(
        catalog,
        "seal",
        model=model,
        seed=arguments.seed,
        progress=progress,
        **lessons,
        **{"pseudo_queries": arguments.pseudo_queries, **read_settings(arguments.set)},
    )
    build = time.process_time() - started
    if arguments.save is not None:
        engine.save(arguments.save)
    finder = engine.edition.finder
    assert isinstance(finder, Seal)
    finders = {**_others(["bm25", *arguments.methods], catalog, model), **seal_variants(finder)}
    finders["BM25 + SEAL"] = fused_with(finder, catalog, validation, arguments.seed)
    figures, rows = measured([Recorded(name, one) for name, one in finders.items()], test)
    head = {"command": f"python {' '.join(sys.argv)}", "machine": machine(), "seed": arguments.seed}
    size = {"items": len(catalog), "queries": len(test.queries), "seconds of building": round(build, 1)}
    size["calls of the model a query"] = calls_of(finder, list(test.queries.values())[:TOGETHER])
    told = {**head, **size, **engine.describe(), "fused": finders["BM25 + SEAL"].describe()}
    if engine.edition.finder.report is not None:
        told["training"] = engine.edition.finder.report.to_dict()
    print(json.dumps(told))
    print(text_table([arguments.folder.name, *METRICS, "nDCG@10 against BM25", "seconds"], rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({**told, "methods": figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
