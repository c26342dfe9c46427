"""List items that no question ranks: those that are named, or all that a filter allows."""

from __future__ import annotations

import numpy as np

from genrail.catalog.facets import facets
from genrail.finding import Edition
from genrail.finding.arranging import in_order
from genrail.finding.requests import sort_order
from genrail.types import Hit, JsonObject, Ranking

__all__ = ["listing"]


def listing(edition: Edition, page: JsonObject) -> Ranking:
    """List some items, or all of them in the order of the catalogue.

    Args:
        edition: As the caller sees it.
        page: `listed` (pairs of an id and a weight, best first; None for all items), `where` and `k`; perhaps `offset`,
            `sort` and `facets`, as in `Query`. Values are counted among all that are allowed.

    Raises:
        QueryError: No such column to sort by or to count.
        FilterError: The filter cannot be evaluated.
    """
    catalog, wanted = edition.catalog, page["listed"]
    allowed = edition.filters.get(page["where"])[1] if page["where"] else catalog.live
    if wanted is None:
        rows, weights = np.flatnonzero(allowed), None
    else:
        named = catalog.rows(item_id for item_id, _ in wanted)
        known = np.flatnonzero((named >= 0) & allowed[named])
        rows, weights = named[known], [wanted[place][1] for place in known.tolist()]
    if page.get("sort"):
        rows = rows[in_order(catalog, rows, *sort_order(page["sort"], catalog))]
    start = page.get("offset", 0)
    shown = rows[start : start + page["k"]].tolist()
    ids, titles = catalog.item_ids, catalog.titles
    hits = tuple(
        Hit(
            ids[row],
            titles[row],
            0.0 if weights is None else weights[rank - 1],
            rank,
            attributes=catalog.attributes(row),
        )
        for rank, row in enumerate(shown, start=start + 1)
    )
    counts = facets(catalog, catalog.known_attributes(page.get("facets") or ()), rows)
    return Ranking(hits, len(hits) < page["k"], facets=tuple(counts), counted=len(rows))
