"""Each user's last event stays out of everything that is taught, so that evaluating on it does not flatter."""

import numpy as np
import pytest

import genrail
from genrail.finding import Data
from tests.shops import build, shop

USERS = 12
CATALOG = shop(40)
IDS = CATALOG.item_ids
# Every user's last item follows that user's items and nobody else's: whoever knows it has seen the event itself.
EVENTS = genrail.Interactions.from_sequences(
    {f"u{user}": [IDS[user], IDS[user + 1], IDS[user + 2], IDS[25 + user]] for user in range(USERS)}
)


def held_out_rows():
    return {25 + user for user in range(USERS)}


def test_sequences_to_learn_from_lack_the_last_events_and_nothing_else():
    taught = Data(CATALOG, EVENTS).sequences
    assert not held_out_rows() & set(taught.rows.tolist())
    assert len(taught.rows) == 3 * USERS
    assert held_out_rows() <= set(Data(CATALOG, EVENTS, hold_out=False).sequences.rows.tolist())


def test_validation_events_are_those_before_and_are_in_neither_side_twice():
    data = Data(CATALOG, EVENTS)
    before = data.without_validation
    assert not held_out_rows() & set(before.held_back.targets.tolist())
    assert not held_out_rows() & set(before.sequences.rows.tolist())
    assert len(before.sequences.rows) + len(before.held_back) == len(data.sequences.rows)
    for history, target in before.held_back.cases():
        user = int(np.flatnonzero([row == history[0] for row in range(40)])[0])
        assert target == user + 2
        assert history == [user, user + 1]


@pytest.mark.parametrize(("hold_out", "known"), [(True, 0), (False, USERS)])
def test_a_lane_that_counts_pairs_knows_a_last_event_only_where_it_was_given(hold_out, known, tmp_path):
    own = genrail.Engine.build(CATALOG, "cooccurrence", interactions=EVENTS, hold_out=hold_out)
    found = 0
    for user in range(USERS):
        past = [IDS[user], IDS[user + 1], IDS[user + 2]]
        scores = {hit.item_id: hit.score for hit in own.recommend(past, k=40)}
        found += scores[IDS[25 + user]] > 0
    assert found == known
    assert own.trained_on_everything is not hold_out
    own.save(tmp_path / "e")
    assert genrail.load(tmp_path / "e").trained_on_everything is not hold_out


def test_the_native_model_remembers_no_last_event():
    own = build(CATALOG, interactions=EVENTS, epochs=1)
    assert not own.edition.finder.spelling.memory.seen[sorted(held_out_rows())].any()
    everything = build(CATALOG, interactions=EVENTS, epochs=1, hold_out=False)
    assert everything.edition.finder.spelling.memory.seen[sorted(held_out_rows())].all()
    assert everything.trained_on_everything and not own.trained_on_everything


@pytest.mark.parametrize("asked", [{}, {"hold_out": True}, {"hold_out": False}])
def test_training_keeps_last_events_out_unless_told(asked):
    own = build(CATALOG, interactions=EVENTS, epochs=1)
    own.train(interactions=EVENTS, epochs=1, **asked)
    assert own.trained_on_everything is (asked.get("hold_out") is False)
    assert own.edition.finder.spelling.memory.seen[sorted(held_out_rows())].any() == own.trained_on_everything
