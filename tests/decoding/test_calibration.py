from __future__ import annotations

import numpy as np
import pytest

from genrail.decoding import BeamSettings, beam_search, calibrate, score_sequences
from genrail.errors import SettingsError
from genrail.models.tiny_lm import NoiseModel
from tests.contracts.dict_index import DictIndex

CATALOG = [[1, 2, 0], [1, 3, 0], [2, 2, 0], [4, 4, 4, 0], [1, 0], [1, 0]]
MODEL = NoiseModel(5, seed=2)
EMPTY = [8]


def answers(contexts=((9,), (7, 7)), k=6, **settings):
    return beam_search(MODEL, contexts, DictIndex(CATALOG, 5), BeamSettings(**settings), k=k)


def test_calibrated_scores_are_differences_of_teacher_forced_ones():
    for context, answer in zip([[9], [7, 7]], calibrate(MODEL, answers(), EMPTY, k=6), strict=True):
        expected = score_sequences(MODEL, context, CATALOG) - score_sequences(MODEL, EMPTY, CATALOG)
        np.testing.assert_allclose(answer.scores, np.sort(expected)[::-1], atol=1e-9)
        np.testing.assert_allclose(answer.scores, expected[answer.rows], atol=1e-9)
        assert [list(tokens) for tokens in answer.tokens] == [CATALOG[row] for row in answer.rows]
        assert answer.exact


def test_a_request_that_says_nothing_moves_nothing():
    [answer] = calibrate(MODEL, answers([EMPTY]), EMPTY, k=6)
    np.testing.assert_allclose(answer.scores, 0.0, atol=1e-9)


def test_weight_zero_leaves_the_order():
    before = answers()
    for left, right in zip(before, calibrate(MODEL, before, EMPTY, k=6, weight=0.0), strict=True):
        assert left.rows.tolist() == right.rows.tolist()


def test_a_cut_answer_is_not_called_exact():
    for answer in calibrate(MODEL, answers(), EMPTY, k=2):
        assert len(answer) == 2
        assert not answer.exact


def test_nothing_stays_nothing():
    [empty] = beam_search(MODEL, [[9]], DictIndex([], 5))
    assert len(calibrate(MODEL, [empty], EMPTY)[0]) == 0


@pytest.mark.parametrize("bad", [{"k": 0}, {"weight": 2.0}])
def test_settings_outside_their_range_are_refused(bad):
    with pytest.raises(SettingsError, match=next(iter(bad))):
        calibrate(MODEL, answers(), EMPTY, **bad)
