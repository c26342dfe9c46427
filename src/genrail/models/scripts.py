"""Tell when a text encoder cannot read a script: its tokenizer does not know the letters, or only spells them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

__all__ = ["unread_script", "unread_titles", "unread_words"]

SAMPLE = 1_000  # titles looked at
SHARE = 0.05  # of the titles that cannot be read, from which it is said
UNKNOWN = 0.3  # of a text's tokens; an encoder that knows a script knows nearly all of it
# Tokens per letter: a script that was learnt has words of several letters (0.2 to 0.5), one that was not is spelt.
SPELT = 0.75
FEWEST = 3  # letters of a text that say something

_BY_LETTER = ("CJK",)  # known letter by letter by the tokenizers that know it


def unread_script(encoder: object, text: str) -> str | None:
    """Name the script of a text that a text encoder cannot read, such as THAI; None where it can, or is no tokenizer's.

    Args:
        encoder: A text encoder; only one with a tokenizer can be asked.
        text: A title or a query.

    Cost: one tokenization of a text in another script than Latin, none for Latin.
    """
    if text.isascii():
        return None
    letters = [letter for letter in text if letter.isalpha()]
    foreign = Counter(script for letter in letters if (script := _script(letter)) != "LATIN")
    if foreign.total() < FEWEST or foreign.total() * 2 < len(letters):
        return None
    count = getattr(encoder, "count_tokens", None)
    counted = None if count is None else count(text)
    if counted is None:
        return None
    tokens, unknown = counted
    script = foreign.most_common(1)[0][0]
    spelt = script not in _BY_LETTER and tokens >= SPELT * len(letters)
    return script if tokens and (unknown >= UNKNOWN * tokens or spelt) else None


def unread_words(encoder: object, text: str) -> list[str]:
    """Say that a text encoder cannot read a query, in a list of one sentence or none."""
    script = unread_script(encoder, text)
    said = "the text encoder cannot read the script of the query ({}); words are found badly"
    return [] if script is None else [said.format(script.title())]


def unread_titles(encoder: object, titles: Sequence[str]) -> str | None:
    """Say how many titles of a sample a text encoder cannot read, where they are more than 5 %."""
    step = max(1, len(titles) // SAMPLE)
    sample = titles[::step][:SAMPLE]
    unread = [script for title in sample if (script := unread_script(encoder, title)) is not None]
    if len(unread) <= SHARE * len(sample):
        return None
    script = Counter(unread).most_common(1)[0][0]
    return (
        f"the text encoder cannot read {len(unread):,} of {len(sample):,} titles looked at (script: {script.title()}): "
        "words are found badly; give a multilingual one with --encoder"
    )


def _script(letter: str) -> str:
    return unicodedata.name(letter, "LATIN").split(" ", 1)[0]
