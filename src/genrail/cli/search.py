"""`genrail search` and `genrail recommend`: words or a past in, hits out."""

from __future__ import annotations

import csv
from collections.abc import Container, Sequence
from json import loads as json_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, stage_progress, waiting
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.engine import Engine
    from genrail.types import Ranking

__all__ = ["parse_boosts", "parse_history", "recommend", "search", "show_ranking"]

EngineFolder = Annotated[Path, typer.Argument(metavar="ENGINE", help="Folder made by `genrail build`.")]
Limit = Annotated[int, typer.Option("-k", "--k", help="How many hits.")]
Where = Annotated[
    str | None, typer.Option("--where", help="Filter, such as \"price < 100 AND category IN ('boots','sandals')\".")
]
History = Annotated[
    list[str] | None,
    typer.Option(
        "--history",
        help="Item ids, oldest first, separated by commas; an id with a comma in quotes, alone, or in a JSON list. "
        "May be given several times.",
    ),
]
Seen = Annotated[bool, typer.Option("--include-seen", help="Let items of the history come out again.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Explain = Annotated[bool, typer.Option("--explain", help="Show identifiers and the steps of the decode.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="csv, tsv, jsonl, json, parquet, recbole or beir (told by the name otherwise)."),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", help="Of text files, such as cp1252 (a byte order mark, or UTF-8 otherwise)."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", hidden=True)]

COMPILING = "compiling the constraint kernels, once on this machine (`genrail doctor --warm` does it ahead)"


def parse_history(given: Sequence[str], known: Container[str] = ()) -> list[str]:
    """Read the ids of a history.

    Args:
        given: Each an id that is known, a JSON list of ids, or ids separated by commas, where one with a comma stands
            in quotes.
        known: The ids that there are.

    Raises:
        QueryError: A JSON list that is none of ids.

    >>> parse_history(["sku-1, sku-9", 'a,"x,y"', '["p,q", 7]', "u,v"], known={"u,v"})
    ['sku-1', 'sku-9', 'a', 'x,y', 'p,q', '7', 'u,v']
    """
    ids: list[str] = []
    for value in given:
        if value in known:
            ids.append(value)
        elif value.lstrip().startswith("["):
            ids += _json_list(value)
        else:
            [fields] = csv.reader([value.replace("\n", " ").replace("\r", " ")], skipinitialspace=True)
            ids += [field.strip() for field in fields if field.strip()]
    return ids


def _json_list(value: str) -> list[str]:
    from genrail.errors import QueryError

    try:
        ids = json_of(value)
    except ValueError as error:
        raise QueryError(f'--history begins as a JSON list and is none ({error}); write \'["a", "b"]\'') from None
    if any(isinstance(item, bool) or not isinstance(item, str | int) for item in ids):
        raise QueryError("--history is a JSON list, and one of its entries is no id; write strings or whole numbers")
    return [str(item) for item in ids]


Offset = Annotated[int, typer.Option("--offset", help="Hits that come before: 10 with -k 10 is page two.")]
Sort = Annotated[
    str | None, typer.Option("--sort", help="Order the best hits by an attribute, highest first with a minus: -price.")
]
MinScore = Annotated[float | None, typer.Option("--min-score", help="Leave out what scores lower.")]
Boost = Annotated[
    list[str] | None,
    typer.Option("--boost", help="What else counts: popularity:0.2, or a filter: \"brand = 'Ecco':-0.1\"; repeatable."),
]
PlainWords = Annotated[
    bool, typer.Option("--plain-words", help="Do not read words as values of attributes, which move items up.")
]
Pin = Annotated[list[str] | None, typer.Option("--pin", help="Item id that comes first; repeatable.")]
Facet = Annotated[
    list[str] | None, typer.Option("--facet", help="Attribute to count among the best hits, * for all; repeatable.")
]


