from __future__ import annotations

import numpy as np
import pytest

from genrail.decoding import score_sequences
from genrail.errors import LogitsError, ShapeError
from genrail.models.log_softmax import log_softmax
from genrail.models.tiny_lm import NoiseModel, UniformModel


def one_by_one(model, context, sequence):
    state, logits = model.prefill([context])
    total = 0.0
    for token in sequence:
        total += log_softmax(logits[0])[token]
        state, logits = model.step(state, np.zeros(1, dtype=np.int64), np.array([token]))
    return total


def test_shared_prefixes_and_chunks_do_not_change_a_score():
    model = NoiseModel(7, seed=4)
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 7, size=rng.integers(1, 6)).tolist() for _ in range(60)]
    expected = [one_by_one(model, [3], sequence) for sequence in sequences]
    for rows_at_once in (1, 7, 1000):
        np.testing.assert_allclose(score_sequences(model, [3], sequences, rows_at_once), expected, atol=1e-9)


def test_a_table_is_scored_row_by_row():
    class Table:
        def __len__(self):
            return 2

        def sequence(self, row):
            return np.array([[1, 2], [3, 0]][row])

    model = NoiseModel(7)
    assert score_sequences(model, [1], Table()).tolist() == score_sequences(model, [1], [[1, 2], [3, 0]]).tolist()


def test_an_empty_sequence_is_refused():
    with pytest.raises(ShapeError, match="sequence 1 is empty"):
        score_sequences(UniformModel(4), [1], [[1], []])


@pytest.mark.parametrize("token", [-1, 4])
def test_a_token_outside_the_vocabulary_is_refused(token):
    with pytest.raises(LogitsError, match="outside the model's 4"):
        score_sequences(UniformModel(4), [1], [[token]])


def test_no_sequences_are_no_scores():
    assert score_sequences(UniformModel(4), [1], []).tolist() == []


def test_log_softmax_of_broken_rows():
    table = log_softmax([[np.nan, 0.0], [-np.inf, -np.inf], [1e4, -1e4]])
    np.testing.assert_allclose(table[0], [-np.inf, 0.0])
    assert np.isneginf(table[1]).all()
    np.testing.assert_allclose(table[2], [0.0, -2e4])


def test_log_softmax_names_an_infinite_logit():
    with pytest.raises(LogitsError, match="token 1"):
        log_softmax([[0.0, np.inf]])
