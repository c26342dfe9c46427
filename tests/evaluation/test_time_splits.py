"""Splits by time and by new items let nothing of the future in; cores and copies are counted right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrail.errors import SettingsError, ShapeError
from genrail.evaluation.time_splits import cold_items, k_core, split_at
from genrail.evaluation.traps import duplicate_events, query_traps, text_overlap

EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=40)


def columns(events):
    return tuple(np.array(column, dtype=np.int64) for column in zip(*events, strict=True))


@given(EVENTS)
def test_a_split_by_time_equals_sorting_each_user_by_hand(events):
    users, rows, times = columns(events)
    if (times < 5).all() or not (times < 5).any():
        with pytest.raises(SettingsError):
            split_at(users, rows, times, 5)
        return
    split = split_at(users, rows, times, 5)
    tested = []
    for user in range(int(users.max()) + 1):
        own = sorted([(time, place) for place, time in enumerate(times.tolist()) if users[place] == user])
        past = [int(rows[place]) for time, place in own if time < 5]
        later = [int(rows[place]) for time, place in own if time >= 5]
        assert split.train.sequence(user).tolist() == past
        if past and later:
            tested.append((user, later[0], past))
    found = [(int(split.test.users[n]), int(split.test.targets[n]), split.test.history(n).tolist())
             for n in range(len(split.test))]  # fmt: skip
    assert found == tested


@given(EVENTS, st.integers(0, 3))
def test_cold_items_are_never_learnt_from(events, seed):
    users, rows, _ = columns(events)
    if not 0 < round(0.4 * len(np.unique(rows))) < len(np.unique(rows)):
        return
    split = cold_items(users, rows, share=0.4, seed=seed)
    assert not set(split.test.targets.tolist()) & set(split.train.rows.tolist())
    assert set(split.test.rows.tolist()) <= set(split.train.rows.tolist())


@given(EVENTS, st.integers(1, 4))
def test_in_a_core_everybody_has_k_events_and_nothing_larger_does(events, k):
    users, rows, _ = columns(events)
    kept = k_core(users, rows, k)
    for column in (users, rows):
        assert all(np.sum(column[kept] == value) >= k for value in column[kept])
    slow = np.ones(len(rows), dtype=bool)  # one event at a time
    changed = True
    while changed:
        changed = False
        for place in np.flatnonzero(slow):
            if np.sum(users[slow] == users[place]) < k or np.sum(rows[slow] == rows[place]) < k:
                slow[place], changed = False, True
    assert kept.tolist() == slow.tolist()


def test_traps_are_said():
    users, rows, times = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 9, 3]), np.array([1, 5, 2, 6, 7])
    notes = " ".join(split_at(users, rows, times, 5).notes)
    assert "1 events lie at the very moment" in notes
    assert "1 users have no event before" in notes
    assert "2 of 2 test targets never occur in training" in notes
    assert duplicate_events(np.array([0, 0, 1]), np.array([1, 1, 1]), np.array([2, 2, 2])) == 1
    assert text_overlap({"t": "Red, shoes"}, {"a": "red shoes.", "b": "red shoe"}) == [("a", "t")]


def test_texts_of_the_test_that_were_seen_before_are_said():
    test = {"a": "red shoes", "b": "Red shoes!", "c": "blue"}
    said = query_traps(test, {"v": "BLUE"}, {"t": "red, shoes"}, ["Shoes"])
    assert [sentence.split(" (")[0] for sentence in said] == [
        "1 test queries have the words of a query that settings were chosen on",
        "2 test queries have the words of a query that a method was trained on",
        "1 test queries have the words of another test query and count again",
    ]
    assert query_traps({"a": "red shoes"}, {"v": "blue"}, {}, ["Shoes"]) == ()


def test_what_does_not_fit_is_refused():
    some = np.array([0, 1])
    with pytest.raises(ShapeError):
        split_at(some, some, np.array([1]))
    with pytest.raises(SettingsError):
        split_at(some, some, some, share=1.0)
    with pytest.raises(SettingsError):
        k_core(some, some, 0)
    with pytest.raises(SettingsError):
        cold_items(some, some, share=0.0)
