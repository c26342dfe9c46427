"""The one way from queries to hits: resolve, find, pass the gate, make hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Unpack

from genrail.catalog import Catalog
from genrail.catalog.facets import facets
from genrail.errors import GenrailError, QueryError
from genrail.finding.arranging import Page, find_pages
from genrail.finding.finder import Finder, FindOptions
from genrail.finding.gate import Gate
from genrail.finding.requests import MAX_K, FilterCache, Request, resolve
from genrail.types import Hit, Query, QueryOptions, Ranking

__all__ = ["Edition", "Searching", "answer_each", "as_queries", "checked", "raised"]


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
    resolved = [_resolved(query, edition, k) for query in queries]
    asked = [one for one in resolved if isinstance(one, Request) and one.allowed.any()]
    pages = iter(find_pages(edition.catalog, edition.finder, asked, k, options) if asked else ())
    answers: list[Ranking | GenrailError] = []
    for query, one in zip(queries, resolved, strict=True):
        if not isinstance(one, Request):
            answers.append(one)
        elif one.allowed.any():
            answers.append(_ranking(edition, gate, query, one, next(pages), k))
        else:
            answers.append(Ranking((), True, one.warnings))
    return answers


def raised(answers: Sequence[Ranking | GenrailError]) -> list[Ranking]:
    """Give rankings, or raise the first error among them."""
    for answer in answers:
        if isinstance(answer, GenrailError):
            raise answer
    return [answer for answer in answers if isinstance(answer, Ranking)]


def _resolved(query: Query, edition: Edition, k: int) -> Request | GenrailError:
    try:
        if query.offset and query.offset + k > MAX_K:
            raise QueryError(
                f"offset is {query.offset} and k {k}; the first {MAX_K:,} hits can be looked at, narrow the question"
            )
        return resolve(query, edition.catalog, edition.filters)
    except GenrailError as error:
        return error


def _ranking(
    edition: Edition, gate: Gate, query: Query, request: Request, page: Page, k: int
) -> Ranking | GenrailError:
    """Turn rows into hits; every answer of an engine or a single finder passes the last gate here."""
    found = page.found
    try:
        gate.check(found.rows, request.allowed)
    except GenrailError as error:
        return error
    catalog = edition.catalog
    ids, titles = catalog.item_ids, catalog.titles
    rows, scores = found.rows.tolist(), found.scores.tolist()
    chances = [None] * len(rows) if found.log_probabilities is None else found.log_probabilities.tolist()
    told = [None] * len(rows) if found.explanations is None else found.explanations
    words = edition.finder.matched(request, found.rows) if query.highlight else None
    marked = [None] * len(rows) if words is None else [tuple(each) for each in words]
    arranged = request.arrangement
    hits = tuple(
        Hit(ids[row], titles[row], score, rank, _finite(chance), Attributes(catalog, row, arranged.fields), why, match)
        for rank, (row, score, chance, why, match) in enumerate(
            zip(rows, scores, chances, told, marked, strict=True), start=arranged.offset + 1
        )
    )
    counts = tuple(facets(catalog, arranged.facets, page.counted))
    warnings = (*request.warnings, *found.warnings)
    counted = len(page.counted) if counts else 0
    return Ranking(hits, len(hits) < k, warnings, found.trace, found.fits, counts, counted, found.reading)


def _finite(chance: float | None) -> float | None:
    """Leave out what a lane without a model says of an item: NaN."""
    return None if chance is None or chance != chance else chance


class Attributes(Mapping[str, object]):
    """Read an item's attributes when they are asked for: an evaluation makes millions of hits and prints none."""

    __slots__ = ("_catalog", "_names", "_row")

    def __init__(self, catalog: Catalog, row: int, names: Sequence[str] | None = None) -> None:
        self._catalog = catalog
        self._row = row
        self._names = names

    def _values(self) -> dict[str, object]:
        values = self._catalog.attributes(self._row)
        return values if self._names is None else {name: values[name] for name in self._names if name in values}

    def __getitem__(self, name: str) -> object:
        return self._values()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __repr__(self) -> str:
        return repr(self._values())


class Searching:
    """Let a finder that holds its catalogue be asked by itself, as an engine is: `genrail.BM25(catalog).search(...)`.

    Mixed into such finders; what they answer passes the same gate.
    """

    catalog: Catalog

    def search(self, text: str | None = None, k: int = 10, **query: Unpack[QueryOptions]) -> Ranking:
        """Rank the k best items for some words; further arguments are those of `Query`."""
        return self.search_batch([Query(text, **query)], k)[0]

    def search_batch(self, queries: Sequence[Query | str], k: int = 10) -> list[Ranking]:
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
        return raised(answer_each(edition, Gate(), as_queries(queries), k))


def as_queries(queries: Sequence[Query | str]) -> list[Query]:
    """Take words for a query of their own.

    Raises:
        QueryError: A text instead of a list of them, or something else in the list.
    """
    if isinstance(queries, str | Query):
        raise QueryError("search_batch takes a list of queries; for one there is search(...)")
    return [query if isinstance(query, Query) else Query(query) for query in queries]


def checked(k: int) -> int:
    """Check how many hits are wanted.

    Raises:
        QueryError: Not 1 to 1,000.
    """
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
        raise QueryError(f"k is {k}; give a number from 1 to {MAX_K}")
    return k
