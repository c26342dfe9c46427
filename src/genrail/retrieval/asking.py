"""Ask an edition many things in one decode, where one bad question does not spoil the others' answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from genrail.decoding import BeamSettings, Decoded
from genrail.errors import GenrailError
from genrail.models.scripts import unread_script
from genrail.retrieval.edition import Edition
from genrail.retrieval.gate import Gate
from genrail.retrieval.new_items import decode_with_new_items
from genrail.retrieval.requests import Request, resolve
from genrail.types import Hit, Query, Ranking

__all__ = ["answer_each", "checked_ranking", "doubted"]


def answer_each(
    edition: Edition,
    gate: Gate,
    queries: Sequence[Query],
    k: int,
    beam: BeamSettings,
    before_step: Callable[[], None] | None = None,
) -> list[Ranking | GenrailError]:
    """Answer several queries in one decode; one that cannot be answered gets its error.

    Args:
        edition: What is asked, from start to end.
        gate: Checks every answer.
        queries: What is wanted.
        k: How many hits.
        beam: How to search; with `trace`, hits and rankings are explained.
        before_step: Called before each step of the decode; what it raises ends it.

    A query whose filter allows nothing costs neither text encoder nor model.
    """
    resolved = [_resolved(query, edition) for query in queries]
    asked = [request for request in resolved if isinstance(request, Request) and request.allowed.any()]
    decoded: dict[int, Decoded] = {}
    if asked:
        contexts = edition.lane.contexts(asked, edition.catalog)
        found = decode_with_new_items(edition, asked, contexts, beam, k, beam.trace, before_step)
        decoded = {id(request): answer for request, answer in zip(asked, found, strict=True)}
    return [
        _ranking(edition, gate, doubted(request, edition), decoded.get(id(request)), beam.trace)
        if isinstance(request, Request)
        else request
        for request in resolved
    ]


def _resolved(query: Query, edition: Edition) -> Request | GenrailError:
    try:
        return resolve(query, edition.catalog, edition.index, edition.filters)
    except GenrailError as error:
        return error


def doubted(request: Request, edition: Edition) -> Request:
    """Tell the caller when the model reads only the end of a history, or the text encoder not all of a query."""
    said = list(request.warnings)
    most = getattr(getattr(edition.lane.model, "settings", None), "history", None)
    if isinstance(most, int) and request.history.size > most:
        said.append(f"the model reads the last {most} of the {request.history.size} known history items")
    cuts = getattr(edition.lane.encoder, "cuts", None)
    if request.text is not None and cuts is not None and cuts(request.text):
        said.append(f"the text encoder reads the first {edition.lane.encoder.max_tokens} tokens of the query")  # type: ignore[union-attr]
    script = None if request.text is None else unread_script(edition.lane.encoder, request.text)
    if script is not None:
        said.append(f"the text encoder cannot read the script of the query ({script.title()}); words are found badly")
    return replace(request, warnings=tuple(said))


def _ranking(
    edition: Edition, gate: Gate, request: Request, answer: Decoded | None, explain: bool
) -> Ranking | GenrailError:
    if answer is None:
        return Ranking((), True, request.warnings)
    try:
        return checked_ranking(edition, gate, request, answer, explain)
    except GenrailError as error:
        return error


def checked_ranking(edition: Edition, gate: Gate, request: Request, answer: Decoded, explain: bool) -> Ranking:
    """Turn what was decoded into hits; every answer of an engine passes the last gate here.

    Raises:
        GenrailError: The gate refuses the answer.
    """
    gate.check(answer.rows, request.allowed)
    hits = tuple(
        Hit(
            item_id=edition.catalog.item_ids[row],
            title=edition.catalog.titles[row],
            score=float(score),
            rank=rank,
            log_probability=float(log_probability),
            attributes=edition.catalog.attributes(row),
            explanation={"identifier": list(answer.tokens[rank - 1])} if explain else None,
        )
        for rank, (row, score, log_probability) in enumerate(
            zip(answer.rows.tolist(), answer.scores.tolist(), answer.log_probabilities.tolist(), strict=True), start=1
        )
    )
    return Ranking(hits, answer.exhausted, request.warnings, answer.trace)
