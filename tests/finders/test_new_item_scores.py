"""What is observed of new items, against sums written out; and how trained items like them are found."""

import numpy as np
import pytest

from genrail.finders.calibrating_new_items import logistic
from genrail.finders.new_item_scores import observe
from genrail.finders.new_items import CHUNK, LIKE, Memory, unit
from tests.finders.calibrations import calibration


def units(rows, seed, dimensions=6):
    return unit(np.random.default_rng(seed).normal(size=(rows, dimensions)))


def test_observations_against_sums_written_out():
    past, known, new = units(3, 1), units(4, 2), units(2, 3)
    bought = [units(3, 4), units(4, 5), units(2, 6)]
    known_log, new_log = np.array([-1.0, -2.0, -3.0, -np.inf]), np.array([-5.0, -6.0])
    seen = observe([past, known, new], bought, known_log, new_log)
    weights = np.array([0.49, 0.7, 1.0]) / 2.19
    for row in range(2):
        text = [float(new[row] @ one) for one in past]
        together = [float(bought[2][row] @ one) for one in bought[0]]
        passed = sum(np.exp((new[row] @ known[j] - 1.0) / 0.1) * np.exp(known_log[j]) for j in range(4))
        expected = [
            new_log[row],
            weights @ text,
            max(text),
            np.log(passed + 1e-9),
            weights @ together,
            max(together),
        ]
        assert seen.new[row] == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(seen.known).all()
    assert seen.known[1] == pytest.approx(
        [-2.0, weights @ (past @ known[1]), (past @ known[1]).max(), past[2] @ known[1]]
    )


def test_a_margin_lowers_new_items_only_and_scores_follow_chances():
    seen = observe(
        [units(1, 1), units(3, 2), units(4, 3)], [units(1, 4), units(3, 5), units(4, 6)], -np.ones(3), -np.ones(4)
    )
    one, other = calibration(margin=0.0).judge(seen), calibration(margin=1.0).judge(seen)
    assert other.new == pytest.approx(one.new - 1.0)
    assert other.known == pytest.approx(one.known)
    assert np.argsort(one.scores).tolist() == np.argsort(one.new).tolist()


def test_like_items_are_the_nearest_trained_ones(monkeypatch):
    monkeypatch.setattr("genrail.finders.new_items.CHUNK", 7)
    texts, new = units(50, 1), units(3, 2)
    seen = np.arange(50) % 2 == 0
    rows, weights = Memory(seen, np.zeros((50, 2), np.float32), 50).like(new, lambda part: texts[part])
    cosine = np.where(seen, new @ texts.T, -np.inf)
    assert rows.shape == weights.shape == (3, min(LIKE, 25))
    assert rows.tolist() == np.argsort(-cosine, axis=1, kind="stable")[:, :LIKE].tolist()
    assert weights.sum(axis=1) == pytest.approx(np.ones(3))
    assert CHUNK > 7


def test_a_logistic_model_finds_the_weights_that_made_the_data():
    random = np.random.default_rng(0)
    features = random.normal(size=(40_000, 2)) * [1.0, 5.0]
    chances = 1.0 / (1.0 + np.exp(-(1.5 * features[:, 0] - 0.2 * features[:, 1] - 1.0)))
    weights, bias = logistic(features, random.random(40_000) < chances)
    assert [*weights, bias] == pytest.approx([1.5, -0.2, -1.0], abs=0.08)


@pytest.mark.parametrize("right", [np.zeros(20, dtype=bool), np.ones(20, dtype=bool)])
def test_a_logistic_model_of_one_outcome_stays_finite(right):
    weights, bias = logistic(np.random.default_rng(0).normal(size=(20, 3)), right)
    assert np.isfinite([*weights, bias]).all()
