"""`genrail serve`: an engine over HTTP; `genrail keys`: who may use it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table
from genrail.cli.search import Debug, EngineFolder, Json

__all__ = ["keys", "serve"]

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="Where the keys are kept, as hashes.")]
KeyName = Annotated[str, typer.Argument(metavar="NAME", help="Names the key in logs.")]


def serve(
    engine: EngineFolder,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; beyond loopback only with --keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 chooses a free one.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes that hold the model.")] = 1,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads of each; more than 1 is for language models.")
    ] = 1,
    keys: Annotated[Path | None, typer.Option("--keys", help="File made by `genrail keys create`.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without keys.")] = False,
    deadline: Annotated[float, typer.Option("--deadline", help="Seconds that a request may take.")] = 5.0,
    connections: Annotated[int, typer.Option("--connections", help="Clients that may be connected.")] = 900,
    slow: Annotated[float, typer.Option("--slow", help="Seconds that headers or a body may take to arrive.")] = 10.0,
    queue: Annotated[int, typer.Option("--queue", help="Requests that may wait; more are refused.")] = 64,
    batch: Annotated[int, typer.Option("--batch", help="Requests that are decoded together at most.")] = 32,
    rate: Annotated[float, typer.Option("--rate", help="Requests per second and key; 0 for no limit.")] = 0.0,
    change_wait: Annotated[
        float, typer.Option("--change-wait", help="Seconds a change is waited for; then 202, and it goes on by itself.")
    ] = 30.0,
    beam_width: Annotated[int | None, typer.Option("--beam-width", help="Beams; more find more, slower.")] = None,
    beside: Annotated[
        Path | None, typer.Option("--beside", help="A second engine, to compare the answers in the page.")
    ] = None,
    split: Annotated[
        float, typer.Option("--split", help="Share of users, 0 to 1, whose questions the engine of --beside answers.")
    ] = 0.0,
    events: Annotated[
        Path | None, typer.Option("--events", help="SQLite file that keeps what users did; made if it is not there.")
    ] = None,
    log_queries: Annotated[bool, typer.Option("--log-queries", help="Write the words of queries to the log.")] = False,
    traces: Annotated[bool, typer.Option("--traces", help="Write OpenTelemetry spans; see docs/serving.md.")] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", help="Web page of another server that may ask, as https://shop.example; repeatable."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Name, beside localhost, that a server without keys answers to; repeatable."),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images", help="Where the page may load pictures from, as https://cdn.shop.example; repeatable."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Serve an engine over HTTP until it is told to stop (Ctrl-C or SIGTERM)."""
    with errors_as_sentences(debug):
        from genrail.serving.running import run_server
        from genrail.serving.settings import ServeSettings

        settings = ServeSettings(
            deadline_seconds=deadline,
            queue=queue,
            connections=connections,
            slow_seconds=slow,
            batch=batch,
            rate_per_second=rate,
            beam_width=beam_width,
            log_queries=log_queries,
            name=engine.name,
            traces=traces,
            change_wait_seconds=change_wait,
            origins=tuple(origin or ()),
            hosts=tuple(allow_host or ()),
            images=tuple(images or ()),
            split=split,
        )
        code = run_server(
            engine,
            settings,
            host=host,
            port=port,
            workers=workers,
            threads=threads,
            keys=keys,
            insecure=insecure,
            beside=beside,
            events=events,
        )
    raise typer.Exit(code)


keys = typer.Typer(help="Make, list and revoke the keys of a server.", no_args_is_help=True, rich_markup_mode=None)


@keys.command()
def create(
    file: KeyFile,
    name: KeyName,
    role: Annotated[str, typer.Option("--role", help="`read` asks; `admin` changes the engine too.")] = "read",
    where: Annotated[str | None, typer.Option("--where", help="A filter on everything the key sees.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Requests per second.")] = None,
    debug: Debug = False,
) -> None:
    """Make a key; it is shown once, the file keeps its hash."""
    with errors_as_sentences(debug):
        from genrail.serving.keys import Key, create_key

        token = create_key(file, Key(name, role, where, rate))  # type: ignore[arg-type]
        note("keep this key; it is not shown again:")
        typer.echo(token)


@keys.command("list")
def list_keys(file: KeyFile, json: Json = False, debug: Debug = False) -> None:
    """List the keys, without their secrets."""
    with errors_as_sentences(debug):
        from genrail.serving.keys import read_keys

        columns = ("name", "role", "where", "rate_per_second", "created")
        found = [{name: getattr(key, name) for name in columns} for key in read_keys(file)]
        if json:
            print_json({"keys": found})
        else:
            print_table(str(file), columns, [[key[name] for name in columns] for key in found])


@keys.command()
def revoke(file: KeyFile, name: KeyName, debug: Debug = False) -> None:
    """Take a key back; a running server notices within a second."""
    with errors_as_sentences(debug):
        from genrail.serving.keys import revoke_key

        revoke_key(file, name)
        note(f"the key {name} is gone")
