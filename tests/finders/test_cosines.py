"""Scores by vectors: the same for a row wherever it lies, and the best found by a first look as by looking at all."""

import numpy as np
import pytest

from genrail.catalog import Catalog
from genrail.constraints.compiled import COMPILES
from genrail.finders import dense
from genrail.finders.cosines import Cosines
from genrail.finders.parts import Rows
from genrail.finders.products import _multiply_plainly, inner_products
from genrail.finders.screen import Screen
from genrail.finding.ranks import tie_order, top_rows
from genrail.models.tiny import HashingEncoder
from genrail.types import Query


def drawn(seed, rows=300, dimensions=24):
    """Draw vectors with equal ones, zeros, and rows of odd lengths among them."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, dimensions)).astype(np.float32)
    vectors[random.integers(rows, size=rows // 4)] = vectors[random.integers(rows)]
    vectors[random.integers(rows, size=5)] = 0.0
    if seed % 2:
        vectors *= 10.0 ** random.integers(-6, 6, size=(rows, 1)).astype(np.float32)
    vector = random.standard_normal(dimensions).astype(np.float32) * np.float32(10.0 ** random.integers(-6, 6))
    return random, vectors, vector


@pytest.mark.parametrize("seed", range(40))
def test_the_best_are_those_that_a_look_at_all_finds(seed):
    random, vectors, vector = drawn(seed)
    lengths = None if seed % 3 else np.exp(random.standard_normal(len(vectors))).astype(np.float32)
    parts = np.split(vectors, np.sort(random.integers(len(vectors), size=seed % 4)))
    told = Cosines(Rows(tuple(parts)), vector, 0.0 if lengths is None else float(random.standard_normal()), lengths)
    allowed, precedence = random.random(len(vectors)) < random.choice([0.02, 0.5, 1.0]), tie_order(len(vectors), seed)
    for k in (1, 10, 400):
        rows, scores = told.best(allowed, k, precedence)
        expected = top_rows(told.all(), allowed, k, precedence)
        assert rows.tolist() == expected.tolist()
        assert scores.tolist() == told.all()[expected].tolist() == told[expected].tolist()


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_the_product_and_are_narrow(seed):
    _, vectors, vector = drawn(seed)
    low, high = Screen.of(vectors).bounds(vector)
    products = inner_products(vectors, vector)
    assert (low <= products).all()
    assert (products <= high).all()
    longest = np.linalg.norm(vectors, axis=1).max()
    assert (high - low).max() <= 0.1 * longest * np.linalg.norm(vector)


def test_no_look_at_a_query_of_zeros_divides_by_zero():
    low, high = Screen.of(np.zeros((3, 4), np.float32)).bounds(np.zeros(4, np.float32))
    assert low.tolist() == high.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("multiply", [inner_products, "plainly"])
def test_a_row_has_the_same_product_wherever_it_lies(multiply):
    random, vectors, vector = drawn(2, rows=777, dimensions=384)

    def products(matrix, rows=None):
        if multiply == "plainly":
            found = np.empty(len(matrix) if rows is None else len(rows), np.float32)
            _multiply_plainly(matrix, vector, np.arange(len(matrix)) if rows is None else rows, found)
            return found
        return inner_products(matrix, vector, rows)

    whole, some = products(vectors), random.permutation(777)[:100]
    assert np.allclose(whole, vectors @ vector, rtol=1e-4, atol=1e-4 * np.linalg.norm(vector))
    assert np.array_equal(products(vectors, some), whole[some])
    for cut in (1, 2, 3, 5, 776):
        assert np.array_equal(np.concatenate([products(vectors[:cut].copy()), products(vectors[cut:].copy())]), whole)


def test_a_grown_matrix_makes_no_screen_again(monkeypatch):
    _, vectors, vector = drawn(4)
    rows = Rows.of(vectors)
    rows.bounds(vector)
    made = []
    monkeypatch.setattr(Screen, "of", classmethod(lambda cls, part, of=Screen.of: made.append(len(part)) or of(part)))
    grown = rows.grown(vectors[:7]).grown(vectors[:1])
    low, high = grown.bounds(vector)
    assert sum(made) < 20
    assert len(low) == len(high) == 308


@pytest.mark.skipif(not COMPILES, reason="without numba all vectors are multiplied")
@pytest.mark.parametrize("centred", [False, True])
def test_dense_answers_alike_with_and_without_a_first_look(monkeypatch, centred):
    random = np.random.default_rng(1)
    colours, kinds = ["red", "blue", "green"], ["boot", "shoe", "sock", "hat"]
    items = [
        {"id": f"i{number}", "title": f"{random.choice(colours)} {random.choice(kinds)}", "price": number % 7}
        for number in range(60)
    ]
    queries = [
        Query("red boot"),
        Query(history=["i3", "i9"]),
        Query("blue hat", history=["i5"]),
        Query("green", where="price < 3"),
        Query(history=["i1"], where="price = 2", exclude_seen=False),
    ]

    def answers():
        finder = dense.Dense(Catalog.from_items(items), HashingEncoder(), centred=centred)
        found = [finder.search_batch(queries, k) for k in (1, 10, 100)]
        looked = "_screens" in finder.rows.__dict__
        return looked, [[(hit.item_id, hit.score) for hit in one] for part in found for one in part]

    looked, plain = answers()
    assert not looked
    monkeypatch.setattr(dense, "SCREENED", 1)
    looked, screened = answers()
    assert looked
    assert screened == plain
