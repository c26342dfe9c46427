"""The classical methods, each a `Retriever`: what a generative engine has to beat.

SASRec and TIGER need torch; they are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from genrail.baselines.bm25 import BM25
from genrail.baselines.content import Content
from genrail.baselines.cooccurrence import Cooccurrence, CooccurrenceSettings
from genrail.baselines.dense import Dense
from genrail.baselines.item_knn import ItemKNN, ItemKNNSettings
from genrail.baselines.late_interaction import LateInteraction, LateInteractionSettings
from genrail.baselines.popularity import Popularity
from genrail.baselines.tfidf import TFIDF

if TYPE_CHECKING:
    from genrail.baselines.sasrec import SASRec, SASRecSettings
    from genrail.baselines.tiger import TIGER

__all__ = [
    "BM25",
    "TFIDF",
    "TIGER",
    "Content",
    "Cooccurrence",
    "CooccurrenceSettings",
    "Dense",
    "ItemKNN",
    "ItemKNNSettings",
    "LateInteraction",
    "LateInteractionSettings",
    "Popularity",
    "SASRec",
    "SASRecSettings",
]


_WITH_TORCH = {"SASRec": "sasrec", "SASRecSettings": "sasrec", "TIGER": "tiger"}


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        return getattr(importlib.import_module(f"genrail.baselines.{_WITH_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
