"""Texts of a catalogue as passages of tokens: how they are cut, whose they are, and how a match in one is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.decoding.evidence import Match
from genrail.errors import SettingsError
from genrail.finding import Json
from genrail.identifiers.titles import Titles
from genrail.models.plain_text import plain_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Passages", "Speller", "in_title_case", "word_ngrams"]

Int = npt.NDArray[np.int64]

SHOWN = 400  # tokens of a passage that an explanation shows at most
BEFORE = 40  # of them before the best n-gram, where the passage is longer
EDGES = ".,;:!?()[]{}\"'`“”‘’«»…"  # stripped from the ends of a query's n-grams


def word_ngrams(text: str, longest: int) -> list[str]:
    """List the n-grams of a query's words, as they stand and with the first letter small and capital.

    >>> word_ngrams("Trail shoes?", 2)
    ['Trail', 'trail', 'Trail shoes', 'trail shoes', 'shoes', 'Shoes']
    """
    words = text.split()
    found: dict[str, None] = {}
    for first in range(len(words)):
        for last in range(first + 1, min(first + longest, len(words)) + 1):
            ngram = " ".join(words[first:last]).strip(EDGES)
            if ngram:
                found |= dict.fromkeys((ngram, ngram[0].lower() + ngram[1:], ngram[0].upper() + ngram[1:]))
    return list(found)


def in_title_case(texts: Sequence[str]) -> bool:
    """Tell whether most words begin with a capital, as in titles of products: case then says nothing of a word.

    The first word of a text, and words of scripts without case, do not count.

    >>> in_title_case(["Trail Boot for Men, Brown"]), in_title_case(["A boot for trails in Norway"])
    (True, False)
    """
    firsts = [word[0] for text in texts for word in text.split()[1:] if word[0].isupper() or word[0].islower()]
    return 2 * sum(first.isupper() for first in firsts) > len(firsts)


@dataclass(frozen=True, eq=False)
class Passages:
    """Say whose passages are whose: those of a row follow one another, rows in the order of the catalogue.

    Args:
        counts: Passages of each row, 1 or more, int64, (rows,).
    """

    counts: Int

    @cached_property
    def begins(self) -> Int:
        """Give the first passage of each row, and behind the last row their number, (rows + 1,)."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @cached_property
    def owners(self) -> Int:
        """Give the row of each passage, (passages,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def of(self, rows: Int) -> Int:
        """List the passages of some rows."""
        parts = [np.arange(self.begins[row], self.begins[row + 1]) for row in rows.tolist()]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def extended(self, counts: Int) -> Passages:
        """Add further rows."""
        return Passages(np.concatenate([self.counts, counts]))


class Speller:
    """Spell texts as passages, in the tokens of one tokenizer: a mark, the title, and a part of the text.

    The mark is the tokenizer's end token: it stands in no text, and says where a title begins. A text of one passage is
    spelled as it is; of a longer one, each passage begins with the title. Text is data: control tokens written in a
    text are spelled as characters.

    Args:
        tokenizer: The very object that the model uses.
        size: Tokens of a passage at most, the mark not counted; None for whole texts.
        lower: Spell everything in lower case.

    Raises:
        SettingsError: `size` below 16, or a tokenizer without end token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, size: int | None, lower: bool = False) -> None:
        if size is not None and size < 16:
            raise SettingsError(f"passage is {size}; give 16 tokens or more, or None for whole texts")
        self.size, self.lower = size, lower
        self._titles = Titles(tokenizer)
        self.mark = self._titles.end_token
        self.vocab_size = self._titles.vocab_size

    @cached_property
    def begins_word(self) -> npt.NDArray[np.bool_]:
        """Mark the tokens that begin a word, (vocabulary,); all of them where the vocabulary does not tell."""
        names = self._titles.tokenizer.convert_ids_to_tokens(list(range(self.vocab_size)))
        marked = np.array([str(name).startswith(("\u0120", "\u2581")) for name in names])  # blanks, as BPE writes them
        return marked if marked.any() else np.array([not str(name).startswith("##") for name in names])

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Spell texts as they are, but for their case."""
        texts = [text.lower() for text in texts] if self.lower else texts
        found = plain_tokens(self._titles.tokenizer, texts)
        return [[token for token in each if token != self.mark] for each in found]

    def spell(self, titles: Sequence[str], texts: Sequence[str]) -> tuple[Int, Int, Int]:
        """Cut texts into passages.

        Args:
            titles: One per row.
            texts: One per row; the title stands at its beginning. Empty ones become a passage of the mark alone.

        Returns:
            The tokens of all passages one after the other; passage i has tokens[offsets[i]:offsets[i + 1]]; how many
            passages each row has.
        """
        passages: list[list[int]] = []
        counts = np.zeros(len(texts), dtype=np.int64)
        for row, (title, whole) in enumerate(zip(titles, self.tokens(texts), strict=True)):
            found = self._cut(title, whole)
            passages += [[self.mark, *passage] for passage in found]
            counts[row] = len(found)
        offsets = np.concatenate([[0], np.cumsum([len(passage) for passage in passages])]).astype(np.int64)
        flat = np.fromiter((token for passage in passages for token in passage), np.int64, int(offsets[-1]))
        return flat, offsets, counts

    def _cut(self, title: str, whole: list[int]) -> list[list[int]]:
        if self.size is None or len(whole) <= self.size:
            return [whole]
        head = self.tokens([title])[0][: self.size // 4]
        body = whole[len(head) :] if whole[: len(head)] == head else whole
        room = self.size - len(head)
        return [head + body[first : first + room] for first in range(0, len(body), room)]

    def text(self, tokens: Sequence[int]) -> str:
        """Turn tokens back into text."""
        return self._titles.decode(tokens)

    def shown(self, passage: Int, matches: Sequence[Match], title: str = "") -> tuple[str, list[dict[str, Json]]]:
        """Write a passage, or the part of a long one around its best n-gram, and say where its n-grams stand there.

        Args:
            passage: Its tokens, the mark first.
            matches: The n-grams that stand in it.
            title: With which it may begin, as it is to be shown.

        Returns:
            The text, and for each n-gram in it its own text, what it adds to the score, and its first and last
            character (behind it) in the passage's text.
        """
        best = max(matches, key=lambda match: match.gain, default=None)
        begin = 1 if best is None or len(passage) <= SHOWN + 1 else max(1, best.offset - BEFORE)
        window = passage[begin : begin + SHOWN].tolist()
        text = self.text(window)
        lowered = title.lower()
        if self.lower and text.startswith(lowered) and len(lowered) == len(title):  # some letters become two
            text = title + text[len(title) :]
        told: list[dict[str, Json]] = []
        for match in matches:
            first = max(match.offset, 1) - begin
            last = match.offset + len(match.ngram) - begin
            if not 0 <= first < last <= len(window):
                continue
            start, end = (len(self.text(window[:place]).rstrip("\ufffd")) for place in (first, last))
            start += len(text[start:end]) - len(text[start:end].lstrip())
            if start < end:  # more than a blank
                told.append({"text": text[start:end], "score": match.gain, "start": start, "end": end})
        return text, told
