"""Put every search method into one table on public sets: classical, dense, late interaction, native, hybrids.

    python recipes/compare_search.py --data ../shared/data --sets esci_small xquad_en scifact --work work

Judged queries are used for training on scifact only, which has training claims: for the two towers, the native model
and the hybrid's weights. Claims that are test claims too, word for word, are left out. Half of the training claims
teach the towers and the native model, the hybrid's weights are learnt on claims of the other half; then both are
taught anew with all training claims, and the weights stay. esci_small and xquad_en have no training queries: there the
hybrid is cross-fitted, each fifth of the queries is answered with weights learnt on the other four. Settings of the
native model and the towers were chosen on training claims. With ``--work`` vectors are computed once. For the data sets
and their licences see the README in their folder.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genrail.catalog import Catalog, read_qrels, read_queries
from genrail.decoding import BeamSettings
from genrail.engine import Engine
from genrail.evaluation import Comparison, Qrels, compare
from genrail.evaluation.building import BuildCost, folder_bytes
from genrail.evaluation.evaluations import as_queries
from genrail.evaluation.significance import paired_test
from genrail.evaluation.slices import Slice
from genrail.evaluation.tables import text_table
from genrail.evaluation.traps import text_overlap
from genrail.finders import BM25, TFIDF, Dense, LateInteraction
from genrail.models.text_encoder import TextEncoder
from genrail.models.token_vectors import TokenEncoder
from genrail.ranking.fusion import Fusion
from genrail.ranking.learning import cross_fit, learn_fusion
from genrail.rng import generator
from genrail.training.two_tower import train_two_tower
from genrail.types import Retriever
from recipes.search_sets import SETS, machine, table

METRIC = "nDCG@10"
TRAIN = {"scifact": ("queries_train.csv.gz", "qrels_train.csv.gz")}
LEVELS = {"scifact": (1, 72)}  # codes of the native model where the usual three levels of 256 are not the best
BEAM = 200
WEIGHT_QUERIES = 250  # that the hybrid's weights are learnt on
Judged = tuple[dict[str, str], dict[str, dict[str, float]]]


@dataclass
class Bench:
    """Hold one set, what was built on it, and what that cost."""

    name: str
    catalog: Catalog
    encoder: TextEncoder
    work: Path
    seed: int
    native_too: bool = True
    costs: dict[str, BuildCost] = field(default_factory=dict)

    def built(self, name: str, make: Any) -> Any:
        """Make a method, noting seconds and the bytes of its folder."""
        started = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - started
        self.costs[name] = BuildCost(seconds, folder_bytes(made), None)
        print(f"{self.name}: {name} built in {seconds:.0f} s", file=sys.stderr, flush=True)
        return made

    def towers(self, judged: Judged) -> Dense:
        """Train two towers on judged queries."""
        queries, qrels = judged
        relevant = {key: self.catalog.rows(list(qrels[key])).tolist() for key in queries}
        vectors = self.encoder.encode(self.catalog.texts())
        folder = self.work / f"towers-{self.name}"
        towers, report = train_two_tower(
            self.encoder, self.catalog.texts(), queries, relevant, folder, vectors=vectors, seed=self.seed
        )
        print(f"two towers: {json.dumps(report.to_dict())}", flush=True)
        return Dense(self.catalog, towers.items, query_encoder=towers.queries, vectors=vectors, name="Two towers")

    def native(self, judged: Judged | None = None) -> Engine:
        """Build the native model on catalogue text, and train it on judged queries where there are any."""
        levels, codes = LEVELS.get(self.name, (3, None))
        beam = BeamSettings(width=BEAM)
        engine = Engine.build(self.catalog, encoder=self.encoder, levels=levels, codes=codes, seed=self.seed, beam=beam)
        if judged is not None:
            engine.train(queries=judged[0], qrels=judged[1], seed=self.seed)
        return engine


class Named:
    """Show a method under another name."""

    def __init__(self, method: Retriever, name: str) -> None:
        self.method, self.name = method, name
        self.catalog = getattr(method, "catalog", None)

    def search_batch(self, queries: Any, k: int = 10) -> Any:
        """Ask the method."""
        return self.method.search_batch(queries, k=k)


def training_queries(folder: Path, test: Mapping[str, str], name: str) -> Judged | None:
    """Read training queries without those that are asked in the test."""
    if name not in TRAIN:
        return None
    queries, qrels = read_queries(folder / TRAIN[name][0]), read_qrels(folder / TRAIN[name][1])
    both = {train_id for _, train_id in text_overlap(queries, test)}
    print(f"{name}: training queries that are test queries, left out: {sorted(both)}")
    kept = {key: text for key, text in queries.items() if key not in both and key in qrels}
    return kept, {key: qrels[key] for key in kept}


def part(judged: Judged, ids: list[str]) -> Judged:
    """Take some of the judged queries."""
    return {key: judged[0][key] for key in ids}, {key: judged[1][key] for key in ids}


def methods(bench: Bench, test: Mapping[str, str], qrels: Any, judged: Judged | None) -> list[Retriever]:
    """Build every method of the table."""
    catalog, encoder = bench.catalog, bench.encoder
    bm25 = bench.built("BM25", lambda: BM25(catalog))
    tfidf = bench.built("TF-IDF", lambda: TFIDF(catalog))
    minilm = bench.built("MiniLM", lambda: Dense(catalog, encoder, name="MiniLM"))
    late = bench.built("Late interaction", lambda: late_interaction(bench))
    plain: list[Retriever] = [bm25, tfidf, minilm, late]
    native: list[Retriever] = []
    if bench.native_too:
        native = [Named(bench.built("Native, text only", bench.native), "Native, text only")]
    rrf = Fusion([bm25, minilm], name="RRF(BM25, MiniLM)")
    if judged is None:
        own = [*plain, *native]
        hybrid: Retriever = cross_fit(own, test, qrels, methods=("weighted",), seed=bench.seed, name="Hybrid, learnt")
        tell_weights(hybrid.fusions, own)
        return [*own, rrf, hybrid]
    ids = [list(judged[0])[place] for place in generator(bench.seed, "halves").permutation(len(judged[0]))]
    first, second = part(judged, ids[: len(ids) // 2]), part(judged, ids[len(ids) // 2 :][:WEIGHT_QUERIES])
    halves = [bench.towers(first), *([bench.native(first)] if native else [])]
    learnt = learn_fusion([*plain, *halves], *second, methods=("weighted",), seed=bench.seed)
    taught: list[Retriever] = [bench.built("Two towers", lambda: bench.towers(judged))]
    if native:
        made = bench.built("Native, training queries", lambda: bench.native(judged))
        taught.append(Named(made, "Native, training queries"))
    final = [*plain, *taught]
    hybrid = Fusion(final, learnt.weights, learnt.settings, name="Hybrid, learnt")
    tell_weights([hybrid], final)
    return [*plain, *native, *taught, rrf, hybrid]


def late_interaction(bench: Bench) -> LateInteraction:
    """Build late interaction, or open what an earlier run kept."""
    folder, encoder = bench.work / f"late-{bench.name}", TokenEncoder(bench.encoder)
    details = folder / "details.json"
    if details.exists():
        return LateInteraction.load(folder, json.loads(details.read_text()), bench.catalog, encoder)
    made = LateInteraction(bench.catalog, encoder)
    folder.mkdir(parents=True, exist_ok=True)
    details.write_text(json.dumps(made.save(folder)))
    return made


def tell_weights(fusions: list[Fusion], own: list[Retriever]) -> None:
    """Print the learnt weights."""
    for fusion in fusions:
        print(
            "weights:", ", ".join(f"{one.name} {weight:.2f}" for one, weight in zip(own, fusion.weights, strict=True))
        )


def measure(data: Path, name: str, work: Path, seed: int, latency: int, native_too: bool) -> Comparison:
    """Compare all methods on a set."""
    search_set, folder = SETS[name], data / name
    catalog = Catalog.read(folder / search_set.items, title="title", text=search_set.text)
    encoder = TextEncoder.load(max_tokens=search_set.max_tokens, cache=work / "vectors")
    test, qrels = read_queries(folder / search_set.queries), read_qrels(folder / search_set.qrels)
    bench = Bench(name, catalog, encoder, work, seed, native_too)
    judged = training_queries(folder, test, name)
    comparison = compare(
        methods(bench, test, qrels, judged), test, qrels, metric=METRIC, seed=seed, latency_queries=latency
    )
    slices = [*comparison.slices, *([] if judged is None else seen_items(test, qrels, judged))]
    return replace(comparison, costs=bench.costs, slices=slices)


def seen_items(test: Mapping[str, str], qrels: Any, judged: Judged) -> list[Slice]:
    """Part test queries by whether a right item is right for a training query too."""
    taught = {item for grades in judged[1].values() for item, grade in grades.items() if grade >= 1}
    relevant = {key: set(Qrels(qrels).relevant(key)) for key in as_queries(test)}
    seen = frozenset(key for key, items in relevant.items() if items & taught)
    return [
        Slice("a right item was in training", seen),
        Slice("no right item was in training", frozenset(relevant) - seen),
    ]


def bars(comparison: Comparison) -> list[str]:
    """Say which of the promised differences were reached, on the means."""
    means = {name: found.means[METRIC] for name, found in comparison.evaluations.items()}
    values = {name: found.measured.values[METRIC] for name, found in comparison.evaluations.items()}
    single = max((name for name in means if not name.startswith(("RRF", "Hybrid"))), key=means.__getitem__)
    native = "Native, training queries" if "Native, training queries" in means else "Native, text only"
    pairs = [] if native not in means else [(native, "MiniLM", -0.03)]
    pairs += [("Hybrid, learnt", single, 0.0), ("Hybrid, learnt", "RRF(BM25, MiniLM)", 0.0)]
    pairs += [("Two towers", "MiniLM", 0.02)] if "Two towers" in means else []
    lines = []
    for first, second, bar in pairs:
        test = paired_test(values[first], values[second])
        reached = "reached" if means[first] - means[second] >= bar else "MISSED"
        lines.append(f"{first} minus {second}: {test.difference} (p {test.p:.4f}); bar {bar:+.2f}: {reached}")
    return lines


def main() -> None:
    """Print one table per set, the parts of the queries, and which bars were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--work", type=Path, required=True, help="folder for vectors, towers and late interaction")
    parser.add_argument("--reports", type=Path, help="write a page, Markdown and JSON per set into this folder")
    parser.add_argument("--without-native", action="store_true", help="leave out what takes longest")
    parser.add_argument("--latency-queries", type=int, default=50, help="timed one by one")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps({**machine(), "seed": arguments.seed, "command": " ".join(sys.argv)}, indent=1))
    np.seterr(all="raise", under="ignore")
    for name in arguments.sets:
        found = measure(
            arguments.data,
            name,
            arguments.work,
            arguments.seed,
            arguments.latency_queries,
            not arguments.without_native,
        )
        print(f"\n=== {name}\n{table(found, SETS[name].published)}\n")
        print(text_table(*found.cost_rows()), "\n")
        print(text_table(*found.slice_rows()), "\n")
        print("\n".join([*bars(found), found.recommendation]), flush=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        print(f"peak memory {peak:.0f} MiB", flush=True)
        if arguments.reports is not None:
            arguments.reports.mkdir(parents=True, exist_ok=True)
            found.write_html(arguments.reports / f"{name}.html")
            found.write_markdown(arguments.reports / f"{name}.md")
            found.write_json(arguments.reports / f"{name}.json")


if __name__ == "__main__":
    main()
