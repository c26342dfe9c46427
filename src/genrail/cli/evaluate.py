"""`genrail evaluate`: how good is this engine, on the full catalogue."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.reading import Item, MinRating, Rating, Timestamp, User, format_for, parse_min_rating, read_events
from genrail.cli.search import Debug, Encoding, EngineFolder, Format, Json
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Interactions
    from genrail.engine import Engine
    from genrail.evaluation import Evaluation
    from genrail.types import Progress

__all__ = ["evaluate"]


def evaluate(
    engine: EngineFolder,
    interactions: Annotated[
        Path | None, typer.Option("--interactions", help="Leave-last-out: each user's last item is the one to find.")
    ] = None,
    queries: Annotated[Path | None, typer.Option("--queries", help="Queries: id and text; or irds:ID.")] = None,
    qrels: Annotated[
        Path | None, typer.Option("--qrels", help="Which items are right for which query; or irds:ID.")
    ] = None,
    users: Annotated[int | None, typer.Option("--users", help="Only so many users, drawn with the seed.")] = None,
    lanes: Annotated[
        bool, typer.Option("--lanes/--no-lanes", help="Show each lane by itself, or BM25 and Dense, beside the engine.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", help="For the draw of users.")] = 0,
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
    """Measure Recall, nDCG and MRR over the full catalogue."""
    with errors_as_sentences(debug):
        from genrail.engine import Engine
        from genrail.errors import SettingsError

        if interactions is None and (queries is None or qrels is None):
            raise SettingsError("nothing to evaluate on: give --interactions, or --queries and --qrels")
        loaded = Engine.load(engine)
        reading = {"format": format, "encoding": encoding}
        accounts: dict[str, object] = {}
        own: dict[str, list[Evaluation]] = {}
        beside: dict[str, list[Evaluation]] = {}
        with stage_progress(quiet=json) as progress:
            if interactions is not None:
                roles: dict[str, Any] = {"user": user, "item": item, "timestamp": timestamp, "rating": rating}
                rated: dict[str, Any] = {**reading, **roles, "min_rating": parse_min_rating(min_rating)}
                events, account = read_events(interactions, loaded.catalog, **rated)
                own["next_item"], beside["next_item"] = _next_item(loaded, events, users, lanes, seed, progress)
                accounts["interactions"] = account.to_dict()
            if queries is not None and qrels is not None:
                own["search"], beside["search"] = _search(loaded, queries, qrels, reading, lanes, progress)
        if json:
            plain = [{task: [one.to_dict() for one in group] for task, group in part.items()} for part in (own, beside)]
            told = {**plain[0], **({"lanes": plain[1]} if lanes else {})}
            print_json({**told, "account": accounts} if accounts else told)
        else:
            _show([*own.values(), *beside.values()])


def _next_item(
    engine: Engine, events: Interactions, users: int | None, lanes: bool, seed: int, progress: Progress
) -> tuple[list[Evaluation], list[Evaluation]]:
    """Measure leave-last-out, with the items of the history excluded and kept: the engine, and what is beside it."""
    from genrail.engine.rivals import beside
    from genrail.evaluation import evaluate_next_item, leave_last_out

    split = leave_last_out(events.sequences(engine.catalog))
    for sentence in split.traps.sentences():
        note(f"note: {sentence}")
    if engine.trained_on_everything:
        note("warning: this engine was trained on every event (--holdout none); these figures flatter it")
    held_out = split.test if users is None else split.test.sample(users, seed)
    found = [
        evaluate_next_item(
            method,
            held_out,
            engine.catalog,
            exclude_seen=exclude_seen,
            progress=partial(progress, f"{method.name}, seen items {'excluded' if exclude_seen else 'kept'}"),
        )
        for method in [engine, *(beside(engine, words=False) if lanes else [])]
        for exclude_seen in (True, False)
    ]
    return found[:2], found[2:]


def _search(
    engine: Engine, queries: Path, qrels: Path, reading: JsonObject, lanes: bool, progress: Progress
) -> tuple[list[Evaluation], list[Evaluation]]:
    """Measure search on judged queries: the engine, and what is beside it."""
    from genrail.catalog import read_qrels, read_queries
    from genrail.engine.rivals import beside
    from genrail.evaluation import evaluate as measure

    asked, judged = read_queries(queries, **_for(queries, reading)), read_qrels(qrels, **_for(qrels, reading))
    found = [
        measure(method, asked, judged, progress=partial(progress, f"{method.name}, queries"))
        for method in [engine, *(beside(engine, words=True) if lanes else [])]
    ]
    return found[:1], found[1:]


def _for(path: Path, reading: JsonObject) -> JsonObject:
    return {**reading, "format": format_for(path, reading["format"])}


def _show(groups: list[list[Evaluation]]) -> None:
    evaluations = [evaluation for group in groups for evaluation in group]
    names = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.means))
    print_table(
        "full catalogue",
        ["engine", *names, "queries", "p50 ms"],
        [
            [evaluation.name]
            + [evaluation.means.get(name) for name in names]
            + [evaluation.counts.queries, evaluation.latency.p50_milliseconds if evaluation.latency else None]
            for evaluation in evaluations
        ],
    )
    for sentence in dict.fromkeys(sentence for evaluation in evaluations for sentence in evaluation.notes):
        note(f"note: {sentence}")
