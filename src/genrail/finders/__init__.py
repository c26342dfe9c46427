"""Everything that finds items: generative, classical, and finders made of others. Kinds are in `genrail.finding`.

The names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrail.finders.approximate import CellSettings as CellSettings
    from genrail.finders.bm25 import BM25 as BM25
    from genrail.finders.bm25 import BM25Recipe as BM25Recipe
    from genrail.finders.calibrating_new_items import CalibrationSettings as CalibrationSettings
    from genrail.finders.codes import CodesRecipe as CodesRecipe
    from genrail.finders.cooccurrence import Cooccurrence as Cooccurrence
    from genrail.finders.cooccurrence import CooccurrenceRecipe as CooccurrenceRecipe
    from genrail.finders.dense import Dense as Dense
    from genrail.finders.dense import DenseRecipe as DenseRecipe
    from genrail.finders.fusing import FusedRecipe as FusedRecipe
    from genrail.finders.in_prompt import InPromptRecipe as InPromptRecipe
    from genrail.finders.item_knn import ItemKNN as ItemKNN
    from genrail.finders.item_knn import ItemKNNRecipe as ItemKNNRecipe
    from genrail.finders.late_interaction import LateInteraction as LateInteraction
    from genrail.finders.late_interaction import LateInteractionRecipe as LateInteractionRecipe
    from genrail.finders.lookup import Lookup as Lookup
    from genrail.finders.lookup import LookupRecipe as LookupRecipe
    from genrail.finders.native import NativeRecipe as NativeRecipe
    from genrail.finders.popularity import Popularity as Popularity
    from genrail.finders.popularity import PopularityRecipe as PopularityRecipe
    from genrail.finders.reranked import RerankedRecipe as RerankedRecipe
    from genrail.finders.sasrec import SASRec as SASRec
    from genrail.finders.sasrec import SASRecRecipe as SASRecRecipe
    from genrail.finders.seal import SealRecipe as SealRecipe
    from genrail.finders.tfidf import TFIDF as TFIDF
    from genrail.finders.tfidf import TFIDFRecipe as TFIDFRecipe
    from genrail.finders.tiger import TIGER as TIGER
    from genrail.finders.tiger import TigerRecipe as TigerRecipe
    from genrail.finders.titles import LanguageModelSettings as LanguageModelSettings
    from genrail.finders.titles import TitlesRecipe as TitlesRecipe
    from genrail.finders.two_tower import TwoTower as TwoTower
    from genrail.finders.two_tower import TwoTowerRecipe as TwoTowerRecipe

_HOME = {
    "BM25": "bm25",
    "BM25Recipe": "bm25",
    "CalibrationSettings": "calibrating_new_items",
    "CellSettings": "approximate",
    "CodesRecipe": "codes",
    "Cooccurrence": "cooccurrence",
    "CooccurrenceRecipe": "cooccurrence",
    "Dense": "dense",
    "DenseRecipe": "dense",
    "FusedRecipe": "fusing",
    "InPromptRecipe": "in_prompt",
    "ItemKNN": "item_knn",
    "ItemKNNRecipe": "item_knn",
    "LanguageModelSettings": "titles",
    "LateInteraction": "late_interaction",
    "LateInteractionRecipe": "late_interaction",
    "Lookup": "lookup",
    "LookupRecipe": "lookup",
    "NativeRecipe": "native",
    "Popularity": "popularity",
    "PopularityRecipe": "popularity",
    "RerankedRecipe": "reranked",
    "SASRec": "sasrec",
    "SASRecRecipe": "sasrec",
    "SealRecipe": "seal",
    "TFIDF": "tfidf",
    "TFIDFRecipe": "tfidf",
    "TIGER": "tiger",
    "TigerRecipe": "tiger",
    "TitlesRecipe": "titles",
    "TwoTower": "two_tower",
    "TwoTowerRecipe": "two_tower",
}

__all__ = [*_HOME]  # noqa: PLE0604  names of the table above


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"genrail.finders.{_HOME[name]}"), name)
