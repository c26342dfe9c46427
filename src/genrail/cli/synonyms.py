"""`genrail synonyms`: what words of queries stand for, shown or changed without a new build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, waiting
from genrail.cli.search import Debug, EngineFolder, Json

__all__ = ["synonyms"]


def synonyms(
    engine: EngineFolder,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Lines 'a, b, c' or 'a, b => c', or JSON lines; none shows what is there."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Let words of queries stand for others, in place of the synonyms before; an empty file takes all away."""
    with errors_as_sentences(debug):
        from genrail.engine import Engine

        with waiting("opening the engine"):
            opened = Engine.load(engine)
        if file is not None:
            opened.set_synonyms(file)
            opened.save(engine)
        if json:
            print_json({"synonyms": list(opened.synonyms)})
        elif file is not None:
            note(f"published {engine} with {len(opened.synonyms):,} rules")
        else:
            note("\n".join(opened.synonyms) or "this engine reads no synonyms yet: genrail synonyms ENGINE FILE")
