"""Learnt weights are measured as the evaluation measures, and are never worse than equal ones or a single source."""

import numpy as np
import pytest

from genrail.evaluation import Qrels, Run, measure
from genrail.ranking.weights import GradedShares, ascend

ITEMS, QUESTIONS, CUTOFF = 12, 40, 5


def shares_of(values, gains, counts=None):
    """Lay out what sources add, (queries, items, sources), and what each item is worth."""
    gains = np.asarray(gains, dtype=np.float32)
    discounts = np.log2(np.arange(CUTOFF) + 2.0)
    ideal = (np.sort(gains, axis=1)[:, ::-1][:, :CUTOFF] / discounts).sum(axis=1)
    counts = np.ones(len(gains)) if counts is None else counts
    real = np.ones(gains.shape, dtype=np.bool_)
    return GradedShares(np.asarray(values, dtype=np.float32), gains, real, ideal, counts, CUTOFF)


@pytest.fixture
def noisy():
    """One source that is mostly right, one that is so half of the time, one that guesses; grades from 0 to 2."""
    random = np.random.default_rng(0)
    gains = np.zeros((QUESTIONS, ITEMS))
    gains[:, 3], gains[:, 7] = 2.0, 1.0
    noise = random.normal(size=(QUESTIONS, ITEMS, 3))
    return shares_of(noise + gains[:, :, None] * np.array([1.0, 0.6, 0.0]), gains)


def test_what_is_climbed_is_what_the_evaluation_measures(noisy):
    weights = np.array([0.5, 0.3, 0.2])
    sums = noisy.values @ weights.astype(np.float32)
    run = Run(
        {f"q{query}": {f"i{item}": float(sums[query, item]) for item in range(ITEMS)} for query in range(QUESTIONS)}
    )
    grades = {f"q{query}": {"i3": 2.0, "i7": 1.0} for query in range(QUESTIONS)}
    by_query = measure(run, Qrels(grades), [f"nDCG@{CUTOFF}"]).by_query(f"nDCG@{CUTOFF}")
    assert noisy.by_query(weights).tolist() == pytest.approx([by_query[f"q{query}"] for query in range(QUESTIONS)])


def test_ndcg_by_hand():
    """The right item second of three; places that hold no item never count."""
    shares = shares_of([[[3.0], [2.0], [1.0], [9.0], [9.0]]], [[0, 1, 0, 0, 0]])
    real = np.array([[True, True, True, False, False]])
    hidden = GradedShares(shares.values, shares.gains, real, shares.ideal, shares.counts, CUTOFF)
    assert hidden.ndcg(np.ones(1)) == pytest.approx(1.0 / np.log2(3))


def test_questions_count_as_often_as_they_are_told_to():
    values, gains = np.zeros((2, CUTOFF, 1)), np.zeros((2, CUTOFF))
    values[0, 0], gains[0, 0] = 1.0, 1.0  # right at once
    values[1, 0], gains[1, 1] = 1.0, 1.0  # another item first
    by_query = shares_of(values, gains).by_query(np.ones(1))
    assert shares_of(values, gains, np.array([3.0, 1.0])).ndcg(np.ones(1)) == pytest.approx(by_query @ [0.75, 0.25])


def test_weights_climbed_to_are_no_worse_than_equal_single_or_given_ones(noisy):
    given = np.array([0.7, 0.3, 0.0])
    weights, found = ascend(noisy, given)
    assert weights.sum() == pytest.approx(1.0) and (weights >= 0.0).all()
    assert found == pytest.approx(noisy.ndcg(weights))
    for others in (np.ones(3) / 3, *np.eye(3), given):
        assert found >= noisy.ndcg(others)
    assert weights[0] > weights[2]
