"""Collections by their ids in ir_datasets, such as ``irds:beir/scifact/test``: documents, queries, judgements.

ir_datasets fetches what it does not have yet, says so on standard error, and asks for files that their owners do not
let it fetch. Nothing here reads a collection unless its id was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from genrail.catalog.columns import nearest
from genrail.errors import CatalogError, MissingPackageError

__all__ = ["PREFIX", "collection_id", "documents", "judgements", "topics"]

PREFIX = "irds:"
_ROWS = 50_000  # held as Python objects at once
_PLAIN = (str, int, float, bool)


def collection_id(path: str | Path) -> str | None:
    """Tell the id of a collection in what may be a path; None for a path.

    >>> collection_id("irds:beir/scifact/test"), collection_id("products.csv")
    ('beir/scifact/test', None)
    """
    given = str(path)
    return given.removeprefix(PREFIX).strip("/") if given.startswith(PREFIX) else None


def documents(collection: str, most: int) -> pl.DataFrame:
    """Read the documents: `doc_id`, and each field that holds text, numbers, true or false.

    A document without a title has its text as title.

    Raises:
        CatalogError: No such collection, no documents in it, more than `most`, or they cannot be had.
        MissingPackageError: ir_datasets is not installed.
    """
    frame = _frame(collection, "docs", (_plain(document._asdict()) for document in _records(collection, "docs")), most)
    if "title" not in frame.columns and "text" in frame.columns:
        return frame.rename({"text": "title"})
    if {"title", "text"} <= set(frame.columns):
        blank = pl.col("title").str.strip_chars().fill_null("") == ""
        frame = frame.with_columns(pl.when(blank).then(pl.col("text")).otherwise(pl.col("title")).alias("title"))
    return frame


def topics(collection: str) -> pl.DataFrame:
    """Read the queries: `query_id` and `text`, the short form where a query has several."""
    rows = ({"query_id": str(one.query_id), "text": str(one.default_text())} for one in _records(collection, "queries"))
    return _frame(collection, "queries", rows)


def judgements(collection: str) -> pl.DataFrame:
    """Read the judgements: `query_id`, `doc_id`, `relevance`."""
    rows = (
        {"query_id": str(one.query_id), "doc_id": str(one.doc_id), "relevance": one.relevance}
        for one in _records(collection, "qrels")
    )
    return _frame(collection, "qrels", rows)


def _records(collection: str, part: str) -> Iterator[Any]:
    try:
        import ir_datasets
    except ImportError as error:
        raise MissingPackageError("ir_datasets", "ir-datasets", f"Reading {PREFIX}{collection}") from error
    try:
        dataset = ir_datasets.load(collection)
    except KeyError:
        raise CatalogError(
            f"{PREFIX}{collection}: ir_datasets has no collection of this id{nearest(collection, ir_datasets.registry)}"
        ) from None
    if not dataset.has(part):
        there = [name for name in ("docs", "queries", "qrels") if dataset.has(name)]
        raise CatalogError(
            f"{PREFIX}{collection} has no {part}, only {', '.join(there)}; add its subset, such as /test"
        )
    yield from getattr(dataset, f"{part}_iter")()


def _frame(collection: str, part: str, rows: Iterable[Mapping[str, object]], most: int = 2**62) -> pl.DataFrame:
    source, count = iter(rows), 0
    blocks = []
    try:
        while block := list(islice(source, _ROWS)):
            count += len(block)
            if count > most:
                raise CatalogError(f"{PREFIX}{collection} has more than {most:,} {part}; pass allow_large=True")
            blocks.append(pl.DataFrame(block, infer_schema_length=None))
    except (OSError, RuntimeError) as error:
        raise CatalogError(
            f"{PREFIX}{collection}: ir_datasets cannot read its {part} ({error}); fetch the files as it says"
        ) from error
    if not blocks:
        raise CatalogError(f"{PREFIX}{collection}: there are no {part} in it")
    return pl.concat(blocks, how="diagonal_relaxed")


def _plain(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is None or isinstance(value, _PLAIN)}
