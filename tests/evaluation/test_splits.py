"""Leave-last-out withholds what it says, and reports its traps."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrail.errors import SettingsError, ShapeError
from genrail.evaluation import leave_last_out


def flat(*sequences):
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])]).astype(np.int64)
    rows = np.array([row for sequence in sequences for row in sequence], dtype=np.int64)
    return SimpleNamespace(user_ids=[f"u{user}" for user in range(len(sequences))], offsets=offsets, rows=rows)


sequences = st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=8)


@given(sequences, st.integers(1, 6))
def test_the_split_equals_slicing_each_list(users, history):
    split = leave_last_out(flat(*users), items=10, history=history)
    tested = [user for user, events in enumerate(users) if len(events) >= 3]
    assert split.test.users.tolist() == split.validation.users.tolist() == tested
    for user, events in enumerate(users):
        assert split.train.sequence(user).tolist() == (events[:-2] if len(events) >= 3 else events)
    for index, user in enumerate(tested):
        events = users[user]
        assert split.test.targets[index] == events[-1]
        assert split.test.history(index).tolist() == events[:-1][-history:]
        assert split.validation.targets[index] == events[-2]
        assert split.validation.history(index).tolist() == events[:-2][-history:]


@given(sequences)
def test_traps_equal_counting_by_hand(users):
    traps = leave_last_out(flat(*users), items=10).traps
    tested = [events for events in users if len(events) >= 3]
    train = {row for events in users for row in (events[:-2] if len(events) >= 3 else events)}
    assert traps.too_short == len(users) - len(tested)
    assert traps.test_unseen == sum(events[-1] not in train for events in tested)
    assert traps.validation_unseen == sum(events[-2] not in train for events in tested)
    assert traps.repeats == sum(len(events) - len(set(events)) for events in users)
    assert traps.target_in_history == sum(events[-1] in events[:-1] for events in tested)


def test_numbers_in_order_of_first_appearance_are_reported():
    users = [[0, 1, 2, 3], [1, 4, 5, 6], [2, 7, 8, 9], [10, 11, 12, 13]]
    leaking = leave_last_out(flat(*users), items=14).traps
    assert leaking.order_correlation == pytest.approx(1.0)
    assert leaking.order_leaks
    assert any("order of first appearance" in sentence for sentence in leaking.sentences())
    shuffled = np.random.default_rng(0).permutation(2000)
    clean = leave_last_out(flat(*shuffled.reshape(-1, 4).tolist()), items=2000).traps
    assert not clean.order_leaks


@given(sequences, st.data())
def test_ties_and_copies_equal_counting_by_hand(users, data):
    timed = flat(*users)
    moments = [
        sorted(data.draw(st.lists(st.integers(0, 3), min_size=len(events), max_size=len(events)))) for events in users
    ]
    timed.times = np.array([moment for own in moments for moment in own], dtype=np.int64)
    traps = leave_last_out(timed, items=10).traps
    acts = [
        (user, row, moment)
        for user, events in enumerate(users)
        for row, moment in zip(events, moments[user], strict=True)
    ]
    assert traps.ties == sum(own.count(moment) > 1 for own in moments for moment in own)
    assert traps.duplicates == len(acts) - len(set(acts))
    assert traps.target_tied == sum(own[-1] == own[-2] for own in moments if len(own) >= 3)


def test_ties_and_copies_are_said_where_there_are_times():
    timed = flat([0, 1, 1])
    assert leave_last_out(timed).traps.ties is None
    timed.times = np.array([1, 5, 5])
    said = " ".join(leave_last_out(timed).traps.sentences())
    assert "2 events share user and time" in said
    assert "1 test targets are the last event by the order of the file alone" in said
    assert "1 events are copies of another" in said


def test_a_clean_split_says_nothing():
    users = [[0, 3, 1, 2], [3, 1, 2, 0], [2, 0, 3, 1], [1, 2, 0, 3]]
    assert leave_last_out(flat(*users), items=4).traps.sentences() == []


def test_nobody_and_nothing():
    split = leave_last_out(flat(), items=0)
    assert len(split.test) == 0
    assert split.traps.order_correlation is None


def test_a_sample_keeps_targets_with_their_histories():
    split = leave_last_out(flat([0, 1, 2, 3], [4, 5, 6], [7, 8, 9], [1]), items=10)
    drawn = split.test.sample(2, seed=3)
    assert len(drawn) == 2
    whole = {int(user): index for index, user in enumerate(split.test.users)}
    for index, user in enumerate(drawn.users.tolist()):
        assert drawn.targets[index] == split.test.targets[whole[user]]
        assert drawn.history(index).tolist() == split.test.history(whole[user]).tolist()
    assert len(split.test.sample(100)) == 3


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="catalogue has 2"):
        leave_last_out(flat([0, 1, 2]), items=2)
    with pytest.raises(ShapeError, match="offsets"):
        leave_last_out(SimpleNamespace(user_ids=[], offsets=np.array([0, 5]), rows=np.array([1])), items=2)
    with pytest.raises(SettingsError, match="history"):
        leave_last_out(flat([0, 1, 2]), items=3, history=0)
    with pytest.raises(SettingsError, match="users"):
        leave_last_out(flat([0, 1, 2]), items=3).test.sample(0)
