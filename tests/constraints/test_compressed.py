"""The compressed trie against plain dictionaries of prefixes."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints.compressed import compressed
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.errors import ShapeError


def titles(seed, count, vocab_size=4, beginning=()):
    rng = np.random.default_rng(seed)
    return [[*beginning, *rng.integers(1, vocab_size, size=rng.integers(1, 6)).tolist(), 0] for _ in range(count)]


def following(sequences):
    """Every prefix, and the tokens that may follow it."""
    found = {}
    for sequence in sequences:
        for depth in range(len(sequence)):
            found.setdefault(tuple(sequence[:depth]), set()).add(sequence[depth])
    return found


def walk(trie, node, prefix):
    for edge in range(trie.first_edge[node], trie.first_edge[node + 1]):
        path = (*prefix, *trie.run(edge).tolist())
        assert len(path) == trie.edge_end[edge]
        if trie.edge_node[edge] < 0:
            assert trie.edge_high[edge] - trie.edge_low[edge] == 1
            yield path
        else:
            yield from walk(trie, trie.edge_node[edge], path)


def check(trie, sequences):
    """`sequences` by catalogue row."""
    distinct = sorted({tuple(one) for one in sequences.values()})
    assert [tuple(trie.sequence(number).tolist()) for number in range(len(trie))] == distinct
    for number, sequence in enumerate(distinct):
        assert trie.rows_of(number).tolist() == [row for row, one in sequences.items() if tuple(one) == sequence]
    expected = {prefix: tokens for prefix, tokens in following(distinct).items() if len(tokens) > 1}
    found = {
        tuple(trie.sequence(trie.low[node])[: trie.depth[node]].tolist()): set(trie.children(node).tolist())
        for node in range(len(trie.depth))
    }
    assert found == expected
    if len(distinct) > 1:
        assert sorted(walk(trie, 0, tuple(trie.beginning.tolist()))) == distinct


@pytest.mark.parametrize("count", [1, 2, 3, 10, 200])
@pytest.mark.parametrize("beginning", [(), (2, 3)])
def test_nodes_are_the_branchings_and_edges_the_runs_between(count, beginning):
    sequences = titles(count, count, beginning=beginning)
    check(compressed(Trie.from_sequences(sequences, 4, end_token=0)), dict(enumerate(sequences)))


def test_identifiers_of_one_length_have_branchings_too():
    codes = np.random.default_rng(0).integers(0, 3, size=(50, 3))
    check(compressed(Trie.from_matrix(codes, 3)), dict(enumerate(codes.tolist())))


def test_equal_identifiers_are_one_with_several_rows():
    trie = compressed(Trie.from_sequences([[1, 2], [3], [1, 2]], 4, end_token=0))
    assert (len(trie), trie.rows_of(0).tolist(), trie.rows_of(1).tolist()) == (2, [0, 2], [1])


def test_one_identifier_has_no_branching():
    trie = compressed(Trie.from_sequences([[1, 2], [1, 2]], 4, end_token=0))
    assert (len(trie.depth), trie.beginning.tolist()) == (0, [1, 2, 0])


def test_nothing_is_compressed_to_nothing():
    assert len(compressed(Trie.from_sequences([], 4, end_token=0))) == 0


def test_added_and_removed_items_are_seen():
    sequences = titles(5, 60)
    index = LiveTrie(Trie.from_sequences(sequences[:40], 4, end_token=0)).add(sequences[40:]).remove([0, 7, 45])
    check(compressed(index), {row: one for row, one in enumerate(sequences) if row not in (0, 7, 45)})
    index = LiveTrie(Trie.from_sequences(sequences, 4, end_token=0)).remove([3])
    check(compressed(index), {row: one for row, one in enumerate(sequences) if row != 3})


def test_it_is_made_once_for_each_index():
    index = Trie.from_sequences(titles(0, 9), 4, end_token=0)
    assert compressed(index) is compressed(index)
    assert compressed(index) is not compressed(index.remove([0]))


def test_allowed_rows_are_counted_by_identifier():
    trie = compressed(Trie.from_sequences([[1, 2], [3], [1, 2], [2]], 4, end_token=0))  # 1 2 | 2 | 3
    assert trie.allowed(np.array([2, 1])).tolist() == [0, 1, 1, 2]
    assert trie.allowed(np.zeros(0, dtype=np.int64)).tolist() == [0, 0, 0, 0]


def test_values_of_edges_are_added_up_along_the_way():
    trie = compressed(Trie.from_sequences(titles(1, 80), 4, end_token=0))
    for values in (np.random.default_rng(0).normal(size=len(trie.edge_token)), np.full(len(trie.edge_token), -np.inf)):
        expected = np.zeros(len(trie))
        for edge, value in enumerate(values):
            expected[trie.edge_low[edge] : trie.edge_high[edge]] += value
        np.testing.assert_allclose(trie.spread(values), expected)
    with pytest.raises(ShapeError, match="values for"):
        trie.spread(np.zeros(1))
