"""Schemes by name: sizes that fit, the same identifiers as by hand, and names that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.errors import SettingsError
from genrail.identifiers import SemanticIds
from genrail.identifiers.quantizer import quantizers, register_quantizer
from genrail.identifiers.schemes import codebook_size, described, identified, reads_items, spelled
from genrail.models.tiny import HashingEncoder
from tests.shops import shop


@pytest.mark.parametrize("items", [1, 2, 7, 12, 40, 1024, 50_000])
def test_a_size_chosen_by_itself_is_one_that_the_quantizer_takes(items):
    assert codebook_size("kmeans", items) == max(1, min(256, items // 4))
    size = codebook_size("lsh", items)
    assert 2 <= size <= 256 and size & (size - 1) == 0
    assert size <= max(2, items // 4) < 2 * size or size == 256


@pytest.mark.parametrize("name", ["kmeans", "pq", "lsh"])
def test_identifiers_are_those_of_the_quantizer_fitted_on_live_items(name):
    catalog = shop(24).remove(["s3"])
    vectors = HashingEncoder(16).encode(catalog.texts())
    ids, table = identified(name, catalog, lambda: vectors, 2, None, 0)
    assert len(table) == 24 and table.length == 3 and not reads_items(ids)
    assert np.array_equal(table.matrix()[:, :2], ids.quantizer.assign(vectors))
    assert len(np.unique(table.matrix(), axis=0)) == 24
    again = SemanticIds(type(ids.quantizer)(levels=2, codes=ids.codes, seed=0).fit(vectors[catalog.live]))
    assert again.fingerprint == ids.fingerprint
    assert described(ids, catalog, lambda: vectors) is vectors
    row = 5
    prefix = table.matrix()[row].tolist()
    assert spelled(ids, prefix, catalog, table) == f"e.g. {catalog.titles[row]}"


def test_names_that_are_taken_missing_or_unknown_are_refused():
    assert quantizers()[:5] == ["kmeans", "rqvae", "pq", "lsh", "attributes"]
    with pytest.raises(SettingsError, match="give kmeans, rqvae, pq, lsh, attributes"):
        codebook_size("k-means", 40)
    for kind in ("kmeans", "", None):
        with pytest.raises(SettingsError):
            register_quantizer(type("Other", (), {"kind": kind}))
