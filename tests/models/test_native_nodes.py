"""The node table: every prefix once, children in a range, numbers that survive growth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from genrail.errors import IdentifierError, ShapeError
from genrail.models.native_nodes import NodeTable

VOCAB = 4


def codes(length: int = 3, most: int = 20) -> st.SearchStrategy[np.ndarray]:
    return st.integers(1, most).flatmap(lambda n: arrays(np.int64, (n, length), elements=st.integers(0, VOCAB - 1)))


def prefix_of(table: NodeTable, node: int) -> tuple[int, ...]:
    prefix: list[int] = []
    while node > 0:
        prefix.insert(0, int(table.token[node]))
        node = int(table.parent[node])
    return tuple(prefix)


@given(codes())
def test_nodes_are_exactly_the_distinct_prefixes(matrix):
    table = NodeTable.empty(3, VOCAB).extend(matrix)
    wanted = {tuple(row[:depth]) for row in matrix.tolist() for depth in range(4)}
    assert {prefix_of(table, node) for node in range(len(table))} == wanted
    assert len(table) == len(wanted)


@given(codes())
def test_children_are_the_range_of_continuations_sorted_by_token(matrix):
    table = NodeTable.empty(3, VOCAB).extend(matrix)
    for node in range(len(table)):
        first, end = table.children(node)
        prefix = prefix_of(table, node)
        wanted = sorted(
            {row[len(prefix)] for row in matrix.tolist() if tuple(row[: len(prefix)]) == prefix and len(prefix) < 3}
        )
        assert table.token[first:end].tolist() == wanted
        assert all(table.parent[child] == node for child in range(first, end))


@given(codes())
def test_child_finds_a_continuation_or_says_minus_one(matrix):
    table = NodeTable.empty(3, VOCAB).extend(matrix)
    nodes, tokens = np.meshgrid(np.arange(-1, len(table)), np.arange(-1, VOCAB + 1), indexing="ij")
    found = table.child(nodes.ravel(), tokens.ravel())
    for node, token, child in zip(nodes.ravel(), tokens.ravel(), found, strict=True):
        first, end = table.children(node) if node >= 0 else (0, 0)
        wanted = [c for c in range(first, end) if table.token[c] == token]
        assert [int(child)] == (wanted or [-1])


@given(codes(), codes(), codes())
def test_growing_in_parts_keeps_identifiers_and_slots(first, second, third):
    before = NodeTable.empty(3, VOCAB).extend(first).extend(second)
    after = before.extend(third)
    whole = NodeTable.empty(3, VOCAB).extend(np.concatenate([first, second, third]))
    assert after.codes().tolist() == np.concatenate([first, second, third]).tolist()
    assert after.parent.tolist() == whole.parent.tolist()
    assert after.leaf.tolist() == whole.leaf.tolist()
    slots = {prefix_of(before, node): before.slot[node] for node in range(len(before))}
    kept = {prefix_of(after, node): after.slot[node] for node in range(len(after))}
    assert all(kept[prefix] == slot for prefix, slot in slots.items())
    assert set(after.slot[[node for node in range(len(after)) if prefix_of(after, node) not in slots]]) == set(
        range(before.slots, after.slots)
    )


@given(codes())
def test_slot_vectors_are_means_over_the_items_below(matrix):
    table = NodeTable.empty(3, VOCAB).extend(matrix)
    vectors = np.random.default_rng(0).normal(size=(len(matrix), 5)).astype(np.float32)
    means = table.slot_vectors(vectors)
    for node in range(len(table)):
        prefix = prefix_of(table, node)
        below = [vectors[row] for row, code in enumerate(matrix.tolist()) if tuple(code[: len(prefix)]) == prefix]
        np.testing.assert_allclose(means[table.slot[node]], np.mean(below, axis=0), atol=1e-5)


def test_slot_vectors_of_new_slots_see_new_items_only():
    table = NodeTable.empty(2, 4).extend([[0, 0], [0, 1]])
    grown = table.extend([[0, 2], [1, 0]])
    fresh = grown.slot_vectors(np.array([[1.0], [2.0]], dtype=np.float32), table.slots, table.rows)
    assert sorted(fresh[:, 0].tolist()) == [1.0, 2.0]


def test_a_chain_shares_one_slot():
    table = NodeTable.empty(3, 4).extend([[0, 1, 2], [1, 1, 2]])
    path = table.paths()[0, 1:]
    assert len(set(table.slot[path])) == 1


def test_items_may_share_an_identifier():
    table = NodeTable.empty(2, 4).extend([[0, 1], [0, 1]])
    assert table.leaf[0] == table.leaf[1]
    assert table.rows == 2


def test_the_empty_table_has_the_root_alone():
    table = NodeTable.empty(2, 4)
    assert (len(table), table.rows, table.slots) == (1, 0, 1)
    assert table.child(np.array([0]), np.array([1])).tolist() == [-1]
    assert table.extend(np.zeros((0, 2), dtype=np.int64)).rows == 0


def test_a_token_outside_the_vocabulary_is_an_error_with_the_item():
    with pytest.raises(IdentifierError, match="item 1 has the identifier"):
        NodeTable.empty(2, 4).extend([[0, 1], [0, 4]])


def test_another_length_is_an_error():
    with pytest.raises(ShapeError, match="the model writes"):
        NodeTable.empty(2, 4).extend([[0, 1, 2]])


def test_no_levels_is_an_error():
    with pytest.raises(IdentifierError, match="must be 1 or more"):
        NodeTable.empty(0, 4)


def test_a_node_is_settled_where_one_identifier_is_left():
    """Items that share an identifier are one identifier; a choice further down keeps a node open."""
    table = NodeTable.empty(3, 5).extend(np.array([[0, 1, 2], [1, 0, 0], [1, 0, 1], [2, 3, 3], [2, 3, 3]]))
    open_prefixes = {(), (1,), (1, 0)}
    for row, path in enumerate(table.paths()):
        for level, node in enumerate(path):
            prefix = tuple(table.codes()[row, :level].tolist())
            assert table.settled[node] == (prefix not in open_prefixes), prefix
