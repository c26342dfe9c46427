"""Say how an answer came about: the steps of the decode with names, and the fate of one item."""

from __future__ import annotations

from typing import Any

from genrail.finding import Edition, Trace
from genrail.types import Ranking

__all__ = ["explain"]

Page = dict[str, Any]


def explain(edition: Edition, ranking: Ranking, question: Page, wanted: Page) -> Page:
    """Write a ranking's trace for people.

    Args:
        edition: What was asked.
        ranking: Of a search with a trace.
        question: May name an `item_id`.
        wanted: How many `beams` of a step and `children` of a beam are shown.

    Returns:
        `trace` and `item`.
    """
    made: Trace | None = ranking.trace
    if made is None:  # nothing was decoded
        return {"trace": {"steps": []}, "item": _item(edition, ranking, question.get("item_id"))}
    trace: Page = dict(made.to_dict(wanted["children"]))
    for step in trace["steps"]:
        kept = {tuple(prefix) for prefix in step["kept"]}
        step["beam_count"] = len(step["beams"])
        step["beams"] = step["beams"][: wanted["beams"]]
        for beam in step["beams"]:
            for child in beam["children"]:
                prefix = (*beam["prefix"], child["token"])
                child["kept"] = prefix in kept
                child["spelling"] = made.spell(prefix)
    return {"trace": trace, "item": _item(edition, ranking, question.get("item_id"))}


def _item(edition: Edition, ranking: Ranking, item_id: str | None) -> Page | None:
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
        "identifier": None if made is None else made.identifier(row),
        "rank": rank,
        "story": told if made is None else made.follow(row),
    }
