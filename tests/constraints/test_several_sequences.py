"""Rows with several sequences, through every change: additions, removals, updates, merges, files, other row numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.errors import DamagedError, IdentifierError, ShapeError
from genrail.rng import generator
from tests.constraints.oracle import SeveralOracle, random_catalog
from tests.constraints.walk import compare_walk


def random_lists(rng, pool, rows):
    """Some rows, each with one to four different sequences; rows share sequences often."""
    sizes = rng.choice([1, 1, 2, 3, 4], size=rows)
    drawn = [[pool[i] for i in rng.integers(0, len(pool), size=size)] for size in sizes]
    return [list(dict.fromkeys(one)) for one in drawn]


def flat(lists):
    """Write lists of sequences one after the other, and whose each one is."""
    return [one for row in lists for one in row], np.repeat(np.arange(len(lists)), [len(row) for row in lists])


def built(lists, vocab_size, end_token, heavy):
    sequences, owners = flat(lists)
    return Trie.from_sequences(sequences, vocab_size, end_token, owners=owners, heavy=heavy)


def random_history(rng):
    """A catalogue and some changes; the snapshot, and the sequences of the live rows."""
    pool, vocab_size, end_token = random_catalog(rng, most=150)
    pool = pool or [(0,) * 3 if end_token is None else (end_token,)]
    heavy = int(rng.choice([1, 4, 32]))
    lists = random_lists(rng, pool, int(rng.choice([1, 2, 10, 60])))
    index, live = LiveTrie(built(lists, vocab_size, end_token, heavy)), dict(enumerate(lists))
    for _ in range(int(rng.integers(0, 5))):
        index, live = random_change(rng, index, live, pool)
    return index, live, end_token


def random_change(rng, index, live, pool):
    kind = rng.integers(4)
    lists = random_lists(rng, pool, int(rng.integers(0, 12)))
    rows = np.unique(rng.integers(0, index.row_count, size=len(lists)))
    if kind == 0:
        return index.add(*flat(lists)), live | dict(enumerate(lists, start=index.row_count))
    if kind == 1:
        return index.remove(rows), {row: live[row] for row in live if row not in set(rows.tolist())}
    if kind == 2:
        return LiveTrie(index.compact()), live
    lists = lists[: len(rows)]
    return index.update(rows, *flat(lists)), live | dict(zip(rows.tolist(), lists, strict=True))


def check(index, live, end_token, rng):
    assert len(index) == len(live)
    for row, own in list(live.items())[:20]:
        assert sorted(tuple(one.tolist()) for one in index.sequences(row)) == sorted(own)
        assert tuple(index.sequence(row).tolist()) == min(own)
    assert index.most_sequences >= max(map(len, live.values()), default=1)
    compare_walk(index, SeveralOracle(live), rng, row_count=index.row_count, end_token=end_token)


def check_history(seed):
    rng = generator(seed, "several sequences", "oracle")
    index, live, end_token = random_history(rng)
    check(index, live, end_token, rng)
    merged = index.compact()
    assert merged.row_count == index.row_count
    check(merged, live, end_token, rng)
    if len(live) == index.row_count and live:
        anew = built([live[row] for row in range(len(live))], index.vocab_size, end_token, merged.heavy)
        assert all(np.array_equal(a, b) for a, b in zip(anew.arrays, merged.arrays, strict=True))
        assert anew.most_sequences == merged.most_sequences


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_every_step_of_a_changing_catalog_of_several_sequences_equals_the_oracle(seed):
    check_history(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(5))
def test_every_step_of_a_changing_catalog_of_several_sequences_equals_the_oracle_a_thousand_times(block):
    for seed in range(block * 200, (block + 1) * 200):
        check_history(seed)


@pytest.mark.parametrize("seed", range(6))
def test_a_saved_folder_of_several_sequences_opens_equal(seed, tmp_path):
    rng = generator(seed, "several sequences", "files")
    index, live, end_token = random_history(rng)
    index.save(tmp_path)
    for mmap in (True, False):
        check(LiveTrie.load(tmp_path, mmap=mmap, verify=True), live, end_token, rng)


@pytest.mark.parametrize("seed", range(6))
def test_an_index_of_identifiers_becomes_one_of_items(seed):
    """As engines saved earlier need it: the same as an index that knew the items from the beginning."""
    rng = generator(seed, "several sequences", "renamed")
    pool, vocab_size, end_token = random_catalog(rng, most=80)
    lists = random_lists(rng, pool or [(0,) if end_token is None else (end_token,)], 40)
    sequences, owners = flat(lists)
    half = int(np.searchsorted(owners, 20))
    first = Trie.from_sequences(sequences[:half], vocab_size, end_token, heavy=4)
    numbered = LiveTrie(first).add(sequences[half:]).remove(np.flatnonzero(np.isin(owners, [3, 30])))
    live = {row: own for row, own in enumerate(lists) if row not in (3, 30)}
    check(numbered.renamed(owners), live, end_token, rng)
    with pytest.raises(ShapeError, match="owners"):
        numbered.renamed(owners[:-1])


def small():
    return LiveTrie(Trie.from_sequences([[1, 2], [3, 3], [1, 3]], vocab_size=5, owners=[0, 0, 1]))


def test_a_removal_takes_all_sequences_of_a_row():
    index = small().remove([0])
    assert len(index) == 1 and index.children(index.start(1).states[0, 0])[0].tolist() == [1]
    with pytest.raises(ShapeError, match="row 0 is not live"):
        index.sequences(0)


def test_what_a_merge_would_tidy_up_is_counted_in_identifiers():
    index = small().add([[4, 4], [4, 3]], owners=[0, 0]).remove([0])
    assert index.pending == 2 + 2 and len(index) == 2
    assert LiveTrie(index.compact()).pending == 0


def test_an_update_may_change_how_many_sequences_a_row_has():
    index = small().update([1, 0], [[4, 4], [4, 3], [2, 2]], owners=[0, 0, 1])
    assert [one.tolist() for one in index.sequences(1)] == [[4, 3], [4, 4]]
    assert [one.tolist() for one in index.sequences(0)] == [[2, 2]] and len(index) == 2
    with pytest.raises(ShapeError, match="give each row once"):
        small().update([1, 0], [[4, 4], [4, 3]], owners=[0, 0])


def test_a_wrong_addition_is_refused_with_its_own_row_and_nothing_changes():
    index = small()
    with pytest.raises(IdentifierError, match="row 1 has token 9"):
        index.add([[1, 1], [1, 4], [9, 1]], owners=[0, 1, 1])
    with pytest.raises(IdentifierError, match="row 0 has the same identifier twice"):
        index.add([[1, 1], [1, 1]], owners=[0, 0])
    assert len(index) == 2


def test_rows_that_were_several_and_are_not_any_more_are_counted_without_a_look():
    merged = small().update([0], [[2, 2]]).compact()
    assert merged.most_sequences == 1 and not merged.universe.owners.several


def test_columns_by_rank_hold_a_row_once_for_each_sequence():
    trie = Trie.from_sequences([[1, 2], [3, 3], [1, 3]], vocab_size=5, owners=[0, 0, 1])
    price = trie.by_rank([10.0, 30.0])
    assert price.tolist() == [10.0, 30.0, 10.0]
    subset = trie.subset_by_rank(price < 20)
    assert len(subset) == 1 and trie.items(trie.root, subset).tolist() == [0]
    with pytest.raises(ShapeError, match="some identifiers of a row"):
        trie.subset_by_rank(np.array([True, True, False]))


def test_a_plain_index_is_written_as_before_and_one_of_several_as_version_two(tmp_path):
    Trie.from_sequences([[1, 2], [1, 3]], vocab_size=5, owners=[0, 1]).save(tmp_path / "plain")
    small().old.save(tmp_path / "several")
    versions = {
        name: json.loads((tmp_path / name / "trie.json").read_text())["version"] for name in ("plain", "several")
    }
    assert versions == {"plain": 1, "several": 2}


def test_a_folder_where_half_a_row_is_removed_is_refused_by_verify(tmp_path):
    broken = small().old.remove([1])
    broken.universe.live.setflags(write=True)
    broken.universe.live[:] = 0b001  # ranks 0 and 2 are of row 0
    broken.save(tmp_path)
    with pytest.raises(DamagedError, match="some identifiers of a row and not others"):
        Trie.load(tmp_path, verify=True)
