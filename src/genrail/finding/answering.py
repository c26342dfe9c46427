"""The one way from queries to hits: resolve, find, pass the gate, make hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Unpack

from genrail.catalog import Catalog
from genrail.errors import GenrailError, QueryError
from genrail.finding.finder import Finder, FindOptions, Found
from genrail.finding.gate import Gate
from genrail.finding.requests import FilterCache, Request, resolve
from genrail.types import Hit, Query, QueryOptions, Ranking

__all__ = ["MAX_K", "Edition", "Searching", "answer_each", "raised"]

MAX_K = 1000  # reliability.md D


@dataclass(frozen=True, eq=False)
class Edition:
    """Hold what belongs together: a catalogue and the finder that answers about it.

    A request keeps one edition from start to end.

    Args:
        catalog: The items, removed ones included (their bit in `live` is off).
        finder: Answers questions about exactly these.
    """

    catalog: Catalog
    finder: Finder
    filters: FilterCache = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", FilterCache(self.catalog))

    def __len__(self) -> int:
        return int(self.catalog.live.sum())


def answer_each(
    edition: Edition, gate: Gate, queries: Sequence[Query], k: int, options: FindOptions | None = None
) -> list[Ranking | GenrailError]:
    """Answer several queries at once; one that cannot be answered gets its error.

    A query whose filter allows nothing costs neither text encoder nor model.

    Args:
        edition: What is asked, from start to end.
        gate: Checks every answer.
        queries: What is wanted.
        k: How many hits.
        options: How to look.

    Raises:
        GenrailError: What the finder refuses for all of them.
    """
    options = options or FindOptions()
    resolved = [_resolved(query, edition) for query in queries]
    asked = [one for one in resolved if isinstance(one, Request) and one.allowed.any()]
    found = iter(edition.finder.find(asked, k, options) if asked else ())
    return [
        (_ranking(edition, gate, one, next(found), k) if one.allowed.any() else Ranking((), True, one.warnings))
        if isinstance(one, Request)
        else one
        for one in resolved
    ]


def raised(answers: Sequence[Ranking | GenrailError]) -> list[Ranking]:
    """Give rankings, or raise the first error among them."""
    for answer in answers:
        if isinstance(answer, GenrailError):
            raise answer
    return [answer for answer in answers if isinstance(answer, Ranking)]


def _resolved(query: Query, edition: Edition) -> Request | GenrailError:
    try:
        return resolve(query, edition.catalog, edition.filters)
    except GenrailError as error:
        return error


def _ranking(edition: Edition, gate: Gate, request: Request, found: Found, k: int) -> Ranking | GenrailError:
    """Turn rows into hits; every answer of an engine or a single finder passes the last gate here."""
    try:
        gate.check(found.rows, request.allowed)
    except GenrailError as error:
        return error
    catalog = edition.catalog
    ids, titles = catalog.item_ids, catalog.titles
    rows, scores = found.rows.tolist(), found.scores.tolist()
    chances = [None] * len(rows) if found.log_probabilities is None else found.log_probabilities.tolist()
    told = [None] * len(rows) if found.explanations is None else found.explanations
    hits = tuple(
        Hit(ids[row], titles[row], score, rank, _finite(chance), Attributes(catalog, row), explanation)
        for rank, (row, score, chance, explanation) in enumerate(zip(rows, scores, chances, told, strict=True), start=1)
    )
    return Ranking(hits, len(hits) < k, (*request.warnings, *found.warnings), found.trace)


def _finite(chance: float | None) -> float | None:
    """Leave out what a lane without a model says of an item: NaN."""
    return None if chance is None or chance != chance else chance


class Attributes(Mapping[str, object]):
    """Read an item's attributes when they are asked for: an evaluation makes millions of hits and prints none."""

    __slots__ = ("_catalog", "_row")

    def __init__(self, catalog: Catalog, row: int) -> None:
        self._catalog = catalog
        self._row = row

    def __getitem__(self, name: str) -> object:
        return self._catalog.attributes(self._row)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._catalog.attributes(self._row))

    def __len__(self) -> int:
        return len(self._catalog.attributes(self._row))

    def __repr__(self) -> str:
        return repr(dict(self._catalog.attributes(self._row)))


class Searching:
    """Let a finder that holds its catalogue be asked by itself, as an engine is: `genrail.BM25(catalog).search(...)`.

    Mixed into such finders; what they answer passes the same gate.
    """

    catalog: Catalog

    def search(self, text: str | None = None, k: int = 10, **query: Unpack[QueryOptions]) -> Ranking:
        """Rank the k best items for some words; further arguments are those of `Query`."""
        return self.search_batch([Query(text, **query)], k)[0]

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
            FilterError: A filter that does not parse or names an unknown field.
        """
        if k < 1:
            raise QueryError(f"k is {k}; ask for 1 item or more")
        edition: Edition | None = self.__dict__.get("_edition")
        if edition is None:
            edition = self.__dict__["_edition"] = Edition(self.catalog, self)  # type: ignore[arg-type]
        return raised(answer_each(edition, Gate(), queries, k))


def checked(k: int) -> int:
    """Check how many hits are wanted.

    Raises:
        QueryError: Not 1 to 1,000.
    """
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
        raise QueryError(f"k is {k}; give a number from 1 to {MAX_K}")
    return k
