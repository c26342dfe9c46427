"""Read any folder of data: items, and sequences or judged queries. Shared by the recipes.

Each file may be CSV, TSV, JSONL or Parquet, the first three gzipped too:

- items, products or corpus: the catalogue. Any text columns, or none: a lone text column serves as title, and the ids
  where there is no text at all;
- sequences or interactions: who took what, oldest first;
- queries and qrels (or labels): judged queries to test on; with ``_train`` and ``_test`` at the end of the names, those
  of training are for training, except words that the test asks too.
"""

from __future__ import annotations

import atexit
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from genrail.catalog import Catalog, Interactions, read_qrels, read_queries
from genrail.catalog.columns import TITLE_NAMES
from genrail.catalog.readers import read_table
from genrail.cli.console import stage_progress

ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")


def found(folder: Path, *names: str) -> Path | None:
    """Find the first file of one of these names."""
    return next((path for name in names for end in ENDINGS if (path := folder / f"{name}{end}").exists()), None)


def items(folder: Path, seed: int, title_only: bool = False) -> Catalog:
    """Read a folder's items, in a seeded order: the order of a file often tells what was taken first."""
    path = found(folder, "items", "products", "corpus")
    if path is None:
        raise SystemExit(f"{folder} holds no items; name the file items, products or corpus, such as items.csv")
    text: list[str] | None = [] if title_only else None
    frame = read_table(path).frame
    lowered = {name.lower() for name in frame.columns}
    if lowered & {name.lower() for name in TITLE_NAMES}:
        return Catalog.read(path, text=text).shuffled(seed)
    bare = Catalog.from_frame(frame.with_columns(pl.lit("x").alias("title")))  # to learn which columns hold words
    first = bare.columns.text[0] if bare.columns.text else bare.columns.item_id
    titled = frame.with_columns(pl.col(first).cast(pl.String).alias("title"))
    return Catalog.from_frame(titled if first == bare.columns.item_id else titled.drop(first), text=text).shuffled(seed)


def events(folder: Path) -> Interactions | None:
    """Read who took what, where the folder tells."""
    path = found(folder, "sequences", "interactions")
    return None if path is None else Interactions.read(path)


@dataclass(frozen=True)
class Words:
    """Hold judged queries."""

    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, folder: Path, ending: str) -> Words | None:
        """Read queries and judgements whose names end so; None where there are none."""
        queries = found(folder, f"queries{ending}")
        qrels = found(folder, f"qrels{ending}", f"labels{ending}")
        return None if queries is None or qrels is None else cls(read_queries(queries), read_qrels(qrels))

    @classmethod
    def both(cls, folder: Path) -> tuple[Words | None, Words | None]:
        """Read the queries of training, without those that the test asks too, and those of the test."""
        train, test = cls.read(folder, "_train"), cls.read(folder, "_test") or cls.read(folder, "")
        return None if train is None or test is None else train.without(test), test

    def without(self, other: Words) -> Words:
        """Leave out the queries whose words another set asks too."""
        asked = {text.strip().lower() for text in other.queries.values()}
        return Words({key: text for key, text in self.queries.items() if text.strip().lower() not in asked}, self.qrels)


@cache
def _shown() -> Callable[[str, int, int], None]:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(stage_progress())


def progress(stage: str, done: int, total: int) -> None:
    """Show how far the work has come, with the time left: bars on a terminal, lines in a log."""
    _shown()(stage, done, total)


def machine() -> dict[str, Any]:
    """Tell what this ran on."""
    names = ("genrail", "torch", "numpy", "numba", "transformers")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": cores,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in names},
    }
