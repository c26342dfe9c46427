"""Read what a query excludes: "without X", "not X", "excluding X", "except X"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Negation", "mentions", "read_negation"]

_CUES = r"without|w/o|excluding|except|not|no"
_CUE = re.compile(rf"(?<![\w/-])({_CUES})\s+", re.IGNORECASE)
_ENDS = re.compile(rf"[,;.!?()]|\s(?:for|with|but|and|or|in|under|over|from|{_CUES})(?=\s)", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_FILLERS = frozenset({"a", "an", "any", "the", "only", "just", "included", "including", "include"})
# In a question or a statement "not" denies the sentence, it does not exclude a thing.
_SENTENCE = re.compile(
    r"[?.]\s*$|^\s*(?:who|whom|whose|what|when|where|which|why|how)\b"
    r"|\b(?:is|are|was|were|be|been|do|does|did|has|have|had|can|could|may|might|must|shall|should|will|would)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Negation:
    """Hold what a query asks for and what it excludes.

    Args:
        wanted: The query without what it excludes; the lanes are asked for this. Never empty: a query that only
            excludes is asked as it is.
        excluded: The words of each excluded thing, lower case.
    """

    wanted: str
    excluded: tuple[tuple[str, ...], ...] = ()


def read_negation(query: str) -> Negation:
    """Read "without X", "not X", "no X", "excluding X" and "except X" in a short English query.

    X reaches to a comma, a preposition, "and", "or" or the end. "No X" stays in what is wanted, for it often names a
    kind ("no show socks"), as "non-X" always does. Questions and statements are left as they are: there "not" denies
    the sentence.

    >>> read_negation("wall lamp without cord")
    Negation(wanted='wall lamp', excluded=(('cord',),))
    >>> read_negation("which lamps are not blue?").excluded
    ()
    """
    if _SENTENCE.search(query):
        return Negation(query)
    kept, excluded, place = [], [], 0
    while cue := _CUE.search(query, place):
        end = _ENDS.search(query, cue.end())
        until = end.start() if end else len(query)
        words = tuple(word for word in _WORD.findall(query[cue.end() : until].lower()) if word not in _FILLERS)
        kept.append(query[place : until if cue[1].lower() == "no" else cue.start()])
        if words:
            excluded.append(words)
        place = max(until, cue.end())
    kept.append(query[place:])
    wanted = " ".join(" ".join(kept).split()).strip(" ,;")
    if not excluded or not _WORD.search(wanted):
        return Negation(query, tuple(excluded))
    return Negation(wanted, tuple(excluded))


def mentions(text: str, excluded: tuple[str, ...]) -> bool:
    """Tell whether an item's text has all words of an excluded thing, and does not exclude it itself.

    A plural "s" more or less is the same word. "Cordless", "without cord", "no cord" and "cord-free" exclude it.

    >>> mentions("Wall lamp, 2 m cords", ("cord",)), mentions("Wall lamp, no cord", ("cord",))
    (True, False)
    """
    words = _WORD.findall(text.lower())
    stems = {_singular(word) for word in words}
    asked = [_singular(word) for word in excluded]
    if not asked or not all(word in stems for word in asked):
        return False
    return not any(_denied(words, place, asked) for place, word in enumerate(words) if _singular(word) == asked[-1])


def _denied(words: Sequence[str], place: int, asked: Sequence[str]) -> bool:
    """Tell whether the thing that ends at a place is excluded by the text around it."""
    before = words[max(0, place - len(asked) - 1) : place]
    after = words[place + 1 : place + 3]
    return bool(
        {"without", "no", "not", "non", "excluding", "except"} & set(before)
        or after[:1] in (["free"], ["less"])
        or after == ["not", "included"]
    )


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
