"""`genrail inspect`: what is in this folder, is it whole, how good are the identifiers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table
from genrail.cli.search import Debug, Json

if TYPE_CHECKING:
    from genrail.identifiers.quality import IdentifierReport

__all__ = ["inspect"]


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An engine folder.")],
    identifiers: Annotated[bool, typer.Option("--identifiers", help="Measure the identifiers too.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what an engine folder holds and whether it is whole."""
    with errors_as_sentences(debug):
        from genrail import storage
        from genrail.engine import Engine
        from genrail.engine.inspection import measure_identifiers
        from genrail.finders.generative import generative_part

        problems = storage.verify(path)
        for problem in problems:
            note(f"damaged: {problem}")
        if problems:
            raise SystemExit(2)
        version = storage.open_version(path)
        engine = Engine.load(path)
        facts: dict[str, object] = {
            "folder": str(path),
            "whole": True,
            "version": version.number,
            "bytes": sum(file.stat().st_size for file in version.path.rglob("*") if file.is_file()),
            **engine.describe(),
        }
        writes = generative_part(engine.edition.finder) is not None
        report = measure_identifiers(engine.edition) if identifiers or (writes and not json) else None
        if json:
            print_json({**facts, **({"identifiers": report.to_dict()} if report else {})})
            return
        print_table(str(path), ["what", "value"], [[key, value] for key, value in facts.items()])
        if report:
            _show_identifiers(report)


def _show_identifiers(report: IdentifierReport) -> None:
    rows = report.table()
    if rows:  # one column per level: the names of the measures are long, the levels few
        measures = [name for name in rows[0] if name != "level"]
        columns = ["", *(f"level {row['level']}" for row in rows)]
        print_table("identifiers by level", columns, [[name, *(row[name] for row in rows)] for name in measures])
    note(
        f"{report.items:,} items, {report.identifiers:,} identifiers; {report.colliding:,} items "
        f"({report.collision_rate:.1%}) share their codes with another before the de-duplicating one, "
        f"the largest group has {report.largest_group}"
    )
