"""Turn scores into answers: filters, seen items, ties and hits, the same way for every baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genrail.errors import LogitsError, QueryError, ShapeError
from genrail.types import Hit, Query, Ranking

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["Answers", "Request", "recency_weights", "tie_order", "together", "top_rows"]

NAMED_UNKNOWN = 3  # unknown items that a warning names; the rest are counted


@dataclass
class Request:
    """Hold one query, looked up in the catalogue.

    Args:
        text: The words without surrounding space; empty for none.
        history: Rows of the known items of the history, oldest first, shape (n,).
        allowed: The rows that may come out, shape (rows,).
        warnings: What the caller should know.
    """

    text: str
    history: npt.NDArray[np.int64]
    allowed: npt.NDArray[np.bool_]
    warnings: list[str]


class Answers:
    """Look queries up in one catalogue and rank its rows by scores.

    Equal scores are ordered by `precedence`, never by row number or item id: in many data sets these follow the order
    of the log, and would leak what comes next.

    Args:
        catalog: The items.
        seed: Of the order between equal scores.
        precedence: Lower comes first between equal scores, shape (rows,); by default a seeded hash of the row.
    """

    def __init__(self, catalog: Catalog, seed: int = 0, precedence: npt.NDArray[np.int64] | None = None) -> None:
        self.catalog = catalog
        self.precedence = tie_order(len(catalog), seed) if precedence is None else precedence
        if len(self.precedence) != len(catalog):
            raise ShapeError(
                f"the catalogue has {len(catalog)} rows but the order between ties has {len(self.precedence)}; "
                "use the catalogue that the method was made with"
            )

    def requests(self, queries: Sequence[Query], k: int) -> list[Request]:
        """Look up histories, filters and exclusions.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
            FilterError: A filter that does not parse or names an unknown field.
        """
        if k < 1:
            raise QueryError(f"k is {k}; ask for 1 item or more")
        masks: dict[str, npt.NDArray[np.bool_]] = {}
        return [self._request(query, masks) for query in queries]

    def _request(self, query: Query, masks: dict[str, npt.NDArray[np.bool_]]) -> Request:
        text = (query.text or "").strip()
        rows = self.catalog.rows(query.history)
        known = rows[rows >= 0]
        warnings = _unknown_items(query.history, rows)
        if not text and not len(known):
            raise QueryError(
                f"none of the {len(rows)} items of the history is in the catalogue and there are no words; "
                "give ids of the catalogue, or words"
            )
        if query.where is not None and query.where not in masks:
            masks[query.where] = self.catalog.where(query.where)
        allowed = self.catalog.live & masks[query.where] if query.where is not None else self.catalog.live.copy()
        if query.exclude_seen:
            allowed[known] = False
        if query.exclude:
            excluded = self.catalog.rows(query.exclude)
            allowed[excluded[excluded >= 0]] = False
        return Request(text, known, allowed, warnings)

    def ranking(self, request: Request, scores: npt.NDArray[np.floating[Any]], k: int) -> Ranking:
        """Rank the allowed rows by score and give the k best as hits.

        Raises:
            LogitsError: A score that is not finite.
        """
        rows = top_rows(scores, request.allowed, k, self.precedence)
        return self.listed(request, rows, scores[rows].astype(np.float64), k)

    def listed(
        self,
        request: Request,
        rows: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float64],
        k: int,
        *,
        probabilistic: bool = False,
    ) -> Ranking:
        """Make hits of rows that are in order already.

        Args:
            request: What was asked.
            rows: Best first, at most k.
            scores: Of these rows.
            k: How many were asked for.
            probabilistic: The scores are log-probabilities.
        """
        ids, titles = self.catalog.item_ids, self.catalog.titles
        hits = tuple(
            Hit(
                ids[row],
                titles[row],
                score,
                rank,
                log_probability=score if probabilistic else None,
                attributes=_Attributes(self.catalog, row),
            )
            for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1)
        )
        return Ranking(hits, exhausted=len(hits) < k, warnings=tuple(request.warnings))


class _Attributes(Mapping[str, Any]):
    """Read an item's attributes when they are asked for: an evaluation makes millions of hits and prints none."""

    __slots__ = ("_catalog", "_row")

    def __init__(self, catalog: Catalog, row: int) -> None:
        self._catalog = catalog
        self._row = row

    def __getitem__(self, name: str) -> Any:
        return self._catalog.attributes(self._row)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._catalog.attributes(self._row))

    def __len__(self) -> int:
        return len(self._catalog.attributes(self._row))

    def __repr__(self) -> str:
        return repr(dict(self._catalog.attributes(self._row)))


