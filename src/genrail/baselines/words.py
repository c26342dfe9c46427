"""Split texts into words for the lexical methods, also where a script writes no blanks between words.

Chinese, Japanese, Thai, Lao, Khmer and Burmese are split into overlapping runs of letters (n-grams), as in Lucene's CJK
analyser: a word of a query then shares runs with every text it stands in, and no dictionary is needed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

__all__ = ["letter_runs", "word_lists"]

# Scripts that put no blanks between words: two letters a run where one letter is half a word, else three.
_IDEOGRAPHIC = (
    r"\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_ALPHABETIC = r"\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNSPACED = re.compile(rf"([{_IDEOGRAPHIC}]+)|([{_ALPHABETIC}]+)")
_LETTERS = {1: 2, 2: 3}  # letters of a run, by the group of the pattern


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


def word_lists(texts: Sequence[str]) -> list[list[str]]:
    """Split texts into words: composed, lower case, English stop words left out, stemmed by Snowball.

    A word has two letters or more. Marks belong to the letter before them, so that Hindi and vocalised Arabic words
    stay whole.

    >>> word_lists(["Running shoes for the trail", "电动牙刷"])[0]
    ['run', 'shoe', 'trail']
    """
    import bm25s
    import Stemmer

    composed = [text if text.isascii() else unicodedata.normalize("NFC", text) for text in texts]
    unspaced = [None if text.isascii() else letter_runs(text) for text in composed]
    spaced = [text if not runs else _UNSPACED.sub(" ", text) for text, runs in zip(composed, unspaced, strict=True)]
    stemmer = Stemmer.Stemmer("english")
    words: list[list[str]] = bm25s.tokenize(
        spaced, stopwords="english", stemmer=stemmer, token_pattern=_word(), show_progress=False, return_ids=False
    )
    return [found + runs if runs else found for found, runs in zip(words, unspaced, strict=True)]


@cache
def _word() -> str:
    """Write the pattern of a word: letters and digits with their marks, two or more."""
    marks = "".join(_ranges(code for code in range(0x300, 0xFFFF) if unicodedata.category(chr(code)) in ("Mn", "Mc")))
    return rf"(?u)\b\w[{marks}]*(?:\w[{marks}]*)+"


def _ranges(codes: Iterable[int]) -> list[str]:
    found: list[list[int]] = []
    for code in codes:
        if found and code == found[-1][1] + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return [f"\\u{first:04x}-\\u{last:04x}" for first, last in found]
