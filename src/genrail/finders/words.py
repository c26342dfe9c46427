"""Cut texts into words, and words into what an index knows them by."""

from __future__ import annotations

import re
import unicodedata
from threading import local
from typing import Any, Protocol

__all__ = ["STOP_WORDS", "Analysis", "English", "words"]

_WORD = re.compile(r"\b\w\w+\b")

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)  # Lucene's, which bm25s takes too


def words(text: str) -> list[str]:
    """Cut a text into its words as they stand there, in order: two or more letters, digits or underscores.

    >>> words("Trail-Running shoes, size 42!")
    ['Trail', 'Running', 'shoes', 'size', '42']
    """
    return _WORD.findall(text if text.isascii() else unicodedata.normalize("NFC", text))


class Analysis(Protocol):
    """Say by which term an index knows a word."""

    def term(self, word: str) -> str | None:
        """Give the term of a word in lower case; None for a word that is left out."""
        ...


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
