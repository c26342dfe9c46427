"""`genrail evaluate`: how good is this engine, on the full catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress
from genrail.cli.search import Debug, EngineFolder, Json

if TYPE_CHECKING:
    from genrail.evaluation import Evaluation

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
    seed: Annotated[int, typer.Option("--seed", help="For the draw of users.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure Recall, nDCG and MRR over the full catalogue."""
    with errors_as_sentences(debug):
        from genrail.errors import SettingsError

        if interactions is None and (queries is None or qrels is None):
            raise SettingsError("nothing to evaluate on: give --interactions, or --queries and --qrels")
        results: dict[str, list[Evaluation]] = {}
        with stage_progress(quiet=json) as progress:
            if interactions is not None:
                results["next_item"] = _next_item(engine, interactions, users, seed, progress)
            if queries is not None and qrels is not None:
                results["search"] = _search(engine, queries, qrels, progress)
        if json:
            print_json({task: [found.to_dict() for found in group] for task, group in results.items()})
        else:
            _show(results)


def _next_item(
    folder: Path, interactions: Path, users: int | None, seed: int, progress: Callable[[str, int, int], None]
) -> list[Evaluation]:
    """Measure leave-last-out, with the items of the history excluded and kept."""
    from genrail.catalog import Interactions
    from genrail.engine import Engine
    from genrail.evaluation import evaluate_next_item, leave_last_out

    engine = Engine.load(folder)
    split = leave_last_out(Interactions.read(interactions).sequences(engine.catalog))
    for sentence in split.traps.sentences():
        note(f"note: {sentence}")
    if engine.trained_on_everything:
        note("warning: this engine was trained on every event (--holdout none); these figures flatter it")
    held_out = split.test if users is None else split.test.sample(users, seed)
    found = []
    for exclude_seen in (True, False):
        stage = f"seen items {'excluded' if exclude_seen else 'kept'}"
        found.append(
            evaluate_next_item(
                engine,
                held_out,
                engine.catalog,
                exclude_seen=exclude_seen,
                progress=lambda done, total, stage=stage: progress(stage, done, total),  # type: ignore[misc]
            )
        )
    return found


def _search(folder: Path, queries: Path, qrels: Path, progress: Callable[[str, int, int], None]) -> list[Evaluation]:
    """Measure search on judged queries."""
    from genrail.catalog import read_qrels, read_queries
    from genrail.engine import Engine
    from genrail.evaluation import evaluate as measure

    return [
        measure(
            Engine.load(folder),
            read_queries(queries),
            read_qrels(qrels),
            progress=lambda done, total: progress("queries", done, total),
        )
    ]


def _show(results: dict[str, list[Evaluation]]) -> None:
    evaluations = [evaluation for group in results.values() for evaluation in group]
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
    for evaluation in evaluations:
        for sentence in evaluation.notes:
            note(f"note: {sentence}")
