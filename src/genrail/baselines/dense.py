"""Dense retrieval: one vector per item; exact search by inner product, approximate among very many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from genrail.baselines.answers import Answers, Request, recency_weights
from genrail.baselines.approximate import Cells, CellSettings, wants_cells
from genrail.baselines.content import Content
from genrail.baselines.saved import load_array, load_settings, save_settings
from genrail.errors import FingerprintError, MissingPackageError, ShapeError
from genrail.types import Query, Ranking

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["Dense", "Encodes"]

Vectors = npt.NDArray[np.float32]


class Encodes(Protocol):
    """Turn texts into vectors, shape (texts, dimensions): `TextEncoder`, a SentenceTransformer, or your own."""

    def encode(self, texts: list[str]) -> Any:
        """Encode texts."""
        ...


class Dense:
    """Rank items by the cosine of their text's vector with the query's.

    A history is read as the vectors of its items; see `Content` for how later ones count more and how words and a
    history are added.

    Args:
        catalog: The items; what is encoded is `catalog.texts()`.
        encoder: Any object with ``encode(texts) -> (texts, dimensions)``.
        vectors: The items' vectors where they are at hand, shape (rows, dimensions); then nothing is encoded.
        query_encoder: Another encoder for queries, as two towers have; by default `encoder`.
        name: For tables.
        seed: Of the order between equal scores, and of the cells.
        index: `exact` scores all items; `approximate` looks into the nearest cells (`Cells`) where words or a history
            are asked for, not both; `auto` is approximate from 500,000 items on where faiss is installed (the extra
            ``ann``). Filters hold either way, and k items come back whenever k are allowed.
        cells: Of an approximate index.

    Raises:
        ShapeError: Another number of vectors than rows, or a vector that is not finite.
        SettingsError: Another word for `index`.
        MissingPackageError: `approximate` without faiss.

    Cost: exact O(rows x dimensions) per query, 26 ms for 200,000 items of 384 dimensions on one core; approximate by
    docs/results.md.
    Source: Karpukhin et al. 2020 (DPR); Reimers and Gurevych 2019 (Sentence-BERT).

    >>> from genrail.catalog import Catalog
    >>> shop = Catalog.from_items([{"id": "a", "title": "red"}, {"id": "b", "title": "blue"}])
    >>> class Letters:
    ...     def encode(self, texts):
    ...         return np.array([[text.count("e"), text.count("b")] for text in texts], dtype=np.float32)
    >>> Dense(shop, Letters()).search("bulb", k=1)[0].item_id
    'b'
    """

    def __init__(
        self,
        catalog: Catalog,
        encoder: Encodes,
        *,
        vectors: npt.NDArray[np.floating[Any]] | None = None,
        query_encoder: Encodes | None = None,
        name: str = "Dense",
        seed: int = 0,
        index: str = "auto",
        cells: CellSettings | None = None,
    ) -> None:
        self.catalog = catalog
        self.encoder = encoder
        self.query_encoder = encoder if query_encoder is None else query_encoder
        self.name = name
        self.seed = seed
        given = encoder.encode(catalog.texts()) if vectors is None else vectors
        self.vectors = _unit(given, len(catalog), "catalogue rows")
        self._content = Content(self, seed=seed)
        self._answers = Answers(catalog, seed)
        self.cells = Cells.of(self.vectors, cells, seed) if wants_cells(index, len(catalog)) else None

    def search(self, text: str, k: int = 10, **query: Any) -> Ranking:
        """Rank the k best items for some words; further arguments are those of `Query`."""
        return self.search_batch([Query(text, **query)], k=k)[0]

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Raises:
            QueryError: k below 1, or a history without a single known item and no words.
            FilterError: A filter that does not parse or names an unknown field.
            ShapeError: The encoder's vectors have another width than the items'.
        """
        if self.cells is None:
            return self._content.search_batch(queries, k=k)
        requests = self._answers.requests(queries, k)
        return [
            self._content.search_batch([query], k=k)[0]
            if request.text and len(request.history)
            else self._nearest(self.cells, request, k)
            for query, request in zip(queries, requests, strict=True)
        ]

    def _nearest(self, cells: Cells, request: Request, k: int) -> Ranking:
        """Rank by one vector: that of the words, or the weighted sum of the history's."""
        if request.text:
            [vector] = self._encoded([request.text])
        else:
            last = request.history[-self._content.history :]
            vector = recency_weights(len(last), self._content.decay).astype(np.float32) @ self.vectors[last]
        rows, scores = cells.best(vector, request.allowed, k)
        order = np.lexsort((self._answers.precedence[rows], -scores))[:k]
        return self._answers.listed(request, rows[order], scores[order].astype(np.float64), k)

    def text_scores(self, texts: Sequence[str]) -> list[Vectors]:
        """Score all rows by cosine with each text, shape (rows,) each."""
        if not texts:
            return []
        # One product per query: a product for all at once rounds otherwise, and the order would depend on the batch.
        return [self.vectors @ vector for vector in self._encoded(texts)]

    def _encoded(self, texts: Sequence[str]) -> Vectors:
        vectors = _unit(self.query_encoder.encode(list(texts)), len(texts), "queries")
        if vectors.shape[1] != self.vectors.shape[1]:
            raise ShapeError(
                f"the encoder gives {vectors.shape[1]} dimensions but the items have {self.vectors.shape[1]}; "
                "use the encoder that made the items' vectors"
            )
        return vectors

    def item_scores(self, rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> Vectors:
        """Score all rows by the weighted sum of cosines with some items, shape (rows,)."""
        taste = weights.astype(np.float32) @ self.vectors[rows]  # (dimensions,)
        scores: Vectors = self.vectors @ taste
        return scores

    @property
    def index_bytes(self) -> int:
        """Count the bytes of the items' vectors, and of the cells where there are any."""
        return int(self.vectors.nbytes) + (0 if self.cells is None else self.cells.index_bytes)

    def save(self, folder: str | Path) -> None:
        """Write settings and vectors into a folder; the encoder is not saved, only its fingerprint if it has one."""
        settings: dict[str, Any] = {"name": self.name, "seed": self.seed, "encoder": _fingerprint(self.encoder)}
        if self.cells is not None:
            settings["cells"] = asdict(self.cells.settings)
        if self.query_encoder is not self.encoder:
            settings["query_encoder"] = _fingerprint(self.query_encoder)
        folder = save_settings(folder, "dense", self.catalog, settings)
        np.save(folder / "vectors.npy", self.vectors)
        if self.cells is not None:
            self.cells.save(folder)

    @classmethod
    def load(
        cls, folder: str | Path, catalog: Catalog, encoder: Encodes, query_encoder: Encodes | None = None
    ) -> Dense:
        """Read what `save` wrote, with the encoder of the items and, where it is another, that of the queries.

        Raises:
            DamagedError, FormatError, FingerprintError: A folder that is not whole, not ours, of another catalogue, or
                of another encoder.
        """
        settings = load_settings(folder, "dense", catalog)
        saved_with = settings.pop("encoder")
        asked_with = settings.pop("query_encoder", saved_with)
        for found, made_with in ((encoder, saved_with), (query_encoder or encoder, asked_with)):
            if made_with != _fingerprint(found):
                raise FingerprintError(f"{folder} was made with another encoder ({made_with}); give that one")
        vectors = load_array(Path(folder) / "vectors.npy")
        cells = settings.pop("cells", None)
        if cells is not None and find_spec("faiss") is None:
            raise MissingPackageError("faiss-cpu", "ann", "This saved index")
        made = cls(catalog, encoder, vectors=vectors, query_encoder=query_encoder, index="exact", **settings)
        if cells is not None:
            made.cells = Cells.load(Path(folder), made.vectors, CellSettings(**cells))
        return made


def _unit(vectors: Any, rows: int, what: str) -> Vectors:
    """Check the shape and scale each vector to length 1; a zero vector stays zero."""
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or len(array) != rows:
        raise ShapeError(f"the vectors have shape {array.shape} for {rows} {what}; give one vector each")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ShapeError(f"the vector of number {row} of {rows} {what} is not finite; check the encoder")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    # Vectors of length 1 stay as they are, bit by bit, so that a saved index answers as before.
    lengths[(lengths == 0) | (np.abs(lengths - 1) < 1e-6)] = 1.0
    unit: Vectors = (array / lengths).astype(np.float32)
    return unit


def _fingerprint(encoder: Encodes) -> str | None:
    value = getattr(encoder, "fingerprint", None)
    return None if value is None else str(value() if callable(value) else value)
