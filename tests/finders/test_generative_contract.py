"""Finders that write identifiers, and those made of others, keep the contract of every finder."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from genrail.finders.codes import CodesRecipe
from genrail.finders.fusing import FusedRecipe
from genrail.finders.native import NativeRecipe
from genrail.finders.reranked import RerankedRecipe
from genrail.finders.titles import TitlesRecipe
from genrail.finding.registry import register_scorer
from genrail.models.checkpoints import wrap
from genrail.training.fine_tuning_settings import FineTuning
from genrail.training.loop import LoopSettings
from tests.contracts.finder import FinderContract
from tests.models import checkpoints


def language_model():
    tokenizer = checkpoints.tokenizer()
    return wrap(checkpoints.model("qwen2", len(tokenizer), max_position_embeddings=512), tokenizer)


class TestNative(FinderContract):
    tolerance = 1e-5  # a batch of the network rounds otherwise than one question alone

    def recipe(self):
        return NativeRecipe(epochs=1)


class TestCodes(FinderContract):
    tolerance = 1e-5

    def recipe(self):
        loop = LoopSettings(epochs=1, learning_rate=1e-3, warm_up=2, averaging=0.0)
        tuning = FineTuning(learns="all", pseudo_queries=1, next_items=8, validation=4, loop=loop)
        return CodesRecipe(language_model(), levels=2, tuning=tuning)

    def checks(self, path):
        return path.suffix in (".npy", ".safetensors") or path.name == "code_tokens.json"

    def test_a_recipe_survives_json(self):
        recipe = self.recipe()
        assert CodesRecipe.from_dict(recipe.to_dict()).to_dict() == recipe.to_dict()


@pytest.mark.slow
class TestTitles(FinderContract):
    tolerance = 1e-4

    def recipe(self):
        return TitlesRecipe(language_model())

    def checks(self, path):
        return path.suffix == ".npy"

    def test_a_recipe_survives_json(self):
        recipe = self.recipe()
        assert TitlesRecipe.from_dict(recipe.to_dict()).to_dict() == recipe.to_dict()


class TestFused(FinderContract):
    tolerance = 1e-5

    def recipe(self):
        return FusedRecipe(lanes=("native", "bm25", "cooccurrence"), epochs=1)


@register_scorer
class Alphabetical:
    """Titles in the order of the alphabet."""

    kind = name = "alphabetical"

    def score(self, request, rows, catalog):
        import numpy as np

        return np.array([-float(ord(catalog.titles[row][0])) for row in rows.tolist()])

    def save(self, folder):
        return {}

    @classmethod
    def load(cls, folder, details):
        return cls()


class TestReranked(FinderContract):
    def recipe(self):
        return RerankedRecipe(inner="bm25", scorer="alphabetical", depth=8)

    def test_a_recipe_survives_json(self):
        recipe = self.recipe()  # finder and scorer are saved by themselves
        assert RerankedRecipe.from_dict(recipe.to_dict()).to_dict() == recipe.to_dict()
