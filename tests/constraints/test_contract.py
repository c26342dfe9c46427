"""The contract, for every index that the room offers."""

from __future__ import annotations

import numpy as np

from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from tests.contracts.constraint_index import ConstraintIndexContract


class TestTrie(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None):
        return Trie.from_sequences(sequences, vocab_size, end_token, heavy=4)


class TestTrieWithListsForEveryPrefix(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None):
        return Trie.from_sequences(sequences, vocab_size, end_token, heavy=1)


class TestLiveTrie(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None):
        return LiveTrie(Trie.from_sequences(sequences, vocab_size, end_token))


class TestLiveTrieInTwoParts(ConstraintIndexContract):
    """The first half is the old segment; one more row is there, updated, so that it lies in both."""

    def make(self, sequences, vocab_size, end_token=None):
        whole = Trie.from_sequences(sequences, vocab_size, end_token)  # refuses what is wrong, with the caller's rows
        half = len(sequences) // 2
        index = LiveTrie(Trie.from_sequences(sequences[:half], vocab_size, end_token, heavy=2)).add(sequences[half:])
        if half:
            index = index.update([0], [sequences[0]])
        assert len(index) == len(whole)
        return index


class TestLiveTrieMerged(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None):
        return TestLiveTrieInTwoParts().make(sequences, vocab_size, end_token).compact()


class TestTrieFromFile(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None):
        import tempfile

        with tempfile.TemporaryDirectory() as folder:  # the mapped files outlive their names
            Trie.from_sequences(sequences, vocab_size, end_token, heavy=4).save(folder)
            return Trie.load(folder, mmap=True)


def test_memory_mapped_arrays_are_compiled_like_those_in_memory(tmp_path):
    """The first step on a loaded index must not compile again: the types must be the same."""
    trie = Trie.from_sequences([[1, 2], [1, 3]], vocab_size=5)
    trie.save(tmp_path)
    for loaded in (Trie.load(tmp_path, mmap=True), Trie.load(tmp_path, mmap=False)):
        for ours, theirs in zip(trie.arrays, loaded.arrays, strict=True):
            assert type(ours) is type(theirs) is np.ndarray
            assert ours.flags.writeable == theirs.flags.writeable is False
            assert ours.dtype == theirs.dtype and ours.flags.c_contiguous == theirs.flags.c_contiguous
