"""`genrail push`: what an engine's language model was taught, to a hub of models."""

from __future__ import annotations

from typing import Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json
from genrail.cli.search import Debug, EngineFolder, Json

__all__ = ["push"]


def push(
    engine: EngineFolder,
    repo_id: Annotated[str, typer.Argument(metavar="NAME", help="On the hub, such as you/shop-titles.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository that others do not see.")] = False,
    message: Annotated[
        str, typer.Option("--message", help="Of the commit.")
    ] = "Push what a language model was taught with genrail",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Upload the adapter or the weights that `train` made, with their model card, to the Hugging Face hub."""
    with errors_as_sentences(debug):
        from genrail.engine import Engine

        url = Engine.load(engine).push_to_hub(repo_id, private=private, message=message)
        if json:
            print_json({"engine": str(engine), "url": url})
        else:
            note(f"pushed to {url}")
