"""A ranker counts as much as judged queries prove, and nothing where they prove nothing."""

from __future__ import annotations

import numpy as np

from genrail.ranking.second_look import WEIGHTS, Look, cross_fitted, learnt_weight, mixed


def looks(count, help_of, seed=0, items=30):
    """Make queries with one right item among a first stage's best; the ranker knows it with some noise."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        gains = np.zeros(items)
        gains[rng.integers(items)] = 1.0
        first = np.sort(rng.random(items))[::-1]
        made.append(Look.of(first, rng.random(items) + help_of * gains, gains, [1.0]))
    return made


def test_the_ends_are_the_orders_of_the_first_and_of_the_second():
    first, second = np.array([3.0, 2.0, 1.0]), np.array([0.0, 5.0, 9.0])
    assert np.argsort(-mixed(first, second, 0.0)).tolist() == [0, 1, 2]
    assert np.argsort(-mixed(first, second, 1.0)).tolist() == [2, 1, 0]
    assert mixed(first, np.zeros(3), 0.5).tolist() == [0.5, 0.25, 0.0]  # a ranker that tells nothing apart


def test_a_ranker_that_knows_counts_much_and_noise_counts_nothing():
    assert learnt_weight(looks(200, help_of=1.0)) >= 0.4
    noise = [
        Look.of(np.linspace(1, 0, 30), np.random.default_rng(n).random(30), np.eye(30)[n % 3], [1.0])
        for n in range(200)
    ]
    assert learnt_weight(noise) == 0.0
    assert learnt_weight(looks(1, help_of=1.0)) in WEIGHTS


def test_ndcg_is_against_all_judged_items_also_those_not_found():
    look = Look.of(np.array([2.0, 1.0]), np.zeros(2), np.array([1.0, 0.0]), [1.0, 1.0])
    assert np.isclose(look.ndcg(0.0), 1.0 / (1.0 + 1.0 / np.log2(3)))


def test_cross_fitting_measures_each_query_by_the_weight_of_the_others():
    made = looks(60, help_of=0.5)
    found, weights = cross_fitted(made, folds=5, seed=1)
    assert found.shape == (60,)
    assert len(weights) == 5
    assert all(value in {look.ndcg(weight) for weight in weights} for look, value in zip(made, found, strict=True))
    assert cross_fitted(made[:1])[1] == [0.0]  # nothing to learn from
