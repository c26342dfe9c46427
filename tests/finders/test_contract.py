"""Every baseline keeps the contract of a retriever."""

import numpy as np
import pytest

from genrail.evaluation import Training
from genrail.finders import BM25, TFIDF, Cooccurrence, Dense, ItemKNN, LateInteraction, Popularity
from genrail.finders.approximate import CellSettings
from tests.contracts.retriever import RetrieverContract


class Letters:
    """Encode a text by how often each letter occurs."""

    def encode(self, texts):
        return np.array([[text.lower().count(chr(97 + letter)) + 0.01 for letter in range(26)] for text in texts])


class Words:
    """Encode each word by how often each letter occurs."""

    def encode_tokens(self, texts, progress=None):
        return (np.asarray(Letters().encode(text.split()), dtype=np.float32).reshape(-1, 26) for text in texts)


def events(catalog, users=30):
    random = np.random.default_rng(0)
    length = min(6, len(catalog))
    rows = np.concatenate([random.permutation(len(catalog))[:length] for _ in range(users)])
    return Training([f"u{user}" for user in range(users)], np.arange(users + 1) * length, rows)


class TestBM25(RetrieverContract):
    def make(self, catalog):
        return BM25(catalog)


class TestTFIDF(RetrieverContract):
    def make(self, catalog):
        return TFIDF(catalog)


class TestDense(RetrieverContract):
    def make(self, catalog):
        return Dense(catalog, Letters())


class TestDenseInCells(RetrieverContract):
    """Few cells and one probe, so that a search often finds too little and must score all that is allowed."""

    def make(self, catalog):
        pytest.importorskip("faiss", reason='needs the extra: pip install "genrail[ann]"')
        return Dense(catalog, Letters(), index="approximate", cells=CellSettings(cells=4, probes=1))


class TestLateInteraction(RetrieverContract):
    def make(self, catalog):
        return LateInteraction(catalog, Words())


class TestTFIDFOfShortHistories(RetrieverContract):
    def make(self, catalog):
        return TFIDF(catalog, decay=0.5, history=3)


class TestPopularity(RetrieverContract):
    def make(self, catalog):
        return Popularity(catalog, events(catalog))


class TestCooccurrence(RetrieverContract):
    def make(self, catalog):
        return Cooccurrence(catalog, events(catalog))


class TestItemKNN(RetrieverContract):
    def make(self, catalog):
        return ItemKNN(catalog, events(catalog))
