"""What is logged of a step: NaN logits, once for an index and those that come from it."""

from __future__ import annotations

import logging

import numpy as np

from genrail.constraints import LiveTrie, Trie


def step(index):
    logits = np.full((1, index.vocab_size), np.nan, dtype=np.float32)
    return index.candidates(index.start(1), logits, np.zeros((1, 1)), 2)


def test_nan_logits_are_told_once_for_an_index_and_its_descendants(caplog):
    index = LiveTrie(Trie.from_sequences([[1, 2], [1, 3], [2, 2]], vocab_size=5))
    with caplog.at_level(logging.WARNING):
        for one in (index, index, index.add([[2, 3]]), index.remove([0]), LiveTrie(index.add([[2, 3]]).compact())):
            assert step(one).nan_logits == 5
    assert [record.getMessage() for record in caplog.records] == [
        "5 logits are NaN; they count as -inf, outside the denominator (said once)"
    ]


def test_another_index_tells_of_its_own(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            step(Trie.from_sequences([[1, 2]], vocab_size=5))
    assert len(caplog.records) == 2
