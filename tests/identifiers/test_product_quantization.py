"""Product quantization keeps up with faiss, and its rotation pays."""

import json

import numpy as np
import pytest

from genrail.errors import DamagedError, SettingsError
from genrail.identifiers.product_quantization import ProductQuantization


def correlated(rows=1500, dimensions=16, seed=0):
    """Vectors whose variance lies in a few directions that no axis follows."""
    random = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(random.normal(size=(dimensions, dimensions)))
    return (random.normal(size=(rows, dimensions)) * 2.0 ** -np.arange(dimensions) @ turn).astype(np.float32)


def error(quantizer, vectors):
    return float(((quantizer.decode(quantizer.assign(vectors)) - vectors) ** 2).sum(axis=1).mean())


def test_the_rotation_lowers_the_error():
    vectors = correlated()
    plain, rotated = (ProductQuantization(4, 16, rotate=rotate).fit(vectors) for rotate in (False, True))
    assert error(rotated, vectors) < 0.7 * error(plain, vectors)


def test_the_error_is_that_of_faiss():
    faiss = pytest.importorskip("faiss")
    vectors = correlated()
    faiss.omp_set_num_threads(1)
    rotation = faiss.OPQMatrix(16, 4)
    rotation.pq = peer = faiss.ProductQuantizer(16, 4, 4)
    rotation.train(vectors)
    rotated = rotation.apply(vectors)
    peer.train(rotated)
    theirs = float(((peer.decode(peer.compute_codes(rotated)) - rotated) ** 2).sum(axis=1).mean())
    assert error(ProductQuantization(4, 16).fit(vectors), vectors) < 1.1 * theirs


def test_the_rotation_is_orthogonal():
    rotation = ProductQuantization(3, 8).fit(correlated())._arrays["rotation"]
    assert np.allclose(rotation @ rotation.T, np.eye(16), atol=1e-5)


def test_parts_may_differ_in_size_by_one():
    vectors = correlated(dimensions=16)
    quantizer = ProductQuantization(5, 8).fit(vectors)
    assert quantizer.assign(vectors).shape == (1500, 5)
    assert error(quantizer, vectors) < (vectors**2).sum(axis=1).mean()


def test_missing_parts_are_taken_as_average():
    vectors = correlated()
    quantizer = ProductQuantization(4, 16).fit(vectors)
    codes = quantizer.assign(vectors)
    errors = [((quantizer.decode(codes[:, :depth]) - vectors) ** 2).sum() for depth in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


def test_more_levels_than_dimensions():
    with pytest.raises(SettingsError, match="levels is 17.*16 dimensions"):
        ProductQuantization(17, 4).fit(correlated())


@pytest.mark.parametrize("setting", ["levels", "codes", "rounds", "iterations", "sample_per_code"])
def test_settings_out_of_range(setting):
    with pytest.raises(SettingsError, match=setting):
        ProductQuantization(**{setting: 0})


def test_arrays_that_do_not_fit_their_page_are_refused(tmp_path):
    ProductQuantization(2, 4).fit(correlated()).save(tmp_path)
    page = tmp_path / "codebooks.json"
    whole = json.loads(page.read_text())
    page.write_text(json.dumps(whole | {"details": whole["details"] | {"codes": 5}}))
    with pytest.raises(DamagedError, match="do not fit"):
        ProductQuantization.load(tmp_path)
