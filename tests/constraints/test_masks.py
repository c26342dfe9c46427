"""Masks for foreign loops against the dict oracle."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints.masks import bitmask, boolean_mask, state_of
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.errors import ShapeError
from genrail.rng import generator
from tests.constraints.oracle import Oracle, random_catalog


def some_prefixes(rng, sequences, vocab_size):
    """Beginnings of items, whole items, and tokens that nobody begins with."""
    prefixes = [()]
    for row in rng.integers(0, len(sequences), size=12) if sequences else []:
        sequence = sequences[row]
        prefixes += [sequence[: int(rng.integers(0, len(sequence) + 1))], sequence]
    return [*prefixes, *(tuple(rng.integers(0, vocab_size, size=3).tolist()) for _ in range(3))]


@pytest.mark.parametrize("seed", range(60))
def test_a_mask_holds_the_children_of_the_oracle(seed):
    rng = generator(seed, "masks")
    sequences, vocab_size, end_token = random_catalog(rng)
    half = len(sequences) // 2
    index = Trie.from_sequences(sequences, vocab_size, end_token, heavy=int(rng.choice([1, 4, 32])))
    if seed % 2:
        index = LiveTrie(Trie.from_sequences(sequences[:half], vocab_size, end_token, heavy=2)).add(sequences[half:])
    oracle = Oracle(dict(enumerate(sequences)))
    prefixes = some_prefixes(rng, sequences, vocab_size)
    rows = np.flatnonzero(rng.random(len(sequences)) < 0.3)
    for subset, allowed in ((None, None), (index.only(rows), set(rows.tolist()))):
        mask = boolean_mask(index, prefixes, [subset] * len(prefixes))
        expected = [list(oracle.children(prefix, allowed)) for prefix in prefixes]
        assert [np.flatnonzero(row).tolist() for row in mask] == expected
        packed = bitmask(index, prefixes, [subset] * len(prefixes))
        unpacked = np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little").astype(bool)
        assert packed.dtype == np.int32 and packed.shape == (len(prefixes), (vocab_size + 31) // 32)
        assert np.array_equal(unpacked[:, :vocab_size], mask) and not unpacked[:, vocab_size:].any()


def test_behind_a_whole_identifier_only_the_end_token_is_allowed():
    trie = Trie.from_sequences([[1, 2], [1, 3]], vocab_size=4)
    prefixes = [[1, 2], [1, 3], [1], [0]]
    mask = boolean_mask(trie, prefixes, [trie.only([0])] * 4, end_token=39, vocab_size=40)
    assert [np.flatnonzero(row).tolist() for row in mask] == [[39], [], [2], []]
    assert bitmask(trie, prefixes, end_token=31, vocab_size=40)[0].tolist() == [np.iinfo(np.int32).min, 0]


def test_a_state_is_that_of_a_decode():
    trie = Trie.from_sequences([[1, 2], [1, 3], [2, 2]], vocab_size=5, heavy=1)
    logits = np.zeros((1, 5), np.float32)
    found = trie.candidates(trie.start(1), logits, np.zeros((1, 1)), 2)
    assert state_of(trie, [1]).tolist() == found.states[0, 0].tolist()
    assert state_of(trie, [4]) is None and state_of(trie, [1, 2, 3]) is None


def test_what_does_not_fit_is_refused():
    trie = Trie.from_sequences([[1, 2]], vocab_size=5)
    with pytest.raises(ShapeError, match="narrower"):
        boolean_mask(trie, [[]], vocab_size=4)
    with pytest.raises(ShapeError, match="2 subsets for 1"):
        bitmask(trie, [[]], [None, None])
    with pytest.raises(ShapeError, match="outside a mask"):
        bitmask(trie, [[]], end_token=5)
    with pytest.raises(ShapeError, match="one list"):
        state_of(trie, [[1]])
