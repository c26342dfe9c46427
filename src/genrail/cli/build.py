"""`genrail build`: a catalogue file becomes an engine folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrail.cli.console import errors_as_sentences, note, print_account, print_json, print_table, stage_progress
from genrail.cli.reading import Item, MinRating, Rating, Timestamp, User, parse_min_rating, read_events, read_settings
from genrail.cli.search import Debug, Encoding, Format, Json

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.engine import Engine

__all__ = ["build"]


def build(
    catalog: Annotated[
        Path,
        typer.Argument(
            metavar="CATALOG",
            help="CSV, TSV, text, JSON, Parquet (also .gz, .zst, .zip), folder, pattern, - or irds:ID.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Engine folder to write.")] = Path("shop.genrail"),
    item_id: Annotated[str | None, typer.Option("--id", help="Column of the item ids (guessed otherwise).")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Column of the titles (guessed otherwise).")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Further text columns, separated by commas.")] = None,
    interactions: Annotated[
        Path | None, typer.Option("--interactions", help="Who took what: rows (user, item, timestamp) or sequences.")
    ] = None,
    user: User = None,
    item: Item = None,
    timestamp: Timestamp = None,
    rating: Rating = None,
    min_rating: MinRating = None,
    format: Format = None,
    encoding: Encoding = None,
    allow_large: Annotated[
        bool, typer.Option("--allow-large", help="Lift the limits on rows and unpacked size of the catalogue.")
    ] = False,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="How items are found, such as bm25 or native (fused otherwise).")
    ] = None,
    lanes: Annotated[
        str | None, typer.Option("--lanes", help="Finders that are fused, separated by commas, such as bm25,dense.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="A Hugging Face language model or folder: titles, or --recipe codes or seal."),
    ] = None,
    queries: Annotated[Path | None, typer.Option("--queries", help="Judged queries to learn from.")] = None,
    qrels: Annotated[Path | None, typer.Option("--qrels", help="Which items are right for which query.")] = None,
    synonyms: Annotated[
        Path | None, typer.Option("--synonyms", help="What words stand for: lines 'a, b, c' or 'a => b', or JSON.")
    ] = None,
    identifiers: Annotated[
        str | None,
        typer.Option("--identifiers", help="How Semantic IDs are made: kmeans, rqvae, pq, lsh, attributes or atomic."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A further setting of the recipe: --set name=value, repeatable.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Text encoder (all-MiniLM-L6-v2 otherwise); words+NAME reads words too."),
    ] = None,
    levels: Annotated[int | None, typer.Option("--levels", help="Codes of a Semantic ID (3).")] = None,
    codes: Annotated[int | None, typer.Option("--codes", help="Size of a codebook (256, fewer for few items).")] = None,
    holdout: Annotated[
        str, typer.Option("--holdout", help="last: keep each user's last event for `evaluate`; none: train on all.")
    ] = "last",
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Stop training after this long.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same engine.")] = 0,
    ray: Annotated[bool, typer.Option("--ray", help="CATALOG is a folder of Parquet shards; build on Ray.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", help="With --ray: Ray workers at once (1).")] = None,
    shards: Annotated[
        Path | None, typer.Option("--shards", help="With --ray: folder of the plan and the outputs (OUT.shards).")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Build an engine from a catalogue file."""
    with errors_as_sentences(debug):
        from genrail.catalog import Catalog, read_qrels, read_queries, read_synonyms
        from genrail.engine import Engine
        from genrail.storage import check_target

        check_target(out)
        if synonyms is not None:
            read_synonyms(synonyms)  # a line that is no rule is told before the build
        columns = [name.strip() for name in text.split(",")] if text else None
        _check_ray(ray, {"--workers": workers, "--shards": shards}, {"--model": model, "--interactions": interactions})
        if ray:
            place = shards or out.with_name(f"{out.name}.shards")
            plan = {"item_id": item_id, "title": title, "text": columns, "encoder": encoder}
            sharded = {"levels": levels or 3, "codes": codes, "seed": seed}
            _build_on_ray(catalog, place, out, plan, sharded, workers or 1, max_seconds, json)
            return
        own: dict[str, Any] = {"levels": levels, "codes": codes, "max_seconds": max_seconds, "identifiers": identifiers}
        names = tuple(name.strip() for name in (lanes or "").split(",") if name.strip())
        own |= {"lanes": names or None, **read_settings(settings or [])}
        items = Catalog.read(
            catalog,
            item_id=item_id,
            title=title,
            text=columns,
            format=format,
            encoding=encoding,
            allow_large=allow_large,
        )
        _show_catalog(items)
        accounts = {"catalog": items.report.to_dict()}
        events = None
        if interactions is not None:
            roles: dict[str, Any] = {"user": user, "item": item, "timestamp": timestamp, "rating": rating}
            roles["min_rating"] = parse_min_rating(min_rating)
            events, account = read_events(interactions, items, format=format, encoding=encoding, **roles)
            accounts["interactions"] = account.to_dict()
        with stage_progress(quiet=json) as progress:
            engine = Engine.build(
                items,
                recipe,
                interactions=events,
                model=model,
                encoder=encoder,
                queries=read_queries(queries) if queries is not None else None,
                qrels=read_qrels(qrels) if qrels is not None else None,
                synonyms=synonyms or (),
                hold_out=_hold_out(holdout),
                seed=seed,
                progress=progress,
                **{name: value for name, value in own.items() if value is not None},
            )
        engine.save(out)
        _warn_of_scripts(engine)
        if json:
            print_json({"engine": str(out), **engine.describe(), "account": accounts})
        else:
            _show_engine(out, engine.describe())


