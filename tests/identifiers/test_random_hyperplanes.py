"""What is special to random hyperplanes: whole bits, and sides that angles decide."""

import numpy as np
import pytest

from genrail.errors import SettingsError
from genrail.identifiers import RandomHyperplanes, SemanticIds


@pytest.mark.parametrize("codes", [3, 6, 100])
def test_codes_that_are_no_power_of_two_are_refused(codes):
    with pytest.raises(SettingsError, match="power of two"):
        RandomHyperplanes(codes=codes)


def test_sides_differ_as_often_as_the_angle_says():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(2, 2000)).astype(np.float32)
    vectors[1] = vectors[0] + vectors[1]  # at an angle of about 45 degrees
    cosine = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    pairs = np.concatenate([vectors, -vectors])  # their mean is zero
    codes = RandomHyperplanes(levels=2000, codes=2).fit(pairs).assign(pairs)
    assert (codes[0] != codes[1]).mean() == pytest.approx(np.arccos(cosine) / np.pi, abs=0.04)
    assert (codes[0] != codes[2]).all()


def test_another_seed_draws_other_hyperplanes():
    vectors = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    one, other = (RandomHyperplanes(seed=seed).fit(vectors) for seed in (0, 1))
    assert one.fingerprint != other.fingerprint


def test_it_makes_semantic_ids():
    vectors = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    table = SemanticIds.fit(vectors, quantizer=RandomHyperplanes(2, 4)).assign(vectors)
    assert len(np.unique(table.matrix(), axis=0)) == 50
