"""The substring index written from its definition: n-grams are looked for in every document."""

from __future__ import annotations

import numpy as np

from tests.constraints.oracle import Oracle


class NgramOracle(Oracle):
    """Documents by catalogue row; an n-gram stands for itself."""

    def places(self, ngram, allowed=None):
        """(row, offset) of every occurrence in an allowed document."""
        rows = sorted(self.sequences) if allowed is None else sorted(allowed & self.sequences.keys())
        n = len(ngram)
        return [
            (row, at)
            for row in rows
            for at in range(len(self.sequences[row]) - n + (n > 0))
            if self.sequences[row][at : at + n] == tuple(ngram)
        ]

    def below(self, prefix, allowed=None):
        return sorted({row for row, _ in self.places(prefix, allowed)})

    def children(self, prefix, allowed=None):
        counts: dict[int, int] = {}
        for row, at in self.places(prefix, allowed):
            if at + len(prefix) < len(self.sequences[row]):
                token = self.sequences[row][at + len(prefix)]
                counts[token] = counts.get(token, 0) + 1
        return dict(sorted(counts.items()))


def random_corpus(rng, vocab_size, *, most=30, longest=25):
    """Documents with shared n-grams: short and empty ones, equal ones, some of one token only."""
    used = min(vocab_size, int(rng.choice([1, 2, 3, 10, vocab_size])))
    alphabet = rng.choice(vocab_size, size=used, replace=False)
    documents = [
        tuple(map(int, rng.choice(alphabet, size=int(rng.integers(0, longest)))))
        for _ in range(int(rng.choice([0, 1, 2, 3, 10, most])))
    ]
    if documents and rng.random() < 0.2:
        documents = [documents[0]] * len(documents)
    return documents


def random_ngrams(rng, oracle, vocab_size, count=12):
    """N-grams that occur, that occur across a border only, and that do not."""
    texts = [text for _, text in sorted(oracle.sequences.items())]
    joined = [token for text in texts for token in text]
    for _ in range(count):
        n = int(rng.integers(1, 6))
        if joined and rng.random() < 0.8:
            at = int(rng.integers(len(joined)))
            yield tuple(joined[at : at + n])
        else:
            yield tuple(map(int, rng.integers(0, vocab_size, size=n)))


def compare_ngrams(index, oracle, rng):
    """Find n-grams, count them, say where they stand and what follows, in all documents and in some."""
    rows = np.flatnonzero(rng.random(index.row_count) < rng.choice([0.05, 0.3, 1.0]))
    for subset, allowed in ((None, None), (index.only(rows), set(rows.tolist()))):
        for ngram in random_ngrams(rng, oracle, index.vocab_size):
            state = index.find(ngram)
            places = oracle.places(ngram, allowed)
            assert index.count(state, subset) == len(places)
            assert list(zip(*map(np.ndarray.tolist, index.locate(state, subset)), strict=True)) == places
            assert index.items(state, subset).tolist() == oracle.below(ngram, allowed)
            tokens, counts = index.children(state, subset)
            assert dict(zip(tokens.tolist(), counts.tolist(), strict=True)) == oracle.children(ngram, allowed)
