"""Fusion of lanes for words: the promises of `fuse`, of learning weights, and of reading negations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from genrail.errors import SettingsError, ShapeError
from genrail.ranking.word_fusion import (
    LearningSettings,
    Negation,
    candidates,
    demote,
    expand,
    fuse,
    learn_weights,
    mentions,
    read_negation,
    standardise,
)

# Halves: so that shifting and scaling below is exact, and equal scores stay equal.
halves = st.integers(-2_000, 2_000).map(lambda number: number / 2)
lanes = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=halves | st.just(np.nan))
anything = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, max_side=5),
    elements=st.floats(allow_infinity=False, allow_nan=True),
)


# --- fuse -----------------------------------------------------------------------------------------------------------


@given(anything)
def test_fused_scores_lie_between_0_and_1_whatever_the_lanes_say(scores):
    fused = fuse(scores)
    assert fused.shape == (scores.shape[1],)
    assert ((fused > 0.0) & (fused < 1.0)).all()


@given(lanes, st.sampled_from([0.5, 2.0, 1024.0]), st.integers(-50, 50))
def test_the_unit_of_a_lane_and_where_it_starts_do_not_matter(scores, factor, offset):
    moved = scores.copy()
    moved[0] = moved[0] * factor + offset
    np.testing.assert_allclose(fuse(moved), fuse(scores), atol=1e-9)


@given(lanes)
def test_the_order_of_lanes_does_not_matter(scores):
    np.testing.assert_allclose(fuse(scores[::-1]), fuse(scores), atol=1e-12)


@given(lanes, st.randoms(use_true_random=False))
def test_an_item_keeps_its_score_wherever_it_stands(scores, random):
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    np.testing.assert_allclose(fuse(scores[:, order]), fuse(scores)[order], atol=1e-12)


@given(lanes)
def test_an_item_that_no_lane_puts_below_another_is_not_below_it(scores):
    fused, standard = fuse(scores), standardise(scores)
    for better in range(scores.shape[1]):
        for worse in range(scores.shape[1]):
            if (standard[:, better] >= standard[:, worse]).all():
                assert fused[better] >= fused[worse] - 1e-12


@given(arrays(np.float64, st.integers(1, 30), elements=halves))
def test_one_lane_alone_keeps_its_order(scores):
    fused = fuse(scores[None])
    assert (np.diff(fused[np.argsort(scores, kind="stable")]) >= -1e-12).all()


def test_equals_scipys_z_scores_where_every_lane_scores_every_candidate():
    stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(0).normal(size=(3, 50)) * [[1.0], [30.0], [0.01]]
    np.testing.assert_allclose(standardise(scores), stats.zscore(scores, axis=1), atol=1e-9)
    order = np.argsort(stats.zscore(scores, axis=1).mean(axis=0))
    assert np.argsort(fuse(scores)).tolist() == order.tolist()


def test_a_missing_score_is_worth_the_lowest_that_the_lane_gave():
    with_gap, filled = np.array([[3.0, np.nan, 1.0], [1.0, 2.0, 3.0]]), np.array([[3.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(fuse(with_gap), fuse(filled))


def test_a_lane_that_says_nothing_changes_nothing_but_the_spread():
    one = np.array([[1.0, 5.0, 2.0]])
    for silent in (np.zeros(3), np.full(3, 7.0), np.full(3, np.nan)):
        assert np.argsort(fuse(np.vstack([one, silent]))).tolist() == [0, 2, 1]


def test_a_lane_of_weight_0_is_not_heard():
    scores = np.array([[1.0, 2.0, 3.0], [9.0, 1.0, 4.0]])
    np.testing.assert_allclose(fuse(scores, [2.0, 0.0]), fuse(scores[:1]))


def test_an_outlier_among_very_many_stays_below_1_and_can_be_demoted():
    fused = fuse(np.r_[1.0, np.zeros(5_000)][None])
    assert fused[1] < demote(fused, np.r_[True, np.zeros(5_000, dtype=bool)])[0] < fused[0] < 1.0


def test_rounding_between_equal_scores_is_no_evidence():
    equal = np.array([0.3, 0.1 + 0.2, 0.3])
    assert (standardise(equal[None]) == 0.0).all()


@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (0, 0)])
def test_no_lanes_and_no_candidates_are_fine(shape):
    assert fuse(np.zeros(shape)).shape == (shape[1],)


def test_a_single_candidate_stands_in_the_middle():
    assert fuse(np.array([[4.0], [0.1]])).tolist() == [0.5]


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(SettingsError, match="weights"):
        fuse(np.zeros((2, 3)), weights)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="2 lanes"):
        fuse(np.zeros((2, 3)), [1.0])
    with pytest.raises(ShapeError, match="infinite"):
        fuse(np.array([[np.inf, 1.0]]))
    with pytest.raises(ShapeError, match="lanes, candidates"):
        fuse(np.zeros(3))


# --- candidates and expansion ---------------------------------------------------------------------------------------


@given(lanes, st.integers(1, 9))
def test_candidates_hold_the_best_of_each_lane_and_nothing_else(scores, depth):
    found = candidates(list(scores), depth)
    assert found.tolist() == sorted(set(found.tolist()))
    brought: set[int] = set()
    for lane in scores:
        known = np.flatnonzero(~np.isnan(lane))
        brought |= set(known[np.argsort(-lane[known], kind="stable")[:depth]].tolist())
    assert set(found.tolist()) == brought


def test_candidates_of_silent_lanes_are_none():
    assert candidates([np.full(4, np.nan), np.zeros(0)]).tolist() == []
    with pytest.raises(SettingsError, match="depth"):
        candidates([np.zeros(3)], depth=0)


def test_expansion_moves_towards_what_was_found_and_stays_on_the_sphere():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(6, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query, best = vectors[0], vectors[1:]
    moved = expand(query, best, 0.5)
    assert np.linalg.norm(moved) == pytest.approx(1.0)
    assert moved @ best.mean(axis=0) > query @ best.mean(axis=0)
    np.testing.assert_array_equal(expand(query, best[:0]), query)
    np.testing.assert_allclose(expand(query, best, 0.0), query)
    np.testing.assert_array_equal(expand(query, -query[None], 1.0), query)  # they cancel: nowhere to go
    with pytest.raises(SettingsError, match="weight"):
        expand(query, best, -1.0)


# --- learning -------------------------------------------------------------------------------------------------------


def judged(queries, good, seed=0, width=40):
    """Draw queries with one right item each; lane `good` sees it, the other is noise."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(queries, 2, width))
    gains = np.zeros((queries, width))
    right = rng.integers(0, width, queries)
    gains[np.arange(queries), right] = 1.0
    scores[np.arange(queries), good, right] += 3.0
    return list(scores), list(gains)


