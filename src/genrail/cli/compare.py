"""`genrail compare`: is the engine better than BM25 on your own data, and is the difference more than noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.search import Debug, EngineFolder, Json

if TYPE_CHECKING:
    from genrail.retrieval import Engine
    from genrail.types import Retriever

__all__ = ["compare"]


def compare(
    engine: EngineFolder,
    queries: Annotated[Path, typer.Option("--queries", help="Queries: id and text.")],
    qrels: Annotated[Path, typer.Option("--qrels", help="Which items are right for which query.")],
    report: Annotated[Path | None, typer.Option("--report", help="Write a page with tables and pictures here.")] = None,
    metric: Annotated[str, typer.Option("--metric", help="The metric that decides.")] = "nDCG@10",
    seed: Annotated[int, typer.Option("--seed", help="Of resampling.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare an engine with BM25, TF-IDF and dense search, and say which to use."""
    with errors_as_sentences(debug):
        from genrail.catalog import read_qrels, read_queries
        from genrail.evaluation import compare as compare_retrievers
        from genrail.retrieval import Engine

        asked, judged = read_queries(queries), read_qrels(qrels)
        loaded = Engine.load(engine)
        with stage_progress(quiet=json) as progress:
            found = compare_retrievers(
                _rivals(loaded), asked, judged, metric=metric, catalog=loaded.catalog, seed=seed, progress=progress
            )
        if report is not None:
            found.write_html(report)
            note(f"wrote {report}")
        if json:
            print_json(found.to_dict())
            return
        columns, rows = found.rows()
        print_table(f"{len(asked)} queries", columns, rows)
        note(found.recommendation)


def _rivals(engine: Engine) -> list[Retriever]:
    """List the engine and the baselines that its catalogue allows; dense search shares the engine's text encoder."""
    from genrail.baselines import BM25, TFIDF, Dense

    catalog = engine.catalog
    methods: list[Retriever] = [engine, BM25(catalog), TFIDF(catalog)]
    encoder = engine.encoder
    return methods if encoder is None else [*methods, Dense(catalog, encoder)]
