"""The substring index beside a search of every document, on random corpora that change."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints.substring import SubstringIndex
from tests.constraints.ngram_oracle import NgramOracle, compare_ngrams, random_corpus
from tests.constraints.walk import compare_walk

VOCAB_SIZES = (2, 3, 10, 200)


def changed(index, live, rng, folder):
    """Change an index and the texts beside it in one random way."""
    kind = rng.integers(5)
    known = np.arange(index.row_count)
    some = rng.choice(known, size=min(len(known), int(rng.integers(0, 5))), replace=False)
    texts = random_corpus(rng, index.vocab_size, most=5)
    if kind == 0:
        live = live | {index.row_count + i: text for i, text in enumerate(texts)}
        return index.add(texts), live
    if kind == 1:
        return index.remove(some), {row: text for row, text in live.items() if row not in some}
    if kind == 2:
        texts = (texts * 5 or [()] * 5)[: len(some)]
        return index.update(some, texts), live | dict(zip(some.tolist(), texts, strict=True))
    if kind == 3:
        return index.compact(), live
    index.save(folder)
    return SubstringIndex.load(folder, verify=True), live


def compare(seed, folder):
    rng = np.random.default_rng(seed)
    vocab_size = int(rng.choice(VOCAB_SIZES))
    texts = random_corpus(rng, vocab_size)
    index = SubstringIndex.from_sequences(texts, vocab_size, frequent=int(rng.choice([1, 4, 4096])))
    live = dict(enumerate(texts))
    for change in range(4):
        if change:
            index, live = changed(index, live, rng, folder / f"{seed}-{change}")
        oracle = NgramOracle(live)
        assert len(index) == len(live) and index.token_count == sum(map(len, live.values()))
        assert [index.sequence(row).tolist() for row in live] == [list(text) for text in live.values()]
        compare_ngrams(index, oracle, rng)
        if any(live.values()):
            compare_walk(index, oracle, rng, row_count=index.row_count, end_token=None)
        else:
            assert not index.start(1).alive.any()


@pytest.mark.parametrize("seed", range(60))
def test_every_answer_equals_a_search_of_every_document(seed, tmp_path):
    compare(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_two_thousand_corpora(block, tmp_path):
    for seed in range(100 * block, 100 * block + 100):
        compare(1000 + seed, tmp_path)
