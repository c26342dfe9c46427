"""Queries made up for items, so that search learns without a log: cut out of their text, or written by a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError, ShapeError
from genrail.models.prompts import Example, PromptTemplate
from genrail.rng import generator

__all__ = ["QueryMaking", "pseudo_queries", "told_of_written"]

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class QueryMaking:
    """Say how queries are made up for items.

    Args:
        made: `cut`: out of the item's own text, see `pseudo_queries`; `written`: by a language model that reads the
            text (Nogueira and Lin 2019, docTTTTTQuery), and kept where a search for them finds the item again.
        query_writer: Name or folder of the language model that writes; None for the engine's own.
        query_file: JSON lines in which written queries are kept, so that they are written once: a run that was cut off
            goes on there, and further items are added.
        kept_within: Keep a written query if its item is among so many that are found for it (round-trip consistency,
            Alberti et al. 2019); 0 keeps all.
        kept_by: Kinds of finders that are asked, fused where there are several. Where a teacher is at hand (another
            engine, or the other lanes of a fused one) it is asked instead.
        text_words: Words of an item's text that the writer reads.
        query_tokens: Longest written query.
        query_choices: Each token is drawn among so many of the most probable ones; 10 in docTTTTTQuery.
        query_template: The words around a text; None for plain instructions.
        query_examples: Shown before each text: `Example(title=a query, query=a text)`, or a file with these columns;
            None for three of different kinds.

    Raises:
        SettingsError: A value outside its range.
    """

    made: Literal["cut", "written"] = "cut"
    query_writer: str | None = None
    query_file: str | None = None
    kept_within: int = 10
    kept_by: tuple[str, ...] = ("bm25", "dense")
    text_words: int = 64
    query_tokens: int = 16
    query_choices: int = 10
    query_template: PromptTemplate | None = None
    query_examples: str | tuple[Example, ...] | None = None

    def __post_init__(self) -> None:
        if self.made not in ("cut", "written"):
            raise SettingsError(f"made is {self.made!r}; give 'cut' or 'written'")
        for name, least in {"kept_within": 0, "text_words": 1, "query_tokens": 1, "query_choices": 1}.items():
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is {getattr(self, name)}; give {least} or more")
        if isinstance(self.kept_by, str):
            object.__setattr__(self, "kept_by", self.kept_by.split(","))
        object.__setattr__(self, "kept_by", tuple(name.strip() for name in self.kept_by if name.strip()))
        if not self.kept_by:
            raise SettingsError("kept_by names no finder; give one or more, or kept_within=0")
        if isinstance(self.query_template, Mapping):  # from a manifest
            object.__setattr__(self, "query_template", PromptTemplate(**self.query_template))
        if self.query_examples is not None and not isinstance(self.query_examples, str):
            shown = (Example(**one) if isinstance(one, Mapping) else one for one in self.query_examples)
            object.__setattr__(self, "query_examples", tuple(shown))

    def kept(self) -> QueryMaking:
        """Give what is kept of these settings with a finder: all but the file of one shop's machine."""
        return replace(self, query_file=None)


def told_of_written(counts: Mapping[str, int]) -> dict[str, str]:
    """Say what became of queries that a model wrote, in a line of a report; nothing where none was written.

    >>> told_of_written({"written": 4, "kept": 3, "not found": 1, "repeated": 0})
    {'queries of a model': '4 written, 3 kept, 1 not found'}
    """
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name in ("written", "kept"))
    return {"queries of a model": told} if counts else {}


def pseudo_queries(
    titles: Sequence[str], texts: Sequence[str], variants: int = 4, seed: int = 0
) -> tuple[list[str], Int]:
    """Make up queries from a catalogue's own text, so that search learns without a log.

    In turn, for each item: the title's words with some left out; a span of the title; one or two attributes (pieces of
    the text between full stops) after a short span of the title; a span of the text behind the title. Where an item has
    nothing for a kind, the title stands in. Indexing documents by pseudo-queries is what DSI-QG (Zhuang et al. 2022)
    found most important, with a model writing them; these need no model.

    Args:
        titles: One per row.
        texts: What the text encoder reads, one per row; the title stands at its beginning.
        variants: Queries for each item, 1 or more.
        seed: Of the draws.

    Returns:
        Queries, and the row of each. Rows without any word get none.

    >>> queries, rows = pseudo_queries(["Red trail shoe"], ["Red trail shoe. Acme. Shoes"], variants=2)
    >>> len(queries), rows.tolist()
    (2, [0, 0])
    """
    if variants < 1:
        raise SettingsError(f"variants is {variants}; give 1 or more")
    if len(titles) != len(texts):
        raise ShapeError(f"{len(titles)} titles but {len(texts)} texts; give one of each per row")
    queries, rows = [], []
    for row, (title, text) in enumerate(zip(titles, texts, strict=True)):
        random = generator(seed, "pseudo-queries", row)
        words = (title or text).split()
        if not words:
            continue
        rest = text[len(title) :].strip(" .") if text.startswith(title) else text
        for variant in range(variants):
            queries.append(_KINDS[variant % len(_KINDS)](words, rest, random))
            rows.append(row)
    return queries, np.array(rows, dtype=np.int64)


def _fewer_words(words: list[str], rest: str, random: np.random.Generator) -> str:
    kept = [word for word in words[:20] if random.random() < 0.6]
    return " ".join(kept or words[:1])


def _title_span(words: list[str], rest: str, random: np.random.Generator) -> str:
    return _span(words, 2, 6, random)


def _attributes(words: list[str], rest: str, random: np.random.Generator) -> str:
    pieces = [piece.strip() for piece in rest.split(". ") if piece.strip()]
    if not pieces:
        return _fewer_words(words, rest, random)
    chosen = random.choice(len(pieces), size=min(len(pieces), int(random.integers(1, 3))), replace=False)
    return " ".join([_span(words, 1, 3, random), *(" ".join(pieces[piece].split()[:6]) for piece in chosen)])


def _text_span(words: list[str], rest: str, random: np.random.Generator) -> str:
    body = rest.split()
    return _span(body, 4, 16, random) if len(body) >= 4 else _title_span(words, rest, random)


_KINDS = (_fewer_words, _title_span, _attributes, _text_span)


def _span(words: list[str], shortest: int, longest: int, random: np.random.Generator) -> str:
    length = min(len(words), int(random.integers(shortest, longest + 1)))
    start = int(random.integers(0, len(words) - length + 1))
    return " ".join(words[start : start + length])
