"""Queries and relevance judgements (qrels) from files: CSV, TSV, JSON lines, Parquet, TREC, BEIR."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from genrail.catalog.columns import ITEM_ID_NAMES, canonical, find_column, likely_columns, nearest
from genrail.catalog.csv_files import text_of
from genrail.catalog.ir_collections import collection_id, judgements, topics
from genrail.catalog.readers import Limits, Table, read_table
from genrail.catalog.sources import STANDARD_INPUT, files_of, known_by_name
from genrail.catalog.values import written_column
from genrail.errors import CatalogError

__all__ = ["ESCI_GAINS", "read_qrels", "read_queries"]

QUERY_ID_NAMES = ("query_id", "query-id", "qid", "queryid", "topic_id", "topic", "_id", "id", "claim_id", "question_id")
QUERY_TEXT_NAMES = ("query", "text", "query_text", "question", "claim", "topic_title", "title", "search_term", "q")
DOCUMENT_NAMES = ("corpus-id", "corpus_id", *ITEM_ID_NAMES, "document_id", "passage_id", "pid")
RELEVANCE_NAMES = ("relevance", "label", "score", "rel", "gain", "esci_label", "grade", "judgement", "judgment")

# Gains of the ESCI task (Reddy et al. 2022, Shopping Queries Dataset): exact, substitute, complement, irrelevant.
ESCI_GAINS = {"e": 1.0, "s": 0.1, "c": 0.01, "i": 0.0}
_ESCI_WORDS = {"exact": "e", "substitute": "s", "complement": "c", "irrelevant": "i"}
_TREC_SUFFIXES = (".qrels", ".trec", ".txt", ".qrel")
_TREC_LINE = re.compile(r"^\S+\s+(?:Q?0)\s+\S+\s+-?\d+\s*$")


def read_queries(path: str | Path, *, format: str | None = None, encoding: str | None = None) -> dict[str, str]:
    """Read queries: id and words. Two columns may come without a line of names, as MS MARCO's do.

    Args:
        path: As in `Catalog.read`; of a BEIR folder its `queries.jsonl` is read.
        format: As in `Catalog.read`; by default told by the name.
        encoding: As in `Catalog.read`.

    Returns:
        Words by query id, in the order of the file.

    Raises:
        CatalogError: A column is missing, an id is missing or occurs twice, or a query has no words.
    """
    path = Path(path)
    if path.is_dir():
        path = _inside(path, ("queries.jsonl", "queries.jsonl.gz"))
    collection = collection_id(path)
    if collection is None:
        table = _named(read_table(path, format=format, encoding=encoding), ("query_id", "text"), QUERY_ID_NAMES)
    else:
        table = Table.of(topics(collection), str(path))
    frame, source = canonical(table.frame)[0], table.source
    _whole(table)
    id_name = find_column(frame.columns, None, QUERY_ID_NAMES, what="query id", argument="", source=source)
    others = [name for name in frame.columns if name != id_name]
    text_name = find_column(others, None, QUERY_TEXT_NAMES, what="query", argument="", source=source)
    queries: dict[str, str] = {}
    for number, query_id, words in zip(
        table.numbers.tolist(), written_column(frame[id_name]), written_column(frame[text_name]), strict=True
    ):
        if not (query_id or "").strip() or not (words or "").strip():
            lacking = "id" if not (query_id or "").strip() else "words"
            raise CatalogError(f"{source}: row {number} has no query {lacking}; fill it in or drop the row")
        if query_id in queries:
            raise CatalogError(f"{source}: row {number} repeats the query id {query_id!r}; give each query its own id")
        queries[query_id] = words
    return queries


def read_qrels(
    path: str | Path, *, split: str = "test", format: str | None = None, encoding: str | None = None
) -> dict[str, dict[str, float]]:
    """Read relevance judgements: how relevant which item is for which query.

    Args:
        path: CSV, TSV, JSON lines (each also .gz, .zst) or Parquet with a query, an item and, if graded, a relevance
            column; TREC qrels (``query 0 item relevance``), known by four columns without names, whatever the file is
            called; a BEIR folder; or `irds:` with an id of ir_datasets.
        split: Which file of a BEIR folder (`qrels/test.tsv`).
        format: As in `Catalog.read`, or "trec"; by default told by the name and the first line.
        encoding: As in `Catalog.read`.

    Returns:
        Gain by item id by query id. ESCI labels (E, S, C, I) become 1, 0.1, 0.01 and 0; without a relevance column
        every pair counts 1.

    Raises:
        CatalogError: A column is missing, a label is neither a number nor E, S, C, I, or a pair has two labels.
    """
    path = Path(path)
    if path.is_dir():
        path = _inside(path / "qrels", (f"{split}.tsv", f"{split}.tsv.gz"))
    if (collection := collection_id(path)) is not None:
        table = Table.of(judgements(collection), str(path))
    elif format == "trec" or (format is None and _is_trec(path, encoding)):
        table = _read_trec(path, encoding)
    else:
        read = read_table(path, format=format, encoding=encoding)
        table = _named(read, ("query_id", "doc_id", "relevance"), QUERY_ID_NAMES)
    _whole(table)
    frame, source = canonical(table.frame)[0], table.source
    names = frame.columns
    query = find_column(names, None, QUERY_ID_NAMES, what="query id", argument="", source=source)
    others = [name for name in names if name != query]
    item = find_column(others, None, DOCUMENT_NAMES, what="item id", argument="", source=source)
    label = next(iter(likely_columns([name for name in others if name != item], RELEVANCE_NAMES)), None)
    labels = written_column(frame[label]) if label else pl.Series(["1"] * len(frame), dtype=pl.String)
    qrels: dict[str, dict[str, float]] = {}
    for number, query_id, item_id, word in zip(
        table.numbers.tolist(), written_column(frame[query]), written_column(frame[item]), labels, strict=True
    ):
        if not (query_id or "").strip() or not (item_id or "").strip():
            raise CatalogError(f"{source}: row {number} lacks the query id or the item id; fill it in or drop the row")
        gain = _gain(word, number, source)
        if qrels.setdefault(query_id, {}).setdefault(item_id, gain) != gain:
            raise CatalogError(f"{source}: row {number} judges query {query_id!r}, item {item_id!r} a second time")
    return qrels


def _gain(word: str | None, number: int, source: str) -> float:
    plain = (word or "").strip().lower()
    plain = _ESCI_WORDS.get(plain, plain)
    if plain in ESCI_GAINS:
        return ESCI_GAINS[plain]
    try:
        gain = float(plain)
    except ValueError:
        gain = math.nan
    if not math.isfinite(gain):
        raise CatalogError(
            f"{source}: row {number} has the label {word!r}; write a number, or E, S, C, I{nearest(plain, _ESCI_WORDS)}"
        )
    return gain


def _whole(table: Table) -> None:
    """Insist that every row could be parsed: a lost judgement would change a measured figure."""
    if table.refused:
        number, reason = table.refused[0]
        raise CatalogError(f"{table.source}: row {number} has {reason}; mend the row")
    if table.frame.is_empty():
        raise CatalogError(f"{table.source}: there are no rows in it")


def _inside(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:10]) if folder.is_dir() else "no such folder"
    raise CatalogError(f"{folder.name}: there is no {names[0]} in it ({there}); name another split, or give the file")


def _named(table: Table, names: tuple[str, ...], known: tuple[str, ...]) -> Table:
    """Take the line of names for a row where it is one: as many columns as expected, an id with digits, no names."""
    found = table.frame.columns
    if table.typed or len(found) != len(names) or likely_columns(found, known) or not re.search(r"\d", found[0]):
        return table
    first = pl.DataFrame([found], schema=list(names), orient="row")
    rest = table.frame.rename(dict(zip(found, names, strict=True)))
    refused = tuple((number + 1, reason) for number, reason in table.refused)
    numbers = np.concatenate([[1], table.numbers + 1])
    return replace(table, frame=pl.concat([first, rest]), numbers=numbers, refused=refused)


def _is_trec(path: Path, encoding: str | None) -> bool:
    """Tell TREC qrels by the first line: query, 0 or Q0, item, a whole number; or by the name where it is no table."""
    if str(path) == STANDARD_INPUT or not path.is_file() or path.suffix.lower() in (".parquet", ".pq", ".zip"):
        return False
    if path.suffix.lower() in _TREC_SUFFIXES and path.suffix.lower() != ".txt":
        return True
    if not known_by_name(path):
        return False
    first = next(iter(text_of(path, encoding, Limits()).splitlines()), "")
    return _TREC_LINE.match(first) is not None


def _read_trec(path: Path, encoding: str | None) -> Table:
    if not path.is_file():
        raise CatalogError(f"{path}: no such file; give the path of a qrels file")
    with files_of(path, Limits()) as files:
        lines = text_of(files[0], encoding, Limits()).splitlines()
    rows: list[list[str]] = []
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t") if line.count("\t") == 3 else line.split()
        if fields and len(fields) != 4:
            raise CatalogError(
                f"{path.name}: line {number} has {len(fields)} fields; TREC qrels have: query 0 item relevance"
            )
        if fields:
            rows.append(fields)
    frame = pl.DataFrame(rows, schema=["query_id", "iteration", "doc_id", "relevance"], orient="row")
    return Table.of(frame, path.name)
