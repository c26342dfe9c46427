"""New items: they are told apart, found, mixed in by policy, and nothing else that an engine promises suffers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genrail
from genrail.catalog import Catalog
from genrail.decoding import Decoded, SampleSettings, score_sequences
from genrail.engine import Engine
from genrail.errors import FormatError, QueryError, SettingsError
from genrail.finders.calibrating_new_items import CalibrationSettings, recalibrated
from genrail.finders.new_item_scores import Calibration, Judged
from genrail.finders.new_items import mix
from genrail.finding import Edition
from genrail.types import Query
from tests.finders.calibrations import calibration
from tests.shops import build, pasts, shop

NEW = [
    {"sku": f"new{number}", "name": f"{colour} boot {number}", "colour": colour, "price": 12 + number, "in_stock": True}
    for number, colour in enumerate(["purple", "red", "blue", "white", "green", "black"])
]


@pytest.fixture(scope="module")
def grown():
    """An engine of 40 items with histories, and 6 items added since."""
    catalog = shop()
    own = build(catalog, interactions=pasts(catalog))
    own.add(NEW)
    return own


def new_ids(ranking):
    return [item_id for item_id in ranking.item_ids if item_id.startswith("new")]


# --- which items are new ---


def test_added_items_are_new_and_trained_ones_are_not(grown):
    rows = np.flatnonzero(grown.edition.finder.newcomers.rows)
    assert {f"new{number}" for number in range(6)} <= {grown.catalog.item_ids[row] for row in rows}
    taken = grown.catalog.rows([f"s{number}" for number in (0, 5, 10)])
    assert not grown.edition.finder.newcomers.rows[taken].any()


def test_right_after_the_build_nothing_is_new_whatever_histories_held():
    catalog = shop(20)
    events = genrail.Interactions.from_sequences({"u": ["s1", "s2", "s3"], "v": ["s4", "s1"]})
    own = build(catalog, interactions=events)
    assert own.edition.finder.newcomers is None
    own.add(NEW[:1])
    assert own.edition.finder.newcomers.rows.nonzero()[0].tolist() == [20]


def test_auto_changes_nothing_before_a_calibration(grown):
    for history in (["s0"], ["s1", "s6"], ["s12", "s3", "s8"]):
        one, other = (grown.recommend(history, k=8, new_items=policy) for policy in ("auto", "off"))
        assert one == other


def test_without_histories_nothing_is_new():
    own = build(shop(10), epochs=2)
    own.add(NEW)
    assert own.edition.finder.newcomers is None


def test_a_removed_new_item_is_gone():
    catalog = shop()
    own = build(catalog, interactions=pasts(catalog), epochs=2)
    own.add(NEW)
    own.remove(["new0", "new1"])
    assert not {"new0", "new1"} & set(own.recommend(["s0"], k=44, new_items=1.0).item_ids)


def test_training_on_histories_that_hold_new_items_makes_them_known():
    catalog = shop()
    own = build(catalog, interactions=pasts(catalog), epochs=2)
    own.add(NEW)
    events = genrail.Interactions.from_sequences({"u": [f"new{number}" for number in range(6)], "v": ["s1", "new5"]})
    own.train(interactions=events, hold_out=False, epochs=2)
    rows = own.catalog.rows([f"new{number}" for number in range(6)])
    assert own.edition.finder.newcomers is None or not own.edition.finder.newcomers.rows[rows].any()


# --- policies ---


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.0, 0), (0.2, 2), (0.25, 3), (0.6, 6), (1.0, 6), (1, 6)])
def test_a_share_of_the_hits_is_new(grown, share, expected):
    ranking = grown.recommend(["s0", "s5"], k=10, new_items=share)
    shown = grown.edition.finder.newcomers.rows[grown.catalog.rows(ranking.item_ids)]
    new = grown.edition.finder.newcomers.rows.sum()
    assert shown.sum() == min(expected if share < 1 else 10, new)
    assert len(ranking) == 10


def test_a_share_of_a_search_with_words_is_new(grown):
    ranking = grown.search("purple boot", k=5, new_items=0.4)
    assert grown.edition.finder.newcomers.rows[grown.catalog.rows(ranking.item_ids)].sum() == 2


def test_off_is_the_plain_decode(grown):
    plain = build(shop(), interactions=pasts(shop()))
    assert plain.recommend(["s0", "s5"], k=10).item_ids == plain.recommend(["s0", "s5"], k=10, new_items="off").item_ids
    found = grown.recommend(["s0", "s5"], k=46, new_items="off")
    assert [hit.score for hit in found] == [hit.log_probability for hit in found]


def test_without_new_items_every_policy_answers_alike():
    own = build(shop(10), epochs=2)
    answers = [own.recommend(["s1"], k=5, new_items=policy).item_ids for policy in ("auto", "off", 0.5, 1)]
    assert answers == [answers[0]] * 4


def test_auto_leaves_a_search_with_words_alone(grown):
    one, other = (grown.search("purple boot", history=["s0"], k=8, new_items=policy) for policy in ("auto", "off"))
    assert one == other


def test_known_items_keep_their_order_and_scores(grown):
    for history in (["s0"], ["s1", "s6"], ["s12", "s3", "s8"]):
        known = grown.recommend(history, k=40, new_items=0.0)
        scores = {hit.item_id: hit.score for hit in known}
        for policy in ("auto", 0.5):
            mixed = [hit for hit in grown.recommend(history, k=8, new_items=policy) if hit.item_id in scores]
            inside = [hit for hit in mixed if not grown.edition.finder.newcomers.rows[grown.catalog.row(hit.item_id)]]
            order = [hit.item_id for hit in known if hit.item_id in {one.item_id for one in inside}]
            assert [hit.item_id for hit in inside] == order
            assert [hit.score for hit in inside] == pytest.approx([scores[item_id] for item_id in order], abs=1e-6)


@pytest.mark.parametrize("policy", ["on", -0.1, 1.1, True, None, float("nan"), "0.5"])
def test_another_policy_is_refused(policy):
    with pytest.raises(QueryError, match="new_items"):
        Query(history=["s1"], new_items=policy)


def test_a_share_needs_the_most_probable_items(grown):
    with pytest.raises(SettingsError, match="SampleSettings"):
        grown.recommend(["s0"], new_items=0.5, decoder=SampleSettings())
    assert len(grown.recommend(["s0"], k=3, decoder=SampleSettings())) == 3


# --- what stays promised ---


@given(
    history=st.lists(st.integers(0, 45), min_size=1, max_size=6),
    below=st.integers(0, 60),
    k=st.integers(1, 60),
    policy=st.one_of(st.sampled_from(["auto", "off"]), st.floats(0, 1)),
    seen=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_hit_is_allowed_and_k_come_back_whenever_k_are_allowed(grown, history, below, k, policy, seen):
    catalog = grown.catalog
    past = [catalog.item_ids[row] for row in history]
    query = Query(history=past, where=f"price < {below}", exclude_seen=seen, new_items=policy)
    [ranking] = grown.search_batch([query], k)
    prices = catalog.frame.get_column("price").to_list()
    allowed = {item for item, price in zip(catalog.item_ids, prices, strict=True) if price < below}
    allowed -= set(past) if seen else set()
    assert set(ranking.item_ids) <= allowed
    assert len(ranking) == len(set(ranking.item_ids)) == min(k, len(allowed))
    assert ranking.exhausted == (len(allowed) < k)
    assert [hit.score for hit in ranking] == sorted((hit.score for hit in ranking), reverse=True)
    assert [hit.rank for hit in ranking] == list(range(1, len(ranking) + 1))
    assert ranking == grown.search_batch([query], k)[0]


def test_a_batch_of_policies_answers_as_one_by_one(grown):
    queries = [
        Query(history=["s0"], new_items="auto"),
        Query("boot"),
        Query(history=["s1", "new2"], new_items=0.5),
        Query(history=["s7"], new_items="off"),
        Query(history=["s7"], where="price > 1000"),
    ]
    together = grown.search_batch(queries, k=6)
    alone = [grown.search_batch([query], k=6)[0] for query in queries]
    assert [ranking.item_ids for ranking in together] == [ranking.item_ids for ranking in alone]


def test_log_probabilities_of_new_items_are_those_of_teacher_forcing(grown):
    ranking = grown.recommend(["s0", "s5"], k=10, new_items=0.5)
    rows = grown.catalog.rows(ranking.item_ids)
    context = grown.edition.finder.spelling.model.context(history=grown.catalog.rows(["s0", "s5"]).tolist())
    forced = score_sequences(
        grown.edition.finder.spelling.model,
        context,
        [grown.edition.finder.table.sequence(row) for row in rows.tolist()],
    )
    assert [hit.log_probability for hit in ranking] == pytest.approx(list(forced), abs=1e-4)


def test_explain_shows_the_steps(grown):
    ranking = grown.recommend(["s0"], k=4, new_items=0.5, explain=True)
    assert ranking.trace is not None
    assert all(hit.explanation["identifier"] for hit in ranking)


# --- a folder, a log, a merge ---


def answers(own):
    queries = [Query(history=["s0", "s5"], new_items=policy) for policy in ("auto", "off", 0.4)]
    return [[(hit.item_id, round(hit.score, 4)) for hit in ranking] for ranking in own.search_batch(queries, 12)]


def test_new_items_and_calibration_survive_a_folder_a_log_and_a_merge(tmp_path):
    catalog = shop()
    own = build(catalog, interactions=pasts(catalog), epochs=2)
    own.add(NEW[:2])
    learnt = calibration(margin=-3.0, most=0.5)
    own._edition = Edition(own.catalog, recalibrated(own.edition.finder, learnt))
    own.save(tmp_path / "e")
    live = Engine.load(tmp_path / "e", live=True)
    assert answers(live) == answers(own)
    live.add(NEW[2:])
    own.add(NEW[2:])
    assert answers(live) == answers(own)
    assert answers(Engine.load(tmp_path / "e")) == answers(own)  # from the log
    live.merge()
    assert answers(live) == answers(own)
    again = Engine.load(tmp_path / "e")
    assert answers(again) == answers(own)
    assert again.edition.finder.spelling.memory.calibration == learnt
    assert set(np.flatnonzero(again.edition.finder.newcomers.rows)) == set(
        np.flatnonzero(own.edition.finder.newcomers.rows)
    )


def test_a_calibration_of_another_version_is_refused():
    values = calibration().to_dict()
    assert Calibration.from_dict(json.loads(json.dumps(values))) == calibration()
    with pytest.raises(FormatError, match="calibrate again"):
        Calibration.from_dict({**values, "version": 99})
    with pytest.raises(FormatError, match="calibrate again"):
        Calibration.from_dict({"version": 1})


@pytest.mark.parametrize(
    "wrong", [{"new": (1.0,)}, {"margin": float("nan")}, {"slope": 0.0}, {"most": 1.5}, {"known": (1, 2, 3)}]
)
def test_a_calibration_that_cannot_be_is_refused(wrong):
    with pytest.raises(SettingsError):
        calibration(**wrong)


# --- calibration ---


def test_calibration_is_learnt_from_dropped_items_and_answers_keep_their_promises():
    catalog = shop()
    events = pasts(catalog)
    own = build(catalog, interactions=events, epochs=2)
    own.add(NEW)
    before = own.edition.finder.spelling.model.fingerprint
    chosen = CalibrationSettings(share=0.2, max_loss=0.1, epochs=2)
    found = own.calibrate_new_items(events, chosen)
    assert own.edition.finder.spelling.memory.calibration == found
    assert own.edition.finder.spelling.model.fingerprint == before
    again = own.calibrate_new_items(events, chosen)
    assert again.new == pytest.approx(found.new, rel=1e-2, abs=1e-2)  # sums of floats may go in another order
    assert len(own.recommend(["s0"], k=46)) == 45


def test_a_model_without_histories_cannot_be_calibrated():
    own = build(shop(10), epochs=2)
    with pytest.raises(SettingsError, match="not trained on histories"):
        own.calibrate_new_items(pasts(shop(10)))


def test_too_few_events_to_calibrate():
    catalog = shop(10)
    events = genrail.Interactions.from_sequences({"u": ["s1", "s2"], "v": ["s3"]})
    own = build(catalog, interactions=events, epochs=2)
    with pytest.raises(SettingsError, match="too few"):
        own.calibrate_new_items(events)


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1}, {"max_loss": -0.1}, {"users": 0}])
def test_calibration_settings_outside_their_range(wrong):
    with pytest.raises(SettingsError, match="share"):
        CalibrationSettings(**wrong)


# --- mixing alone ---


def decoded(rows, scores):
    scores = np.array(scores, dtype=np.float64)
    return Decoded(np.array(rows, dtype=np.int64), scores, [(row,) for row in rows], False, None, scores, -np.inf)


def test_the_known_item_with_the_least_chance_gives_way():
    known, new = decoded([1, 2, 3], [-1.0, -2.0, -3.0]), decoded([8, 9], [-9.0, -9.5])
    judged = Judged(np.array([3.0, 0.0, 2.0]), np.array([0.5, 1.0]), np.array([-2.5, -0.5]))
    mixed = mix(known, new, judged, "auto", 3)
    assert mixed.rows.tolist() == [9, 1, 3]
    assert mixed.log_probabilities.tolist() == [-9.5, -1.0, -3.0]
    assert mixed.tokens == [(9,), (1,), (3,)]


def test_equal_chances_leave_the_known_items():
    known, new = decoded([1, 2], [-1.0, -2.0]), decoded([8, 9], [-9.0, -9.5])
    judged = Judged(np.ones(2), np.ones(2), np.zeros(2))
    assert mix(known, new, judged, "auto", 2).rows.tolist() == [1, 2]


def test_auto_takes_no_more_than_its_largest_share():
    known, new = decoded([1, 2, 3, 4], [-1.0, -2.0, -3.0, -4.0]), decoded([8, 9], [-9.0, -9.5])
    judged = Judged(np.zeros(4), np.ones(2), np.full(2, -5.0), most=0.25)
    assert mix(known, new, judged, "auto", 4).rows.tolist() == [1, 2, 3, 8]


@pytest.mark.parametrize("policy", ["auto", 0.0, 0.5, 1.0])
def test_each_side_fills_what_the_other_lacks(policy):
    nothing = decoded([], [])
    some = decoded([1, 2, 3], [-1.0, -2.0, -3.0])
    lone = Judged(np.zeros(3), np.zeros(0), np.zeros(0), most=0.0)
    assert mix(some, nothing, lone, policy, 3).rows.tolist() == [1, 2, 3]
    other = Judged(np.zeros(0), np.zeros(3), np.array([-1.0, -2.0, -3.0]), most=0.0)
    assert mix(nothing, some, other, policy, 3).rows.tolist() == [1, 2, 3]


def test_probabilities_of_zero_are_judged():
    own = Catalog.from_items([{"id": str(number), "title": "same"} for number in range(6)])
    engine = build(own, interactions=genrail.Interactions.from_sequences({"u": ["0", "1", "2"], "v": ["1", "0"]}))
    for policy in ("auto", 0.5):
        assert len(engine.recommend(["0"], k=5, new_items=policy)) == 5
