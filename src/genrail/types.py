"""The words that every room speaks: Query, Hit, Ranking, Retriever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, overload, runtime_checkable

from genrail.errors import QueryError

__all__ = ["Hit", "Json", "NewItems", "Page", "Progress", "Query", "QueryOptions", "Ranking", "Retriever"]

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
"""A value that JSON can hold."""

Page: TypeAlias = dict[str, Any]
"""A JSON object as it was read or will be sent: what an entry must be is said and checked where it is used."""

NewItems = float | Literal["auto", "off"]
"""What `Query.new_items` takes."""


class Progress(Protocol):
    """Hear how far long work has come."""

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        """Hear that `done` of `total` parts of a stage are behind us."""
        ...


@dataclass(frozen=True)
class Query:
    """Say what somebody wants: words, a past, or both, within a filter.

    Args:
        text: The words, or None.
        history: The user's own item ids, oldest first.
        where: A filter over the catalogue's attributes, such as ``price < 100 AND in_stock``.
        exclude_seen: Leave the items of the history out of the answer.
        exclude: Further item ids that must not come out.
        new_items: How items that came after the model was trained are mixed in, for engines that tell them apart:
            ``auto`` as far as it costs the others little, ``off``, or a share of the hits from 0 to 1.

    Raises:
        QueryError: Neither words nor a history; or `new_items` is none of these.

    >>> Query("trail shoes", where="price < 100").text
    'trail shoes'
    """

    text: str | None = None
    history: Sequence[str] = ()
    where: str | None = None
    exclude_seen: bool = True
    exclude: Sequence[str] = ()
    new_items: NewItems = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.history, str):
            raise QueryError(f"history is one string ({self.history!r}); give a list of item ids: [{self.history!r}]")
        object.__setattr__(self, "history", tuple(str(item) for item in self.history))
        object.__setattr__(self, "exclude", tuple(str(item) for item in self.exclude))
        if not (self.text or "").strip() and not self.history:
            raise QueryError("the query is empty: give words, or a history of item ids, or both")
        share = self.new_items
        number = isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1
        if share not in ("auto", "off") and not number:
            raise QueryError(f"new_items is {share!r}; give 'auto', 'off', or a share from 0 to 1")


class QueryOptions(TypedDict, total=False):
    """Name what a query may hold beside its words; see `Query`."""

    history: Sequence[str]
    where: str | None
    exclude_seen: bool
    exclude: Sequence[str]
    new_items: NewItems


@dataclass(frozen=True)
class Hit:
    """Hold one item of an answer.

    Args:
        item_id: The user's own id.
        title: As given in the catalogue.
        score: What the ranking is sorted by, higher first.
        rank: 1 for the first.
        log_probability: Of the item's identifier under the model (natural logarithm); None for methods without a model.
        attributes: The item's other columns.
        explanation: Filled when ``explain=True`` was asked for.
    """

    item_id: str
    title: str
    score: float
    rank: int
    log_probability: float | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)
    explanation: Mapping[str, object] | None = None

    def to_dict(self) -> dict[str, object]:
        """Turn the hit into plain values for JSON."""
        values: dict[str, object] = {
            "rank": self.rank,
            "item_id": self.item_id,
            "title": self.title,
            "score": self.score,
            "log_probability": self.log_probability,
            "attributes": dict(self.attributes),
        }
        if self.explanation is not None:
            values["explanation"] = dict(self.explanation)
        return values


@dataclass(frozen=True)
class Ranking(Sequence[Hit]):
    """Hold the answer to one query: hits, best first.

    Args:
        hits: No item twice.
        exhausted: True when fewer than k items were allowed, so that nothing more could come.
        warnings: What the caller should know, such as unknown items in a history.
        trace: The steps of the decode, when asked for.

    >>> ranking = Ranking((Hit("sku-1", "Boot", -0.5, 1),))
    >>> len(ranking), ranking[0].title, ranking.item_ids
    (1, 'Boot', ['sku-1'])
    """

    hits: tuple[Hit, ...] = ()
    exhausted: bool = False
    warnings: tuple[str, ...] = ()
    trace: Any = None

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @property
    def item_ids(self) -> list[str]:
        """List the ids, best first."""
        return [hit.item_id for hit in self.hits]

    def to_dict(self) -> dict[str, object]:
        """Turn the ranking into plain values for JSON."""
        return {
            "hits": [hit.to_dict() for hit in self.hits],
            "exhausted": self.exhausted,
            "warnings": list(self.warnings),
        }


@runtime_checkable
class Retriever(Protocol):
    """Answer queries with items: what engines and baselines have in common."""

    @property
    def name(self) -> str:
        """Say what this is, for tables."""
        ...

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Returns:
            One ranking per query, in order; each with k hits whenever k items are allowed.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
        """
        ...
