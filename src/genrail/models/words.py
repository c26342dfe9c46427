"""Cut texts into words, also where a script writes no blanks between words, and words into what an index knows them by.

Chinese, Japanese, Thai, Lao, Khmer and Burmese are split into overlapping runs of letters (n-grams), as in Lucene's CJK
analyser: a word of a query then shares runs with every text it stands in, and no dictionary is needed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from threading import local
from typing import Any, Protocol

__all__ = ["STOP_WORDS", "Analysis", "English", "Plain", "letter_runs", "pairs", "words"]

_WORD = {1: re.compile(r"\b\w+\b"), 2: re.compile(r"\b\w\w+\b")}  # by the fewest letters

# Scripts that put no blanks between words: two letters a run where one letter is half a word, else three.
_IDEOGRAPHIC = (
    r"\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_ALPHABETIC = r"\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNSPACED = re.compile(rf"([{_IDEOGRAPHIC}]+)|([{_ALPHABETIC}]+)")
_LETTERS = {1: 2, 2: 3}  # letters of a run, by the group of the pattern

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)  # Lucene's, which bm25s takes too


def words(text: str, shortest: int = 2) -> list[str]:
    """Cut a text into its words as they stand there, in order: letters, digits or underscores, two or more of them.

    Marks belong to the letter before them, so that Hindi and vocalised Arabic words stay whole. Runs of letters of
    scripts without blanks follow behind the words.

    Args:
        text: Any.
        shortest: 2, or 1 to keep single letters and digits too.

    >>> words("Trail-Running shoes, size 42!")
    ['Trail', 'Running', 'shoes', 'size', '42']
    """
    if text.isascii():
        return _WORD[shortest].findall(text)
    composed = unicodedata.normalize("NFC", text)
    runs = letter_runs(composed)
    return [*_marked(shortest).findall(_UNSPACED.sub(" ", composed) if runs else composed), *runs]


def letter_runs(text: str) -> list[str]:
    """Give the overlapping runs of letters of the parts that are written without blanks, and their single ideographs.

    >>> letter_runs("男士跑步鞋 size 42")
    ['男士', '士跑', '跑步', '步鞋', '男', '士', '跑', '步', '鞋']
    """
    runs: list[str] = []
    for match in _UNSPACED.finditer(text):
        part, size = match.group(0), _LETTERS[match.lastindex or 1]
        runs += [part[start : start + size] for start in range(max(1, len(part) - size + 1))]
        if match.lastindex == 1 and len(part) > 1:
            runs += list(part)
    return runs


class Analysis(Protocol):
    """Say by which term an index knows a word."""

    def term(self, word: str) -> str | None:
        """Give the term of a word in lower case; None for a word that is left out."""
        ...


class Plain:
    """Take every word for its own term.

    >>> Plain().term("trail_run")
    'trail_run'
    """

    def term(self, word: str) -> str | None:
        """Give the word itself."""
        return word


def pairs(text: str, analysis: Analysis) -> list[str]:
    """List the terms that follow each other in a text, words that are left out not counted.

    >>> pairs("Shoes for the trail run", English())
    ['shoe_trail', 'trail_run']
    """
    terms = [term for word in words(text) if (term := analysis.term(word.lower())) is not None]
    return [f"{one}_{other}" for one, other in zip(terms, terms[1:], strict=False)]


class English:
    """Leave out English stop words, and stem the others by Snowball (Porter 2001).

    >>> English().term("running"), English().term("the")
    ('run', None)
    """

    def __init__(self) -> None:
        self._stemmers = local()  # a stemmer serves one thread at a time

    def term(self, word: str) -> str | None:
        """Give the stem; None for a stop word."""
        if word in STOP_WORDS:
            return None
        stemmer: Any = getattr(self._stemmers, "stemmer", None)
        if stemmer is None:
            import Stemmer

            stemmer = self._stemmers.stemmer = Stemmer.Stemmer("english")
        return str(stemmer.stemWord(word))


@cache
def _marked(shortest: int) -> re.Pattern[str]:
    """Make the pattern of a word: letters and digits with their marks, so many or more."""
    marks = "".join(_ranges(code for code in range(0x300, 0xFFFF) if unicodedata.category(chr(code)) in ("Mn", "Mc")))
    return re.compile(rf"\b\w[{marks}]*(?:\w[{marks}]*){{{shortest - 1},}}")


def _ranges(codes: Iterable[int]) -> list[str]:
    found: list[list[int]] = []
    for code in codes:
        if found and code == found[-1][1] + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return [f"\\u{first:04x}-\\u{last:04x}" for first, last in found]
