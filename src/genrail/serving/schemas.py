"""What goes over the wire: requests are checked here, answers are described here."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from genrail.catalog.conditions import as_filter
from genrail.errors import FilterError
from genrail.types import JsonObject

__all__ = [
    "ChangeAnswer",
    "ChangeState",
    "EventBody",
    "EventsRequest",
    "Explanation",
    "ExplainRequest",
    "HitBody",
    "IndexState",
    "Item",
    "ItemIds",
    "Items",
    "Kept",
    "MultiSearchAnswer",
    "MultiSearchRequest",
    "Nothing",
    "Problem",
    "RecommendRequest",
    "RollbackRequest",
    "SearchAnswer",
    "SearchRequest",
    "SimilarRequest",
    "SuggestRequest",
    "SuggestionBody",
    "UserRequest",
    "Suggestions",
    "Wishes",
    "Words",
    "whole",
]


def _well_formed(text: str) -> str:
    """Refuse half of a surrogate pair: JSON can spell it, no encoder can read it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("this is no text: it holds half a surrogate pair") from None
    return text


Words = Annotated[str, AfterValidator(_well_formed)]


def _written(where: object) -> object:
    """Write a filter that is given as a dictionary."""
    if not isinstance(where, dict):
        return where
    try:
        return as_filter(where)
    except FilterError as error:
        raise ValueError(str(error)) from None


Where = Annotated[
    Words | None,
    BeforeValidator(_written, json_schema_input_type=Words | JsonObject | None),
    Field(
        description="A filter over attributes, written or as a dictionary of fields.",
        examples=["price < 100 AND in_stock", {"price": {"<": 100}, "colour": ["red", "blue"]}],
    ),
]
ItemId = Annotated[Words, Field(min_length=1, max_length=1024)]
Timeout = Annotated[
    int | None,
    Field(ge=1, le=3_600_000, description="Give up after so many milliseconds; the server's limit holds too."),
]
Hits = Annotated[int, Field(ge=1, description="How many hits, up to the server's limit (1,000).")]


def whole(value: object) -> object:
    """Read 5.0 as 5: JSON has one kind of numbers, and some clients write all of them with a point.

    >>> whole(5.0), whole(5.5), whole(True)
    (5, 5.5, True)
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Request(BaseModel):
    """Refuse what is not known: a misspelt field is an error, not silence."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, given: object) -> object:
        return {name: whole(value) for name, value in given.items()} if isinstance(given, dict) else given


class Wishes(Request):
    """Which hits of a question are shown, in which order, and what is told of them."""

    k: Hits = 10
    where: Where = None
    timeout_ms: Timeout = None
    offset: int = Field(0, ge=0, description="Hits that come before: 10 with k 10 is page two.")
    min_score: float | None = Field(None, description="Leave out what scores lower.", allow_inf_nan=False)
    sort: Words | None = Field(None, description="Order the best hits by an attribute; -price: highest first.")
    boost: dict[Words, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict,
        max_length=16,
        description="What else counts, with its weight: an attribute (numbers, moments, true and false) or a filter.",
        examples=[{"popularity": 0.2, "brand = 'Ecco'": -0.1}],
    )
    pin: list[ItemId] = Field(default_factory=list, max_length=100, description="Item ids that come first.")
    facets: list[Words] = Field(
        default_factory=list, max_length=100, description="Attributes to count among the best 100 hits; * for all."
    )
    fields: list[Words] | None = Field(None, description="Attributes that hits carry; by default all.")
    highlight: bool = Field(False, description="Say which words of each hit the query asks for.")
    soft_filters: bool = Field(True, description="Let words that name values of attributes move such items up.")


