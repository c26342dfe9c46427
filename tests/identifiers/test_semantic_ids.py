"""Semantic IDs tell all items apart, and an item that has one keeps it whatever comes later."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.errors import DamagedError, FingerprintError, IdentifierError, SettingsError, ShapeError
from genrail.identifiers import IdentifierTable, SemanticIds
from genrail.identifiers.residual_kmeans import ResidualKMeans

RANDOM = np.random.default_rng(0)
VECTORS = (RANDOM.normal(size=(6, 8))[RANDOM.integers(6, size=300)] + 0.1 * RANDOM.normal(size=(300, 8))).astype(
    np.float32
)
IDS = SemanticIds.fit(VECTORS, levels=2, codes=8)


def test_every_item_has_its_own_identifier():
    table = IDS.assign(VECTORS)
    assert len(np.unique(table.matrix(), axis=0)) == len(VECTORS)
    assert table.length == IDS.length == 3
    assert table.end_token is None
    assert table.source == IDS.fingerprint


def test_last_codes_count_up_in_the_order_of_rows():
    matrix = IDS.assign(VECTORS).matrix()
    for prefix in np.unique(matrix[:, :2], axis=0):
        group = matrix[(matrix[:, :2] == prefix).all(axis=1), 2]
        assert group.tolist() == list(range(len(group)))


def test_last_codes_follow_another_order_when_asked():
    order = np.random.default_rng(0).permutation(len(VECTORS))
    plain, asked = IDS.assign(VECTORS).matrix(), IDS.assign(VECTORS, order=order).matrix()
    assert np.array_equal(plain[:, :2], asked[:, :2])
    for prefix in np.unique(plain[:, :2], axis=0):
        rows = order[(asked[order, :2] == prefix).all(axis=1)]
        assert asked[rows, 2].tolist() == list(range(len(rows)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 120), min_size=1, max_size=5), st.integers(0, 10**6))
def test_adding_in_any_portions_never_changes_an_identifier(portions, seed):
    random = np.random.default_rng(seed)
    vectors = VECTORS[random.integers(len(VECTORS), size=sum(portions))]  # with equal vectors
    table, done = None, 0
    for portion in portions:
        done += portion
        grown = IDS.assign(vectors[:done], table)
        if table is not None:
            assert np.array_equal(grown.tokens[: len(table.tokens)], table.tokens)
        table = grown
    assert len(np.unique(table.matrix(), axis=0)) == done
    assert table == IDS.assign(vectors)


def test_extend_takes_only_the_new_vectors():
    table = IDS.assign(VECTORS[:200])
    assert IDS.extend(table, VECTORS[200:]) == IDS.assign(VECTORS, table)


def test_a_gap_left_by_an_earlier_table_is_not_filled():
    code = IDS.quantizer.assign(VECTORS[:1])
    table = IdentifierTable.from_matrix(np.append(code, [[5]], axis=1), 8, source=IDS.fingerprint)
    assert IDS.extend(table, VECTORS[:1]).matrix()[1, 2] == 6


def test_the_vocabulary_grows_with_the_largest_group():
    same = np.repeat(VECTORS[:1], 20, axis=0)
    table = IDS.assign(same)
    assert table.matrix()[:, 2].tolist() == list(range(20))
    assert table.vocab_size == 20
    assert IDS.assign(VECTORS[:1]).vocab_size == 8


def test_within_a_fixed_vocabulary_surplus_items_share_identifiers():
    same = np.repeat(VECTORS[:1], 20, axis=0)
    table = IDS.assign(same, vocab_size=8)
    assert table.vocab_size == 8
    assert np.bincount(table.matrix()[:, 2], minlength=8).tolist() == [3, 3, 3, 3, 2, 2, 2, 2]
    more = IDS.extend(table, same[:4], vocab_size=8)
    assert more.vocab_size == 8
    assert len(more) == 24
    with pytest.raises(SettingsError, match="need 8"):
        IDS.assign(same, vocab_size=7)


def test_two_items_with_equal_vectors_differ_in_the_last_code_only():
    matrix = IDS.assign(VECTORS[[4, 4]]).matrix()
    assert matrix[0, :2].tolist() == matrix[1, :2].tolist()
    assert matrix[:, 2].tolist() == [0, 1]


def test_one_item():
    ids = SemanticIds.fit(VECTORS[:1])
    assert ids.assign(VECTORS[:1]).matrix().tolist() == [[0, 0, 0, 0]]


def test_fewer_items_than_codes():
    ids = SemanticIds.fit(VECTORS[:5], levels=3, codes=256)
    assert len(np.unique(ids.assign(VECTORS[:5]).matrix()[:, 0])) == 5
    assert len(ids.assign(VECTORS)) == len(VECTORS)


def test_no_items_to_assign():
    assert len(IDS.assign(np.empty((0, 8), np.float32))) == 0


def test_vectors_with_nan():
    broken = VECTORS.copy()
    broken[3, 1] = np.nan
    with pytest.raises(IdentifierError, match="row 3"):
        SemanticIds.fit(broken)
    with pytest.raises(IdentifierError, match="row 3"):
        IDS.assign(broken)


def test_wrong_codebook_version():
    other = SemanticIds.fit(VECTORS, levels=2, codes=8, seed=1, version=2)
    with pytest.raises(FingerprintError, match="version 2"):
        other.assign(VECTORS, IDS.assign(VECTORS[:10]))


def test_fewer_vectors_than_rows_that_have_identifiers():
    with pytest.raises(ShapeError, match="3 vectors but 10 rows"):
        IDS.assign(VECTORS[:3], IDS.assign(VECTORS[:10]))


@pytest.mark.parametrize("order", [[0, 0], [0], [1, 2]])
def test_an_order_that_is_no_permutation(order):
    with pytest.raises(ShapeError, match="permutation"):
        IDS.assign(VECTORS[:2], order=order)


def test_another_quantizer_brings_its_own_settings():
    ids = SemanticIds.fit(VECTORS, quantizer=ResidualKMeans(4, 4, normalise=False))
    assert (ids.levels, ids.codes, ids.length) == (4, 4, 5)


def test_decoding_a_table_comes_near_its_vectors():
    decoded = IDS.decode(IDS.assign(VECTORS))
    assert ((decoded - VECTORS) ** 2).sum(axis=1).mean() < 0.3 * (VECTORS**2).sum(axis=1).mean()


def test_save_and_load(tmp_path):
    ids = SemanticIds.fit(VECTORS, levels=2, codes=8, version=3)
    ids.save(tmp_path)
    loaded = SemanticIds.load(tmp_path)
    assert (loaded.fingerprint, loaded.version) == (ids.fingerprint, 3)
    assert loaded.assign(VECTORS) == ids.assign(VECTORS)


def test_codebooks_of_another_folder_are_refused(tmp_path):
    IDS.save(tmp_path)
    ResidualKMeans(2, 8, seed=5).fit(VECTORS).save(tmp_path)
    with pytest.raises(FingerprintError, match="copy the whole folder"):
        SemanticIds.load(tmp_path)


def test_a_page_without_version_is_refused(tmp_path):
    IDS.save(tmp_path)
    page = tmp_path / "semantic_ids.json"
    page.write_text(json.dumps(json.loads(page.read_text()) | {"details": {}}))
    with pytest.raises(DamagedError, match="does not describe"):
        SemanticIds.load(tmp_path)
