"""Exact search: the true top k with a proof, k items in any case, and a gap that never lies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, ExactSettings, beam_search, exact_search, score_sequences
from genrail.errors import SettingsError, ShapeError
from genrail.models.tiny_lm import NoiseModel, UniformModel
from tests.contracts.indexes import INDEXES
from tests.decoding.strategies import VOCAB, catalogs, masks, models, quietly


class Separate(NoiseModel):
    """Noise whose states cannot be joined, as those of a cache with one row per beam."""

    joins_states = False


@given(
    catalog=catalogs(),
    model=st.one_of(models, st.builds(Separate, st.just(VOCAB), seed=st.integers(0, 20))),
    mask=masks,
    k=st.integers(1, 30),
    rows_at_once=st.sampled_from([1, 3, 16]),
)
@settings(deadline=None, max_examples=50)
def test_the_answer_is_the_true_top_k(make_index, catalog, model, mask, k, rows_at_once):
    index = make_index(catalog, VOCAB)
    allowed = np.array(mask[: len(catalog)])
    search = ExactSettings(rows_at_once=rows_at_once)
    answers = quietly(exact_search, model, [[1], [2]], index, search, [index.subset(allowed), None], k)
    for answer, context, permitted in zip(answers, ([1], [2]), (allowed, np.ones(len(catalog), bool)), strict=True):
        scores = np.where(permitted, score_sequences(model, context, catalog), np.nan)
        best = np.sort(-scores)[: min(k, int(permitted.sum()))]
        assert answer.exact
        assert answer.exhausted == (permitted.sum() < k)
        assert len(set(answer.rows)) == len(answer.rows)
        np.testing.assert_allclose(-answer.log_probabilities, best, atol=1e-4)
        np.testing.assert_allclose(answer.log_probabilities, scores[answer.rows], atol=1e-4)


@given(catalog=catalogs(), seed=st.integers(0, 50), k=st.integers(1, 8))
@settings(deadline=None, max_examples=50)
def test_renormalised_scores_are_proven_too(make_index, catalog, seed, k):
    index, model = make_index(catalog, VOCAB), NoiseModel(VOCAB, seed)
    [answer] = exact_search(model, [[1]], index, ExactSettings(meaning="renormalised"), k=k)
    [wide] = beam_search(model, [[1]], index, BeamSettings(width=200, meaning="renormalised"), k=k)
    assert answer.exact
    np.testing.assert_allclose(answer.scores, wide.scores, atol=1e-4)


@given(catalog=catalogs(), seed=st.integers(0, 50), k=st.integers(1, 8), budget=st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_a_spent_budget_still_fills_the_answer_and_tells_the_doubt(catalog, seed, k, budget):
    index, model = INDEXES["dict"](catalog, VOCAB), NoiseModel(VOCAB, seed)
    [answer] = exact_search(model, [[1]], index, ExactSettings(budget=budget, rows_at_once=2, width=1), k=k)
    best = np.sort(score_sequences(model, [1], catalog))[::-1][:k]
    assert len(answer) == min(k, len(catalog))
    assert answer.gap >= best[-1] - answer.scores[-1] - 1e-9
    if answer.exact:
        np.testing.assert_allclose(answer.scores, best, atol=1e-9)


def test_a_sure_model_needs_few_rows():
    class Counting(NoiseModel):
        rows = 0

        def _logits(self, state):
            self.rows += len(state.rows)
            return super()._logits(state)

    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, 16, size=(2000, 4)), axis=0).tolist()
    index = INDEXES["trie"](codes, 16)
    model = Counting(16, sharpness=4.0)
    [answer] = exact_search(model, [[1]], index, ExactSettings(rows_at_once=1), k=10)
    assert answer.exact
    assert model.rows < len(codes) / 10


def test_nothing_allowed_costs_no_model_call():
    index = INDEXES["dict"]([[1]], VOCAB)
    [answer] = exact_search(UniformModel(VOCAB), [[1]], index, subsets=[index.only([])])
    assert (len(answer), answer.exhausted, answer.exact) == (0, True, True)


def test_a_model_that_forgets_its_states_is_refused():
    model = UniformModel(VOCAB)
    model.keeps_states = False
    with pytest.raises(SettingsError, match="beam_search"):
        exact_search(model, [[1]], INDEXES["dict"]([[1]], VOCAB))


@pytest.mark.parametrize("bad", [{"budget": 0}, {"rows_at_once": 0}, {"width": 0}, {"meaning": "logits"}])
def test_settings_outside_their_range_are_refused(bad):
    with pytest.raises(SettingsError, match=next(iter(bad))):
        ExactSettings(**bad)


def test_k_and_subsets_are_checked():
    index = INDEXES["dict"]([[1]], VOCAB)
    with pytest.raises(SettingsError, match="k is 0"):
        exact_search(UniformModel(VOCAB), [[1]], index, k=0)
    with pytest.raises(ShapeError, match="1 contexts but 2 subsets"):
        exact_search(UniformModel(VOCAB), [[1]], index, subsets=[None, None])


@given(catalog=catalogs(), model=models, mask=masks, k=st.integers(1, 6), width=st.sampled_from([1, 3, 20]))
@settings(deadline=None, max_examples=60)
def test_a_beam_beforehand_changes_no_answer(make_index, catalog, model, mask, k, width):
    index = make_index(catalog, VOCAB)
    subsets = [index.subset(np.array(mask[: len(catalog)]))]
    [plain] = quietly(exact_search, model, [[1]], index, subsets=subsets, k=k)
    seeded = ExactSettings(rows_at_once=4096, width=width, beam_first=True)
    [found] = quietly(exact_search, model, [[1]], index, seeded, subsets, k)
    np.testing.assert_allclose(found.log_probabilities, plain.log_probabilities, atol=1e-6)
    assert found.exact == plain.exact


def test_after_a_beam_the_proof_takes_one_call_for_each_level():
    class Counted(NoiseModel):
        calls = 0

        def prefill(self, contexts):
            self.calls += 1
            return super().prefill(contexts)

        def step(self, state, parents, tokens):
            self.calls += 1
            return super().step(state, parents, tokens)

    rng = np.random.default_rng(0)
    index = Trie.from_matrix(rng.integers(0, 16, (2000, 4)), vocab_size=16)
    model = Counted(16, seed=1)
    [answer] = exact_search(model, [[1]], index, ExactSettings(rows_at_once=4096, beam_first=True), k=10)
    assert answer.exact
    assert model.calls <= 8
