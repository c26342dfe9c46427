"""`genrail compare`: which method is best on this data, and is the difference more than noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.reading import Item, MinRating, Rating, Timestamp, User, format_for, parse_min_rating, read_events
from genrail.cli.search import Debug, Encoding, EngineFolder, Format, Json

if TYPE_CHECKING:
    from genrail.evaluation import Comparison

__all__ = ["compare"]


def compare(
    engine: EngineFolder,
    queries: Annotated[Path | None, typer.Option("--queries", help="Queries: id and text; or irds:ID.")] = None,
    qrels: Annotated[
        Path | None, typer.Option("--qrels", help="Which items are right for which query; or irds:ID.")
    ] = None,
    interactions: Annotated[
        Path | None, typer.Option("--interactions", help="Who took what, in order: compares recommendations too.")
    ] = None,
    trained_on: Annotated[
        Path | None, typer.Option("--trained-on", help="Queries the engine was trained on: those asked again are told.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a page with tables and pictures here.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the tables as Markdown here.")] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="The metric that decides between search methods.")
    ] = "nDCG@10",
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Take --qrels for logged clicks, and let them choose between methods.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of resampling and of the queries to choose on.")] = 0,
    user: User = None,
    item: Item = None,
    timestamp: Timestamp = None,
    rating: Rating = None,
    min_rating: MinRating = None,
    format: Format = None,
    encoding: Encoding = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare an engine with its lanes and every classical method its catalogue allows, and say which to use."""
    with errors_as_sentences(debug):
        from genrail.catalog import read_qrels, read_queries
        from genrail.engine import Engine
        from genrail.engine import compare as compare_engine
        from genrail.errors import SettingsError

        if (queries is None) != (qrels is None) or (queries is None and interactions is None):
            raise SettingsError("nothing to compare on: give --queries and --qrels, or --interactions, or all of them")

        def read(path: Path | None, reader: Callable[..., Any]) -> Any:
            return None if path is None else reader(path, format=format_for(path, format), encoding=encoding)

        asked, judged, trained = read(queries, read_queries), read(qrels, read_qrels), read(trained_on, read_queries)
        loaded = Engine.load(engine)
        events, account = None, None
        if interactions is not None:
            roles: dict[str, Any] = {"user": user, "item": item, "timestamp": timestamp, "rating": rating}
            roles["min_rating"] = parse_min_rating(min_rating)
            events, account = read_events(interactions, loaded.catalog, format=format, encoding=encoding, **roles)
        with stage_progress(quiet=json) as progress:
            found = compare_engine(
                loaded,
                asked,
                judged,
                interactions=events,
                metric=metric,
                seed=seed,
                trained=trained,
                progress=progress,
                interleave=interleave,
            )
        both = {found.task: found} | ({} if found.next_item is None else {found.next_item.task: found.next_item})
        _write(both, report, markdown)
        if json:
            values = found.to_dict()
            print_json(values if account is None else {**values, "account": {"interactions": account.to_dict()}})
            return
        for name, one in both.items():
            columns, rows = one.rows()
            print_table(f"{name}: {len(one.queries)} queries", columns, rows)
            for sentence in (*one.remarks(), one.recommendation):
                note(sentence)


def _write(found: dict[str, Comparison], report: Path | None, markdown: Path | None) -> None:
    """Write a page and a Markdown file; the recommendations' ones beside those of search."""
    first = next(iter(found))
    for name, one in found.items():
        for path, write in ((report, one.write_html), (markdown, one.write_markdown)):
            if path is not None:
                own = path if name == first else path.with_name(f"{path.stem}-{name.replace(' ', '-')}{path.suffix}")
                write(own)
                note(f"wrote {own}")
