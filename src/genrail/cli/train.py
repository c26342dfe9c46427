"""`genrail train`: teach an engine from interactions and judged queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.reading import (
    Item,
    MinRating,
    Rating,
    Timestamp,
    User,
    format_for,
    parse_min_rating,
    read_events,
    read_settings,
)
from genrail.cli.search import Debug, Encoding, EngineFolder, Format, Json

if TYPE_CHECKING:
    from genrail.engine import Engine

__all__ = ["train"]


def train(
    engine: EngineFolder,
    interactions: Annotated[Path | None, typer.Option("--interactions", help="Who took what, in order.")] = None,
    queries: Annotated[Path | None, typer.Option("--queries", help="Queries: id and text.")] = None,
    qrels: Annotated[Path | None, typer.Option("--qrels", help="Which items are right for which query.")] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="How it learns: sft (what was right), distill (a teacher), grpo.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            help="For --recipe distill: an engine folder over the same catalogue, or the address of an "
            "OpenAI-compatible API, such as http://127.0.0.1:8000/v1.",
        ),
    ] = None,
    teacher_model: Annotated[
        str | None, typer.Option("--teacher-model", help="Of an API: name of the model there.")
    ] = None,
    teacher_key: Annotated[
        Path | None, typer.Option("--teacher-key", exists=True, dir_okay=False, help="Of an API: file with the key.")
    ] = None,
    teacher_settings: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher-set",
            help="Of an API: budget=1000, file=answers.jsonl, says=ranking or labels, candidates=20, ...; repeatable.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the training: --set name=value, repeatable.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="File to keep the training in, and to resume it from.")
    ] = None,
    curve: Annotated[
        Path | None, typer.Option("--curve", help="File for the learning curve, JSON lines; a picture is beside it.")
    ] = None,
    show: Annotated[
        int | None, typer.Option("--show", help="Print so many examples of each source, and train nothing.")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Stop after this long.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same model.")] = 0,
    user: User = None,
    item: Item = None,
    timestamp: Timestamp = None,
    rating: Rating = None,
    min_rating: MinRating = None,
    format: Format = None,
    encoding: Encoding = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Teach an engine further and publish the better one."""
    with errors_as_sentences(debug):
        from genrail.catalog import read_qrels, read_queries
        from genrail.engine import Engine
        from genrail.errors import SettingsError

        if (queries is None) != (qrels is None):
            raise SettingsError("queries and qrels belong together: give both --queries and --qrels")
        loaded = Engine.load(engine)
        events, account = None, None
        if interactions is not None:
            roles: dict[str, Any] = {"user": user, "item": item, "timestamp": timestamp, "rating": rating}
            roles["min_rating"] = parse_min_rating(min_rating)
            events, account = read_events(interactions, loaded.catalog, format=format, encoding=encoding, **roles)
        asked, judged = None, None
        if queries is not None and qrels is not None:
            asked = read_queries(queries, format=format_for(queries, format), encoding=encoding)
            judged = read_qrels(qrels, format=format_for(qrels, format), encoding=encoding)
        own: dict[str, Any] = {"recipe": recipe, "max_seconds": max_seconds, **read_settings(settings or [])}
        own |= {"checkpoint": checkpoint and str(checkpoint), "curve": curve and str(curve)}
        own = {name: value for name, value in own.items() if value is not None}
        data: dict[str, Any] = {"interactions": events, "queries": asked, "qrels": judged, "seed": seed}
        api = {"--teacher-model": teacher_model, "--teacher-key": teacher_key, "--teacher-set": teacher_settings}
        if teacher is not None:
            data["teacher"] = _teacher(teacher, loaded, api, seed, json)
        elif any(api.values()):
            raise SettingsError(f"{next(name for name, one in api.items() if one)} belongs to --teacher; give both")
        if show is not None:
            _show(loaded.training_examples(show, **data, **own), json)
            return
        with _processes() as first:
            with stage_progress(quiet=json or not first) as progress:
                report = loaded.train(**data, **own, progress=progress)
        if not first:
            return
        loaded.save(engine)
        _tell_of(data.get("teacher"))
        if json:
            told = {} if report is None else report.to_dict()
            print_json(told if account is None else {**told, "account": {"interactions": account.to_dict()}})
            return
        if report is not None:
            print_table("training", ["what", "value"], [[key, value] for key, value in report.summary().items()])
        note(f"published {engine}")


@contextmanager
def _processes() -> Iterator[bool]:
    """Join the processes that torchrun started, if it did; tell whether this is the first, which publishes."""
    try:
        from genrail.training.processes import joined
    except ImportError:  # without torch there is nothing to join
        yield True
        return
    with joined() as processes:
        yield processes.first


def _teacher(given: str, engine: Engine, api: Mapping[str, Any], seed: int, quiet: bool) -> Engine:
    """Open the engine that teaches, or reach for the model behind an address."""
    from genrail.engine import Engine
    from genrail.errors import SettingsError

    if not given.startswith(("http://", "https://")):
        for name, value in api.items():
            if value:
                raise SettingsError(f"{name} is for a teacher behind an address, and {given} is a folder; leave it out")
        return Engine.load(Path(given))
    from dataclasses import fields

    from genrail.finding.finder import unknown
    from genrail.integrations.api_teacher import TeacherSettings, api_teacher
    from genrail.integrations.chat_api import ChatApi

    if api["--teacher-model"] is None:
        raise SettingsError(f"--teacher {given} needs the name of the model there; give --teacher-model")
    key = None if api["--teacher-key"] is None else api["--teacher-key"].read_text(encoding="utf-8").strip()
    own = read_settings(api["--teacher-set"] or [])
    unknown(own, [one.name for one in fields(TeacherSettings)], "a teacher behind an API")
    lanes = {"lanes": tuple(str(own["lanes"]).split(","))} if isinstance(own.get("lanes"), str) else {}
    chat = ChatApi(given, api["--teacher-model"], key)
    with stage_progress(quiet=quiet) as progress:
        return api_teacher(
            chat,
            engine.catalog,
            TeacherSettings(**{**own, **lanes}),
            encoder=engine.encoder,
            seed=seed,
            progress=progress,
        )


def _tell_of(teacher: Engine | None) -> None:
    """Say how often a teacher behind an API was asked."""
    summary = None if teacher is None else getattr(teacher.edition.finder, "summary", None)
    if summary is not None:
        note(str(summary()))


def _show(examples: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print what a model would learn from."""
    if as_json:
        print_json({"examples": examples})
        return
    for example in examples:
        right = ", ".join(f"{item['title']} ({item['share']:.2f})" for item in example["items"])
        print_table(example["source"], ["what", "value"], [["prompt", example["prompt"]], ["answer", right]])