class SearchRequest(Wishes):
    """Words, a past, or both."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "waterproof trail shoe", "where": "price < 100", "k": 5}]}
    )

    query: Words | None = None
    history: list[ItemId] = Field(default_factory=list, description="Item ids, oldest first.")
    include_seen: bool = Field(False, description="Let items of the history come out again.")


class RecommendRequest(Wishes):
    """What somebody liked before."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": ["sku-12", "sku-80"], "k": 5}]})

    history: list[ItemId] = Field(default_factory=list, description="Item ids, oldest first.")
    user_id: ItemId | None = Field(None, description="Whose kept events come before the history.")
    include_seen: bool = False


class SimilarRequest(Wishes):
    """An item whose kind is wanted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "sku-12", "k": 5}]})

    id: ItemId


class ExplainRequest(SearchRequest):
    """A search whose steps are wanted, and perhaps the fate of one item."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "waterproof trail shoe", "k": 5, "item_id": "sku-12"}]}
    )

    item_id: ItemId | None = Field(None, description="Say how far this item came, and why.")
    beams: int = Field(3, ge=1, le=20, description="Beams of each step that are shown.")
    children: int = Field(5, ge=1, le=20, description="Continuations of each beam that are shown.")


class MultiSearchRequest(Request):
    """Several searches, answered together."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [{"query": "boots"}, {"query": "hat"}]}]})

    requests: list[SearchRequest] = Field(min_length=1)


class NgramBody(BaseModel):
    """An n-gram that stands in the passage of an item."""

    text: str
    score: float = Field(description="What it adds to the item's score; 0 where it stands once more.")
    start: int = Field(description="Its first character in the passage's text.")
    end: int = Field(description="The character behind it.")


class PassageBody(BaseModel):
    """The passage by which an item was found."""

    number: int = Field(description="1 for the first.")
    of: int = Field(description="Passages of the item.")
    text: str = Field(description="The passage, or the part of a long one around its best n-gram.")


class HitBody(BaseModel):
    """One item of an answer."""

    id: str
    title: str
    score: float = Field(description="What the order follows, higher first; 0 to 1 for a fused engine.")
    rank: int = Field(description="1 for the first.")
    metadata: JsonObject = Field(description="The item's attributes.")
    log_probability: float | None = Field(None, description="In explanations.")
    identifier: list[int] | None = Field(None, description="In explanations: the tokens that the model wrote.")
    found_by: dict[str, dict[str, float]] | None = Field(
        None, description="In explanations: which lanes found the item, each with its rank and score there."
    )
    matched: list[str] | None = Field(
        None, description="Words of the item that the query asks for, as they stand there; with highlight."
    )
    ngrams: list[NgramBody] | None = Field(
        None, description="In explanations: n-grams that the model wrote and that stand in the item's text."
    )
    passage: PassageBody | None = Field(None, description="In explanations: where they stand.")
    soft_filters: list[str] | None = Field(
        None, description="In explanations: words of the query that name a value of the item."
    )


class SearchAnswer(BaseModel):
    """Hits, best first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "hits": [
                        {"id": "sku-7", "title": "Trail boot", "score": -3.2, "rank": 1, "metadata": {"price": 89}}
                    ],
                    "exhausted": False,
                    "warnings": [],
                    "fits": True,
                    "took_ms": 12.5,
                    "index_version": "3.17",
                    "model_version": "5f1d0a9c22be",
                    "request_id": "0b9e6f1c2d3a4b5c",
                }
            ]
        }
    )

    hits: list[HitBody]
    exhausted: bool = Field(description="True when fewer than k items are allowed, so that nothing more could come.")
    warnings: list[str] = Field(description="Whatever was left out or could not be used.")
    fits: bool = Field(description="False where nothing is near the words: the hits are the least far ones.")
    facets: list[JsonObject] | None = Field(
        None, description="For each attribute: name, kind, and values with counts, or least and most."
    )
    counted: int | None = Field(None, description="The hits among which values were counted; with facets.")
    reading: list[JsonObject] | None = Field(
        None, description="How words of the query were read: as values of attributes, or as synonyms."
    )
    took_ms: float
    index_version: str = Field(description="Published version, and the changes since: 3.17.")
    model_version: str
    request_id: str


