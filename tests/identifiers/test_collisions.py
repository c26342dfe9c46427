"""Only colliding items move, only at the last level, never onto somebody else, and at the least distance."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from genrail.errors import SettingsError
from genrail.identifiers import IdentifierTable, SemanticIds, collisions
from genrail.identifiers.collisions import reassign_colliding
from genrail.identifiers.residual_kmeans import ResidualKMeans

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(80, 6)).astype(np.float32)
QUANTIZER = ResidualKMeans(levels=2, codes=5).fit(VECTORS)
NOBODY = np.empty((0, 2), np.int64)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 79), min_size=1, max_size=40, unique=True), st.integers(0, 20))
def test_only_colliding_items_move_and_only_to_free_codes(rows, old):
    codes = QUANTIZER.assign(VECTORS[rows])
    taken, new = codes[:old], codes[old:]
    moved = reassign_colliding(QUANTIZER, VECTORS[rows][old:], new, taken)
    assert np.array_equal(moved[:, 0], new[:, 0])
    before = [tuple(row) for row in codes.tolist()]
    after = before[:old] + [tuple(row) for row in moved.tolist()]
    for place in range(min(old, len(rows)), len(rows)):
        if before.count(before[place]) == 1:
            assert after[place] == before[place]
    for first in {row[0] for row in before}:
        members = [row for row in after if row[0] == first]
        lone_old = len({row for row in before[:old] if row[0] == first})
        room = QUANTIZER.codes - lone_old
        fresh = len(members) - sum(row[0] == first for row in before[:old])
        if fresh <= room:
            assert all(members.count(row) == 1 for row in members if row not in before[:old])
            assert not {row for row in after[old:] if row[0] == first} & {row for row in before[:old]}


def test_the_distance_is_the_least_of_all_matchings():
    group = VECTORS[:3] * 1e-3  # all near the origin: one and the same code
    codes = QUANTIZER.assign(group)
    assert len(np.unique(codes, axis=0)) == 1
    moved = reassign_colliding(QUANTIZER, group, codes, NOBODY)

    def cost(last):
        decoded = QUANTIZER.decode(np.column_stack([codes[:, 0], last]))
        return float(((decoded - group) ** 2).sum())

    best = min(cost(last) for last in itertools.permutations(range(5), 3))
    assert cost(moved[:, 1]) == pytest.approx(best, rel=1e-5)


def test_the_order_of_rows_does_not_matter():
    codes = QUANTIZER.assign(VECTORS)
    order = RANDOM.permutation(len(VECTORS))
    plain = reassign_colliding(QUANTIZER, VECTORS, codes, NOBODY)
    crowded = np.unique(codes[:, 0], return_counts=True)
    assert (crowded[1] > QUANTIZER.codes).any()  # some prefixes have too few codes: who stays may differ there
    few = np.isin(codes[:, 0], crowded[0][crowded[1] <= QUANTIZER.codes])
    shuffled = reassign_colliding(QUANTIZER, VECTORS[order], codes[order], NOBODY)
    assert np.array_equal(shuffled[few[order]], plain[order][few[order]])


def test_semantic_ids_with_reassignment_collide_less_and_stay_unique_and_stable():
    vectors = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    ids = SemanticIds.fit(vectors, levels=2, codes=32)
    counted, moved = (ids.assign(vectors, collisions=how) for how in ("count", "reassign"))
    assert (moved.matrix()[:, 2] > 0).sum() < 0.2 * (counted.matrix()[:, 2] > 0).sum()
    assert len(np.unique(moved.matrix(), axis=0)) == 300
    grown = ids.assign(np.concatenate([vectors, vectors]), moved, collisions="reassign")
    assert np.array_equal(grown.matrix()[:300], moved.matrix())
    assert len(np.unique(grown.matrix(), axis=0)) == 600


def test_equal_vectors_spread_over_the_free_codes():
    ids = SemanticIds(QUANTIZER)
    same = np.repeat(VECTORS[:1], 7, axis=0)
    matrix = ids.assign(same, collisions="reassign").matrix()
    assert len(np.unique(matrix[:, 0])) == 1
    assert len(np.unique(matrix, axis=0)) == 7
    assert sorted(set(matrix[:, 1].tolist())) == [0, 1, 2, 3, 4]


def test_when_every_code_is_taken_items_are_counted():
    ids = SemanticIds(QUANTIZER)
    prefix = QUANTIZER.assign(VECTORS[:1])[0, 0]
    full = IdentifierTable.from_matrix([[prefix, code, 0] for code in range(5)], 5, source=ids.fingerprint)
    grown = ids.extend(full, VECTORS[:1], collisions="reassign")
    assert grown.matrix()[5, 2] == 1


def test_unknown_way_of_handling_collisions():
    with pytest.raises(SettingsError, match="'count' or 'reassign'"):
        SemanticIds(QUANTIZER).assign(VECTORS, collisions="ignore")


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(collisions, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"genrail\[torch\]"):
        reassign_colliding(QUANTIZER, VECTORS, QUANTIZER.assign(VECTORS), NOBODY)
