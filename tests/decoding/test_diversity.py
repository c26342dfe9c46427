"""Maximal marginal relevance: good items that are unlike each other."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.decoding import BeamSettings, Decoded, beam_search, diversify
from genrail.errors import SettingsError
from genrail.models.tiny_lm import NoiseModel
from tests.contracts.dict_index import DictIndex


def answer(tokens, scores):
    scores = np.array(scores, dtype=np.float64)
    return Decoded(np.arange(len(tokens)), scores, [tuple(one) for one in tokens], False, scores=scores, bound=-np.inf)


def test_the_second_item_is_of_another_kind():
    found = answer([[1, 1], [1, 2], [3, 1]], [-1.0, -1.1, -2.0])
    assert diversify([found], k=3, relevance=0.3)[0].rows.tolist() == [0, 2, 1]
    assert diversify([found], k=2, relevance=0.95)[0].rows.tolist() == [0, 1]


def test_titles_are_compared_as_sets_without_their_end():
    found = answer([[5, 6, 0], [6, 5, 0], [7, 0]], [-1.0, -1.1, -2.0])
    assert diversify([found], k=3, relevance=0.5, likeness="tokens")[0].rows.tolist() == [0, 2, 1]
    assert diversify([found], k=3, relevance=0.6, likeness="prefix")[0].rows.tolist() == [0, 1, 2]


def test_relevance_one_leaves_the_order():
    [found] = beam_search(NoiseModel(6), [[1]], DictIndex([[1, 2], [3, 4], [5, 1], [3, 1]], 6), BeamSettings(), k=4)
    [same] = diversify([found], k=4, relevance=1.0)
    assert same.rows.tolist() == found.rows.tolist()
    assert same.exact


def test_values_fall_and_the_answer_is_no_proof():
    [found] = beam_search(NoiseModel(6), [[1]], DictIndex([[1, 2], [3, 4], [5, 1], [3, 1]], 6), BeamSettings(), k=4)
    [chosen] = diversify([found], k=3, relevance=0.3)
    assert chosen.scores.tolist() == sorted(chosen.scores, reverse=True)
    assert len(chosen) == 3
    assert not chosen.exact


def test_impossible_items_come_last_and_nothing_stays_nothing():
    found = answer([[1, 1], [1, 2]], [-1.0, -np.inf])
    assert diversify([found], k=2)[0].rows.tolist() == [0, 1]
    assert len(diversify([answer([], [])], k=2)[0]) == 0
    assert diversify([answer([[1], [2]], [-np.inf, -np.inf])], k=2)[0].rows.tolist() == [0, 1]


@pytest.mark.parametrize("bad", [{"k": 0}, {"relevance": 1.5}, {"likeness": "colour"}])
def test_settings_outside_their_range_are_refused(bad):
    with pytest.raises(SettingsError):
        diversify([], **bad)
