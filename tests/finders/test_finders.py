"""Every classical finder keeps the contract; growing one equals building it anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.finders import (
    BM25Recipe,
    CooccurrenceRecipe,
    DenseRecipe,
    ItemKNNRecipe,
    LateInteractionRecipe,
    LookupRecipe,
    PopularityRecipe,
    TFIDFRecipe,
)
from genrail.finding import Data, FilterCache, recipe_named, resolve
from tests.contracts.finder import (
    FinderContract,
    changed,
    item,
    quiet,
    random_pasts,
    random_queries,
    random_shop,
)


class TestBM25(FinderContract):
    tolerance = 1e-12

    def recipe(self):
        return BM25Recipe(k1=1.1, b=0.5)


class TestDense(FinderContract):
    def recipe(self):
        return DenseRecipe(decay=0.5)


class TestPopularity(FinderContract):
    tolerance = 0.0

    def recipe(self):
        return PopularityRecipe()


class TestTFIDF(FinderContract):
    def recipe(self):
        return TFIDFRecipe(history=3)


class TestLateInteraction(FinderContract):
    def recipe(self):
        return LateInteractionRecipe(dimensions=32)


class TestCooccurrence(FinderContract):
    def recipe(self):
        return CooccurrenceRecipe(window=3)


class TestItemKNN(FinderContract):
    def recipe(self):
        return ItemKNNRecipe(neighbours=5)


class TestSASRec(FinderContract):
    def recipe(self):
        pytest.importorskip("torch")
        from genrail.finders import SASRecRecipe
        from genrail.training.loop import LoopSettings

        loop = LoopSettings(epochs=2, learning_rate=0.01, warm_up=2)
        return SASRecRecipe(width=8, heads=1, batch_targets=64, loop=loop)


class TestTIGER(FinderContract):
    tolerance = 1e-5  # a batch of the network rounds otherwise than one history alone

    def recipe(self):
        pytest.importorskip("torch")
        from genrail.finders import TigerRecipe
        from genrail.models.tiger import TigerSettings
        from genrail.training.loop import LoopSettings
        from genrail.training.tiger import TigerTraining

        small = TigerSettings(width=16, layers=1, heads=1, head_width=8, feed_forward=16)
        return TigerRecipe(
            small, TigerTraining(LoopSettings(epochs=1, learning_rate=0.01, warm_up=2), batch=32), beam=4
        )


class TestLookup(FinderContract):
    tolerance = 0.0

    def recipe(self):
        return LookupRecipe()


class TestTwoTower(FinderContract):
    def recipe(self):
        pytest.importorskip("torch")
        from genrail.finders import TwoTowerRecipe
        from genrail.training.loop import LoopSettings
        from genrail.training.two_tower import TwoTowerSettings

        loop = LoopSettings(epochs=1, learning_rate=0.01, warm_up=2)
        return TwoTowerRecipe(TwoTowerSettings(loop=loop, rounds=1, hard_negatives=4, kept=(0.0, 1.0)))


EQUAL_WHEN_ANEW = {
    "bm25": 1e-12,
    "tfidf": 1e-6,
    "dense": 1e-6,
    "late-interaction": 0.02,  # bytes: the projection is that of the first catalogue
    "lookup": 0.0,
}


@pytest.mark.parametrize("kind", EQUAL_WHEN_ANEW)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_growing_equals_building_anew(kind, seed):
    """Add, update and remove; a finder of the last catalogue scores every row the same."""
    random = np.random.default_rng(seed)
    wide = {"dimensions": None} if kind == "late-interaction" else {}
    recipe = recipe_named(kind, wide)
    catalog = random_shop(1, 12)
    finder = recipe.build(Data(catalog, text_encoder="hashing"), quiet)
    for number in range(4):
        change = random.integers(3)
        ids = [item_id for item_id, live in zip(catalog.item_ids, catalog.live, strict=True) if live]
        if change == 0:
            later = catalog.add([item(100 + number, random), item(200 + number, random)])
        elif change == 1:
            # Another model number each time: a column where several are equal would be none of numbers for a new build.
            later = catalog.update([{**item(300 + number, random), "id": str(random.choice(ids))}])
        else:
            later = catalog.remove([str(random.choice(ids))])
        finder, catalog = changed(finder, catalog, later), later
    anew = recipe.build(Data(catalog, text_encoder="hashing"), quiet)
    requests = [resolve(query, catalog, FilterCache(catalog)) for query in random_queries(catalog, seed)]
    for ours, theirs, request in zip(finder.scores(requests), anew.scores(requests), requests, strict=True):
        allowed = request.allowed
        np.testing.assert_allclose(
            ours[allowed], theirs[allowed], atol=EQUAL_WHEN_ANEW[kind], rtol=EQUAL_WHEN_ANEW[kind]
        )


@pytest.mark.parametrize("kind", ["popularity", "cooccurrence", "item-knn"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_growing_equals_building_anew_on_the_same_events(kind, seed):
    """Add items nobody took, and change texts: an item keeps what is known of it in its new row."""
    random = np.random.default_rng(seed)
    catalog = random_shop(1, 12)
    pasts = random_pasts(catalog, seed)
    finder = recipe_named(kind).build(Data(catalog, pasts), quiet)
    for number in range(4):
        change = random.integers(2)
        known = {**item(0, random), "id": str(random.choice(catalog.item_ids))}
        later = catalog.add([item(100 + number, random)]) if change else catalog.update([known])
        finder, catalog = changed(finder, catalog, later), later
    anew = recipe_named(kind).build(Data(catalog, pasts), quiet)
    requests = [resolve(query, catalog, FilterCache(catalog)) for query in random_queries(catalog, seed)]
    for ours, theirs, request in zip(finder.scores(requests), anew.scores(requests), requests, strict=True):
        np.testing.assert_allclose(ours[request.allowed], theirs[request.allowed], atol=1e-6)