def top_rows(
    scores: npt.NDArray[np.floating[Any]],
    allowed: npt.NDArray[np.bool_],
    k: int,
    precedence: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Find the k allowed rows with the highest scores, best first.

    Args:
        scores: Shape (rows,).
        allowed: Shape (rows,).
        k: How many at most.
        precedence: Lower comes first between equal scores, shape (rows,).

    Returns:
        Shape (min(k, allowed rows),).

    Raises:
        LogitsError: An allowed row whose score is not finite.

    Cost: O(rows), plus sorting k.

    >>> top_rows(np.array([1.0, 3.0, 1.0, 9.0]), np.array([True, True, True, False]), 2, np.array([2, 1, 0, 3]))
    array([1, 2])
    """
    rows = np.flatnonzero(allowed)
    values = scores[rows]
    if not np.isfinite(values).all():
        row = int(rows[~np.isfinite(values)][0])
        raise LogitsError(f"the score of row {row} is {scores[row]}; a ranking needs finite scores: check the vectors")
    if k < len(rows):
        rows = _best(rows, values, k, precedence)
    return rows[np.lexsort((precedence[rows], -scores[rows]))]


def _best(
    rows: npt.NDArray[np.int64],
    values: npt.NDArray[np.floating[Any]],
    k: int,
    precedence: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Select k of more than k rows, in any order."""
    # Most methods give most rows the same lowest score; selecting among thousands of equals is what would cost.
    threshold = values.min()
    over = values > threshold
    if int(over.sum()) >= k:
        candidates = values[over]
        threshold = np.partition(candidates, len(candidates) - k)[len(candidates) - k]
    above, tied = rows[values > threshold], rows[values == threshold]
    missing = k - len(above)  # at least 1: some row has the threshold itself
    if missing < len(tied):
        tied = tied[np.argpartition(precedence[tied], missing - 1)[:missing]]
    return np.concatenate([above, tied])


def tie_order(rows: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Give each row a place between equal scores that says nothing about its number (splitmix64 of row and seed).

    A row keeps its value when rows are appended.

    >>> tie_order(3, seed=1).tolist() == tie_order(5, seed=1)[:3].tolist()
    True
    """
    start = (seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    value = np.arange(rows, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((value ^ (value >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)


def recency_weights(items: int, decay: float) -> npt.NDArray[np.float64]:
    """Weigh a history, oldest first: 1 for the last item, `decay` for the one before, and so on.

    >>> recency_weights(3, 0.5).tolist()
    [0.25, 0.5, 1.0]
    """
    return decay ** np.arange(items - 1, -1, -1, dtype=np.float64)


def together(parts: Sequence[npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.float64]:
    """Add the scores for the words and for the history, each divided by its largest magnitude; one part stays as it is.

    >>> together([np.array([2.0, 1.0]), np.array([0.0, 10.0])]).tolist()
    [1.0, 1.5]
    """
    if len(parts) == 1:
        return parts[0].astype(np.float64)
    total = np.zeros(len(parts[0]))
    for part in parts:
        largest = float(np.abs(part).max(initial=0.0))
        total += part / largest if largest > 0 else 0.0
    return total


def _unknown_items(history: Sequence[str], rows: npt.NDArray[np.int64]) -> list[str]:
    unknown = [item_id for item_id, row in zip(history, rows.tolist(), strict=True) if row < 0]
    if not unknown:
        return []
    more = f" and {len(unknown) - NAMED_UNKNOWN} more" if len(unknown) > NAMED_UNKNOWN else ""
    return [f"{len(unknown)} unknown items of the history were ignored: {', '.join(unknown[:NAMED_UNKNOWN])}{more}"]