@pytest.mark.parametrize("good", [0, 1])
def test_the_lane_that_knows_gets_the_weight_the_more_the_more_queries_show_it(good):
    share = []
    for queries in (5, 50, 500):
        weights = learn_weights(*judged(queries, good)).weights
        share.append(weights[good] / weights.sum())
    assert 0.5 < share[0] < share[1] < share[2]
    assert share[2] > 0.85


def test_learnt_weights_are_the_minimum_that_a_general_solver_finds():
    optimize = pytest.importorskip("scipy.optimize")
    scores, gains = judged(60, 1, seed=3)
    standard = [standardise(one) for one in scores]

    def loss(weights):
        parts = [weights @ one for one in standard]
        fits = sum(np.log(np.exp(part).sum()) - part @ gain for part, gain in zip(parts, gains, strict=True))
        return fits + 30.0 / 2 * ((weights - 1.0) ** 2).sum()

    expected = optimize.minimize(loss, [1.0, 1.0], bounds=[(0, None)] * 2, method="L-BFGS-B", tol=1e-12).x
    np.testing.assert_allclose(learn_weights(scores, gains).weights, expected, atol=1e-3)


def test_without_a_right_item_the_prior_stays():
    scores, gains = judged(3, 0)
    learnt = learn_weights(scores, [np.zeros_like(gain) for gain in gains], LearningSettings(prior=(1.0, 0.5)))
    assert (learnt.weights.tolist(), learnt.queries) == ([1.0, 0.5], 0)


def test_a_misleading_lane_goes_to_0_and_no_weight_below():
    scores, gains = judged(400, 0, seed=2)
    for one, gain in zip(scores, gains, strict=True):
        one[1] -= 3.0 * gain
    learnt = learn_weights(scores, gains)
    assert learnt.weights[1] == 0.0 < learnt.weights[0]
    assert learnt.loss < learnt.loss_before


