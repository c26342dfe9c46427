"""Memory and time of several taught engines over one model: LoRA merged into copies, and kept beside the shared model.

    python benchmarks/adapters.py products.csv.gz --items 2000 --engines 4

Engines of the same titles are taught a little, with different seeds, and saved both ways; then all of one kind are
opened in a process of their own, and asked the last words of titles, drawn by the seed. Memory is what the process
holds more after each engine; the first also brings torch and transformers with it. Kinds take turns, twice.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import genrail
from genrail import Catalog, Engine
from genrail.rng import generator

KINDS = ("merged", "beside")


def make(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Teach the engines, and save each in both ways; give what they are to be asked."""
    catalog = Catalog.read(arguments.catalog)
    chosen = generator(arguments.seed, "items").permutation(len(catalog))[: arguments.items].tolist()
    items = [{"id": catalog.item_ids[row], "title": catalog.titles[row]} for row in chosen]
    for number in range(arguments.engines):
        how = {"made_up": 48, "pseudo_queries": 1, "validation": 0, "epochs": 1, "seed": number}
        for kind in KINDS:
            engine = Engine.build(items, model=arguments.model, calibration=0)
            engine.train(**how, merged=kind == "merged")
            engine.save(folder / f"{kind}{number}")
    return [" ".join(item["title"].split()[-3:]) for item in items[: arguments.queries]]


def resident() -> float:
    """Tell what this process holds, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 1e6


def opened(folder: Path, kind: str, count: int, queries: list[str]) -> dict[str, object]:
    """Open the engines of one kind, and ask each."""
    engines, memory, before = [], [], resident()
    for number in range(count):
        engines.append(genrail.load(folder / f"{kind}{number}"))
        memory.append(round(resident() - before))
        before = resident()
    for engine in engines:
        engine.search(queries[0])
    started = time.process_time()
    found = [engine.search(query, k=10).item_ids for engine in engines for query in queries]
    seconds = (time.process_time() - started) / len(found)
    return {"kind": kind, "MB of each": memory, "processor seconds a query": round(seconds, 3), "items": found}


def main() -> None:
    """Teach, open, ask, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--model", default="SmolLM2-135M", help="one that is loaded by its name")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--engines", type=int, default=4)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--open", nargs=2, metavar=("FOLDER", "KIND"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        queries = json.loads((Path(arguments.open[0]) / "queries.json").read_text(encoding="utf-8"))
        print(json.dumps(opened(Path(arguments.open[0]), arguments.open[1], arguments.engines, queries)))
        return
    print(f"command: python {' '.join(sys.argv)}\n{platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        (folder / "queries.json").write_text(json.dumps(make(arguments, folder)), encoding="utf-8")
        answers = {}
        for kind in KINDS * 2:
            command = [sys.executable, __file__, str(arguments.catalog), "--open", passing, kind]
            told = subprocess.run(
                [*command, "--engines", str(arguments.engines)], check=True, capture_output=True, text=True
            )
            run = json.loads(told.stdout.splitlines()[-1])
            answers[kind] = run.pop("items")
            print(json.dumps(run), flush=True)
    same = sum(one == other for one, other in zip(*answers.values(), strict=True))
    print(f"same items in the same order: {same} of {len(answers['merged'])}")


if __name__ == "__main__":
    main()
