"""A changing catalogue equals one built anew, bit for bit, after any run of adds, removals and updates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.errors import DamagedError, FormatError, IdentifierError, ShapeError, StateError
from genrail.rng import generator
from tests.constraints.oracle import ALL, NARROW, Oracle, random_catalog, random_logits
from tests.constraints.walk import compare_walk


def random_history(rng, vocab_sizes):
    """A catalogue, then some changes; returns the snapshot and the live sequences by row."""
    sequences, vocab_size, end_token = random_catalog(rng, most=150, vocab_sizes=vocab_sizes)
    later = [sequences[i] for i in rng.permutation(len(sequences))] or sequences
    begin = int(rng.integers(0, len(sequences) + 1))
    heavy = int(rng.choice([1, 4, 32]))
    old = Trie.from_sequences(sequences[:begin], vocab_size, end_token, heavy=heavy)
    if end_token is None and begin == 0:
        old = Trie.from_matrix(np.zeros((0, len(sequences[0]) if sequences else 2), dtype=int), vocab_size, heavy=heavy)
    index = LiveTrie(old)
    live = dict(enumerate(sequences[:begin]))
    for _ in range(int(rng.integers(0, 5))):
        index, live = random_change(rng, index, live, later)
    return index, live, end_token


def random_change(rng, index, live, later):
    kind = rng.integers(3)
    some = [later[i] for i in rng.integers(0, len(later), size=int(rng.integers(0, 20)))] if later else []
    rows = np.unique(rng.integers(0, max(1, index.row_count), size=len(some)))
    if kind == 0 or index.row_count == 0:
        numbers = range(index.row_count, index.row_count + len(some))
        return index.add(some), live | dict(zip(numbers, some, strict=True))
    if kind == 1:
        return index.remove(rows), {row: live[row] for row in live if row not in set(rows.tolist())}
    some = some[: len(rows)]
    return index.update(rows, some), live | dict(zip(rows.tolist(), some, strict=True))


def check_history(seed, vocab_sizes=NARROW):
    rng = generator(seed, "segments", "oracle")
    index, live, end_token = random_history(rng, vocab_sizes)
    assert len(index) == len(live)
    assert all(index.sequence(row).tolist() == list(live[row]) for row in list(live)[:20])
    compare_walk(index, Oracle(live), rng, row_count=index.row_count, end_token=end_token)
    merged = index.compact()
    assert merged.row_count == index.row_count and len(merged) == len(live)
    compare_walk(merged, Oracle(live), rng, row_count=index.row_count, end_token=end_token)
    if len(live) == index.row_count and live:
        anew = Trie.from_sequences(
            [live[row] for row in range(len(live))], index.vocab_size, end_token, heavy=merged.heavy
        )
        assert all(np.array_equal(a, b) for a, b in zip(anew.arrays, merged.arrays, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_every_step_of_a_changing_catalog_equals_the_oracle(seed):
    check_history(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_every_step_of_a_changing_catalog_equals_the_oracle_two_thousand_times(block):
    for seed in range(block * 200, (block + 1) * 200):
        check_history(seed, ALL)


def small():
    return LiveTrie(Trie.from_sequences([[1, 2], [1, 3], [2, 2]], vocab_size=5))


def step(index, beams, scores, seed=0):
    logits = random_logits(np.random.default_rng(seed), beams.alive.size, index.vocab_size)
    return index.candidates(beams, logits, scores, 4)


def test_what_was_added_is_found_at_once_and_what_was_removed_is_not():
    index = small().add([[4, 4]]).remove([1])
    found = index.candidates(index.start(1), np.zeros((1, 5), np.float32), np.zeros((1, 1)), 4)
    assert found.tokens[0, : found.count[0]].tolist() == [1, 2, 4]
    assert index.items(found.states[0, 0]).tolist() == [0]
    assert index.items(found.states[0, 2]).tolist() == [3]


def test_an_update_moves_a_row_and_keeps_its_number():
    index = small().update([1], [[4, 0]])
    assert index.sequence(1).tolist() == [4, 0] and len(index) == 3 and index.row_count == 3


def test_a_removed_row_comes_back_with_an_update():
    index = small().remove([0]).update([0], [[1, 2]])
    assert index.items(index.start(1).states[0, 0]).tolist() == [0, 1, 2]


def test_old_snapshots_and_their_beams_stay_as_they_were():
    before = small()
    beams = before.start(2)
    first = step(before, beams, np.zeros((2, 1)))
    after = before.remove([0, 1, 2]).add([[3, 3]])
    again = step(before, beams, np.zeros((2, 1)))
    assert np.array_equal(first.scores, again.scores) and np.array_equal(first.states, again.states)
    assert len(before) == 3 and len(after) == 1


def test_a_subset_of_another_snapshot_is_refused():
    before = small()
    subset = before.only([0])
    after = before.remove([1])
    with pytest.raises(StateError, match="another snapshot"):
        after.candidates(after.start(1), np.zeros((1, 5), np.float32), np.zeros((1, 1)), 4, [subset])
    with pytest.raises(StateError):
        subset & after.only([0])


def test_identical_identifiers_in_both_segments_are_one_candidate_and_one_tail():
    index = small().add([[2, 2]])
    found = index.candidates(index.start(1), np.zeros((1, 5), np.float32), np.zeros((1, 1)), 4)
    assert index.items(found.states[0, 1]).tolist() == [2, 3]
    assert [tail.tolist() for tail in index.tails(found.states[0, :2])] == [[], [2]]


def test_the_tail_of_a_heavy_root_is_the_whole_identifier():
    trie = Trie.from_matrix([[1, 2], [1, 2], [1, 2]], vocab_size=5, heavy=1)
    assert [tail.tolist() for tail in trie.tails(trie.start(1).states[0])] == [[1, 2]]


@pytest.mark.parametrize("wrong", [[[1]], [[1, 2, 3]], [[1, 9]], [[1, -1]], [[]]])
def test_an_identifier_that_does_not_fit_is_refused_and_nothing_changes(wrong):
    index = small()
    with pytest.raises(IdentifierError):
        index.add([[1, 1], *wrong])
    with pytest.raises(IdentifierError):
        index.update([0], wrong)
    assert len(index) == 3


def test_rows_that_were_never_numbered_are_refused():
    for act in (small().remove, small().only, small().without):
        with pytest.raises(ShapeError, match="row 3 is not in the index"):
            act([3])
    with pytest.raises(ShapeError, match="once"):
        small().update([0, 0], [[1, 1], [1, 2]])


def test_everything_removed_leaves_dead_beams():
    index = small().remove([0, 1, 2])
    assert len(index) == 0 and not index.start(3).alive.any()
    assert len(index.compact()) == 0 and index.compact().row_count == 3


def test_an_index_that_begins_empty_takes_the_length_of_its_first_items():
    index = LiveTrie(Trie.from_sequences([], vocab_size=5)).add([[1, 2, 3], [1, 2, 4]])
    assert len(index) == 2 and index.sequence(1).tolist() == [1, 2, 4]
    with pytest.raises(IdentifierError):
        index.add([[1, 2]])
    assert len(index.add([[0, 0, 0]]).compact()) == 3


def test_a_saved_folder_opens_equal(tmp_path):
    index = small().add([[4, 4]]).remove([1])
    index.save(tmp_path / "index")
    for mmap in (True, False):
        loaded = LiveTrie.load(tmp_path / "index", mmap=mmap, verify=True)
        assert loaded.row_count == 4 and len(loaded) == 3
        a, b = (step(one, one.start(1), np.zeros((1, 1))) for one in (index, loaded))
        assert np.array_equal(a.scores, b.scores) and np.array_equal(a.states, b.states)


def test_a_foreign_folder_is_refused(tmp_path):
    with pytest.raises(FormatError, match="holds no live.json"):
        LiveTrie.load(tmp_path)
    (tmp_path / "live.json").write_text("{")
    with pytest.raises(DamagedError, match="not readable"):
        LiveTrie.load(tmp_path)
    (tmp_path / "live.json").write_text('{"format": "genrail.live-trie", "version": 2}')
    with pytest.raises(FormatError, match="version"):
        LiveTrie.load(tmp_path)