class SuggestRequest(Request):
    """What stands in a search field."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"typed": "waterp", "k": 6}]})

    typed: Words = Field(max_length=2048)
    k: int = Field(8, ge=1, le=50, description="How many texts.")


class SuggestionBody(BaseModel):
    """A text that completes what is typed."""

    text: str
    items: int = Field(description="How many items hold it.")
    item_id: str | None = Field(description="Of an item with this title; null for words and phrases.")


class Suggestions(BaseModel):
    """Texts that complete what is typed, those that most items hold first."""

    suggestions: list[SuggestionBody]
    took_ms: float
    index_version: str
    model_version: str
    request_id: str


class MultiSearchAnswer(BaseModel):
    """One answer or problem for each search, in order."""

    results: list[JsonObject]
    took_ms: float
    request_id: str


class Explanation(SearchAnswer):
    """An answer with the steps that led to it."""

    trace: JsonObject = Field(
        description="steps: beams with prefix, probability, removed_mass, children (token, probability, items, kept, "
        "spelling); kept and died prefixes."
    )
    item: JsonObject | None = Field(None, description="id, title, identifier, rank or null, and its story.")


class EventBody(Request):
    """That a user did something with an item."""

    user_id: ItemId
    item_id: ItemId
    kind: Annotated[Words, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")] = Field(
        "view", description="view, click, cart, purchase, ..."
    )
    timestamp: float | None = Field(
        None, ge=0, le=1e11, allow_inf_nan=False, description="Seconds since 1970; by default now."
    )


class EventsRequest(Request):
    """What users did."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"events": [{"user_id": "ann", "item_id": "sku-7", "kind": "purchase"}]}]}
    )

    events: list[EventBody] = Field(min_length=1)


class UserRequest(Request):
    """A user."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "ann"}]})

    user_id: ItemId


class Kept(BaseModel):
    """How many events were kept, or erased."""

    events: int
    request_id: str


class Item(BaseModel):
    """One item of the catalogue."""

    id: str
    title: str
    metadata: JsonObject
    index_version: str
    model_version: str
    request_id: str


class Items(Request):
    """Items to add or change: the catalogue's id and title columns, and attributes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [{"sku": "n1", "name": "Clog", "price": 30}]}]})

    items: list[JsonObject] = Field(min_length=1)


class ItemIds(Request):
    """Items to remove."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": ["sku-7"]}]})

    ids: list[ItemId] = Field(min_length=1)


class Nothing(Request):
    """No more than the wish: an empty object."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class RollbackRequest(Request):
    """A version to go back to."""

    version: int | None = Field(None, ge=1, description="By default the one before the live one.")


class ChangeAnswer(BaseModel):
    """What is live now; the change is on the disk."""

    changed: int = Field(description="Items of the change.")
    items: int = Field(description="Items that can be found now.")
    index_version: str
    model_version: str
    took_ms: float
    request_id: str


class ChangeState(BaseModel):
    """How far a change is."""

    change: str
    verb: str
    status: str = Field(description="waiting, running, done or failed.")
    progress: JsonObject | None = Field(None, description="stage, done, total: of a change that is running.")
    result: JsonObject | None = Field(None, description="changed, items and versions: of a change that is done.")
    problem: JsonObject | None = Field(None, description="status and detail: of a change that failed.")
    request_id: str


class IndexState(BaseModel):
    """What the server holds."""

    items: int
    index_version: str
    model_version: str
    versions: list[int]
    engine: JsonObject
    disk: str = Field(description='"ok", or what is wrong with the engine on disk.')
    request_id: str


class Problem(BaseModel):
    """RFC 9457: what went wrong, and the way out."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    reason: str = Field(description="One word for programs, such as queue, rate, deadline, limit or invalid.")
    request_id: str
    errors: list[JsonObject] | None = None
