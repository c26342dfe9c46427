"""`genrail similar`: what goes with an item; `genrail suggest`: what somebody types, completed."""

from __future__ import annotations

from typing import Annotated

import typer

from genrail.cli.console import errors_as_sentences, note, print_json, print_table, waiting
from genrail.cli.search import Debug, EngineFolder, Json, Limit, Where, show_ranking

__all__ = ["similar", "suggest"]


def similar(
    engine: EngineFolder,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Its id.")],
    k: Limit = 10,
    where: Where = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find items for somebody who looks at this one."""
    with errors_as_sentences(debug):
        from genrail.engine import Engine

        with waiting("opening the engine"):
            opened = Engine.load(engine)
        ranking = opened.similar(item, k=k, where=where)
        if json:
            print_json(ranking.to_dict())
        else:
            show_ranking(f"like {item}", ranking)


def suggest(
    engine: EngineFolder,
    typed: Annotated[str, typer.Argument(metavar="TYPED", help="What stands in the field.")],
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many suggestions.")] = 8,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Complete what somebody types by words, phrases and titles of the catalogue."""
    with errors_as_sentences(debug):
        from genrail.engine import Engine

        with waiting("opening the engine"):
            found = Engine.load(engine).suggest(typed, k)
        if json:
            print_json({"suggestions": [one.to_dict() for one in found]})
        elif found:
            print_table(typed, ["text", "items", "item"], [[one.text, one.items, one.item_id] for one in found])
        else:
            note("no word, phrase or title begins so")
