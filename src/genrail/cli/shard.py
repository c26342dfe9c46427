"""`genrail shard`: build a large catalogue piece by piece, under any scheduler, and put the pieces together."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.search import Debug, Json

if TYPE_CHECKING:
    from genrail.engine.sharding import ShardStatus

__all__ = ["shard"]

shard = typer.Typer(
    help="Build from Parquet shards: plan once, run anywhere, assemble.", no_args_is_help=True, rich_markup_mode=None
)
Shards = Annotated[Path, typer.Argument(metavar="FOLDER", help="Made by `genrail shard plan`.")]
Where = Annotated[
    Path | None, typer.Option("--catalog", help="Where the shards lie on this machine, if not as planned.")
]


@shard.command()
def plan(
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="Folder of *.parquet files with one schema.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the plan and the outputs.")],
    item_id: Annotated[str | None, typer.Option("--id", help="Column of the item ids (guessed otherwise).")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Column of the titles (guessed otherwise).")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Further text columns, separated by commas.")] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="Text encoder (all-MiniLM-L6-v2 otherwise).")] = None,
    levels: Annotated[int, typer.Option("--levels", help="Codes of a Semantic ID.")] = 3,
    codes: Annotated[int | None, typer.Option("--codes", help="Size of a codebook (256, fewer for few items).")] = None,
    sample: Annotated[int, typer.Option("--sample", help="Items that the codebooks are fitted on.")] = 65_536,
    codebooks: Annotated[
        Path | None, typer.Option("--codebooks", help="Use the codebooks of this earlier plan's folder.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same codebooks.")] = 0,
    debug: Debug = False,
) -> None:
    """Check the shards, fit the codebooks on a sample, and freeze both."""
    with errors_as_sentences(debug):
        from genrail.engine.shard_plan import ShardSettings, plan_shards

        settings = ShardSettings(levels, codes, sample, seed)
        columns = [name.strip() for name in text.split(",")] if text else None
        with stage_progress() as progress:
            made = plan_shards(
                catalog,
                out,
                item_id=item_id,
                title=title,
                text=columns,
                encoder=encoder,
                settings=settings,
                codebooks=codebooks,
                progress=progress,
            )
        note(f"{made.rows:,} rows in {len(made.shards)} shards; next: genrail shard run {out} --shard 1/N")


@shard.command("run")
def run_command(
    folder: Shards,
    which: Annotated[
        str | None, typer.Option("--shard", help="I/N (every N-th from the I-th on) or a file's name; all otherwise.")
    ] = None,
    catalog: Where = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Give the items of some shards vectors and codes; what is done already is skipped."""
    with errors_as_sentences(debug):
        from genrail.engine.shard_plan import ShardPlan
        from genrail.engine.sharding import run_shards

        with stage_progress(quiet=json) as progress:
            found = run_shards(ShardPlan.load(folder, catalog), which, progress=progress)
        _show(folder, found, json)


@shard.command()
def status(folder: Shards, json: Json = False, debug: Debug = False) -> None:
    """Show the manifest: how each shard stands."""
    with errors_as_sentences(debug):
        from genrail.engine.shard_plan import ShardPlan
        from genrail.engine.sharding import manifest

        _show(folder, manifest(ShardPlan.load(folder)), json)


@shard.command()
def assemble(
    folder: Shards,
    out: Annotated[Path, typer.Option("--out", help="Engine folder to write.")] = Path("shop.genrail"),
    catalog: Where = None,
    train_items: Annotated[
        int | None, typer.Option("--train-items", help="Items that queries are made up for (all otherwise).")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Stop training after this long.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Put all shards together, train, and publish the engine."""
    with errors_as_sentences(debug):
        from genrail.engine.shard_assembly import assemble as put_together
        from genrail.engine.shard_plan import ShardPlan
        from genrail.storage import check_target

        check_target(out)
        with stage_progress(quiet=json) as progress:
            engine = put_together(
                ShardPlan.load(folder, catalog), train_items=train_items, max_seconds=max_seconds, progress=progress
            )
        engine.save(out)
        if json:
            print_json({"engine": str(out), **engine.describe()})
        else:
            note(f"{len(engine):,} items are in {out}")


def _show(folder: Path, found: list[ShardStatus], as_json: bool) -> None:
    pages = [asdict(status) for status in found]
    if as_json:
        print_json({"shards": pages})
        return
    columns = ("name", "status", "rows", "input_sha256", "output_sha256", "seconds")
    print_table(
        str(folder),
        columns,
        [[str(page[name])[:12] if "256" in name else page[name] for name in columns] for page in pages],
    )
