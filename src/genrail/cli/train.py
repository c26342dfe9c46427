"""`genrail train`: teach an engine from interactions and judged queries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.search import Debug, EngineFolder, Json

__all__ = ["train"]


def train(
    engine: EngineFolder,
    interactions: Annotated[Path | None, typer.Option("--interactions", help="Who took what, in order.")] = None,
    queries: Annotated[Path | None, typer.Option("--queries", help="Queries: id and text.")] = None,
    qrels: Annotated[Path | None, typer.Option("--qrels", help="Which items are right for which query.")] = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Stop after this long.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same model.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Teach an engine further and publish the better one."""
    with errors_as_sentences(debug):
        from genrail.catalog import Interactions, read_qrels, read_queries
        from genrail.engine import Engine
        from genrail.errors import SettingsError

        if (queries is None) != (qrels is None):
            raise SettingsError("queries and qrels belong together: give both --queries and --qrels")
        loaded = Engine.load(engine)
        settings: dict[str, Any] = {} if max_seconds is None else {"max_seconds": max_seconds}
        with stage_progress(quiet=json) as progress:
            report = loaded.train(
                interactions=Interactions.read(interactions) if interactions is not None else None,
                queries=read_queries(queries) if queries is not None else None,
                qrels=read_qrels(qrels) if qrels is not None else None,
                **settings,
                seed=seed,
                progress=progress,
            )
        loaded.save(engine)
        if json:
            print_json({} if report is None else report.to_dict())
            return
        if report is not None:
            print_table("training", ["what", "value"], [[key, value] for key, value in report.summary().items()])
        note(f"published {engine}")
