"""`genrail build`: a catalogue file becomes an engine folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.search import Debug, Json

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["build"]


def build(
    catalog: Annotated[
        Path, typer.Argument(metavar="CATALOG", help="CSV, TSV, JSONL (also gzip), Parquet or BEIR folder.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Engine folder to write.")] = Path("shop.genrail"),
    item_id: Annotated[str | None, typer.Option("--id", help="Column of the item ids (guessed otherwise).")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Column of the titles (guessed otherwise).")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Further text columns, separated by commas.")] = None,
    interactions: Annotated[
        Path | None, typer.Option("--interactions", help="Who took what: rows (user, item, timestamp) or sequences.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="User column of the interactions.")] = None,
    item: Annotated[str | None, typer.Option("--item", help="Item column of the interactions.")] = None,
    timestamp: Annotated[str | None, typer.Option("--timestamp", help="Time column of the interactions.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="A Hugging Face language model or folder; the native model otherwise.")
    ] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="Text encoder (all-MiniLM-L6-v2 otherwise).")] = None,
    levels: Annotated[int, typer.Option("--levels", help="Codes of a Semantic ID.")] = 3,
    codes: Annotated[int | None, typer.Option("--codes", help="Size of a codebook (256, fewer for few items).")] = None,
    holdout: Annotated[
        str, typer.Option("--holdout", help="last: keep each user's last event for `evaluate`; none: train on all.")
    ] = "last",
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Stop training after this long.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same engine.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Build an engine from a catalogue file."""
    with errors_as_sentences(debug):
        from genrail.catalog import Catalog, Interactions
        from genrail.retrieval import Engine
        from genrail.storage import check_target

        check_target(out)
        columns = [name.strip() for name in text.split(",")] if text else None
        items = Catalog.read(catalog, item_id=item_id, title=title, text=columns)
        _show_catalog(items)
        events = (
            Interactions.read(interactions, user=user, item=item, timestamp=timestamp)
            if interactions is not None
            else None
        )
        with stage_progress(quiet=json) as progress:
            engine = Engine.build(
                items,
                interactions=events,
                model=model,
                encoder=encoder,
                levels=levels,
                codes=codes,
                hold_out=_hold_out(holdout),
                max_seconds=max_seconds,
                seed=seed,
                progress=progress,
            )
        engine.save(out)
        if json:
            print_json({"engine": str(out), **engine.describe()})
        else:
            _show_engine(out, engine.describe())


def _hold_out(holdout: str) -> bool:
    from genrail.errors import SettingsError

    if holdout not in ("last", "none"):
        raise SettingsError(f"--holdout is {holdout!r}; give last or none")
    return holdout == "last"


def _show_catalog(items: Catalog) -> None:
    report = items.report
    columns = items.columns
    note(
        f"{report.rows_in} rows in = {report.indexed} indexed + {len(report.refused)} refused; "
        f"id: {columns.item_id}, title: {columns.title}, text: {', '.join(columns.text) or 'none'}"
    )
    for row, reason in report.refused[:10]:
        note(f"  row {row}: {reason}")
    if len(report.refused) > 10:
        note(f"  and {len(report.refused) - 10} more")
    for warning in report.warnings:
        note(f"warning: {warning}")


def _show_engine(out: Path, facts: dict[str, Any]) -> None:
    print_table(
        str(out), ["what", "value"], [[key, value] for key, value in facts.items() if not isinstance(value, dict)]
    )
    note(f'try: genrail search {out} "your words"    genrail inspect {out}')
