"""Write the golden folder again, after a deliberate change of the format: python -m tests.constraints.golden_folder."""

from __future__ import annotations

from pathlib import Path

from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie

GOLDEN = Path(__file__).parent / "golden"
SEQUENCES = [[7, 1, 300], [7, 2], [7, 1], [8], [7, 1, 300], [301, 5, 5, 5]]


def golden_index() -> LiveTrie:
    """Titles of several lengths, two equal, one removed, one added, one updated."""
    old = Trie.from_sequences(SEQUENCES, vocab_size=400, end_token=0, heavy=2)
    return LiveTrie(old).remove([3]).add([[7, 1, 299]]).update([1], [[9, 9]])


if __name__ == "__main__":
    golden_index().save(GOLDEN)
