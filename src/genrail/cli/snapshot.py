"""`genrail snapshot` and `genrail restore`: an engine as one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrail.cli.console import errors_as_sentences, note
from genrail.cli.search import Debug, EngineFolder

__all__ = ["restore", "snapshot"]

Archive = Annotated[Path, typer.Argument(metavar="ARCHIVE", help="Such as shop-2026-11.tar.gz.")]


def snapshot(engine: EngineFolder, archive: Archive, debug: Debug = False) -> None:
    """Copy the live version of an engine and its changes into one new file; the engine may be served meanwhile."""
    with errors_as_sentences(debug):
        from genrail import storage

        version = storage.snapshot(engine, archive)
        note(f"version {version.number} of {engine} is in {archive}, {archive.stat().st_size:,} bytes")


def restore(archive: Archive, engine: EngineFolder, debug: Debug = False) -> None:
    """Publish the content of a snapshot as the next version of a folder, new or existing."""
    with errors_as_sentences(debug):
        from genrail import storage

        version = storage.restore(archive, engine)
        note(f"version {version.number} of {engine} is live now")
