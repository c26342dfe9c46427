"""Residual k-means keeps the contract, uses its codes and agrees with a plain nearest-centroid search."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.errors import DamagedError, SettingsError
from genrail.identifiers.kmeans import kmeans, nearest
from genrail.identifiers.residual_kmeans import ResidualKMeans


def bundles(rows=300, dimensions=8, clusters=6, seed=0):
    """Vectors around a few centres, and which centre each belongs to."""
    random = np.random.default_rng(seed)
    bundle = random.integers(clusters, size=rows)
    vectors = random.normal(size=(clusters, dimensions))[bundle] + 0.1 * random.normal(size=(rows, dimensions))
    return vectors.astype(np.float32), bundle


def test_each_level_brings_the_reconstruction_nearer():
    vectors, _ = bundles()
    quantizer = ResidualKMeans(levels=3, codes=8, normalise=False).fit(vectors)
    codes = quantizer.assign(vectors)
    errors = [((quantizer.decode(codes[:, :depth]) - vectors) ** 2).sum() for depth in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("normalise", [False, True])
def test_every_level_picks_the_nearest_centroid_of_what_is_left(normalise):
    vectors, _ = bundles()
    quantizer = ResidualKMeans(levels=3, codes=8, normalise=normalise).fit(vectors)
    left = vectors.astype(np.float64)
    for level, (codebook, column) in enumerate(zip(quantizer.codebooks, quantizer.assign(vectors).T, strict=True)):
        if level and normalise:
            left /= np.linalg.norm(left, axis=1, keepdims=True)
        distances = ((left[:, None] - codebook[None]) ** 2).sum(axis=2)
        picked = distances[np.arange(len(left)), column]
        assert np.allclose(picked, distances.min(axis=1), atol=1e-5)
        left = left - codebook[column]


def test_well_separated_bundles_are_found():
    vectors, bundle = bundles()
    codes = ResidualKMeans(levels=1, codes=6).fit(vectors).assign(vectors)[:, 0]
    assert len(set(zip(codes.tolist(), bundle.tolist(), strict=True))) == 6


def test_seeds_differ():
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    assert (
        ResidualKMeans(2, 16, seed=0).fit(vectors).fingerprint != ResidualKMeans(2, 16, seed=1).fit(vectors).fingerprint
    )


def test_all_codes_are_used_when_there_are_enough_vectors():
    vectors = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    codes = ResidualKMeans(levels=3, codes=64).fit(vectors).assign(vectors)
    assert [len(np.unique(column)) for column in codes.T] == [64, 64, 64]


def test_empty_clusters_are_revived_where_one_bundle_holds_nearly_everything():
    random = np.random.default_rng(0)
    vectors = np.concatenate([1e-3 * random.normal(size=(500, 4)), 10 + random.normal(size=(20, 4))]).astype(np.float32)
    codes = nearest(vectors, kmeans(vectors, 32, np.random.default_rng(0)))
    assert len(np.unique(codes)) == 32


def test_fewer_distinct_vectors_than_codes_gives_each_its_own():
    vectors = np.repeat(np.eye(5, dtype=np.float32), 7, axis=0)
    quantizer = ResidualKMeans(levels=2, codes=16).fit(vectors)
    codes = quantizer.assign(vectors)
    assert len(np.unique(codes[:, 0])) == 5
    assert np.allclose(quantizer.decode(codes), vectors, atol=1e-6)


def test_a_sample_is_fitted_when_there_are_many_vectors():
    vectors = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    quantizer = ResidualKMeans(levels=1, codes=4, sample_per_code=50).fit(vectors)
    assert quantizer.fingerprint == ResidualKMeans(levels=1, codes=4, sample_per_code=50).fit(vectors).fingerprint
    error = ((quantizer.decode(quantizer.assign(vectors)) - vectors) ** 2).sum(axis=1).mean()
    full = ResidualKMeans(levels=1, codes=4).fit(vectors)
    assert error < 1.15 * ((full.decode(full.assign(vectors)) - vectors) ** 2).sum(axis=1).mean()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 12), st.sampled_from([1e-6, 1.0, 1e6]))
def test_nearest_agrees_with_a_plain_search(seed, rows, codes, scale):
    random = np.random.default_rng(seed)
    vectors = (scale * random.normal(size=(rows, 5))).astype(np.float32)
    centroids = (scale * random.normal(size=(codes, 5))).astype(np.float32)
    distances = ((vectors[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    assert np.array_equal(nearest(vectors, centroids), distances.argmin(axis=1))


def test_of_equal_centroids_the_first_is_given_out():
    centroids = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    assert nearest(np.array([[1, 0], [0, 1]], dtype=np.float32), centroids).tolist() == [0, 1]


@pytest.mark.parametrize("setting", ["levels", "codes", "iterations", "sample_per_code"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_settings_out_of_range(setting, value):
    with pytest.raises(SettingsError, match=setting):
        ResidualKMeans(**{setting: value})


def test_codebooks_that_do_not_fit_their_page_are_refused(tmp_path):
    ResidualKMeans(2, 4).fit(np.eye(6, dtype=np.float32)).save(tmp_path)
    page = tmp_path / "codebooks.json"
    whole = json.loads(page.read_text())
    page.write_text(json.dumps(whole | {"details": whole["details"] | {"levels": 3}}))
    with pytest.raises(DamagedError, match="do not fit"):
        ResidualKMeans.load(tmp_path)
    page.write_text(json.dumps(whole | {"details": {"depth": 3}}))
    with pytest.raises(DamagedError, match="does not describe"):
        ResidualKMeans.load(tmp_path)
