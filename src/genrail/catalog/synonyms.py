"""Synonyms as a shop writes them: lines as in Solr and Elasticsearch, or JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrail.catalog.csv_files import text_of
from genrail.catalog.readers import Limits
from genrail.errors import CatalogError

__all__ = ["SynonymRule", "read_synonyms"]

MOST_RULES = 100_000

_COMMA = re.compile(r"(?<!\\),")
_ARROW = re.compile(r"(?<!\\)=>")


@dataclass(frozen=True)
class SynonymRule:
    """Say what some words of a query stand for.

    Args:
        words: One word or several in a row, each of which is looked for in a query.
        meant: What items may hold instead: any of these.

    >>> SynonymRule.of("sneaker, trainer, running shoe")
    SynonymRule(words=('sneaker', 'trainer', 'running shoe'), meant=('sneaker', 'trainer', 'running shoe'))
    >>> str(SynonymRule.of("wellies, gumboots=>rain boots"))
    'wellies, gumboots => rain boots'
    """

    words: tuple[str, ...]
    meant: tuple[str, ...]

    @classmethod
    def of(cls, line: str, source: str = "synonyms", number: int = 1) -> SynonymRule:
        """Read ``a, b, c`` (each stands for all) or ``a, b => c, d`` (a and b stand for c and d, not for themselves).

        A comma or an arrow within a word stands behind a backslash.

        Raises:
            CatalogError: Neither.
        """
        sides = [_listed(side) for side in _ARROW.split(line)]
        if len(sides) > 2 or not all(sides) or (len(sides) == 1 and len(sides[0]) < 2):
            raise CatalogError(
                f"{source}, line {number}: {line.strip()[:80]!r} is no rule; write 'a, b, c' for words that mean the "
                "same, or 'a, b => c' for words that stand for others"
            )
        return cls(sides[0], sides[-1])

    @classmethod
    def of_json(cls, page: object, source: str = "synonyms", number: int = 1) -> SynonymRule:
        """Read ``{"synonyms": ["a", "b"]}`` or ``{"words": ["a", "b"], "synonyms": ["c"]}``.

        Raises:
            CatalogError: Neither.
        """
        given: Mapping[str, object] = page if isinstance(page, Mapping) and set(page) <= {"words", "synonyms"} else {}
        meant = _texts(given.get("synonyms"))
        words = _texts(given["words"]) if "words" in given else meant
        if not words or not meant or ("words" not in given and len(meant) < 2):
            raise CatalogError(
                f'{source}, line {number}: {repr(page)[:80]} is no rule; write {{"synonyms": ["a", "b"]}} for words '
                'that mean the same, or {"words": ["a"], "synonyms": ["b"]} for words that stand for others'
            )
        return cls(words, meant)

    def __str__(self) -> str:
        sides = [self.meant] if self.words == self.meant else [self.words, self.meant]
        return " => ".join(", ".join(word.replace(",", "\\,").replace("=>", "\\=>") for word in side) for side in sides)


def read_synonyms(given: str | Path | Iterable[Any]) -> tuple[SynonymRule, ...]:
    """Read synonyms from a file, or from what a file would hold.

    Args:
        given: A path; or lines, dictionaries or rules. Empty lines and those that begin with # say nothing. A file of
            which the first line that says something begins with { is read as JSON lines.

    Raises:
        CatalogError: A line that is no rule, more than 100,000 rules, or no text.

    >>> [str(rule) for rule in read_synonyms(["# shoes", "clog, mule", {"words": ["wellies"], "synonyms": ["boots"]}])]
    ['clog, mule', 'wellies => boots']
    """
    source = "synonyms"
    if isinstance(given, str | Path):
        source = str(given)
        if not Path(given).is_file():
            raise CatalogError(f"{source}: no such file; give the path of a file of synonyms")
        given = text_of(Path(given), None, Limits()).splitlines()
    rules: list[SynonymRule] = []
    for number, one in enumerate(given, start=1):
        if isinstance(one, str) and (not one.strip() or one.lstrip().startswith("#")):
            continue
        rules.append(_rule(one, source, number))
        if len(rules) > MOST_RULES:
            raise CatalogError(f"{source} holds more than {MOST_RULES:,} rules; leave out those nobody asks for")
    return tuple(rules)


def _rule(one: object, source: str, number: int) -> SynonymRule:
    if isinstance(one, SynonymRule):
        return one
    if not isinstance(one, str):
        return SynonymRule.of_json(one, source, number)
    if not one.lstrip().startswith("{"):
        return SynonymRule.of(one, source, number)
    try:
        page = json.loads(one)
    except ValueError as error:
        raise CatalogError(f"{source}, line {number} begins as JSON and is none ({error})") from None
    return SynonymRule.of_json(page, source, number)


def _listed(side: str) -> tuple[str, ...]:
    parts = (" ".join(re.sub(r"\\(,|=>)", r"\1", part).split()) for part in _COMMA.split(side))
    return tuple(dict.fromkeys(part for part in parts if part))


def _texts(given: object) -> tuple[str, ...] | None:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(one, str) and one.strip() for one in texts):
        return None
    return tuple(dict.fromkeys(" ".join(one.split()) for one in texts))
