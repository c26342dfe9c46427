"""`genrail demo`: a shoe shop of 3,000 products, built, searched and explained in a minute or two."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, stage_progress
from genrail.cli.search import Debug, Json, show_ranking

if TYPE_CHECKING:
    from genrail.catalog import Catalog, Interactions
    from genrail.engine import Engine
    from genrail.types import Query, Ranking

__all__ = ["demo"]

WORDS = "something waterproof to walk the dog"
FILTERED = ("leather shoes for the office", "price < 100 AND in_stock")
HITS = 5


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the shop's files and the engine.")] = Path("demo-shop"),
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another shop.")] = 7,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Training time.")] = 12.0,
    model: Annotated[
        str | None,
        typer.Option("--model", help="A language model, such as SmolLM2-135M, writes and ranks instead; untrained."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Build the demo shop, then search it and recommend from it; or let a language model write and rank there."""
    with errors_as_sentences(debug):
        from genrail.catalog import demo_catalog, demo_interactions, write_demo

        began = time.perf_counter()
        out.mkdir(parents=True, exist_ok=True)
        write_demo(out, seed=seed)
        catalog, interactions = demo_catalog(seed=seed), demo_interactions(seed=seed)
        note(f"a shoe shop of {len(catalog):,} products and {len(interactions.sequences(catalog).user_ids):,} shoppers")
        if model is not None:
            _ask_language_model(catalog, model, out / "language-model.genrail", json)
            return
        engine = _build(catalog, interactions, out / "shop.genrail", max_seconds, seed, json)
        built = time.perf_counter() - began
        answers = _ask(engine, catalog, interactions)
        if json:
            print_json({"seconds": built, "answers": {title: ranking.to_dict() for title, ranking in answers}})
            return
        for title, ranking in answers:
            show_ranking(title, ranking)
        _draw(engine)
        _what_next(out, built)


def _build(
    catalog: Catalog, interactions: Interactions, folder: Path, max_seconds: float, seed: int, quiet: bool
) -> Engine:
    from genrail.engine import Engine

    with stage_progress(quiet=quiet) as progress:
        engine = Engine.build(
            catalog, interactions=interactions, pseudo_queries=2, max_seconds=max_seconds, seed=seed, progress=progress
        )
    engine.save(folder)
    return engine


def _ask(engine: Engine, catalog: Catalog, interactions: Interactions) -> list[tuple[str, Ranking]]:
    """Ask words, words with a filter, and a history."""
    from genrail.types import Query

    words, where = FILTERED
    past = _past(catalog, interactions)
    titles = "; ".join(catalog.titles[row] for row in catalog.rows(past))
    asked: list[tuple[str, Query]] = [
        (f'search "{WORDS}"', Query(WORDS)),
        (f'search "{words}" where {where}', Query(words, where=where)),
        (f"recommend after {titles}", Query(history=past)),
    ]
    rankings = engine.search_batch([query for _, query in asked], HITS)
    return [(title, ranking) for (title, _), ranking in zip(asked, rankings, strict=True)]


def _ask_language_model(catalog: Catalog, model: str, folder: Path, as_json: bool) -> None:
    """Let a language model write titles on rails, and rank what words find; draw the rails."""
    from genrail.engine import Engine
    from genrail.finders.reranked import RerankedRecipe

    ranker = RerankedRecipe("bm25", None, "query-likelihood", {"model": model, "text": "title"}, depth=20)
    with stage_progress(quiet=as_json) as progress:
        writer = Engine.build(catalog, model=model, spelling="kind-first", progress=progress)
        writer.save(folder)
        ranked = Engine.build(catalog, ranker, progress=progress)
    answers = [
        (f'"{words}", {how}', engine.search(words, k=HITS))
        for words in (WORDS, FILTERED[0])
        for how, engine in (("written on rails", writer), ("found by BM25, ranked by the model", ranked))
    ]
    if as_json:
        print_json({"answers": {title: ranking.to_dict() for title, ranking in answers}})
        return
    for title, ranking in answers:
        show_ranking(title, ranking)
    _draw(writer)
    note("\nwithout training it writes poorly and ranks fairly: docs/language-models.md. Try:")
    note(f'  genrail search {folder} "red sneakers" --explain')


def _past(catalog: Catalog, interactions: Interactions) -> list[str]:
    """Take the first two items of a shopper."""
    sequences = interactions.sequences(catalog)
    start = int(sequences.offsets[0])
    return [catalog.item_ids[row] for row in sequences.rows[start : start + 2]]


def _draw(engine: Engine) -> None:
    from genrail.cli.rails import draw_rails

    ranking = engine.search(WORDS, k=HITS, explain=True)
    note("\nhow the small network writes the identifiers of its answers:")
    draw_rails(ranking.trace, f'"{WORDS}"')


def _what_next(out: Path, seconds: float) -> None:
    shop = out / "shop.genrail"
    note(f"\nbuilt in {seconds:.0f} s; everything lies in {out}. What next:")
    for line in (
        f"genrail serve {shop}",
        f'genrail search {shop} "red sneakers" --where "price < 80"',
        f"genrail evaluate {shop} --queries {out}/queries.csv --qrels {out}/qrels.csv",
    ):
        note(f"  {line}")
