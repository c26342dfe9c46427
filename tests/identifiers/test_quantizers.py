"""What every quantizer promises: each implementation runs the whole contract; what is its own has its own file."""

from functools import cache

import numpy as np
import pytest

from genrail.errors import DamagedError, FormatError, IdentifierError, ShapeError
from genrail.identifiers.product_quantization import ProductQuantization
from genrail.identifiers.quantizer import Quantizer, load_quantizer
from genrail.identifiers.random_hyperplanes import RandomHyperplanes
from genrail.identifiers.residual_kmeans import ResidualKMeans
from genrail.identifiers.rqvae import RQVAE


def clustered(rows=400, dimensions=16, clusters=8, seed=0):
    """Unit vectors in well separated bundles, and the bundle of each."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, dimensions))
    bundle = random.integers(clusters, size=rows)
    vectors = centres[bundle] + 0.15 * random.normal(size=(rows, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), bundle


@cache
def fitted_once(contract):
    """Fitting may take seconds; a fitted quantizer is not changed by any test."""
    return contract().make().fit(clustered()[0])


class QuantizerContract:
    """Override `make`; levels and codes may be asked for."""

    def make(self, levels=3, codes=8, seed=0) -> Quantizer:
        raise NotImplementedError

    @pytest.fixture
    def vectors(self):
        return clustered()[0]

    @pytest.fixture
    def fitted(self):
        return fitted_once(type(self))

    def test_it_is_a_quantizer(self, fitted):
        assert isinstance(fitted, Quantizer)
        assert (fitted.levels, fitted.codes, fitted.dimensions) == (3, 8, 16)

    def test_codes_have_one_column_per_level_and_stay_in_the_codebook(self, fitted, vectors):
        codes = fitted.assign(vectors)
        assert codes.shape == (len(vectors), 3)
        assert codes.dtype == np.int64
        assert codes.min() >= 0
        assert codes.max() < 8

    def test_the_same_seed_gives_the_same_codebooks(self, fitted, vectors):
        again = self.make().fit(vectors)
        assert again.fingerprint == fitted.fingerprint
        assert np.array_equal(again.assign(vectors), fitted.assign(vectors))

    def test_an_assignment_does_not_depend_on_the_batch(self, fitted, vectors):
        codes = fitted.assign(vectors)
        alone = np.concatenate([fitted.assign(vectors[row : row + 1]) for row in range(len(vectors))])
        assert np.array_equal(alone, codes)
        order = np.random.default_rng(1).permutation(len(vectors))
        assert np.array_equal(fitted.assign(vectors[order]), codes[order])

    def test_assigning_leaves_codebooks_and_input_alone(self, fitted, vectors):
        before, copy = fitted.fingerprint, vectors.copy()
        fitted.assign(vectors * 3 + 1)
        assert fitted.fingerprint == before
        assert np.array_equal(vectors, copy)

    def test_decoding_comes_near_the_vectors(self, fitted, vectors):
        error = ((fitted.decode(fitted.assign(vectors)) - vectors) ** 2).sum(axis=1).mean()
        assert error < 0.5 * ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).mean()

    def test_decoded_vectors_have_shape_and_type(self, fitted, vectors):
        decoded = fitted.decode(fitted.assign(vectors[:5]))
        assert decoded.shape == (5, 16)
        assert decoded.dtype == np.float32

    def test_similar_vectors_share_codes_more_often(self, fitted):
        vectors, bundle = clustered()
        first = fitted.assign(vectors)[:, 0]
        same = first[:, None] == first[None, :]
        together = bundle[:, None] == bundle[None, :]
        assert same[together].mean() > 2 * same[~together].mean()

    def test_equal_vectors_get_equal_codes(self, fitted, vectors):
        twice = np.stack([vectors[3], vectors[3]])
        codes = fitted.assign(twice)
        assert np.array_equal(codes[0], codes[1])

    def test_no_vectors_to_assign(self, fitted):
        assert fitted.assign(np.empty((0, 16), np.float32)).shape == (0, 3)

    def test_fewer_vectors_than_codes(self, vectors):
        quantizer = self.make().fit(vectors[:3])
        codes = quantizer.assign(vectors[:3])
        assert codes.shape == (3, 3)
        assert np.isfinite(quantizer.decode(codes)).all()

    def test_one_vector(self, vectors):
        quantizer = self.make().fit(vectors[:1])
        assert quantizer.assign(vectors[:1]).shape == (1, 3)
        assert np.isfinite(quantizer.decode(quantizer.assign(vectors[:10]))).all()

    def test_all_vectors_equal(self, vectors):
        same = np.repeat(vectors[:1], 40, axis=0)
        codes = self.make().fit(same).assign(same)
        assert len(np.unique(codes, axis=0)) == 1

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_vector_that_is_not_finite_is_named(self, fitted, vectors, bad):
        broken = vectors.copy()
        broken[7, 2] = bad
        with pytest.raises(IdentifierError, match="row 7 holds NaN or infinity"):
            self.make().fit(broken)
        with pytest.raises(IdentifierError, match="row 7 holds NaN or infinity"):
            fitted.assign(broken)

    def test_no_vectors_to_fit(self):
        with pytest.raises(IdentifierError, match="no vectors to fit"):
            self.make().fit(np.empty((0, 16), np.float32))

    @pytest.mark.parametrize("shape", [(16,), (2, 3, 4), (4, 0)])
    def test_vectors_that_are_no_matrix(self, shape):
        with pytest.raises(ShapeError, match="shape"):
            self.make().fit(np.ones(shape, np.float32))

    def test_vectors_of_another_encoder(self, fitted):
        with pytest.raises(ShapeError, match="17 dimensions.*fitted on 16"):
            fitted.assign(np.ones((2, 17), np.float32))

    def test_before_fit(self, tmp_path):
        unfitted = self.make()
        for act in (
            lambda: unfitted.assign(np.ones((1, 16), np.float32)),
            lambda: unfitted.decode(np.zeros((1, 3), int)),
            lambda: unfitted.save(tmp_path),
            lambda: unfitted.fingerprint,
        ):
            with pytest.raises(IdentifierError, match="not fitted"):
                act()

    def test_codes_outside_the_codebook(self, fitted):
        with pytest.raises(IdentifierError, match=r"0\.\.7"):
            fitted.decode(np.array([[0, 1, 8]]))
        with pytest.raises(ShapeError, match="codes must be integers"):
            fitted.decode(np.array([[0, 1, 2, 3]]))

    def test_save_and_load(self, fitted, vectors, tmp_path):
        fitted.save(tmp_path)
        for loaded in (type(fitted).load(tmp_path), load_quantizer(tmp_path)):
            assert type(loaded) is type(fitted)
            assert loaded.fingerprint == fitted.fingerprint
            assert np.array_equal(loaded.assign(vectors), fitted.assign(vectors))
            assert np.array_equal(loaded.decode(loaded.assign(vectors)), fitted.decode(fitted.assign(vectors)))

    def test_a_damaged_codebook_is_refused(self, fitted, tmp_path):
        fitted.save(tmp_path)
        path = next(iter(sorted(tmp_path.glob("codebooks*.npy"))))
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(DamagedError, match="truncated or altered"):
            load_quantizer(tmp_path)

    def test_another_kind_is_refused(self, fitted, tmp_path):
        fitted.save(tmp_path)
        page = tmp_path / "codebooks.json"
        page.write_text(page.read_text().replace('"kind": "genrail.', '"kind": "other.'))
        with pytest.raises(FormatError, match="other"):
            load_quantizer(tmp_path)
        with pytest.raises(FormatError, match="other"):
            type(fitted).load(tmp_path)


class TestResidualKMeans(QuantizerContract):
    def make(self, levels=3, codes=8, seed=0):
        return ResidualKMeans(levels, codes, seed)


class TestResidualKMeansWithoutNormalisation(QuantizerContract):
    def make(self, levels=3, codes=8, seed=0):
        return ResidualKMeans(levels, codes, seed, normalise=False)


class TestProductQuantization(QuantizerContract):
    def make(self, levels=3, codes=8, seed=0):
        return ProductQuantization(levels, codes, seed)


class TestProductQuantizationWithoutRotation(QuantizerContract):
    def make(self, levels=3, codes=8, seed=0):
        return ProductQuantization(levels, codes, seed, rotate=False)


class TestRandomHyperplanes(QuantizerContract):
    def make(self, levels=3, codes=8, seed=0):
        return RandomHyperplanes(levels, codes, seed)


class TestRQVAE(QuantizerContract):
    def make(self, levels=3, codes=8, seed=0):
        pytest.importorskip("torch")
        return RQVAE(levels, codes, seed, latent=8, hidden=(24,), epochs=40, batch=100, learning_rate=5e-3)
