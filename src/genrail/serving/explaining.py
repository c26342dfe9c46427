"""Say how an answer came about: the steps of the decode with names, and the fate of one item."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from genrail.finders.generative import generative_part
from genrail.finding import Edition, Trace
from genrail.serving.overview import Tree
from genrail.serving.title_words import TitleWords
from genrail.serving.twin_numbers import TwinNumbers
from genrail.types import JsonObject, Ranking

__all__ = ["explain"]


def explain(
    edition: Edition,
    ranking: Ranking,
    question: JsonObject,
    wanted: JsonObject,
    tenant: bool = False,
    before_step: Callable[[], None] | None = None,
    names: TitleWords | None = None,
) -> JsonObject:
    """Write a ranking's trace for people.

    Args:
        edition: What was asked.
        ranking: Of a search with a trace.
        question: May name an `item_id`.
        wanted: How many `beams` of a step and `children` of a beam are shown.
        tenant: Tell nothing that items outside the edition can move: the mass that was removed is then that of the
            request's own filter, as a share of what the tenant may see, and twins are counted among the tenant's items.
        before_step: Called before each beam is written; what it raises ends the writing.
        names: Names continuations that are codes by words of the titles below; None makes no names.

    Returns:
        `trace` and `item`.
    """
    made: Trace | None = ranking.trace
    numbers = TwinNumbers(edition if tenant else None)
    item = _item(edition, ranking, question.get("item_id"), numbers)
    if made is None:  # nothing was decoded
        return {"trace": {"steps": []}, "item": item}
    trace: JsonObject = dict(made.to_dict(wanted["children"]))
    words = _Words(edition, names)
    for step, traced in zip(trace["steps"], made.steps, strict=True):
        kept = {tuple(prefix) for prefix in step["kept"]}
        step["kept"] = [numbers.own(prefix) for prefix in step["kept"]]
        step["beam_count"] = len(step["beams"])
        step["beams"] = step["beams"][: wanted["beams"]]
        for beam, full in zip(step["beams"], traced.beams, strict=False):
            if tenant:
                beam["removed_mass"] = float(np.clip(1.0 - np.exp(full.log_probabilities).sum(), 0.0, 1.0))
            if before_step is not None:
                before_step()
            prefix = beam["prefix"]
            beam["items"] = int(full.items.sum())
            beam["spelling"] = made.spell(prefix) if prefix else ""
            beam["words"] = words.below(prefix[:-1], prefix[-1:])[0] if prefix else []
            below = words.below(prefix, [child["token"] for child in beam["children"]])
            for child, named in zip(beam["children"], below, strict=True):
                child["words"] = named
                path = (*prefix, child["token"])
                child["kept"] = path in kept
                child["spelling"] = made.spell(path)
                child["token"] = numbers.own(path)[-1]
    return {"trace": trace, "item": item}


class _Words:
    """Name what lies below codes; identifiers that are words speak for themselves, and have many steps."""

    def __init__(self, edition: Edition, names: TitleWords | None) -> None:
        part = generative_part(edition.finder)
        codes = part is not None and part.table.end_token is None
        self._names = names
        self._tree = Tree(edition, None) if codes and names is not None else None

    def below(self, prefix: Sequence[int], tokens: Sequence[int]) -> list[list[str]]:
        if self._tree is None or self._names is None:
            return [[] for _ in tokens]
        states = self._tree.after(self._tree.descend(prefix), len(prefix), np.asarray(tokens, dtype=np.int64))
        return [self._names.naming(self._tree.rows(state)) for state in states]


def _item(edition: Edition, ranking: Ranking, item_id: str | None, numbers: TwinNumbers) -> JsonObject | None:
    if item_id is None:
        return None
    row = int(edition.catalog.rows([item_id])[0])
    if row < 0:
        return {"id": item_id, "title": None, "identifier": None, "rank": None, "story": "not in the catalogue"}
    ranks = [hit.rank for hit in ranking if hit.item_id == item_id]
    rank = ranks[0] if ranks else None
    told = f"rank {rank} of this answer" if ranks else "not in this answer"
    made: Trace | None = ranking.trace
    return {
        "id": item_id,
        "title": edition.catalog.titles[row],
        "identifier": None if made is None else numbers.own(made.identifier(row)),
        "rank": rank,
        "story": told if made is None else made.follow(row),
    }
