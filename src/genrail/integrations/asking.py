"""What the adapters share: one question to a retriever, and a hit as text with metadata."""

from __future__ import annotations

from collections.abc import Sequence

from genrail.errors import SettingsError
from genrail.types import Hit, Query, Ranking, Retriever

__all__ = ["OWN_NAMES", "ask", "content", "metadata"]

OWN_NAMES = ("title", "score", "rank", "log_probability")


def ask(
    engine: Retriever, text: str, k: int, filters: Sequence[str | None] = (), history: Sequence[str] = ()
) -> Ranking:
    """Search with several filters at once; all must hold.

    Raises:
        QueryError: No words, or k is out of range.
        FilterError: A filter cannot be read.
    """
    given = [one for one in filters if one is not None]
    where = given[0] if len(given) == 1 else " AND ".join(f"({one})" for one in given) or None
    return engine.search_batch([Query(text, history, where=where)], k)[0]


def content(hit: Hit, attribute: str | None) -> str:
    """Give the text of a hit: its title, or one of its attributes; the title where that one has no value.

    Raises:
        SettingsError: The catalogue has no such attribute.
    """
    if attribute is None:
        return hit.title
    if attribute not in hit.attributes:
        raise SettingsError(f"content={attribute!r}: the attributes are {', '.join(hit.attributes) or 'none'}")
    value = hit.attributes[attribute]
    return hit.title if value is None else str(value)


def metadata(hit: Hit) -> dict[str, object]:
    """Lay attributes, title, score, rank and log-probability side by side.

    An attribute that bears one of `OWN_NAMES` goes under ``attribute_`` and its name, so that nothing is lost.

    >>> metadata(Hit("a", "Boot", -0.5, 1, -0.5, {"price": 10, "score": 4}))
    {'price': 10, 'attribute_score': 4, 'title': 'Boot', 'score': -0.5, 'rank': 1, 'log_probability': -0.5}
    """
    attributes = {f"attribute_{name}" if name in OWN_NAMES else name: value for name, value in hit.attributes.items()}
    return {
        **attributes,
        "title": hit.title,
        "score": hit.score,
        "rank": hit.rank,
        "log_probability": hit.log_probability,
    }
