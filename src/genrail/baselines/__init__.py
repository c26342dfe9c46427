"""The classical methods, each a `Retriever`: what a generative engine has to beat."""

from genrail.baselines.bm25 import BM25
from genrail.baselines.content import Content
from genrail.baselines.cooccurrence import Cooccurrence, CooccurrenceSettings
from genrail.baselines.dense import Dense
from genrail.baselines.item_knn import ItemKNN, ItemKNNSettings
from genrail.baselines.popularity import Popularity
from genrail.baselines.tfidf import TFIDF

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
]
