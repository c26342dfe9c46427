"""Read the words of a query against an index: known, unfinished, mistyped, synonyms, and phrases in quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genrail.models.words import Analysis, Plain, words

if TYPE_CHECKING:
    from genrail.catalog.synonyms import SynonymRule
    from genrail.finders.word_index import WordIndex

__all__ = ["Asked", "Choice", "Synonyms", "Word", "read_words"]

COMPLETIONS = 32  # words that an unfinished one may become: more say nothing about what was meant
GUESS = 0.5  # what a word counts that was guessed: with 1, "merlin" read as "berlin" outweighs the words that are right
SHORTEST_TYPO = 4  # letters; a shorter word is one letter off from too many others
LONGEST_TYPO = 32  # letters; there are some hundred words one letter off for each of them

_PHRASE = re.compile(r"[\"“”„]([^\"“”„]+)[\"“”„]")


@dataclass(frozen=True)
class Word:
    """Hold one word of a query.

    Args:
        terms: What rows may hold for it: its own term, that of the word it was read as, or those it may become.
        idf: How much it weighs, the less the more rows hold one of them; half of that where the word was guessed.
    """

    terms: tuple[str, ...]
    idf: float


@dataclass(frozen=True)
class Choice:
    """Hold words of a query for which items may hold others: a row counts by the one that it holds best.

    Args:
        typed: The words, in lower case.
        synonyms: What they stand for: each as it was written in the rule, and its words, all of which some row holds.
    """

    typed: str
    synonyms: tuple[tuple[str, tuple[Word, ...]], ...]


@dataclass(frozen=True)
class Asked:
    """Hold the words of a query that some live row holds.

    Args:
        words: In the order of the query, repeated where it repeats them.
        phrases: Words in quotes, two or more each, in lower case.
        warnings: Which words were read as others.
        choices: Words that have synonyms; they are not among `words`.
    """

    words: tuple[Word, ...]
    phrases: tuple[tuple[str, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()

    @property
    def known(self) -> tuple[Word, ...]:
        """Give all words that rows may hold, those of synonyms among them."""
        return (*self.words, *(word for choice in self.choices for _, meant in choice.synonyms for word in meant))

    @property
    def most(self) -> float:
        """Give what no row can score by its words alone."""
        return sum(word.idf * len(word.terms) for word in self.known)


class Synonyms:
    """Find words with synonyms in a query, as the terms of an index: endings make no difference.

    Args:
        rules: In order. Where several are about the same words, all that they stand for counts.
        analysis: How words become terms.
    """

    def __init__(self, rules: Iterable[SynonymRule], analysis: Analysis) -> None:
        self._analysis = analysis
        self._meant: dict[tuple[str, ...], dict[str, None]] = {}
        for rule in rules:
            for written in rule.words:
                self._meant.setdefault(self._terms(written), {}).update(dict.fromkeys(rule.meant))
        self._meant.pop((), None)
        self._longest = max(map(len, self._meant), default=0)

    def _terms(self, text: str) -> tuple[str, ...]:
        return tuple(term for word in words(text) if (term := self._analysis.term(word.lower())) is not None)

    def at(self, terms: list[str | None], place: int) -> tuple[int, tuple[str, ...]]:
        """Find the longest words with synonyms that begin at a place of a query; left out words are passed over.

        Returns:
            The place behind them and what they stand for; the same place and nothing where there are none.
        """
        if not self._meant:
            return place, ()
        key: tuple[str, ...] = ()
        found: tuple[int, tuple[str, ...]] = (place, ())
        for end in range(place, len(terms)):
            term = terms[end]
            if term is None:
                continue
            key = (*key, term)
            if len(key) > self._longest:
                break
            if key in self._meant:
                found = (end + 1, tuple(self._meant[key]))
        return found


NONE = Synonyms((), Plain())


def read_words(text: str, index: WordIndex, *, help: bool = True, synonyms: Synonyms = NONE) -> Asked:
    """Read the words of a text.

    Args:
        text: What was typed.
        index: What the items hold.
        help: Complete the last word and mend mistyped ones, and heed quotes.
        synonyms: What words stand for.
    """
    typed = [word.lower() for word in words(text)]
    weighed = [index.weighed(word) for word in typed]
    terms = [term for term, _ in weighed]
    found, warnings, choices, after = [], [], [], 0
    for place, (word, (term, idf)) in enumerate(zip(typed, weighed, strict=True)):
        if term is None or place < after:
            continue
        end, meant = synonyms.at(terms, place)
        if meant and (known := _known(meant, index)):
            choices.append(Choice(" ".join(typed[place:end]), known))
            after = end
            continue
        if idf > 0.0:
            found.append(Word((term,), idf))
            continue
        unfinished = _completed(word, index) if help and place == len(typed) - 1 else None
        mended = _mended(word, index) if help and unfinished is None else None
        if unfinished is not None:
            found.append(unfinished)
        elif mended is not None:
            found.append(mended[1])
            warnings.append(f'"{word}" is in no item; it was read as "{mended[0]}"')
    phrases = [tuple(word.lower() for word in words(part)) for part in _PHRASE.findall(text)] if help else []
    phrases = [phrase for phrase in phrases if len(phrase) > 1]
    return Asked(tuple(found), tuple(phrases), tuple(warnings), tuple(choices))


def _known(meant: Iterable[str], index: WordIndex) -> tuple[tuple[str, tuple[Word, ...]], ...]:
    """Read synonyms all of whose words some row holds; single words weigh what one in as many rows as all would."""
    read: dict[str, tuple[str, ...]] = {}
    for text in meant:
        terms = [index.analysis.term(word.lower()) for word in words(text)]
        kept = tuple(term for term in terms if term is not None)
        if kept and all(index.documents(term) for term in kept):
            read[text] = kept
    singles = {terms[0] for terms in read.values() if len(terms) == 1}
    idf = index.idf(min(sum(map(index.documents, singles)), index.items))
    return tuple(
        (
            text,
            tuple(Word((term,), idf if len(terms) == 1 else index.idf(index.documents(term))) for term in terms),
        )
        for text, terms in read.items()
    )


def _completed(prefix: str, index: WordIndex) -> Word | None:
    """Give the most frequent words that begin so; together they weigh what one word in as many rows would."""
    known = {term: index.documents(term) for term in index.completions(prefix)}
    likely = sorted((term for term in known if known[term]), key=lambda term: (-known[term], term))[:COMPLETIONS]
    if not likely:
        return None
    holding = min(sum(known[term] for term in likely), index.items)
    return Word(tuple(likely), GUESS * index.idf(holding))


def _mended(word: str, index: WordIndex) -> tuple[str, Word] | None:
    """Give the most frequent word that is one letter off."""
    if not SHORTEST_TYPO <= len(word) <= LONGEST_TYPO or not word.isalpha():
        return None
    best: tuple[int, str, str] | None = None
    for other in set(_one_off(word)):
        term = index.terms_of(other)
        holding = 0 if term is None else index.documents(term)
        if term is not None and holding and (best is None or (-holding, other) < (-best[0], best[1])):
            best = (holding, other, term)
    return None if best is None else (best[1], Word((best[2],), GUESS * index.idf(best[0])))


def _one_off(word: str) -> Iterator[str]:
    """Write the words one letter off: one left out, two swapped, one replaced or put in by one of the same alphabet.

    Source: Norvig 2007, How to Write a Spelling Corrector; Damerau 1964 for the four kinds.
    """
    pages = {ord(letter) >> 8 for letter in word} | {0}
    letters = [
        letter
        for page in sorted(pages)
        for letter in map(chr, range(page << 8, (page + 1) << 8))
        if letter.isalnum() and letter == letter.lower()
    ]
    for place in range(len(word) + 1):
        before, after = word[:place], word[place:]
        if after:
            yield before + after[1:]
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]
        for letter in letters:
            yield before + letter + after
            if after:
                yield before + letter + after[1:]
