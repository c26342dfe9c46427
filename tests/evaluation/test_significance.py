"""Noise is called noise, and a real difference a difference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrail.errors import SettingsError, ShapeError
from genrail.evaluation import bootstrap_interval, holm, paired_test, randomisation_test
from genrail.evaluation.significance import paired_tests

values = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(values)
def test_a_method_compared_with_itself_is_never_better(numbers):
    test = paired_test(numbers, numbers, samples=200)
    assert test.verdict == "no difference shown"
    assert test.p == 1.0


@given(values, st.integers(0, 5))
def test_swapping_the_methods_swaps_the_verdict(numbers, seed):
    other = np.random.default_rng(seed).random(len(numbers))
    there, back = paired_test(numbers, other, samples=500), paired_test(other, numbers, samples=500)
    assert there.p == pytest.approx(back.p, abs=1e-9)
    assert there.difference.mean == pytest.approx(-back.difference.mean)
    assert {there.verdict, back.verdict} in ({"better", "worse"}, {"no difference shown"})


def test_one_query_shows_nothing():
    test = paired_test([1.0], [0.0])
    assert test.verdict == "no difference shown"
    assert (test.difference.low, test.difference.high) == (None, None)
    assert "no interval" in str(test.difference)


def test_few_differences_are_tested_exactly():
    """Eight differences of one sign: 2 of 256 patterns are as extreme; scipy's exact sign-flip test says the same."""
    assert randomisation_test([1.0] * 8, [0.0] * 8) == pytest.approx(2 / 256)
    assert randomisation_test([1.0] * 8 + [0.5] * 90, [0.0] * 8 + [0.5] * 90) == pytest.approx(2 / 256)


def test_drawn_patterns_agree_with_another_implementation():
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(4)
    first, second = random.random(60), random.random(60) - 0.08
    theirs = stats.permutation_test(
        (first, second), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=20_000, rng=1
    ).pvalue
    assert randomisation_test(first, second, samples=20_000) == pytest.approx(theirs, abs=0.01)


def test_the_bootstrap_agrees_with_drawing_queries_one_by_one():
    random = np.random.default_rng(2)
    numbers = random.choice([0.0, 0.5, 1.0], size=80)
    drawn = numbers[random.integers(0, 80, size=(20_000, 80))].mean(axis=1)
    interval = bootstrap_interval(numbers, samples=20_000)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.008)


def test_the_same_seed_gives_the_same_figures():
    numbers = np.random.default_rng(0).random(50)
    assert bootstrap_interval(numbers, seed=3) == bootstrap_interval(numbers, seed=3)
    assert bootstrap_interval(numbers, seed=3) != bootstrap_interval(numbers, seed=4)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """400 samples of 100 queries with known mean: 95 % intervals hold it in 92 to 98 % (binomial noise is 1.1 %)."""
    random = np.random.default_rng(5)
    held = 0
    for trial in range(400):
        interval = bootstrap_interval(random.beta(0.4, 0.6, size=100), seed=trial, samples=1000)
        held += interval.low <= 0.4 <= interval.high
    assert 0.92 <= held / 400 <= 0.98


def test_false_alarms_stay_near_alpha():
    random = np.random.default_rng(6)
    alarms = sum(
        paired_test(random.random(40), random.random(40), seed=trial, samples=500).verdict != "no difference shown"
        for trial in range(400)
    )
    assert alarms / 400 <= 0.08


def test_a_real_difference_is_found():
    random = np.random.default_rng(7)
    worse = random.random(200) * 0.5
    test = paired_test(worse + 0.1, worse)
    assert (test.verdict, test.wins, test.losses) == ("better", 200, 0)
    assert test.difference.low == pytest.approx(0.1) == test.difference.high


@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_keeps_order_and_never_lowers(p_values):
    adjusted = holm(p_values)
    assert all(before <= after <= 1.0 for before, after in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 30), st.floats(0, 0.4))
def test_an_interval_says_what_the_corrected_test_says(seed, methods, queries, gain):
    """Also of few queries, where resampling alone would exclude zero although no difference is shown."""
    random = np.random.default_rng(seed)
    reference = random.random(queries).round(1)
    values = {f"m{number}": reference + gain * random.standard_normal(queries) + gain / 2 for number in range(methods)}
    for test in paired_tests(values, reference, samples=300).values():
        interval = test.difference
        assert 0.95 - 1e-9 <= interval.level < 1.0
        assert interval.low <= interval.mean <= interval.high
        if test.verdict == "no difference shown":
            assert interval.low <= 0.0 <= interval.high
        else:
            assert interval.low >= 0.0 or interval.high <= 0.0


def test_the_more_methods_the_wider_the_interval_of_the_clearest():
    random = np.random.default_rng(8)
    reference = random.random(100)
    clear = reference + 0.05 + 0.1 * random.standard_normal(100)
    others = {f"m{number}": reference + 0.1 * random.standard_normal(100) for number in range(7)}
    alone = paired_tests({"clear": clear}, reference)["clear"].difference
    among = paired_tests({"clear": clear, **others}, reference)["clear"].difference
    assert (alone.level, among.level) == (pytest.approx(0.95), pytest.approx(1 - 0.05 / 8))
    assert among.low < alone.low < alone.high < among.high


def test_intervals_of_a_family_of_equals_seldom_exclude_zero():
    """300 families of four equal methods: at least one interval without zero in about 5 % (noise is 1.3 %)."""
    random = np.random.default_rng(9)
    alarms = 0
    for trial in range(300):
        reference = random.random(40)
        tests = paired_tests({str(n): random.random(40) for n in range(4)}, reference, seed=trial, samples=500)
        alarms += any(test.difference.low > 0 or test.difference.high < 0 for test in tests.values())
    assert alarms / 300 <= 0.09


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="2 values but the second 1"):
        paired_test([1.0, 2.0], [1.0])
    with pytest.raises(ShapeError):
        bootstrap_interval([])
    with pytest.raises(ShapeError):
        bootstrap_interval([float("nan"), 1.0])
    with pytest.raises(SettingsError):
        bootstrap_interval([1.0, 2.0], samples=0)
