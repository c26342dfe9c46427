"""Pairs: every item but the first is a target once, and made-up queries come from the item's own words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrail.errors import SettingsError, ShapeError
from genrail.models.native_network import QUERY
from genrail.training.pairs import QueryPairs, windows
from genrail.training.pseudo_queries import pseudo_queries

TITLES = ["Red trail running shoe with a grippy sole", "Blue", ""]
TEXTS = ["Red trail running shoe with a grippy sole. Acme. Shoes. Made for wet rocks and long days out", "Blue", ""]


def laid_out(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Number all events of all users, so that a row names its place."""
    return np.arange(sum(lengths)), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def seen_pairs(batches) -> list[tuple[tuple[int, ...], int]]:
    pairs = []
    for batch in batches:
        for tokens, targets in zip(batch.tokens, batch.targets, strict=True):
            pairs += [(tuple(tokens[: i + 1].tolist()), int(t)) for i, t in enumerate(targets) if t >= 0]
    return pairs


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 9))
def test_every_item_but_the_first_is_a_target_once_behind_its_own_past(lengths, history):
    rows, offsets = laid_out(lengths)
    found = windows(rows, offsets, history)
    pairs = seen_pairs(found.batches(7, np.random.default_rng(0)))
    wanted = [t for first, end in zip(offsets[:-1], offsets[1:], strict=True) for t in range(first + 1, end)]
    assert sorted(target for _, target in pairs) == wanted
    assert found.targets == len(wanted)
    for past, target in pairs:
        user = int(np.searchsorted(offsets, target, side="right")) - 1
        assert past == tuple(range(target - len(past), target))
        assert past[0] >= offsets[user]
        assert len(past) <= history
        assert len(past) >= min(target - offsets[user], max(1, history // 2))


def test_short_sequences_are_read_from_their_beginning():
    rows, offsets = laid_out([4])
    pairs = seen_pairs(windows(rows, offsets, 20).batches(100, np.random.default_rng(0)))
    assert sorted(pairs) == [((0,), 1), ((0, 1), 2), ((0, 1, 2), 3)]


def test_the_same_generator_gives_the_same_batches():
    rows, offsets = laid_out([5, 9, 3, 7])
    found = windows(rows, offsets, 4)
    first, second = (seen_pairs(found.batches(6, np.random.default_rng(3))) for _ in range(2))
    assert first == second


def test_batches_hold_about_the_size_asked_for():
    rows, offsets = laid_out([6] * 100)
    batches = windows(rows, offsets, 20).batches(50, np.random.default_rng(0))
    assert all(45 <= int((batch.targets >= 0).sum()) <= 55 for batch in batches)


def test_pseudo_queries_are_words_of_their_own_item():
    queries, rows = pseudo_queries(TITLES, TEXTS, variants=8, seed=1)
    assert len(queries) == 16 and set(rows.tolist()) == {0, 1}
    for query, row in zip(queries, rows, strict=True):
        assert query and set(query.split()) <= set(TEXTS[row].replace(".", "").split()) | set(TEXTS[row].split())


def test_a_pseudo_query_depends_on_its_row_and_the_seed_alone():
    alone, _ = pseudo_queries(TITLES[:1], TEXTS[:1], variants=4, seed=5)
    among, rows = pseudo_queries(TITLES, TEXTS, variants=4, seed=5)
    assert [query for query, row in zip(among, rows, strict=True) if row == 0] == alone
    assert pseudo_queries(TITLES, TEXTS, variants=4, seed=6)[0] != among


def test_queries_alone_are_read_as_one_position():
    pairs = QueryPairs(np.eye(3, dtype=np.float32), np.array([4, 5, 6]))
    batches = pairs.batches(2, np.random.default_rng(0))
    assert sorted(len(batch.tokens) for batch in batches) == [1, 2]
    for batch in batches:
        assert (batch.tokens == QUERY).all() and batch.tokens.shape[1] == 1
        assert np.array_equal(batch.queries.argmax(axis=1) + 4, batch.targets[:, 0])


def test_queries_are_read_behind_the_past_of_somebody_who_took_the_item():
    events = windows(np.array([7, 8, 9]), np.array([0, 3]), 20)
    pairs = QueryPairs(np.zeros((3, 2), dtype=np.float32), np.array([9, 8, 7]))
    pasts = {}
    for batch in pairs.batches(3, np.random.default_rng(0), events, with_history=1.0):
        for tokens, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
            end = tokens.index(QUERY)
            assert [place for place, target in enumerate(targets) if target >= 0] == [end]
            pasts[targets[end]] = tokens[:end]
    assert pasts == {9: [7, 8], 8: [7], 7: []}  # nobody took 7 after something else


def test_no_user_takes_anything():
    events = windows(np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64), 20)
    assert events.targets == 0 and events.batches(10, np.random.default_rng(0)) == []
    pairs = QueryPairs(np.zeros((1, 2), dtype=np.float32), np.array([0]))
    assert pairs.batches(4, np.random.default_rng(0), events, with_history=1.0)[0].tokens.tolist() == [[QUERY]]


def test_bad_input_is_named():
    with pytest.raises(SettingsError, match="variants"):
        pseudo_queries(TITLES, TEXTS, variants=0)
    with pytest.raises(ShapeError, match="one of each"):
        pseudo_queries(TITLES, TEXTS[:1])
    with pytest.raises(ShapeError, match="one vector per row"):
        QueryPairs(np.zeros((2, 3), dtype=np.float32), np.array([1]))
