"""`genrail add`, `update`, `remove`, `merge`, `rollback`: a live catalogue, without retraining."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_account, print_json, stage_progress
from genrail.cli.search import Debug, Encoding, EngineFolder, Format, Json

if TYPE_CHECKING:
    from genrail.catalog import Report
    from genrail.engine import Engine

__all__ = ["add", "merge", "remove", "rollback", "update"]

Items = Annotated[
    Path, typer.Argument(metavar="ITEMS", help="A file with columns of the catalogue; - for standard input.")
]


def add(
    engine: EngineFolder,
    items: Items,
    format: Format = None,
    encoding: Encoding = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Add items to an engine; they can be found at once."""
    with errors_as_sentences(debug):
        loaded = _loaded(engine)
        new = loaded.catalog.read_more(items, format=format, encoding=encoding)
        with stage_progress(quiet=json) as progress:
            loaded.add(new, progress=progress)
        _tell(new.report, "added", loaded, json)


def update(
    engine: EngineFolder,
    items: Items,
    format: Format = None,
    encoding: Encoding = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Change titles and attributes of items; columns that the file lacks keep their values, as do keys of JSON."""
    with errors_as_sentences(debug):
        loaded = _loaded(engine)
        changes, report = loaded.catalog.read_changes(items, format=format, encoding=encoding)
        with stage_progress(quiet=json) as progress:
            loaded.update(changes, progress=progress)
        _tell(report, "updated", loaded, json)


def _tell(report: Report, what: str, loaded: Engine, as_json: bool) -> None:
    """Account for the rows, as every command that reads does."""
    print_account(report, what, f"; {len(loaded):,} items can be found now")
    if as_json:
        print_json({"account": report.to_dict(), "items": len(loaded)})


def remove(
    engine: EngineFolder,
    item_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the items to remove.")],
    debug: Debug = False,
) -> None:
    """Remove items from an engine; they can't come out any more."""
    with errors_as_sentences(debug):
        loaded = _loaded(engine)
        loaded.remove(item_ids)
        note(f"removed {len(item_ids)} items; {len(loaded)} can be found now")


def merge(engine: EngineFolder, debug: Debug = False) -> None:
    """Merge live changes into the index and publish them as a new version, so that opening it is fast again."""
    with errors_as_sentences(debug):
        from genrail import storage

        _loaded(engine).merge()
        note(f"version {storage.live_version(engine)} of {engine} is live, without changes to apply")


def rollback(
    engine: EngineFolder,
    to: Annotated[
        int | None, typer.Option("--to", metavar="VERSION", help="Which version; by default the one before.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Make an earlier version of an engine live again, with the changes logged on it; nothing is removed."""
    with errors_as_sentences(debug):
        from genrail import storage
        from genrail.engine.folder import earlier_version

        version = storage.rollback(engine, earlier_version(engine) if to is None else to)
        listed = ", ".join(map(str, storage.versions(engine)))
        note(f"version {version.number} of {engine} is live now; it has the versions {listed}")


def _loaded(folder: Path) -> Engine:
    from genrail.engine import Engine

    return Engine.load(folder, live=True)
