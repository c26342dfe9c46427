"""A warm start gives new items what like items have learnt, and leaves every other item as it was."""

import numpy as np
import pytest
import torch

from genrail.models.native import NativeModel
from genrail.models.native_settings import NativeSettings
from genrail.models.native_warm_start import item_vectors, warm_start

CODES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
VECTORS = np.eye(4, dtype=np.float32)


@pytest.fixture
def before():
    model = NativeModel.create(NativeSettings(width=8), CODES, VECTORS, seed=0, vocab_size=4)
    with torch.no_grad():
        model.network.slot_bias.copy_(torch.arange(len(model.network.slot_bias), dtype=torch.float32))
    model.changed()
    return model


def of_items(model, name):
    return getattr(model.network, name).detach().numpy()[model.table.slot[model.table.leaf]]


def test_a_new_item_has_the_mixture_and_old_ones_are_the_same(before):
    cold = before.add_items([[2, 0], [1, 2]], VECTORS[:2])
    like, weights = np.array([[0, 2], [3, 1]]), np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32)
    warm = warm_start(cold, before, like, weights)
    for name in ("free", "slot_bias"):
        learnt, now = of_items(before, name), of_items(warm, name)
        assert np.array_equal(now[:4], learnt)
        assert now[4] == pytest.approx(0.25 * learnt[0] + 0.75 * learnt[2])
        assert now[5] == pytest.approx(learnt[3])
        assert not of_items(cold, name)[4:].any()


def test_the_models_it_came_from_stay(before):
    cold = before.add_items([[2, 0]], VECTORS[:1])
    prints = before.fingerprint, cold.fingerprint
    warm = warm_start(cold, before, np.array([[1]]), np.ones((1, 1), dtype=np.float32))
    assert (before.fingerprint, cold.fingerprint) == prints
    assert warm.fingerprint not in prints


def test_probabilities_still_sum_to_one(before):
    warm = warm_start(before.add_items([[2, 0]], VECTORS[:1]), before, np.array([[1]]), np.ones((1, 1), np.float32))
    state, logits = warm.prefill([warm.context(history=[0])])
    assert np.isfinite(logits[0]).tolist() == [True, True, True, False]


def test_a_new_item_that_shares_a_whole_identifier_changes_nothing(before):
    cold = before.add_items([[1, 1]], VECTORS[:1])
    warm = warm_start(cold, before, np.array([[0]]), np.ones((1, 1), dtype=np.float32))
    assert warm.fingerprint == cold.fingerprint


def test_no_new_items(before):
    cold = before.add_items(np.empty((0, 2), np.int64), np.empty((0, 4), np.float32))
    warm = warm_start(cold, before, np.empty((0, 2), np.int64), np.empty((0, 2), np.float32))
    assert warm.fingerprint == cold.fingerprint


def test_item_vectors_are_those_given(before):
    assert np.array_equal(item_vectors(before), VECTORS)
    assert np.array_equal(item_vectors(before, [2, 0]), VECTORS[[2, 0]])
