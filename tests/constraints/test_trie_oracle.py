"""The trie against the brute-force oracle on random catalogues: 0 differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.constraints.trie import Trie
from genrail.rng import generator
from tests.constraints.oracle import ALL, NARROW, Oracle, random_catalog
from tests.constraints.walk import compare_walk


def check_catalog(seed, vocab_sizes=NARROW):
    rng = generator(seed, "trie", "oracle")
    sequences, vocab_size, end_token = random_catalog(rng, vocab_sizes=vocab_sizes)
    trie = Trie.from_sequences(sequences, vocab_size, end_token, heavy=int(rng.choice([1, 4, 32])))
    live = dict(enumerate(sequences))
    if rng.random() < 0.4 and sequences:
        gone = rng.integers(0, len(sequences), size=int(rng.integers(0, len(sequences) + 1)))
        trie = trie.remove(gone)
        live = {row: sequence for row, sequence in live.items() if row not in set(gone.tolist())}
    assert len(trie) == len(live)
    assert all(trie.sequence(row).tolist() == list(sequence) for row, sequence in list(live.items())[:20])
    for _ in range(2):
        compare_walk(trie, Oracle(live), rng, row_count=len(sequences), end_token=end_token)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_every_step_equals_the_oracle(seed):
    check_catalog(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_every_step_equals_the_oracle_on_five_thousand_catalogs(block):
    for seed in range(block * 500, (block + 1) * 500):
        check_catalog(seed, ALL)


@pytest.mark.parametrize("seed", range(20))
def test_every_step_equals_the_oracle_with_a_large_vocabulary(seed):
    check_catalog(seed, vocab_sizes=(3000,))


def test_a_disabled_liveness_check_is_caught(monkeypatch):
    monkeypatch.setattr(Trie, "_bits", lambda self, subset: self.universe.everything.bits)
    with pytest.raises(AssertionError):
        for seed in range(30):
            check_catalog(seed)


def test_a_disabled_removal_is_caught(monkeypatch):
    monkeypatch.setattr(Trie, "remove", lambda self, rows: self)
    with pytest.raises(AssertionError):
        for seed in range(30):
            check_catalog(seed)


def test_the_order_of_the_rows_is_the_order_of_the_sequences():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, size=(3000, 6))
    trie = Trie.from_matrix(codes, vocab_size=5)
    expected = sorted(range(3000), key=lambda row: (codes[row].tolist(), row))
    assert trie.order.tolist() == expected
