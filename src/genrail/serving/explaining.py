"""Say how an answer came about: the steps of the decode with names, and the fate of one item."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from genrail.finders.generative import generative_part
from genrail.finding import Edition, Trace
from genrail.types import JsonObject, Ranking

__all__ = ["TwinNumbers", "explain"]


class TwinNumbers:
    """Number items that share their codes as if a tenant's were all there are.

    The last code of a Semantic ID only tells such twins apart, and counts those of everybody: as it stands, it would
    say how many twins others have.

    Args:
        edition: As a tenant sees it; None leaves every identifier as it is.

    Cost: one pass over the identifiers for each prefix, once.
    """

    def __init__(self, edition: Edition | None) -> None:
        part = None if edition is None else generative_part(edition.finder)
        self._matrix = None
        if edition is not None and part is not None and part.table.end_token is None:
            self._matrix = part.table.leading.matrix()[edition.catalog.live]
        self._known: dict[tuple[int, ...], list[int]] = {}

    def own(self, sequence: Sequence[int]) -> list[int]:
        """Write a sequence of tokens with the tenant's own number at its end, if it reaches that far."""
        found = list(sequence)
        if self._matrix is not None and len(found) == self._matrix.shape[1]:
            twins = self._twins(tuple(found[:-1]))
            found[-1] = twins.index(found[-1]) if found[-1] in twins else -1
        return found

    def token(self, sequence: Sequence[int]) -> list[int]:
        """Undo `own`; a number that no twin has becomes -1."""
        found = list(sequence)
        if self._matrix is not None and len(found) == self._matrix.shape[1]:
            twins = self._twins(tuple(found[:-1]))
            found[-1] = twins[found[-1]] if 0 <= found[-1] < len(twins) else -1
        return found

    def _twins(self, prefix: tuple[int, ...]) -> list[int]:
        assert self._matrix is not None
        if prefix not in self._known:
            below = (self._matrix[:, :-1] == np.asarray(prefix)).all(axis=1)
            self._known[prefix] = np.unique(self._matrix[below, -1]).tolist()
        return self._known[prefix]


def explain(
    edition: Edition,
    ranking: Ranking,
    question: JsonObject,
    wanted: JsonObject,
    tenant: bool = False,
    before_step: Callable[[], None] | None = None,
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

    Returns:
        `trace` and `item`.
    """
    made: Trace | None = ranking.trace
    numbers = TwinNumbers(edition if tenant else None)
    item = _item(edition, ranking, question.get("item_id"), numbers)
    if made is None:  # nothing was decoded
        return {"trace": {"steps": []}, "item": item}
    trace: JsonObject = dict(made.to_dict(wanted["children"]))
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
            for child in beam["children"]:
                prefix = (*beam["prefix"], child["token"])
                child["kept"] = prefix in kept
                child["spelling"] = made.spell(prefix)
                child["token"] = numbers.own(prefix)[-1]
    return {"trace": trace, "item": item}


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
