"""TF-IDF: cosine of weighted words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genrail.baselines.content import Content
from genrail.baselines.postings import Postings
from genrail.baselines.saved import load_array, load_settings, load_vocabulary, save_settings, save_vocabulary
from genrail.errors import DamagedError, MissingPackageError, SettingsError
from genrail.types import Query, Ranking

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["TFIDF"]

Terms = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


class TFIDF:
    """Rank items by the cosine of TF-IDF vectors (scikit-learn: sublinear counts, English stop words, no stemmer).

    A history is read as the vectors of its items; see `Content` for how later ones count more and how words and a
    history are added. Items that share no word with the query follow with score 0, in seeded order.

    Args:
        catalog: The items; what is searched is `catalog.texts()`, or `texts`.
        texts: Another text for each row, shape (rows,).
        seed: Of the order between equal scores.

    Raises:
        MissingPackageError: scikit-learn is not installed.
        SettingsError: Another number of texts than rows.

    Source: Salton and Buckley 1988.

    >>> from genrail.catalog import Catalog
    >>> shop = Catalog.from_items([{"id": "a", "title": "trail shoes"}, {"id": "b", "title": "wool hat"}])
    >>> TFIDF(shop).search("shoes for the trail", k=1)[0].item_id
    'a'
    """

    name = "TF-IDF"

    def __init__(self, catalog: Catalog, *, texts: Sequence[str] | None = None, seed: int = 0) -> None:
        texts = catalog.texts() if texts is None else list(texts)
        if len(texts) != len(catalog):
            raise SettingsError(f"there are {len(texts)} texts for {len(catalog)} rows; give one text per row")
        live = np.flatnonzero(catalog.live)
        vocabulary, idf, forward = _fit(texts, live)
        self._set(catalog, seed, vocabulary, idf, forward)

    def _set(
        self,
        catalog: Catalog,
        seed: int,
        vocabulary: dict[str, int],
        idf: npt.NDArray[np.float64],
        forward: Postings,
    ) -> None:
        self.catalog = catalog
        self.seed = seed
        self._vocabulary = vocabulary
        self._idf = idf
        self._forward = forward  # (rows, terms): the items' own vectors, for histories
        self._postings = forward.transposed()  # (terms, rows)
        self._analyze = _analyzer()
        self._content = Content(self, seed=seed)

    def search(self, text: str, k: int = 10, **query: Any) -> Ranking:
        """Rank the k best items for some words; further arguments are those of `Query`."""
        return self.search_batch([Query(text, **query)], k=k)[0]

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
            FilterError: A filter that does not parse or names an unknown field.
        """
        return self._content.search_batch(queries, k=k)

    def text_scores(self, texts: Sequence[str]) -> list[npt.NDArray[np.float64]]:
        """Score all rows by cosine with each text, shape (rows,) each."""
        return [self._postings.scores(*self._vector(text)) for text in texts]

    def item_scores(self, rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Score all rows by the weighted sum of cosines with some items, shape (rows,)."""
        # The sum of cosines is the product with the weighted sum of the items' vectors: one pass for all of them.
        taste = self._forward.scores(rows, weights)  # (terms,)
        terms = np.flatnonzero(taste)
        return self._postings.scores(terms, taste[terms])

    def _vector(self, text: str) -> Terms:
        counts = Counter(self._vocabulary[word] for word in self._analyze(text) if word in self._vocabulary)
        terms = np.fromiter(counts, dtype=np.int64, count=len(counts))
        weights = (1.0 + np.log(np.fromiter(counts.values(), dtype=np.float64, count=len(counts)))) * self._idf[terms]
        length = float(np.linalg.norm(weights))
        return terms, weights / length if length > 0 else weights

    def save(self, folder: str | Path) -> None:
        """Write settings, vocabulary and arrays into a folder."""
        folder = save_settings(folder, "tfidf", self.catalog, {"seed": self.seed})
        save_vocabulary(folder, self._vocabulary)
        np.save(folder / "idf.npy", self._idf)
        self._forward.save(folder)

    @classmethod
    def load(cls, folder: str | Path, catalog: Catalog) -> TFIDF:
        """Read what `save` wrote.

        Raises:
            DamagedError, FormatError, FingerprintError: A folder that is not whole, not ours, or of another catalogue.
        """
        settings = load_settings(folder, "tfidf", catalog)
        idf = load_array(Path(folder) / "idf.npy")
        forward = Postings.load(Path(folder), rows=len(idf))
        if len(forward) != len(catalog):
            raise DamagedError(f"{folder} holds {len(forward)} vectors for {len(catalog)} rows; save it again")
        made = cls.__new__(cls)
        made._set(catalog, settings["seed"], load_vocabulary(folder, len(idf)), idf, forward)
        return made


def _vectorizer() -> Any:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise MissingPackageError("scikit-learn", "torch", "TF-IDF") from None
    return TfidfVectorizer(sublinear_tf=True, stop_words="english")


def _analyzer() -> Callable[[str], list[str]]:
    from genrail.baselines.words import letter_runs

    spaced: Callable[[str], list[str]] = _vectorizer().build_analyzer()
    return lambda text: spaced(text) if text.isascii() else [*spaced(text), *letter_runs(text)]


def _fit(texts: Sequence[str], live: npt.NDArray[np.int64]) -> tuple[dict[str, int], npt.NDArray[np.float64], Postings]:
    analyze = _analyzer()
    vectorizer = _vectorizer().set_params(analyzer=analyze, stop_words=None)
    rows = len(texts)
    if not any(analyze(texts[row]) for row in live):  # scikit-learn refuses a corpus without words
        empty = Postings(np.zeros(rows + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), 0)
        return {}, np.zeros(0), empty
    matrix = vectorizer.fit_transform([texts[row] for row in live])
    lengths = np.zeros(rows, dtype=np.int64)
    lengths[live] = np.diff(matrix.indptr)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    vectors = Postings(indptr, matrix.indices.astype(np.int32), matrix.data.astype(np.float32), matrix.shape[1])
    vocabulary = {word: int(term) for word, term in vectorizer.vocabulary_.items()}
    return vocabulary, np.asarray(vectorizer.idf_, dtype=np.float64), vectors
