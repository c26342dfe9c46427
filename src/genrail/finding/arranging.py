"""From what a finder lists to the hits of one page: pages, a least score, boosts, pins, another order, counts.

A page is cut from one list that does not depend on the page: what the finder gives for k hits and may list at no
further cost, then, where a page lies deeper, what it gives for 2k, 4k, ... hits and was not listed yet. So no page
repeats a hit of another one of the same size. Boosts and `sort` change the order within each of these parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog import Catalog
from genrail.finding.finder import Finder, FindOptions, Found
from genrail.finding.requests import MAX_K, Request

__all__ = ["POOL", "Page", "find_pages", "in_order"]

POOL = 100  # hits that are put in another order or counted: what the lanes of a fused engine list anyway

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Page:
    """Hold the rows of a page, and those among which values are counted."""

    found: Found
    counted: Rows


def find_pages(
    catalog: Catalog, finder: Finder, requests: Sequence[Request], k: int, options: FindOptions
) -> list[Page]:
    """Find the page of each request.

    Args:
        catalog: What the finder answers about.
        finder: What is asked.
        requests: Of which some may want another page, or another order.
        k: Hits of a page.
        options: How to look.
    """
    pages: dict[int, Page] = {}
    plain = [place for place, request in enumerate(requests) if request.arrangement.plain]
    others = [place for place, request in enumerate(requests) if not request.arrangement.plain]
    if plain:
        for place, found in zip(plain, finder.find([requests[one] for one in plain], k, options), strict=True):
            pages[place] = Page(found, found.rows)
    if others:
        pooled = replace(options, pool=POOL)
        for place, found in zip(others, finder.find([requests[one] for one in others], k, pooled), strict=True):
            pages[place] = _List(catalog, finder, requests[place], k, options, found).page()
    return [pages[place] for place in range(len(requests))]


class _List:
    """Hold what was listed for one request so far, and list more."""

    def __init__(
        self, catalog: Catalog, finder: Finder, request: Request, k: int, options: FindOptions, found: Found
    ) -> None:
        self._catalog = catalog
        self._finder = finder
        self._request = request
        self._wanted = request.arrangement
        self._k = k
        self._options = options
        self._found = found
        self._depth = k

    def page(self) -> Page:
        """Cut the page out of the list, which is made as long as that takes."""
        if self._wanted.wide and len(self._found) < POOL:
            self._deepen(POOL)
        end = self._wanted.offset + self._k
        shown, listed = self._arranged(self._found, first=True), len(self._found)
        counted = self._kept(self._found).rows
        while len(shown) < end and self._more():
            self._deepen(2 * self._depth)
            if self._depth > len(self._found) == listed:
                break
            part = self._found.take(np.arange(listed, len(self._found)))
            shown, listed = _behind(shown, self._arranged(part, first=False)), len(self._found)
        return Page(shown.take(np.arange(self._wanted.offset, max(self._wanted.offset, min(end, len(shown))))), counted)

    def _more(self) -> bool:
        """Tell whether looking deeper can bring more: rows are left, and one of them can reach the least score."""
        least, scores = self._wanted.min_score, self._found.scores
        low = least is not None and (not self._found.fits or (len(scores) > 0 and float(scores[-1]) < least))
        return self._k <= len(scores) < MAX_K and self._depth < MAX_K and not low

    def _deepen(self, depth: int) -> None:
        """Add what a wider search lists and this list does not hold yet."""
        self._depth = min(depth, MAX_K)
        if self._depth > len(self._found):
            [wider] = self._finder.find([self._request], self._depth, self._options)
            self._found = _behind(self._found, wider.take(np.flatnonzero(~np.isin(wider.rows, self._found.rows))))

    def _kept(self, listed: Found) -> Found:
        if self._wanted.min_score is None:
            return listed
        return listed.take(np.flatnonzero((listed.scores >= self._wanted.min_score) & listed.fits))

    def _arranged(self, part: Found, first: bool) -> Found:
        """Cut, boost, order and pin the rows of one part of the list."""
        wanted, part = self._wanted, self._kept(part)
        if wanted.boosts and len(part):
            gained = np.sum([gain[part.rows] * weight for gain, weight in wanted.boosts], axis=0)
            boosted = part.scores + float(np.abs(part.scores).max()) * gained
            order = np.argsort(-boosted, kind="stable")
            part = part.take(order, boosted[order])
        if wanted.sort is not None:
            part = part.take(in_order(self._catalog, part.rows, *wanted.sort))
        if not wanted.pins.size:
            return part
        others = part.take(np.flatnonzero(~np.isin(part.rows, wanted.pins)))
        return _pinned(wanted.pins, part, others) if first else others


def _behind(found: Found, more: Found) -> Found:
    """Put rows behind others; no score is above theirs, for they were found in a wider search."""
    if not len(more):
        return found
    ceiling = float(found.scores.min(initial=np.inf))
    told = None
    if found.explanations is not None or more.explanations is not None:
        told = (*(found.explanations or ({},) * len(found)), *(more.explanations or ({},) * len(more)))
    return replace(
        found,
        rows=np.concatenate([found.rows, more.rows]),
        scores=np.concatenate([found.scores, np.minimum(more.scores, ceiling)]),
        log_probabilities=_chances(found, more),
        explanations=told,
        warnings=tuple(dict.fromkeys((*found.warnings, *more.warnings))),
    )


def _chances(found: Found, more: Found) -> Floats | None:
    if found.log_probabilities is None and more.log_probabilities is None:
        return None
    parts = (found, more)
    return np.concatenate(
        [np.full(len(one), np.nan) if one.log_probabilities is None else one.log_probabilities for one in parts]
    )


def in_order(catalog: Catalog, rows: Rows, column: str, highest_first: bool) -> Rows:
    """Order rows by a column, those without a value last, ties as they come."""
    table = pl.DataFrame({"value": catalog.frame.get_column(column)[rows], "place": np.arange(len(rows))})
    order = table.sort("value", "place", descending=[highest_first, False], nulls_last=True)
    places: Rows = order.get_column("place").to_numpy()
    return places


def _pinned(pins: Rows, listed: Found, others: Found) -> Found:
    """Put rows before others, with the best score there is."""
    best = float(listed.scores.max()) if len(listed) else 0.0
    told = None if listed.explanations is None else ({"pinned": True},) * len(pins)
    front = replace(listed, rows=pins, scores=np.full(len(pins), best), log_probabilities=None, explanations=told)
    return _behind(front, others)