def _warn_of_scripts(engine: Engine) -> None:
    """Tell when the text encoder cannot read the items' titles."""
    from genrail.models.scripts import unread_titles

    warning = unread_titles(engine.encoder, engine.catalog.titles)
    if warning is not None:
        note(f"warning: {warning}")


def _check_ray(ray: bool, only_with: dict[str, Any], never_with: dict[str, Any]) -> None:
    from genrail.errors import SettingsError

    for name, value in (never_with if ray else only_with).items():
        if value is not None:
            way_out = "genrail train ENGINE takes interactions afterwards" if ray else "give --ray, or leave it out"
            raise SettingsError(f"{name} does not go {'with' if ray else 'without'} --ray; {way_out}")


def _build_on_ray(
    catalog: Path,
    shards: Path,
    out: Path,
    columns: dict[str, Any],
    settings: dict[str, Any],
    workers: int,
    max_seconds: float | None,
    as_json: bool,
) -> None:
    from genrail.engine.ray_build import run_shards_on_ray, start_ray
    from genrail.engine.shard_assembly import assemble
    from genrail.engine.shard_plan import ShardSettings, plan_shards

    start_ray(workers)
    with stage_progress(quiet=as_json) as progress:
        plan = plan_shards(catalog, shards, settings=ShardSettings(**settings), progress=progress, **columns)
        run_shards_on_ray(plan, workers, progress)
        engine = assemble(plan, max_seconds=max_seconds, progress=progress)
    engine.save(out)
    if as_json:
        print_json({"engine": str(out), **engine.describe()})
    else:
        _show_engine(out, engine.describe())


def _hold_out(holdout: str) -> bool:
    from genrail.errors import SettingsError

    if holdout not in ("last", "none"):
        raise SettingsError(f"--holdout is {holdout!r}; give last or none")
    return holdout == "last"


def _show_catalog(items: Catalog) -> None:
    columns = items.columns
    text = ", ".join(columns.text) or "none"
    print_account(items.report, "indexed", f"; id: {columns.item_id}, title: {columns.title}, text: {text}")


def _show_engine(out: Path, facts: Mapping[str, object]) -> None:
    print_table(
        str(out), ["what", "value"], [[key, value] for key, value in facts.items() if not isinstance(value, dict)]
    )
    note(f'try: genrail search {out} "your words"    genrail inspect {out}')
