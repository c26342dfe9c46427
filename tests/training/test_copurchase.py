"""Co-purchase vectors: items taken near each other are near."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.errors import SettingsError
from genrail.training.copurchase import copurchase_vectors, with_copurchase


def communities(groups: int, size: int, users: int = 400, length: int = 6):
    """Each user stays within one group of items."""
    random = np.random.default_rng(0)
    group = random.integers(0, groups, users)
    rows = group[:, None] * size + random.integers(0, size, (users, length))
    return rows.ravel(), np.arange(users + 1) * length


@pytest.mark.parametrize(("groups", "dimensions"), [(4, 8), (30, 40)])  # dense and sparse decomposition
def test_items_of_one_community_are_nearer_than_others(groups, dimensions):
    rows, offsets = communities(groups, 10)
    vectors = copurchase_vectors(rows, offsets, groups * 10, dimensions)
    near = vectors @ vectors.T
    same = np.arange(groups * 10)[:, None] // 10 == np.arange(groups * 10)[None, :] // 10
    assert near[same].mean() > near[~same].mean() + 0.3


def test_vectors_have_length_one_or_zero_for_items_nobody_took():
    rows, offsets = communities(2, 5)
    vectors = copurchase_vectors(rows, offsets, items=12, dimensions=16)
    assert vectors.shape == (12, 16) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:10], axis=1), 1.0, atol=1e-5)
    assert not vectors[10:].any()


def test_the_same_seed_gives_the_same_vectors():
    rows, offsets = communities(30, 10)
    first, second = (copurchase_vectors(rows, offsets, 300, 20, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_pairs_do_not_cross_users():
    vectors = copurchase_vectors([0, 1, 2, 3, 0, 1, 2, 3], [0, 2, 4, 6, 8], items=4, dimensions=4)
    assert vectors[0] @ vectors[1] > 0.9
    assert abs(vectors[1] @ vectors[2]) < 1e-5


@pytest.mark.parametrize("rows", [[], [0, 1]])
def test_no_pair_gives_zeros(rows):
    vectors = copurchase_vectors(rows, np.arange(len(rows) + 1), items=3, dimensions=2)
    assert vectors.shape == (3, 2) and not vectors.any()


def test_new_items_have_zeros_beside_their_text():
    beside = with_copurchase(np.ones((2, 3)), None, 4)
    assert beside.shape == (2, 7) and not beside[:, 3:].any()
    assert with_copurchase(np.ones((2, 3)), np.ones((2, 4)), 4).all()


def test_settings_outside_their_range_are_errors():
    with pytest.raises(SettingsError):
        copurchase_vectors([0, 1], [0, 2], items=2, dimensions=0)
