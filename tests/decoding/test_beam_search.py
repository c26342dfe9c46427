"""Promises 1 to 3 over random catalogues, filters and broken logits; beam search against exhaustive scoring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from genrail.decoding import BeamSettings, beam_search, score_sequences
from genrail.errors import LogitsError, SettingsError, ShapeError
from genrail.models.tiny_lm import NoiseModel, UniformModel
from tests.contracts.dict_index import DictIndex
from tests.decoding.strategies import END, VOCAB, catalogs, masks, models, quietly


@given(catalog=catalogs(), model=models, mask=masks, k=st.integers(1, 30), width=st.integers(1, 12), jump=st.booleans())
@settings(deadline=None, max_examples=80)
def test_answers_are_allowed_complete_and_without_duplicates(make_index, catalog, model, mask, k, width, jump):
    index = make_index(catalog, VOCAB)
    allowed = np.array(mask[: len(catalog)])
    beam = BeamSettings(width=width, jump_tails=jump)
    answers = quietly(beam_search, model, [[1], [2, 3]], index, beam, subsets=[index.subset(allowed), None], k=k)
    for answer, permitted in zip(answers, [set(np.flatnonzero(allowed)), set(range(len(catalog)))], strict=True):
        assert set(answer.rows) <= permitted
        assert len(answer.rows) == len(set(answer.rows)) == min(k, len(permitted))
        assert answer.exhausted == (len(permitted) < k)
        assert [list(tokens) for tokens in answer.tokens] == [list(catalog[row]) for row in answer.rows]
        assert list(answer.scores) == sorted(answer.scores, reverse=True)


@given(catalog=catalogs(), model=models, k=st.integers(1, 12), width=st.integers(1, 12))
@settings(deadline=None, max_examples=50)
def test_log_probabilities_are_the_teacher_forced_ones(make_index, catalog, model, k, width):
    index = make_index(catalog, VOCAB)
    [answer] = quietly(beam_search, model, [[1]], index, BeamSettings(width=width), k=k)
    expected = score_sequences(model, [1], answer.tokens)
    np.testing.assert_allclose(answer.log_probabilities, expected, atol=1e-4)


@given(
    catalog=catalogs(),
    model=models,
    k=st.integers(1, 12),
    power=st.sampled_from([0.0, 0.5, 1.0]),
    meaning=st.sampled_from(["full_softmax", "renormalised"]),
)
@settings(deadline=None, max_examples=50)
def test_a_wide_beam_equals_exhaustive_scoring(make_index, catalog, model, k, power, meaning):
    # The search by branchings does not read what must follow, so it cannot see that its logit is NaN or -inf.
    assume(meaning == "full_softmax" or type(model).__name__ != "BrokenModel")
    index = make_index(catalog, VOCAB)
    beam = BeamSettings(width=200, length_normalisation=power, meaning=meaning)
    [answer] = quietly(beam_search, model, [[4, 5]], index, beam, k=k)
    scores = exhaustive(model, [4, 5], catalog, power, meaning)
    best = np.sort(scores)[::-1][:k]
    np.testing.assert_allclose(answer.scores, best, atol=1e-4)
    np.testing.assert_allclose(answer.scores, scores[answer.rows], atol=1e-4)
    assert answer.exact


def exhaustive(model, context, catalog, power, meaning):
    if meaning == "full_softmax":
        raw = score_sequences(model, context, catalog)
    else:
        wide = DictIndex(catalog, VOCAB)
        raw = np.zeros(len(catalog))
        for row, sequence in enumerate(catalog):
            beams = wide.start(1)
            state, logits = model.prefill([context])
            score = np.zeros((1, 1))
            for token in sequence:
                found = wide.candidates(beams, logits, score, VOCAB, meaning="renormalised")
                pick = np.array([[found.tokens[0, : found.count[0]].tolist().index(token)]])
                score = np.take_along_axis(found.scores, pick, axis=1)
                beams = wide.advance(found, pick)
                state, logits = model.step(state, np.zeros(1, dtype=np.int64), np.array([token]))
            raw[row] = score[0, 0]
    return raw / np.array([len(sequence) for sequence in catalog]) ** power


@given(catalog=catalogs(), model=models, k=st.integers(1, 6), width=st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_a_batch_answers_as_one_by_one(make_index, catalog, model, k, width):
    index = make_index(catalog, VOCAB)
    contexts = [[1], [2, 2], [3], [1, 4, 4]]
    subsets = [None, index.only([0]), index.without([0]), index.only([])]
    beam = BeamSettings(width=width)
    together = quietly(beam_search, model, contexts, index, beam, subsets, k)
    for answer, context, subset in zip(together, contexts, subsets, strict=True):
        [alone] = quietly(beam_search, model, [context], index, beam, [subset], k)
        assert answer.tokens == alone.tokens
        assert answer.rows.tolist() == alone.rows.tolist()
        assert answer.log_probabilities.tolist() == alone.log_probabilities.tolist()  # to the last bit


@given(catalog=catalogs(), seed=st.integers(0, 99), k=st.integers(1, 5), width=st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_an_answer_called_exact_is_the_true_top_k(catalog, seed, k, width):
    index, model = DictIndex(catalog, VOCAB), NoiseModel(VOCAB, seed)
    [answer] = beam_search(model, [[1]], index, BeamSettings(width=width), k=k)
    best = np.sort(score_sequences(model, [1], catalog))[::-1][:k]
    assert answer.gap >= best[-1] - answer.scores[-1] - 1e-9
    if answer.exact:
        np.testing.assert_allclose(answer.scores, best, atol=1e-9)


@pytest.mark.parametrize("jump", [True, False])
@given(catalog=catalogs(), seed=st.integers(0, 99), k=st.integers(1, 5), width=st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_small_memory_changes_nothing(jump, catalog, seed, k, width):
    index, model = DictIndex(catalog, VOCAB), NoiseModel(VOCAB, seed)
    contexts = [[1], [2], [3]]
    roomy = beam_search(model, contexts, index, BeamSettings(width=width, jump_tails=jump), k=k)
    tight = beam_search(model, contexts, index, BeamSettings(width=width, jump_tails=jump, logits_bytes=1), k=k)
    assert [answer.tokens for answer in roomy] == [answer.tokens for answer in tight]


class Counting(NoiseModel):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = []

    def _logits(self, state):
        self.calls.append(len(state.rows))
        return super()._logits(state)


def test_nothing_allowed_costs_no_model_call(make_index):
    index, model = make_index([[1, 2], [1, 3]], VOCAB), Counting(VOCAB)
    [answer] = beam_search(model, [[1]], index, subsets=[index.only([])], k=3)
    assert len(answer) == 0
    assert answer.exhausted
    assert answer.exact
    assert model.calls == []


def test_no_query_is_no_answer(make_index):
    assert beam_search(UniformModel(VOCAB), [], make_index([[1]], VOCAB)) == []


def test_an_identifier_that_begins_another_comes_out_too(make_index):
    nike_air, nike_air_max = [1, 2, END], [1, 2, 3, END]
    index = make_index([nike_air, nike_air_max], VOCAB)
    [answer] = beam_search(NoiseModel(VOCAB, seed=3), [[5]], index, k=2)
    assert sorted(answer.rows.tolist()) == [0, 1]
    assert not answer.exhausted


def test_equal_identifiers_come_in_catalogue_order(make_index):
    index = make_index([[1, 2], [3, 4], [1, 2], [1, 2]], VOCAB)
    [answer] = beam_search(UniformModel(VOCAB), [[5]], index, subsets=[index.without([0])], k=3)
    rows = answer.rows.tolist()
    assert sorted(rows) == [1, 2, 3]
    assert rows.index(3) == rows.index(2) + 1


def test_k_cuts_through_equal_identifiers(make_index):
    index = make_index([[1, 2]] * 9, VOCAB)
    [answer] = beam_search(UniformModel(VOCAB), [[5]], index, BeamSettings(width=1), k=4)
    assert answer.rows.tolist() == [0, 1, 2, 3]
    assert not answer.exhausted


def test_more_asked_than_exist(make_index):
    index = make_index([[1], [2], [3]], VOCAB)
    [answer] = beam_search(UniformModel(VOCAB), [[5]], index, k=100)
    assert answer.rows.tolist() == [0, 1, 2]
    assert answer.exhausted


def test_one_item(make_index):
    [answer] = beam_search(UniformModel(VOCAB), [[5]], make_index([[1, 2, 3]], VOCAB), k=1)
    assert answer.rows.tolist() == [0]
    np.testing.assert_allclose(answer.log_probabilities, [-3 * np.log(VOCAB)], atol=1e-6)


def test_equal_scores_come_out_shortest_first_then_by_token(make_index):
    index = make_index([[2, END], [1, END], [1, 1, END]], VOCAB)
    [answer] = beam_search(UniformModel(VOCAB), [[5]], index, k=3)
    assert answer.rows.tolist() == [1, 0, 2]


def test_length_normalisation_lifts_the_longer_title(make_index):
    index = make_index([[1, END], [2, 2, 2, END]], VOCAB)

    class Steady(UniformModel):
        def _logits(self, state):
            logits = super()._logits(state)
            for place, row in enumerate(state.rows):
                written = len(row) - 2
                logits[place, 2 if written else 1] = 1.5  # a bad start, then sure of itself
                logits[place, END] = 1.5 if row.count(2) == 3 else 0.0
            return logits

    [plain] = beam_search(Steady(VOCAB), [[5]], index, k=2)
    [normalised] = beam_search(Steady(VOCAB), [[5]], index, BeamSettings(length_normalisation=1.0), k=2)
    assert plain.rows.tolist() == [0, 1]
    assert normalised.rows.tolist() == [1, 0]
    lengths = np.array([len(tokens) for tokens in normalised.tokens])
    np.testing.assert_allclose(normalised.scores, normalised.log_probabilities / lengths)


def test_the_search_stops_when_no_open_beam_can_win(make_index):
    class Sure(Counting):
        def _logits(self, state):
            logits = super()._logits(state) * 0
            logits[:, 1] = 50.0
            return logits

    index, model = make_index([[1, 1, END], [2, 3, 4, 5, 4, END], [3, 3, 4, 5, 4, END]], VOCAB), Sure(VOCAB)
    model_end = BeamSettings(width=2, jump_tails=False)
    beam_search(model, [[5]], index, model_end, k=1)
    assert len(model.calls) == 3  # prefill and two tokens, not six


def test_finished_beams_leave_the_model(make_index):
    index, model = make_index([[1, END], [2, 2, END], [3, 3, 3, END]], VOCAB), Counting(VOCAB)
    beam_search(model, [[5]], index, BeamSettings(width=9, jump_tails=False), k=3)
    assert model.calls == [1, 3, 2, 1]


def test_a_model_with_a_padded_head_is_fine(make_index):
    index = make_index([[1, 2], [1, 3]], VOCAB)
    [answer] = beam_search(NoiseModel(VOCAB + 10), [[5]], index, k=2)
    np.testing.assert_allclose(
        answer.log_probabilities, score_sequences(NoiseModel(VOCAB + 10), [5], answer.tokens), atol=1e-5
    )


def test_a_model_narrower_than_the_index_is_refused(make_index):
    with pytest.raises(LogitsError, match="tokenizer"):
        beam_search(UniformModel(3), [[5]], make_index([[1, 2]], VOCAB))


def test_positive_infinity_is_refused_by_name(make_index):
    class Exploding(UniformModel):
        def _logits(self, state):
            return super()._logits(state) + np.float32(np.inf)

    with pytest.raises(LogitsError, match="inf"):
        beam_search(Exploding(VOCAB), [[5]], make_index([[1, 2], [3, 4]], VOCAB))


@pytest.mark.parametrize(
    "bad",
    [{"width": 0}, {"length_normalisation": -1.0}, {"meaning": "logits"}, {"finish": "never"}],
)
def test_settings_outside_their_range_are_refused(bad):
    with pytest.raises(SettingsError, match=next(iter(bad))):
        BeamSettings(**bad)


def test_k_below_one_is_refused():
    with pytest.raises(SettingsError, match="k is 0"):
        beam_search(UniformModel(VOCAB), [[1]], DictIndex([[1]], VOCAB), k=0)


def test_subsets_must_match_contexts():
    with pytest.raises(ShapeError, match="1 contexts but 2 subsets"):
        beam_search(UniformModel(VOCAB), [[1]], DictIndex([[1]], VOCAB), subsets=[None, None])


@given(
    catalog=catalogs(),
    model=models,
    mask=masks,
    k=st.integers(1, 12),
    width=st.integers(1, 12),
    tokens=st.sampled_from([0, 5, 10, 1000]),
)
@settings(deadline=None, max_examples=60)
def test_jumping_to_the_end_changes_no_answer(make_index, catalog, model, mask, k, width, tokens):
    index = make_index(catalog, VOCAB)
    subsets = [index.subset(np.array(mask[: len(catalog)])), None]
    contexts = [[1], [2]]
    jumping = BeamSettings(width=width, jump_tokens=tokens)
    on = quietly(beam_search, model, contexts, index, jumping, subsets, k)
    off = quietly(beam_search, model, contexts, index, BeamSettings(width=width, jump_tails=False), subsets, k)
    for jumped, stepped in zip(on, off, strict=True):
        assert len(jumped) == len(stepped)
        if type(model) is NoiseModel:  # the others tie, and a rounding may decide which of equal beams lives on
            assert jumped.tokens == stepped.tokens
            np.testing.assert_allclose(jumped.log_probabilities, stepped.log_probabilities, atol=1e-5)


def test_a_forced_tail_takes_few_model_calls(make_index):
    class Rows(NoiseModel):
        calls = 0

        def step(self, state, parents, tokens):
            self.calls += 1
            return super().step(state, parents, tokens)

        def read_runs(self, state, parents, runs):
            self.calls += 1
            return super().read_runs(state, parents, runs)

    index = make_index([[1, *[2] * 20, END], [3, *[2] * 20, END]], VOCAB)
    jumping, stepping = Rows(VOCAB), Rows(VOCAB)
    beam_search(jumping, [[5]], index, k=2)
    beam_search(stepping, [[5]], index, BeamSettings(jump_tails=False), k=2)
    assert jumping.calls <= 3  # at most; the search by branchings reads forty tokens at a time
    assert stepping.calls == 21
