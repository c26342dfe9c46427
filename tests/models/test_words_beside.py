"""Vectors that hold a text's words beside its meaning."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import genrail
from genrail.errors import FingerprintError, SettingsError
from genrail.models.encoders import LazyEncoder, load_encoder
from genrail.models.tiny import HashingEncoder
from genrail.models.token_vectors import WordEncoder, token_encoder
from genrail.models.words_beside import WordsBeside
from tests.shops import shop

TEXTS = ["red trail boot", "the red boots", "", "42", "P300 pump P300", "!!!", "男士跑步鞋"]


class Flat:
    """Know no meaning at all."""

    name, fingerprint, dimensions = "flat", "flat-1", 3

    def encode(self, texts, progress=None):
        return np.tile(np.array([1.0, 0.0, 0.0], np.float32), (len(texts), 1))


def test_vectors_have_length_one_and_do_not_depend_on_the_batch():
    encoder = WordsBeside(HashingEncoder())
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 128 + 1024) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert np.array_equal(alone, vectors)
    assert encoder.encode([]).shape == (0, 1152)


def test_products_are_those_of_the_words_up_to_chance():
    random = np.random.default_rng(0)
    texts = [" ".join(f"w{word}x" for word in random.choice(400, 12, replace=False)) for _ in range(60)]
    vectors = WordsBeside(Flat(), 2048).encode(texts)
    sets = [set(text.split()) for text in texts]
    shared = np.array([[len(one & other) / 12 for other in sets] for one in sets])
    found = 2 * (vectors @ vectors.T) - 1  # half is the meaning, which is the same for all
    assert np.abs(found - shared).max() < 0.12 and np.abs(found - shared).mean() < 0.03


def test_words_are_those_of_bm25():
    one, other, stop, third = WordsBeside(Flat()).encode(["Running boots", "run boot", "the run of a boot", "hat"])
    assert np.array_equal(one, other) and np.array_equal(one, stop)
    assert one @ third < 0.6


def test_another_process_gives_the_same_vectors():
    code = (
        "from genrail.models.encoders import load_encoder; "
        "print(load_encoder('words+hashing').encode(['red trail boot'])[0].tobytes().hex())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert told == WordsBeside(HashingEncoder()).encode(["red trail boot"])[0].tobytes().hex()


def test_it_is_found_by_name_and_opened_with_its_engine(tmp_path):
    catalog = shop(12)
    engine = genrail.Engine.build(catalog, "dense", encoder="words+hashing")
    assert engine.encoder.name == "words+hashing-128" and engine.encoder.dimensions == 1152
    engine.save(tmp_path / "e")
    found = genrail.load(tmp_path / "e").search(catalog.titles[3], k=3)
    assert found.item_ids == engine.search(catalog.titles[3], k=3).item_ids
    assert found[0].title == catalog.titles[3]
    plain = load_encoder("hashing")
    with pytest.raises(FingerprintError, match="words"):
        LazyEncoder(engine.encoder.details, plain).encode(["boot"])


def test_tokens_and_what_is_cut_are_those_of_the_other_encoder():
    encoder = WordsBeside(HashingEncoder())
    assert encoder.count_tokens("red boot") is None and encoder.room is None
    assert isinstance(token_encoder(encoder), WordEncoder)
    with pytest.raises(SettingsError, match="give 8 or more"):
        WordsBeside(HashingEncoder(), 4)
