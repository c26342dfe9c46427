"""Lanes are mixed by how far their scores stand out; weights are learnt as far as the evidence goes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from genrail.errors import ShapeError
from genrail.ranking.mixing import Answers, Mixture, learn_mixture, standardise

# Halves: so that shifting and scaling below is exact, and equal scores stay equal.
halves = st.integers(-2_000, 2_000).map(lambda number: number / 2)
lanes = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=halves | st.just(np.nan))


@given(lanes, st.sampled_from([0.5, 2.0, 64.0]), halves)
def test_the_unit_of_a_lane_and_where_it_starts_do_not_matter(scores, factor, offset):
    np.testing.assert_allclose(standardise(scores * factor + offset), standardise(scores), atol=1e-6)


@given(lanes)
def test_standing_is_finite_and_keeps_the_order_of_each_lane(scores):
    standing = standardise(scores)
    assert np.isfinite(standing).all()
    for lane, given_scores in zip(standing, scores, strict=True):
        known = np.flatnonzero(~np.isnan(given_scores))
        order = known[np.argsort(given_scores[known], kind="stable")]
        assert (np.diff(lane[order]) >= -1e-9).all()


def test_equals_scipys_z_scores_where_every_lane_scores_every_candidate():
    stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(0).normal(size=(3, 50)) * [[1.0], [30.0], [0.01]]
    np.testing.assert_allclose(standardise(scores), stats.zscore(scores, axis=1), atol=1e-9)


def test_a_missing_score_is_worth_the_lowest_that_the_lane_gave():
    with_gap, filled = np.array([[3.0, np.nan, 1.0]]), np.array([[3.0, 1.0, 1.0]])
    np.testing.assert_array_equal(standardise(with_gap), standardise(filled))


def test_rounding_between_equal_scores_is_no_evidence():
    assert (standardise(np.array([[0.3, 0.1 + 0.2, 0.3]])) == 0.0).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="infinite"):
        standardise(np.array([[np.inf, 1.0]]))
    with pytest.raises(ShapeError, match="lanes, candidates"):
        standardise(np.zeros(3))


# --- learning ---


def said(scores):
    scores = np.asarray(scores, dtype=np.float64)
    places = np.argsort(np.argsort(-scores, axis=1), axis=1) + 1
    return Answers(np.arange(scores.shape[1]), places, scores)


def questions(count, seed=0, items=30, noise=1.0):
    """Make questions whose right item the first lane knows, while the second guesses."""
    random = np.random.default_rng(seed)
    answers, grades = [], []
    for _ in range(count):
        right = int(random.integers(items))
        scores = random.random((2, items))
        scores[0, right] += noise
        answers.append(said(scores))
        grades.append({right: 1.0})
    return answers, grades


def ndcg(mixture, count=300):
    answers, grades = questions(count, seed=9)
    gains = []
    for one, grade in zip(answers, grades, strict=True):
        [right] = grade
        rank = int((mixture.sums(one) > mixture.sums(one)[right]).sum())
        gains.append(1.0 / np.log2(rank + 2.0) if rank < 10 else 0.0)
    return np.mean(gains)


EQUAL = Mixture.prior({"knows": 1.0, "guesses": 1.0})


def test_the_lane_that_knows_gets_the_weight_the_more_the_more_questions_show_it():
    learnt = [learn_mixture(EQUAL, *questions(count)) for count in (4, 40, 400)]
    figures = [ndcg(EQUAL), *map(ndcg, learnt)]
    assert figures[-1] > figures[0] + 0.05
    assert figures == sorted(figures)
    assert learnt[-1].questions == 400


def test_what_is_learnt_is_not_below_the_best_lane_where_it_was_not_learnt():
    for count in (10, 40, 400):
        mixture = learn_mixture(EQUAL, *questions(count))
        alone = Mixture.prior({"knows": 1.0, "guesses": 0.0})
        assert ndcg(mixture) > ndcg(alone) - 0.03


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_three_questions_teach_nothing(count):
    assert learn_mixture(EQUAL, *questions(count)) == EQUAL


def test_figures_tell_each_lane_the_prior_and_the_mixture():
    mixture = learn_mixture(EQUAL, *questions(60))
    assert set(mixture.figures) == {"prior", "mixture", "knows", "guesses"}
    assert mixture.figures["knows"] > mixture.figures["guesses"]
    assert mixture.weights.sum() == pytest.approx(1.0)
    assert (mixture.weights >= 0.0).all()


def test_a_mixture_survives_json():
    mixture = learn_mixture(EQUAL, *questions(30))
    assert Mixture.from_dict(json.loads(json.dumps(mixture.to_dict()))) == mixture


def test_some_lanes_of_a_mixture_keep_their_shares_and_silent_ones_become_equal():
    mixture = Mixture.prior({"a": 3.0, "b": 1.0, "c": 0.0})
    assert mixture.only(["b"]).standing == (1.0,)
    assert mixture.only(["a", "b"]).standing == (0.75, 0.25)
    assert mixture.only(["c"]).standing == (1.0,)
    assert mixture.asked == ("a", "b")


def test_calibrated_scores_rise_with_the_sums_and_rank_as_they_do():
    answers, grades = questions(200)
    mixture = learn_mixture(EQUAL, answers, grades)
    assert mixture.slope > 0.0
    assert mixture.offset < 0.0  # of thirty candidates one is right
