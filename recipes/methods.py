"""Compare methods on any folder, each built by its name as a user builds it: `Engine.build(catalog, "sasrec", ...)`.

    python recipes/methods.py ../shared/data/amazon_beauty --methods fused native cooccurrence sasrec popularity
    python recipes/methods.py ../shared/data/scifact --methods fused bm25 tfidf dense late-interaction two-tower
    python recipes/methods.py ../shared/data/amazon_beauty --methods tiger cooccurrence --settings tiger.json
    python recipes/methods.py any/folder --reports reports --json figures.json

What the folder may hold is told in `folders.py`. Words are measured on the judged queries of the test, histories on
each user's last event, which no method has seen. Every figure ranks the whole catalogue, and stands with its interval.
`--settings` is a JSON file: the name of a method to settings of its recipe, such as `{"tiger": {"levels": 4}}`.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import folders
from folders import Words, machine, progress

import genrail
from genrail.catalog import Catalog, Interactions
from genrail.engine import Engine
from genrail.errors import GenrailError
from genrail.evaluation import Comparison
from genrail.evaluation.building import BuildCost, folder_bytes
from genrail.evaluation.tables import text_table
from genrail.finding import Recipe, kinds, recipe_named
from genrail.models.text_encoder import TextEncoder

USUAL = ["fused", "native", "bm25", "tfidf", "dense", "cooccurrence", "item-knn", "popularity"]


def limited(recipe: Any, **limits: Any) -> Any:
    """Shorten the training of a recipe: `epochs` and `max_seconds`, wherever it keeps them."""
    known = {one.name for one in fields(recipe)}
    changed = {name: value for name, value in limits.items() if name in known and value is not None}
    changed |= {name: limited(getattr(recipe, name), **limits) for name in ("loop", "training") if name in known}
    return replace(recipe, **changed)


def recipe_of(name: str, arguments: argparse.Namespace) -> Recipe:
    """Make the recipe of a method, with the settings that were given."""
    settings = json.loads(arguments.settings.read_text(encoding="utf-8")) if arguments.settings else {}
    made: Recipe = limited(
        recipe_named(name, settings.get(name)), epochs=arguments.epochs, max_seconds=arguments.max_seconds
    )
    return made


def built(
    catalog: Catalog, events: Interactions | None, train: Words | None, encoder: TextEncoder, arguments: Any, seed: int
) -> tuple[dict[str, Engine], dict[str, BuildCost]]:
    """Build every method; those that the data does not allow are named and left out."""
    engines: dict[str, Engine] = {}
    costs: dict[str, BuildCost] = {}
    for name in arguments.methods:
        started = time.perf_counter()
        try:
            engine = Engine.build(
                catalog,
                recipe_of(name, arguments),
                interactions=events,
                queries=None if train is None else train.queries,
                qrels=None if train is None else train.qrels,
                encoder=encoder,
                seed=seed,
                progress=progress,
            )
        except GenrailError as error:
            print(f"{name} is left out: {error}", flush=True)
            continue
        engines[name] = engine
        costs[engine.name] = BuildCost(time.perf_counter() - started, folder_bytes(engine), None)
        print(f"{name}: built in {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    return engines, costs


def compared(
    engines: Mapping[str, Engine], events: Interactions | None, test: Words | None, arguments: Any, seed: int
) -> dict[str, Comparison]:
    """Compare on words, and on histories with seen items left out and kept."""
    found: dict[str, Comparison] = {}
    if test is not None:
        readers = [one for one in engines.values() if one.edition.finder.reads_words]
        found["words"] = genrail.compare(readers, test.queries, test.qrels, seed=seed, progress=progress)
    if events is not None:
        finders = ((one, one.edition.finder) for one in engines.values())
        readers = [one for one, finder in finders if finder.reads_histories or not finder.reads_words]
        for seen in ("excluded", "kept"):
            found[f"histories, seen items {seen}"] = genrail.compare(
                readers,
                interactions=events,
                users=arguments.users,
                exclude_seen=seen == "excluded",
                seed=seed,
                progress=progress,
            )
    return found


def measure(folder: Path, arguments: argparse.Namespace, seed: int, vectors: Path) -> dict[str, Any]:
    """Build and compare with one seed; print the tables and give the figures."""
    catalog, events = folders.items(folder, seed, arguments.title_only), folders.events(folder)
    train, test = Words.both(folder)
    encoder = TextEncoder.load(max_tokens=arguments.max_tokens, cache=vectors)
    engines, costs = built(catalog, events, train, encoder, arguments, seed)
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # KiB on Linux
    figures: dict[str, Any] = {"folder": folder.name, "seed": seed, "items": len(catalog), "peak memory MiB": peak}
    print(json.dumps(figures))
    for task, one in compared(engines, events, test, arguments, seed).items():
        shown = replace(one, costs={name: cost for name, cost in costs.items() if name in one.evaluations})
        print(f"\n{folder.name}, seed {seed}, {task}\n{shown.table()}\n\n{text_table(*shown.cost_rows())}", flush=True)
        if shown.slices:
            print(f"\n{text_table(*shown.slice_rows())}", flush=True)
        figures[task] = shown.to_dict()
        if arguments.reports is not None:
            arguments.reports.mkdir(parents=True, exist_ok=True)
            shown.write_html(
                arguments.reports / f"{folder.name}-{seed}-{task.replace(', ', '-').replace(' ', '-')}.html"
            )
    return figures


def main() -> None:
    """Compare on one folder, once for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", nargs="+", default=USUAL, choices=kinds(), metavar="KIND", help=", ".join(kinds()))
    parser.add_argument("--settings", type=Path, help="JSON file: method to settings of its recipe")
    parser.add_argument("--title-only", action="store_true", help="read the titles and no further text")
    parser.add_argument("--max-tokens", type=int, default=256, help="where texts are cut for the text encoder")
    parser.add_argument("--users", type=int, default=10**9, help="test only so many users")
    parser.add_argument("--epochs", type=int, help="of every method that is trained, at most")
    parser.add_argument("--max-seconds", type=float, help="stop each training after this long")
    parser.add_argument("--seeds", type=int, default=1, help="repeat with so many seeds")
    parser.add_argument("--vectors", type=Path, help="folder that keeps text vectors between runs")
    parser.add_argument("--reports", type=Path, help="write a page for each table into this folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    print(f"command: python {' '.join(sys.argv)}\n{json.dumps(machine())}")
    with tempfile.TemporaryDirectory() as passing:
        vectors = arguments.vectors or Path(passing)
        figures = [measure(arguments.folder, arguments, seed, vectors) for seed in range(arguments.seeds)]
    if arguments.json is not None:
        text = json.dumps({"machine": machine(), "runs": figures}, indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
