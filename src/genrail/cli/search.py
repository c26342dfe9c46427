"""`genrail search` and `genrail recommend`: words or a past in, hits out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress, waiting

if TYPE_CHECKING:
    from genrail.engine import Engine
    from genrail.types import Ranking

__all__ = ["parse_history", "recommend", "search", "show_ranking"]

EngineFolder = Annotated[Path, typer.Argument(metavar="ENGINE", help="Folder made by `genrail build`.")]
Limit = Annotated[int, typer.Option("-k", "--k", help="How many hits.")]
Where = Annotated[
    str | None, typer.Option("--where", help="Filter, such as \"price < 100 AND category IN ('boots','sandals')\".")
]
History = Annotated[str, typer.Option("--history", help="Item ids, oldest first, separated by commas.")]
Seen = Annotated[bool, typer.Option("--include-seen", help="Let items of the history come out again.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Explain = Annotated[bool, typer.Option("--explain", help="Show identifiers and the steps of the decode.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", hidden=True)]

COMPILING = "compiling the constraint kernels, once on this machine (`genrail doctor --warm` does it ahead)"


def parse_history(history: str) -> list[str]:
    """Split a list of ids at commas.

    >>> parse_history("sku-1, sku-9")
    ['sku-1', 'sku-9']
    """
    return [item for item in (part.strip() for part in history.split(",")) if item]


def search(
    engine: EngineFolder,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What is wanted, in words.")],
    k: Limit = 10,
    where: Where = None,
    history: History = "",
    include_seen: Seen = False,
    explain: Explain = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find items by words, with a past beside them if you like."""
    _answer(engine, query, parse_history(history), k, where, include_seen, explain, json, debug)


def recommend(
    engine: EngineFolder,
    history: History = "",
    k: Limit = 10,
    where: Where = None,
    include_seen: Seen = False,
    explain: Explain = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Recommend items to somebody with this past."""
    _answer(engine, None, parse_history(history), k, where, include_seen, explain, json, debug)


def _answer(
    folder: Path,
    text: str | None,
    history: list[str],
    k: int,
    where: str | None,
    include_seen: bool,
    explain: bool,
    as_json: bool,
    debug: bool,
) -> None:
    with errors_as_sentences(debug):
        from genrail.engine import Engine
        from genrail.finders.generative import generative_part
        from genrail.types import Query

        query = Query(text, history, where=where, exclude_seen=not include_seen)
        with waiting("opening the engine"):
            engine = Engine.load(folder)
        part = generative_part(engine.edition.finder)
        if part is not None:
            _compile_kernels(part.index.vocab_size)
        ranking = engine.search_batch([query], k, explain=explain)[0]
        if as_json:
            print_json(ranking.to_dict())
        else:
            show_ranking(text or "after " + ", ".join(history), ranking, engine if explain else None)


def _compile_kernels(vocab_size: int) -> None:
    """Compile what no process has compiled on this machine yet, and say so; otherwise do nothing."""
    from genrail.constraints import is_warm, warm_up

    if not is_warm(vocab_size):
        note(COMPILING)
        with stage_progress() as show:
            warm_up(vocab_size=vocab_size, progress=show)


def show_ranking(title: str, ranking: Ranking, explained_by: Engine | None = None) -> None:
    """Print a ranking as a table with its warnings; with the engine that gave it, identifiers and rails too."""
    explain = explained_by is not None
    for warning in ranking.warnings:
        note(f"warning: {warning}")
    columns = ["rank", "item", "title", "log-probability"] + (["identifier"] if explain else [])
    rows = [
        [hit.rank, hit.item_id, hit.title, hit.log_probability]
        + ([" ".join(map(str, (hit.explanation or {}).get("identifier", ())))] if explain else [])
        for hit in ranking
    ]
    print_table(title, columns, rows)
    if ranking.exhausted:
        note(f"these are all: no further item is allowed ({len(ranking)} found)")
    if explained_by is not None and ranking.trace is not None:
        from genrail.cli.rails import draw_rails

        draw_rails(ranking.trace, f"the rails of {title}")