def search(
    engine: EngineFolder,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What is wanted, in words.")],
    k: Limit = 10,
    where: Where = None,
    history: History = None,
    include_seen: Seen = False,
    offset: Offset = 0,
    sort: Sort = None,
    min_score: MinScore = None,
    boost: Boost = None,
    pin: Pin = None,
    facet: Facet = None,
    plain_words: PlainWords = False,
    explain: Explain = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find items by words, with a past beside them if you like."""
    options = _options(where, include_seen, offset, sort, min_score, boost, pin, facet)
    options["soft_filters"] = not plain_words
    _answer(engine, query, history or [], k, options, explain, json, debug)


def recommend(
    engine: EngineFolder,
    history: History = None,
    k: Limit = 10,
    where: Where = None,
    include_seen: Seen = False,
    offset: Offset = 0,
    sort: Sort = None,
    min_score: MinScore = None,
    boost: Boost = None,
    pin: Pin = None,
    facet: Facet = None,
    explain: Explain = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Recommend items to somebody with this past."""
    options = _options(where, include_seen, offset, sort, min_score, boost, pin, facet)
    _answer(engine, None, history or [], k, options, explain, json, debug)


def _options(
    where: str | None,
    include_seen: bool,
    offset: int,
    sort: str | None,
    min_score: float | None,
    boost: list[str] | None,
    pin: list[str] | None,
    facet: list[str] | None,
) -> JsonObject:
    """Name the options of a question as `Query` does."""
    order = {"offset": offset, "sort": sort, "min_score": min_score, "boost": boost or [], "pin": pin or []}
    return {"where": where, "exclude_seen": not include_seen, "facets": facet or (), **order}


def _answer(
    folder: Path,
    text: str | None,
    given: list[str],
    k: int,
    options: JsonObject,
    explain: bool,
    as_json: bool,
    debug: bool,
) -> None:
    with errors_as_sentences(debug):
        from genrail.engine import Engine
        from genrail.finders.generative import generative_part
        from genrail.types import Query

        options["boost"] = parse_boosts(options["boost"])
        with waiting("opening the engine"):
            engine = Engine.load(folder)
        history = parse_history(given, engine.catalog)
        query = Query(text, history, **options)
        part = generative_part(engine.edition.finder)
        if part is not None:
            _compile_kernels(part.index.vocab_size)
        ranking = engine.search_batch([query], k, explain=explain)[0]
        if as_json:
            print_json(ranking.to_dict())
        else:
            show_ranking(text or "after " + ", ".join(history), ranking, engine if explain else None)
            show_facets(ranking)


def parse_boosts(given: Sequence[str]) -> list[tuple[str, float]]:
    """Read what else counts: a column or a filter, a colon, a weight.

    Raises:
        QueryError: No weight behind the last colon.

    >>> parse_boosts(["popularity:0.2", "brand = 'A:B':-1"])
    [('popularity', 0.2), ("brand = 'A:B'", -1.0)]
    """
    found = []
    for one in given:
        name, colon, weight = one.rpartition(":")
        try:
            found.append((name, float(weight)))
        except ValueError:
            colon = ""
        if not colon:
            from genrail.errors import QueryError

            raise QueryError(f"--boost {one!r} has no weight; write COLUMN:WEIGHT, such as popularity:0.2")
    return found


def read_as(entry: JsonObject) -> str:
    """Say how words of a query were read.

    >>> read_as({"words": "navy", "attributes": ["colour"], "wanted": True, "share": 0.5})
    '"navy" read as colour: such items come earlier (--plain-words switches this off)'
    >>> read_as({"words": "wellies", "synonyms": ["rain boots", "gumboots"]})
    '"wellies" read as: rain boots, gumboots'
    """
    if "synonyms" in entry:
        return f'"{entry["words"]}" read as: {", ".join(entry["synonyms"])}'
    names = " or ".join(entry["attributes"])
    return f'"{entry["words"]}" read as {names}: such items come earlier (--plain-words switches this off)'


def show_facets(ranking: Ranking) -> None:
    """Print what was counted among the best hits."""
    rows = [[each["name"], _counted(each)] for each in ranking.facets]
    if rows:
        print_table("among the best hits", ["attribute", "values"], rows)


def _counted(facet: JsonObject) -> str:
    if "values" in facet:
        shown = zip(facet["values"], facet["counts"], strict=True)
        return ", ".join(f"{value} {count}" for value, count in shown)
    return f"{facet['least']} to {facet['most']}" if "least" in facet else "(neither words nor numbers)"


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
    for entry in ranking.reading:
        if entry.get("wanted", True):  # a warning tells what is not
            note(read_as(entry))
    if not ranking.fits:
        note("nothing fits these words; the hits are the least far ones")
    columns = ["rank", "item", "title", "score"] + (["found by", "identifier"] if explain else [])
    rows = [
        [hit.rank, hit.item_id, hit.title, round(hit.score, 3)] + (_why(dict(hit.explanation or {})) if explain else [])
        for hit in ranking
    ]
    print_table(title, columns, rows)
    if ranking.exhausted:
        note(f"these are all: no further item is allowed ({len(ranking)} found)")
    if explained_by is not None and ranking.trace is not None:
        from genrail.cli.rails import draw_rails

        draw_rails(ranking.trace, f"the rails of {title}")


def _why(explanation: JsonObject) -> list[str]:
    """Name the lanes that found an item, each with its rank there, and the item's identifier or n-grams."""
    lanes = [f"{name} {found['rank']}" for name, found in dict(explanation.get("lanes") or {}).items()]
    ngrams = [f'"{one["text"]}" {one["score"]:.1f}' for one in explanation.get("ngrams", ())]
    passage = explanation.get("passage") or {}
    if ngrams and passage["of"] > 1:
        ngrams.append(f"in passage {passage['number']} of {passage['of']}")
    return [", ".join(lanes), " ".join([*map(str, explanation.get("identifier", ())), ", ".join(ngrams)]).strip()]
