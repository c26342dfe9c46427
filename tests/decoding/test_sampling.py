"""Stochastic beam search draws as one by one without replacement, and keeps every promise of a search."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from genrail.decoding import SampleSettings, sample_search, score_sequences
from genrail.errors import SettingsError, ShapeError
from genrail.models.tiny_lm import NoiseModel, UniformModel
from tests.contracts.dict_index import DictIndex
from tests.decoding.strategies import VOCAB, catalogs, masks, models, quietly

CATALOG = [[1, 2, 0], [1, 3, 0], [2, 2, 0], [4, 4, 4, 0], [1, 0]]


def shares(model, catalog, temperatures=(1.0,), rows=None):
    """Multiply each item's shares among the allowed children, level by level, with no search."""
    rows = range(len(catalog)) if rows is None else rows
    found = {}
    for row in rows:
        total = 1.0
        for depth, token in enumerate(catalog[row]):
            prefix = catalog[row][:depth]
            children = sorted({catalog[one][depth] for one in rows if catalog[one][:depth] == prefix})
            logs = score_sequences(model, [9], [[*prefix, child] for child in children])
            temperature = temperatures[min(depth, len(temperatures) - 1)]
            weights = np.exp((logs - logs.max()) / temperature)
            total *= weights[children.index(token)] / weights.sum()
        found[row] = total
    return found


def chance(order, probabilities):
    """Give the probability of drawing these items in this order, one by one, without putting back."""
    left, result = sum(probabilities.values()), 1.0
    for row in order:
        result *= probabilities[row] / left
        left -= probabilities[row]
    return result


@pytest.mark.parametrize("temperature", [1.0, (2.0, 0.5)])
@pytest.mark.parametrize("rows", [None, [0, 2, 3, 4]])
def test_pairs_come_as_often_as_they_should(temperature, rows):
    """Chi-squared over all ordered pairs, against the exact probabilities."""
    index, model, draws = DictIndex(CATALOG, 5), NoiseModel(5, seed=3, sharpness=1.0), 2000
    levels = temperature if isinstance(temperature, tuple) else (temperature,)
    subsets = None if rows is None else [index.only(rows)] * draws
    answers = sample_search(
        model, [[9]] * draws, index, SampleSettings(temperature), subsets, k=2, seeds=list(range(draws))
    )
    exact = shares(model, CATALOG, levels, rows)
    assert sum(exact.values()) == pytest.approx(1)
    pairs = list(permutations(exact, 2))
    expected = np.array([chance(pair, exact) for pair in pairs]) * draws
    counted = np.zeros(len(pairs))
    for answer in answers:
        counted[pairs.index(tuple(answer.rows.tolist()))] += 1
    assert chisquare(counted, expected).pvalue > 0.001


@given(catalog=catalogs(), model=models, mask=masks, k=st.integers(1, 30), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_k_allowed_items_come_out_without_duplicates(make_index, catalog, model, mask, k, seed):
    index = make_index(catalog, VOCAB)
    allowed = np.array(mask[: len(catalog)])
    [answer] = quietly(sample_search, model, [[9]], index, SampleSettings(seed=seed), [index.subset(allowed)], k)
    assert len(set(answer.rows.tolist())) == len(answer) == min(k, int(allowed.sum()))
    assert set(answer.rows.tolist()) <= set(np.flatnonzero(allowed).tolist())
    assert answer.exhausted == (int(allowed.sum()) < k)
    assert [tuple(catalog[row]) for row in answer.rows] == answer.tokens
    assert not answer.exact or not len(answer)


def test_log_probabilities_are_the_models_own():
    model, index = NoiseModel(5, seed=1), DictIndex(CATALOG, 5)
    [answer] = sample_search(model, [[9]], index, SampleSettings(temperature=3.0), k=5)
    np.testing.assert_allclose(answer.log_probabilities, score_sequences(model, [9], answer.tokens), atol=1e-6)
    assert answer.scores.tolist() == sorted(answer.scores, reverse=True)


def test_a_seed_draws_the_same_in_any_batch():
    model, index = NoiseModel(5, seed=1), DictIndex(CATALOG, 5)
    together = sample_search(model, [[1], [2], [3]], index, SampleSettings(seed=7), k=3)
    for context, answer in zip([[1], [2], [3]], together, strict=True):
        [alone] = sample_search(model, [context], index, SampleSettings(seed=7), k=3)
        assert alone.tokens == answer.tokens
        assert alone.scores.tolist() == answer.scores.tolist()


def test_seeds_differ():
    model, index = UniformModel(5), DictIndex(CATALOG, 5)
    answers = sample_search(model, [[1]] * 20, index, k=2, seeds=list(range(20)))
    assert len({tuple(answer.tokens) for answer in answers}) > 5


def test_a_cold_draw_is_the_beams_answer():
    model, index = NoiseModel(5, seed=1), DictIndex(CATALOG, 5)
    exact = shares(model, CATALOG, (1.0,))
    hits = [
        answer.rows[0] == max(exact, key=exact.get)
        for answer in sample_search(
            model, [[9]] * 50, index, SampleSettings(temperature=0.01), k=1, seeds=list(range(50))
        )
    ]
    greedy = shares(model, CATALOG, (0.01,))
    assert np.mean(hits) == pytest.approx(greedy[max(exact, key=exact.get)], abs=0.2)


def test_nothing_allowed_costs_no_model_call():
    index = DictIndex(CATALOG, 5)
    [answer] = sample_search(None, [[9]], index, subsets=[index.only([])], k=3)
    assert len(answer) == 0
    assert answer.exhausted


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan"), (), (1.0, 0.0)])
def test_a_temperature_outside_its_range_is_refused(bad):
    with pytest.raises(SettingsError, match="temperature"):
        SampleSettings(bad)


def test_k_and_lists_are_checked():
    index = DictIndex(CATALOG, 5)
    with pytest.raises(SettingsError, match="k is 0"):
        sample_search(UniformModel(5), [[1]], index, k=0)
    with pytest.raises(ShapeError, match="seeds"):
        sample_search(UniformModel(5), [[1]], index, seeds=[1, 2])
