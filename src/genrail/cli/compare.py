"""`genrail compare`: which method is best on this data, and is the difference more than noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.search import Debug, EngineFolder, Json

if TYPE_CHECKING:
    from genrail.evaluation import Comparison

__all__ = ["compare"]


def compare(
    engine: EngineFolder,
    queries: Annotated[Path, typer.Option("--queries", help="Queries: id and text; or irds:ID.")],
    qrels: Annotated[Path, typer.Option("--qrels", help="Which items are right for which query; or irds:ID.")],
    interactions: Annotated[
        Path | None, typer.Option("--interactions", help="Who took what, in order: compares recommendations too.")
    ] = None,
    trained_on: Annotated[
        Path | None, typer.Option("--trained-on", help="Queries the engine was trained on: those asked again are told.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a page with tables and pictures here.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the tables as Markdown here.")] = None,
    metric: Annotated[str, typer.Option("--metric", help="The metric that decides.")] = "nDCG@10",
    seed: Annotated[int, typer.Option("--seed", help="Of resampling and of the queries to choose on.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare an engine with every classical method its catalogue allows, and say which to use."""
    with errors_as_sentences(debug):
        from genrail.catalog import Interactions, read_qrels, read_queries
        from genrail.cli.rivals import compare_next_items, compare_search
        from genrail.engine import Engine

        asked, judged = read_queries(queries), read_qrels(qrels)
        events = Interactions.read(interactions) if interactions is not None else None
        trained = read_queries(trained_on) if trained_on is not None else None
        loaded = Engine.load(engine)
        found = {}
        with stage_progress(quiet=json) as progress:
            found["search"] = compare_search(
                loaded,
                asked,
                judged,
                interactions=events,
                metric=metric,
                seed=seed,
                trained=trained,
                progress=progress,
            )
        if events is not None:
            with stage_progress(quiet=json) as progress:
                found["next item"] = compare_next_items(loaded, events, seed=seed, progress=progress)
        _write(found, report, markdown)
        if json:
            print_json({**found.pop("search").to_dict(), **{name: one.to_dict() for name, one in found.items()}})
            return
        for name, one in found.items():
            columns, rows = one.rows()
            print_table(f"{name}: {len(one.queries)} queries", columns, rows)
            for sentence in (*one.remarks(), one.recommendation):
                note(sentence)


def _write(found: dict[str, Comparison], report: Path | None, markdown: Path | None) -> None:
    """Write a page and a Markdown file; the recommendations' ones beside those of search."""
    for name, one in found.items():
        for path, write in ((report, one.write_html), (markdown, one.write_markdown)):
            if path is not None:
                own = path if name == "search" else path.with_name(f"{path.stem}-{name.replace(' ', '-')}{path.suffix}")
                write(own)
                note(f"wrote {own}")
