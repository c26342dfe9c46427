"""`genrail add` and `genrail remove`: a live catalogue, without retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, stage_progress
from genrail.cli.search import Debug, EngineFolder

__all__ = ["add", "remove"]


def add(
    engine: EngineFolder,
    items: Annotated[Path, typer.Argument(metavar="ITEMS", help="A file with the columns of the catalogue.")],
    debug: Debug = False,
) -> None:
    """Add items to an engine; they can be found at once."""
    with errors_as_sentences(debug):
        from genrail.catalog import Catalog
        from genrail.retrieval import Engine

        loaded = Engine.load(engine, live=True)
        columns = loaded.catalog.columns
        new = Catalog.read(items, item_id=columns.item_id, title=columns.title)
        with stage_progress() as progress:
            loaded.add(new, progress=progress)
        note(f"added {len(new)} items; {len(loaded)} can be found now")


def remove(
    engine: EngineFolder,
    item_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the items to remove.")],
    debug: Debug = False,
) -> None:
    """Remove items from an engine; they can't come out any more."""
    with errors_as_sentences(debug):
        from genrail.retrieval import Engine

        loaded = Engine.load(engine, live=True)
        loaded.remove(item_ids)
        note(f"removed {len(item_ids)} items; {len(loaded)} can be found now")