def test_queries_may_have_candidates_of_different_number_and_order_does_not_matter():
    scores, gains = judged(30, 1)
    scores = [one[:, : 20 + number % 20] for number, one in enumerate(scores)]
    gains = [gain[: one.shape[1]] for one, gain in zip(scores, gains, strict=True)]
    forward, backward = learn_weights(scores, gains), learn_weights(scores[::-1], gains[::-1])
    np.testing.assert_allclose(forward.weights, backward.weights, atol=1e-4)
    assert forward.queries == sum(gain.any() for gain in gains)


def test_learning_refuses_what_does_not_fit():
    scores, gains = judged(3, 0)
    with pytest.raises(ShapeError, match="one each"):
        learn_weights(scores, gains[:2])
    with pytest.raises(ShapeError, match="query 1"):
        learn_weights(scores, [gains[0], gains[1][:5], gains[2]])
    with pytest.raises(SettingsError, match="query 0"):
        learn_weights(scores, [-gains[0], *gains[1:]])
    with pytest.raises(ShapeError, match="2 lanes"):
        learn_weights(scores, gains, LearningSettings(prior=(1.0, 1.0, 1.0)))
    with pytest.raises(SettingsError, match="prior"):
        LearningSettings(prior=(0.0, 0.0))
    with pytest.raises(SettingsError, match="prior_queries"):
        LearningSettings(prior_queries=0.0)


# --- negation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "wanted", "excluded"),
    [
        ("wall lamp without cord", "wall lamp", [("cord",)]),
        ("weighted blanket without glass beads", "weighted blanket", [("glass", "beads")]),
        ("%100 silicone not clear", "%100 silicone", [("clear",)]),
        ("paper bags without handles for gifts", "paper bags for gifts", [("handles",)]),
        ("gift not included batteries", "gift", [("batteries",)]),
        ("boots, no laces, not black", "boots, no laces", [("laces",), ("black",)]),
        ("women no show socks", "women no show socks", [("show", "socks")]),
        ("non-slip socks", "non-slip socks", []),
        ("Shoes WITHOUT Laces", "Shoes", [("laces",)]),
        ("trail shoes", "trail shoes", []),
        ("without laces", "without laces", [("laces",)]),
        ("lamp without", "lamp without", []),
        ("notebook nothing note", "notebook nothing note", []),
        ("which country did not sign?", "which country did not sign?", []),
        ("Aspirin does not prevent stroke.", "Aspirin does not prevent stroke.", []),
        ("", "", []),
    ],
)
def test_a_negation_is_read(query, wanted, excluded):
    assert read_negation(query) == Negation(wanted, tuple(excluded))


@given(st.text())
def test_any_text_is_read_and_something_is_left_to_ask(query):
    read = read_negation(query)
    assert read.wanted == query or read.wanted.strip()


@pytest.mark.parametrize(
    ("text", "excluded", "held"),
    [
        ("Lamp with cord", ("cord",), True),
        ("Lamp with cords", ("cord",), True),
        ("Cordless lamp", ("cord",), False),
        ("Lamp without a cord", ("cord",), False),
        ("cord-free lamp", ("cord",), False),
        ("Picnic basket, accessories not included", ("accessories",), False),
        ("Glass lamp", ("glass", "beads"), False),
        ("Blanket with beads of glass", ("glass", "beads"), True),
        ("", ("cord",), False),
        ("Lamp", (), False),
    ],
)
def test_a_text_holds_what_is_excluded_unless_it_excludes_it_itself(text, excluded, held):
    assert mentions(text, excluded) is held


def test_demoting_lowers_what_is_marked_keeps_its_order_and_leaves_the_rest():
    fused = fuse(np.array([[5.0, 4.0, 3.0, 2.0]]))
    held = np.array([True, True, False, False])
    lowered = demote(fused, held)
    assert (lowered[2:] == fused[2:]).all() and (lowered[:2] < fused[:2]).all()
    assert lowered[0] > lowered[1] > 0.0
    np.testing.assert_allclose(demote(fused, held, 0.0), fused)
    with pytest.raises(ShapeError, match="marks"):
        demote(fused, held[:2])
    with pytest.raises(SettingsError, match="strength"):
        demote(fused, held, -1.0)
