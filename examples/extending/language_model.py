"""A language-model family and its training recipe from outside: a trigram model of characters writes titles.

Importing this file registers the kind ``trigrams``; a package would announce it by an entry point instead, see
`genrail.finding.register`. ``Engine.build(catalog, "trigrams", strength=3.0)`` counts which character follows which
two in the catalogue's titles; a question strengthens the trigrams of its own words.

The model is a `LanguageModel` (contexts in, logits out), the spelling says what it reads and how items are called, and
`Generative` does the rest: filters, beams, growing, files, explanations.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.generative import Generative, Spelling, live_index
from genrail.finding import Finder, Recipe, register
from genrail.identifiers import IdentifierTable

SIZE, END = 257, 256  # bytes, and one token that ends a title


class Trigrams:
    keeps_states = joins_states = True
    vocab_size, fingerprint = SIZE, "trigrams"

    def __init__(self, counts, strength):
        self.counts, self.strength = counts, strength

    def prefill(self, contexts):
        state = [(tuple(context), END, END) for context in contexts]
        return state, self._logits(state)

    def step(self, state, parents, tokens):
        after = [
            (state[row][0], state[row][2], int(token)) for row, token in zip(parents.tolist(), tokens, strict=True)
        ]
        return after, self._logits(after)

    def join(self, states):
        first = np.cumsum([0, *map(len, states)])[:-1].tolist()
        return [row for state in states for row in state], first

    def _logits(self, state):
        rows = []
        for context, before, last in state:
            counts = self.counts[_place(before, last)].copy()
            for one, two, three in zip(context, context[1:], context[2:], strict=False):
                counts[three] += self.strength * ((one, two) == (before, last))
            rows.append(np.log(counts + 0.1))
        return np.array(rows, dtype=np.float32).reshape(len(state), SIZE)


@dataclass(frozen=True, eq=False)
class TrigramSpelling(Spelling):
    model: Trigrams
    encoder: ClassVar[None] = None
    held_out: ClassVar[bool] = True
    name: ClassVar[str] = "trigrams"

    def contexts(self, requests, catalog):
        return [
            _tokens(" ".join([*(catalog.titles[row] for row in one.history), one.text or ""]).strip())
            for one in requests
        ]

    def extend(self, catalog, table, change):
        return self, table.extend(_table(catalog.titles[change.rows.start : change.rows.stop]))

    def spell(self, prefix, catalog, table):
        return bytes(token for token in prefix if token != END).decode(errors="replace")

    def save(self, folder):
        save_arrays(folder, {"counts": self.model.counts})
        return {"strength": self.model.strength}

    @classmethod
    def load(cls, folder, details, catalog, encoder):
        return cls(Trigrams(load_array(folder, "counts", np.float32, (PLACES, SIZE)), details["strength"]))


class TrigramWriter(Generative):
    @classmethod
    def load(cls, folder, details, catalog, encoder=None):
        recipe = TrigramRecipe.from_dict(details["recipe"])
        return cls.opened(folder, details, catalog, encoder, TrigramSpelling, recipe)


@register
@dataclass(frozen=True)
class TrigramRecipe(Recipe):
    kind: ClassVar[str] = "trigrams"
    finder: ClassVar[type[Finder]] = TrigramWriter

    strength: float = 5.0

    def build(self, data, progress):
        counts = np.zeros((PLACES, SIZE), dtype=np.float32)
        _count(counts, data.catalog.titles)
        table = _table(data.catalog.titles)
        spelling = TrigramSpelling(Trigrams(counts, self.strength))
        return TrigramWriter(data.catalog, spelling, table, live_index(data.catalog, table, progress), self)

    def train(self, finder, data, progress):
        counts = finder.spelling.model.counts.copy()
        _count(counts, (data.queries or {}).values())  # what people write looks like this
        return finder.replaced(spelling=replace(finder.spelling, model=Trigrams(counts, self.strength)))


PLACES = 4096


def _place(before, last):
    return (before * 31 + last) % PLACES


def _tokens(text):
    return [END, END, *text.encode(), END]


def _table(titles):
    return IdentifierTable.from_sequences([_tokens(title)[2:] for title in titles], SIZE, END, "trigrams")


def _count(counts, texts):
    for text in texts:
        tokens = _tokens(text)
        for before, last, token in zip(tokens, tokens[1:], tokens[2:], strict=False):
            counts[_place(before, last), token] += 1.0
