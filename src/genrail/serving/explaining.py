"""Say how an answer came about: the steps of the decode with names, and the fate of one item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genrail.retrieval.edition import Edition
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
    if ranking.trace is None:  # nothing was allowed, so nothing was decoded
        return {"trace": {"steps": []}, "item": _item(edition, ranking, question.get("item_id"))}
    trace = ranking.trace.to_dict(wanted["children"])
    for step in trace["steps"]:
        kept = {tuple(prefix) for prefix in step["kept"]}
        step["beam_count"] = len(step["beams"])
        step["beams"] = step["beams"][: wanted["beams"]]
        for beam in step["beams"]:
            for child in beam["children"]:
                prefix = (*beam["prefix"], child["token"])
                child["kept"] = prefix in kept
                child["spelling"] = _spell(edition, prefix)
    return {"trace": trace, "item": _item(edition, ranking, question.get("item_id"))}


def _spell(edition: Edition, prefix: Sequence[int]) -> str:
    return edition.lane.spell(prefix, edition.catalog, edition.table)


def _item(edition: Edition, ranking: Ranking, item_id: str | None) -> Page | None:
    if item_id is None:
        return None
    row = int(edition.catalog.rows([item_id])[0])
    if row < 0:
        return {"id": item_id, "title": None, "identifier": None, "rank": None, "story": "not in the catalogue"}
    identifier = edition.table.sequence(row).tolist()
    ranks = [hit.rank for hit in ranking if hit.item_id == item_id]
    return {
        "id": item_id,
        "title": edition.catalog.titles[row],
        "identifier": identifier,
        "rank": ranks[0] if ranks else None,
        "story": "nothing is allowed" if ranking.trace is None else ranking.trace.follow(identifier),
    }
