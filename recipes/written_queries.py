"""Let a language model write queries about some items of any folder, and see which of them find their item again.

    python recipes/written_queries.py ../shared/data/esci_small --items 24 --file written.jsonl
    python recipes/written_queries.py ../shared/data/scifact --model Gemma-3-270M --kept-by bm25 dense

What the folder may hold is told in `folders.py`. It prints how many queries were written and kept, how many a second of
one core, and some of them with their titles. What was written is kept in the file: with the same command it is not
written again, and `Engine.train(made="written", query_file=...)` of an engine over the same catalogue goes on from it,
with the same model and seed.
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
from folders import machine, progress

from genrail.finders.made_up import made_up
from genrail.finding import Data
from genrail.rng import generator
from genrail.training import QueryMaking


class Clock:
    """Measure the processor seconds of each stage, while telling how far it is."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._began = "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:  # noqa: D102
        if stage != self._stage:
            self._stage, self._began = stage, time.process_time()
        self.seconds[stage] = time.process_time() - self._began
        progress(stage, done, total)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="SmolLM2-135M")
    parser.add_argument("--items", type=int, default=24, help="so many, drawn by the seed")
    parser.add_argument("--queries", type=int, default=4, help="for each of them")
    parser.add_argument("--kept-by", nargs="+", default=["bm25"], help="finders that are asked, fused")
    parser.add_argument("--within", type=int, default=10, help="places that an item must be found in")
    parser.add_argument("--choices", type=int, default=10, help="most probable tokens that each is drawn among")
    parser.add_argument("--file", help="where written queries are kept")
    parser.add_argument("--show", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Print figures as one line of JSON, then some queries."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    catalog = folders.items(arguments.folder, arguments.seed)
    making = QueryMaking(
        made="written",
        query_writer=arguments.model,
        query_file=arguments.file,
        query_choices=arguments.choices,
        kept_within=arguments.within,
        kept_by=tuple(arguments.kept_by),
    )
    rows = np.sort(generator(arguments.seed, "items to write about").permutation(len(catalog))[: arguments.items])
    clock = Clock()
    made = made_up(Data(catalog, seed=arguments.seed), rows, arguments.queries, making, clock)
    seconds = clock.seconds["writing queries"]
    figures: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(), "items": len(catalog)}
    figures |= {**made.counts, "share kept": made.counts["kept"] / max(1, made.counts["written"])}
    figures |= {"processor seconds": clock.seconds, "written a second": made.counts["written"] / max(seconds, 1e-9)}
    print(json.dumps(figures))
    for place in range(0, len(made.queries), max(1, len(made.queries) // max(1, arguments.show))):
        kind = "kept" if made.written[place] else "cut "
        print(f"{kind}  {made.queries[place]!r}  <-  {catalog.titles[made.rows[place]][:90]}")


if __name__ == "__main__":
    main()
