"""The constraint indexes that decoding is tested with: the oracle and the real ones."""

from __future__ import annotations

from genrail.constraints import Trie
from tests.contracts.dict_index import DictIndex


def trie(sequences, vocab_size):
    """Build the real trie; a catalogue whose sequences all end in 0, and hold it nowhere else, has that terminator."""
    ends = all(sequence[-1] == 0 and 0 not in sequence[:-1] for sequence in sequences)
    return Trie.from_sequences([list(sequence) for sequence in sequences], vocab_size, end_token=0 if ends else None)


INDEXES = {"dict": DictIndex, "trie": trie}
