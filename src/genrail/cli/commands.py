"""All commands, one file per verb. Importing this costs typer and rich, nothing heavier."""

from __future__ import annotations

from typing import Annotated

import typer

import genrail
from genrail.cli.build import build
from genrail.cli.compare import compare
from genrail.cli.demo import demo
from genrail.cli.doctor import doctor
from genrail.cli.evaluate import evaluate
from genrail.cli.inspect import inspect
from genrail.cli.mcp import mcp
from genrail.cli.models import models
from genrail.cli.push import push
from genrail.cli.search import recommend, search
from genrail.cli.serve import keys, serve
from genrail.cli.shard import shard
from genrail.cli.snapshot import restore, snapshot
from genrail.cli.suggest import similar, suggest
from genrail.cli.synonyms import synonyms
from genrail.cli.train import train
from genrail.cli.update import add, merge, remove, rollback, update

__all__ = ["app"]

app = typer.Typer(
    name="genrail",
    help="Generative retrieval on rails: a catalogue becomes a search and recommendation engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"genrail {genrail.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Point genrail at a catalogue; it writes the identifiers of real items only."""


for verb in (
    demo,
    build,
    train,
    search,
    recommend,
    similar,
    suggest,
    add,
    update,
    remove,
    synonyms,
    merge,
    rollback,
    serve,
    mcp,
    models,
    push,
    snapshot,
    restore,
    evaluate,
    compare,
    inspect,
    doctor,
):
    app.command()(verb)
app.add_typer(keys, name="keys")
app.add_typer(shard, name="shard")
