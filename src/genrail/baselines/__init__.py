"""The classical methods, each a `Retriever`: what a generative engine has to beat.

SASRec needs torch; it is loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from genrail.baselines.bm25 import BM25
from genrail.baselines.content import Content
from genrail.baselines.cooccurrence import Cooccurrence, CooccurrenceSettings
from genrail.baselines.dense import Dense
from genrail.baselines.item_knn import ItemKNN, ItemKNNSettings
from genrail.baselines.popularity import Popularity
from genrail.baselines.tfidf import TFIDF

if TYPE_CHECKING:
    from genrail.baselines.sasrec import SASRec, SASRecSettings

__all__ = [
    "BM25",
    "TFIDF",
    "Content",
    "Cooccurrence",
    "CooccurrenceSettings",
    "Dense",
    "ItemKNN",
    "ItemKNNSettings",
    "Popularity",
    "SASRec",
    "SASRecSettings",
]


def __getattr__(name: str) -> Any:
    if name in ("SASRec", "SASRecSettings"):
        return getattr(importlib.import_module("genrail.baselines.sasrec"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
