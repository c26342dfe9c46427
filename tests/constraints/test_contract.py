"""The contract, for every index that the room offers."""

from __future__ import annotations

import numpy as np

from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from tests.contracts.constraint_index import ConstraintIndexContract


class TestTrie(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None, owners=None):
        return Trie.from_sequences(sequences, vocab_size, end_token, owners=owners, heavy=4)


class TestTrieWithListsForEveryPrefix(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None, owners=None):
        return Trie.from_sequences(sequences, vocab_size, end_token, owners=owners, heavy=1)


class TestLiveTrie(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None, owners=None):
        return LiveTrie(Trie.from_sequences(sequences, vocab_size, end_token, owners=owners))


class TestLiveTrieInTwoParts(ConstraintIndexContract):
    """The first half is the old segment; one more row is there, updated, so that it lies in both."""

    def make(self, sequences, vocab_size, end_token=None, owners=None):
        # refuses what is wrong, with the caller's rows
        whole = Trie.from_sequences(sequences, vocab_size, end_token, owners=owners)
        rows = np.arange(len(sequences)) if owners is None else np.asarray(owners)
        half = whole.row_count // 2
        cut = int(np.searchsorted(rows, half))
        old = Trie.from_sequences(sequences[:cut], vocab_size, end_token, owners=rows[:cut], heavy=2)
        index = LiveTrie(old).add(sequences[cut:], rows[cut:] - half)
        if half:
            first = int(np.searchsorted(rows, 1))
            index = index.update([0], sequences[:first], rows[:first])
        assert len(index) == len(whole)
        return index


class TestLiveTrieMerged(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None, owners=None):
        return TestLiveTrieInTwoParts().make(sequences, vocab_size, end_token, owners).compact()


class TestTrieFromFile(ConstraintIndexContract):
    def make(self, sequences, vocab_size, end_token=None, owners=None):
        import tempfile

        with tempfile.TemporaryDirectory() as folder:  # the mapped files outlive their names
            Trie.from_sequences(sequences, vocab_size, end_token, owners=owners, heavy=4).save(folder)
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
