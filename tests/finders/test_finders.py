"""Every classical finder keeps the contract; growing one equals building it anew."""

from __future__ import annotations

import pytest

from genrail.finders import (
    BM25Recipe,
    CooccurrenceRecipe,
    DenseRecipe,
    ItemKNNRecipe,
    LateInteractionRecipe,
    PopularityRecipe,
    TFIDFRecipe,
)
from tests.contracts.finder import FinderContract


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
