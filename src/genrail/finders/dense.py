"""Dense retrieval: one vector per item; exact search by inner product, approximate among very many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from genrail.constraints.compiled import COMPILES
from genrail.errors import FingerprintError, MissingPackageError, SettingsError, ShapeError
from genrail.finders.approximate import Cells, CellSettings, wants_cells
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.cosines import Cosines
from genrail.finders.parts import Rows
from genrail.finders.products import inner_products
from genrail.finders.readings import pack, unpack
from genrail.finders.scoring import (
    DECAYS,
    ContentScoring,
    Integers,
    Values,
    Weights,
    check_content,
    recency_weights,
)
from genrail.finding.finder import Change, Finder, FindOptions, Found, Json, Progress, Recipe, RowScores
from genrail.models.encoders import LazyEncoder
from genrail.models.scripts import unread_words
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.finding.data import Data
    from genrail.finding.requests import Request
    from genrail.models.text_encoder import Encoder

__all__ = ["Dense", "DenseRecipe", "Encodes"]

Vectors = npt.NDArray[np.float32]

SCREENED = 4096  # rows from which a first look at rounded vectors saves time


class Encodes(Protocol):
    """Turn texts into vectors, shape (texts, dimensions): `TextEncoder`, a SentenceTransformer, or your own."""

    def encode(self, texts: list[str]) -> npt.ArrayLike:
        """Encode texts."""
        ...


class Dense(ContentScoring):
    """Rank items by the cosine of their text's vector with the query's.

    A history is read as the vectors of its items; see `ContentScoring` for how later ones count more and how words and
    a history are added.

    Args:
        catalog: The items; what is encoded is `catalog.texts()`.
        encoder: An object with ``encode(texts) -> (texts, dimensions)``.
        vectors: The items' vectors where they are at hand, shape (rows, dimensions); then nothing is encoded.
        query_encoder: Another encoder for queries, as two towers have; by default `encoder`.
        name: For tables.
        seed: Of the order between equal scores, and of the cells.
        index: `exact` scores all items; `approximate` looks into the nearest cells (`Cells`) where words or a history
            are asked for, not both; `auto` is approximate from 2,000,000 items on (800,000 without numba) where faiss
            is installed (the extra ``ann``). Filters hold either way, and k items come back whenever k are allowed.
        cells: Of an approximate index.
        decay: What each step back in a history costs, above 0 and at most 1.
        history: How many of the last items count.
        centred: Read a history without what all texts have in common; see `DenseRecipe`.

    Raises:
        ShapeError: Another number of vectors than rows, or a vector that is not finite.
        SettingsError: Another word for `index`, or a setting outside its range.
        MissingPackageError: `approximate` without faiss.

    Cost: exact O(rows x dimensions) per query, 5 ms for 200,000 items of 384 dimensions on one core with numba, which
    takes a quarter of the vectors' memory more for a first look (`Screen`); approximate by docs/results.md. Items added
    later are scored exactly until `compact`.
    Source: Karpukhin et al. 2020 (DPR); Reimers and Gurevych 2019 (Sentence-BERT).

    >>> from genrail.catalog import Catalog
    >>> shop = Catalog.from_items([{"id": "a", "title": "red"}, {"id": "b", "title": "blue"}])
    >>> class Letters:
    ...     def encode(self, texts):
    ...         return np.array([[text.count("e"), text.count("b")] for text in texts], dtype=np.float32)
    >>> Dense(shop, Letters()).search("bulb", k=1)[0].item_id
    'b'
    """

    name = "Dense"
    _asked = 0  # questions so far
    mean: Vectors | None = None  # what all texts have in common; frozen, so that an answer does not move with additions

    def __init__(
        self,
        catalog: Catalog,
        encoder: Encodes,
        *,
        vectors: npt.NDArray[np.floating] | None = None,
        query_encoder: Encodes | None = None,
        name: str = "Dense",
        seed: int = 0,
        index: str = "auto",
        cells: CellSettings | None = None,
        decay: float = 0.7,
        history: int = 20,
        centred: bool = False,
    ) -> None:
        recipe = DenseRecipe(index, cells, decay, history, centred)
        given = encoder.encode(catalog.texts()) if vectors is None else vectors
        unit = unit_vectors(given, len(catalog), "catalogue rows")
        chosen = encoder if query_encoder is None else query_encoder
        found = Cells.of(unit, cells, seed) if wants_cells(index, len(catalog)) else None
        self.name = name
        self._set(catalog, recipe, encoder, chosen, Rows.of(unit), found, seed)
        if catalog.live.any():
            self.mean = unit[catalog.live].mean(axis=0)

    def _set(
        self,
        catalog: Catalog,
        recipe: Recipe,
        encoder: Encodes,
        query_encoder: Encodes,
        rows: Rows,
        cells: Cells | None,
        seed: int,
    ) -> None:
        self.catalog = catalog
        self.recipe: Recipe = recipe
        self.item_encoder = encoder
        self.query_encoder = query_encoder
        self.rows = rows
        self.cells = cells  # of the first rows; those behind them are scored one by one
        self.seed = seed
        self.mean = None

    @property
    def encoder(self) -> Encoder | None:
        """Give the encoder of the items."""
        return cast("Encoder", self.item_encoder)

    @property
    def vectors(self) -> Vectors:
        """Give the items' vectors, shape (rows, dimensions); a copy where there are several parts."""
        whole: Vectors = self.rows.whole()
        return whole

    @property
    def dimensions(self) -> int:
        """Give the width of the vectors."""
        return int(self.rows.parts[0].shape[1])

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Find the k best rows of each request among those it allows.

        Raises:
            ShapeError: The encoder's vectors have another width than the items'.
        """
        if self.cells is None:
            return super().find(requests, k, options)
        found = []
        for request in requests:
            if request.text and len(request.history):
                found += [one for one, _ in super().find_scored([request], k, options)]
            else:
                options.step()
                found.append(self._nearest(self.cells, request, k))
        return found

    def find_scored(
        self, requests: Sequence[Request], k: int, options: FindOptions
    ) -> list[tuple[Found, RowScores | None]]:
        """Find as `find` does, with what tells the score of any row where the search is exact."""
        if self.cells is not None:
            return [(found, None) for found in self.find(requests, k, options)]
        self._asked += len(requests)
        if (
            not self._looks_first or self._asked == 1
        ):  # one question alone is answered sooner than all vectors are rounded
            return super().find_scored(requests, k, options)
        texts = [request.text for request in requests if request.text and not len(request.history)]
        vectors = iter(self._encoded(texts) if texts else ())
        answers: list[tuple[Found, RowScores | None]] = []
        for request in requests:
            if bool(request.text) == bool(len(request.history)):
                answers += super().find_scored([request], k, options)
                continue
            options.step()
            vector = next(vectors) if request.text else self._taste(*self._last(request.history))
            scores = self._cosines(vector, past=not request.text)
            rows, values = scores.best(request.allowed, max(k, options.pool), self.precedence)
            answers.append((self._found(request, rows, values, options), scores))
        return answers

    @property
    def _looks_first(self) -> bool:
        """Tell whether a first look at rounded vectors saves time."""
        return COMPILES and self.cells is None and len(self.rows) >= SCREENED

    def warm_up(self) -> None:
        """Round the vectors for the first look."""
        self._asked = 1
        if self._looks_first:
            self.rows.bounds(self.rows.parts[0][0])

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Say when the encoder cannot read the words."""
        return tuple(unread_words(self.query_encoder, request.text)) if request.text else ()

    def _nearest(self, cells: Cells, request: Request, k: int) -> Found:
        """Rank by one vector: that of the words, or the weighted sum of the history's."""
        if request.text:
            [vector] = self._encoded([request.text])
        else:
            vector = self._taste(*self._last(request.history))
        first = len(cells.vectors)
        rows, scores = cells.best(vector, request.allowed[:first], k)
        behind = first + np.flatnonzero(request.allowed[first:])
        if len(behind):
            rows = np.concatenate([rows, behind])
            scores = np.concatenate([scores, inner_products(self.rows.take(behind), vector)])
        order = np.lexsort((self.precedence[rows], -scores))[:k]
        return Found(rows[order], scores[order].astype(np.float64))

    def _last(self, history: Integers) -> tuple[Integers, Weights]:
        recipe = cast("DenseRecipe", self.recipe)
        last = history[-recipe.history :]
        return last, recency_weights(len(last), recipe.decay)

    def _taste(self, rows: Integers, weights: Weights) -> Vectors:
        vectors = self.rows.take(rows)
        if self.mean is not None and cast("DenseRecipe", self.recipe).centred:
            vectors = (vectors - self.mean) / self._lengths[rows][:, None]
        taste: Vectors = weights.astype(np.float32) @ vectors
        return taste

    def text_scores(self, texts: Sequence[str]) -> Iterator[Vectors]:
        """Score all rows by cosine with each text, shape (rows,) each."""
        # One product per query: a product for all at once rounds otherwise, and the order would depend on the batch.
        return (self.rows.products(vector) for vector in (self._encoded(texts) if texts else ()))

    def _encoded(self, texts: Sequence[str]) -> Vectors:
        vectors = unit_vectors(self.query_encoder.encode(list(texts)), len(texts), "queries")
        if vectors.shape[1] != self.dimensions:
            raise ShapeError(
                f"the encoder gives {vectors.shape[1]} dimensions but the items have {self.dimensions}; "
                "use the encoder that made the items' vectors"
            )
        return vectors

    def item_scores(self, rows: Integers, weights: Weights) -> Values:
        """Score all rows by the weighted sum of cosines with some items, shape (rows,)."""
        return self._cosines(self._taste(rows, weights), past=True).all()

    def _cosines(self, vector: Vectors, past: bool) -> Cosines:
        """Score by a vector of words or of a past; a past perhaps without what all texts have in common."""
        if not past or self.mean is None or not cast("DenseRecipe", self.recipe).centred:
            return Cosines(self.rows, vector)
        # Rows less the mean, of length 1 again, times the vector, without making them.
        return Cosines(self.rows, vector, float(self.mean @ vector), self._lengths)

    @cached_property
    def _lengths(self) -> Vectors:
        """Give the length of each row less the mean, shape (rows,)."""
        assert self.mean is not None
        squares = np.concatenate([np.einsum("nd,nd->n", part, part) for part in self.rows.parts])
        lengths = squares - 2.0 * self.rows.products(self.mean) + self.mean @ self.mean
        found: Vectors = np.sqrt(np.maximum(lengths, 1e-6)).astype(np.float32)
        return found

    @property
    def index_bytes(self) -> int:
        """Count the bytes of the items' vectors, and of the cells where there are any."""
        return self.rows.nbytes + (0 if self.cells is None else self.cells.index_bytes)

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> Json:
        """Encode the new texts; vectors travel as base64 of little-endian float32."""
        texts = catalog.part(rows).texts()
        encoder = self.item_encoder
        if isinstance(encoder, LazyEncoder):
            return pack(encoder.encode(texts, lambda done, total: progress("text vectors", done, total)))
        return pack(np.asarray(encoder.encode(texts), dtype=np.float32))

    def grow(self, catalog: Catalog, change: Change) -> Self:
        """Append the vectors of new items; those of removed ones stay and are never allowed."""
        new = unpack(change, self.dimensions)
        return self._with(catalog, self.rows.grown(unit_vectors(new, len(new), "added items")), self.cells)

    def _with(self, catalog: Catalog, rows: Rows, cells: Cells | None) -> Self:
        made = type(self).__new__(type(self))
        made.name = self.name
        made._set(catalog, self.recipe, self.item_encoder, self.query_encoder, rows, cells, self.seed)
        made.mean = self.mean
        return made

    @property
    def pending(self) -> int:
        """Count what `compact` would tidy up: parts of the vectors, and rows outside the cells."""
        behind = 0 if self.cells is None else len(self.rows) - len(self.cells.vectors)
        return len(self.rows.parts) - 1 + behind

    def compact(self) -> Self:
        """Put all vectors into one array, and all rows into cells where there are any."""
        rows = self.rows.joined()
        settings = None if self.cells is None else self.cells.settings
        cells = None if self.cells is None or not self.pending else Cells.of(rows.whole(), settings, self.seed)
        return self._with(self.catalog, rows, cells or self.cells)

    def describe(self) -> dict[str, Json]:
        """Tell encoder, dimensions and bytes."""
        return {
            "encoder": str(getattr(self.item_encoder, "name", type(self.item_encoder).__name__)),
            "dimensions": self.dimensions,
            "index": "exact" if self.cells is None else "approximate",
            "bytes": self.index_bytes,
        }

    def save(self, folder: Path) -> dict[str, Json]:
        """Write the vectors, and the cells; encoders are named, not copied."""
        mean = {} if self.mean is None else {"mean": self.mean}
        save_arrays(folder, {"vectors": self.rows.whole(), **mean})
        cells = self.compact().cells if self.cells is not None else None
        if cells is not None:
            cells.save(folder)
        return {
            "recipe": self.recipe.to_dict(),
            "name": self.name,
            "seed": self.seed,
            "dimensions": self.dimensions,
            "encoder": encoder_details(self.item_encoder),
            "query_encoder": None if self.query_encoder is self.item_encoder else encoder_details(self.query_encoder),
            "cells": None if cells is None else asdict(cells.settings),
            "mean": self.mean is not None,
        }

    @classmethod
    def load(
        cls,
        folder: Path,
        details: JsonObject,
        catalog: Catalog,
        encoder: Encoder | None = None,
        query_encoder: Encodes | None = None,
    ) -> Self:
        """Read what `save` wrote; vectors stay on disk until they are asked for.

        Args:
            folder: Where it was written.
            details: What `save` returned.
            catalog: The same edition of the catalogue.
            encoder: That of the items, where it cannot be found by its name.
            query_encoder: Likewise that of the queries, where it is another.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
            FingerprintError: An encoder that is not the one it was made with, or none where one must be given.
        """
        width = int(details["dimensions"])
        vectors = load_array(folder, "vectors", np.float32, (len(catalog), width), mapped=True)
        items = named_encoder(details["encoder"], encoder)
        asked = details.get("query_encoder")
        queries = items if asked is None else named_encoder(asked, query_encoder)
        made = cls.__new__(cls)
        made.name = str(details["name"])
        recipe = cls._recipe(details["recipe"])
        made._set(catalog, recipe, items, queries, Rows.of(vectors), None, int(details["seed"]))
        if details.get("mean"):
            made.mean = load_array(folder, "mean", np.float32, (width,))
        settings = details.get("cells")
        if settings is not None:
            if find_spec("faiss") is None:
                raise MissingPackageError("faiss-cpu", "ann", "This saved index")
            made.cells = Cells.load(folder, vectors, CellSettings(**cast("JsonObject", settings)))
        return made

    @classmethod
    def _recipe(cls, values: Json) -> Recipe:
        return DenseRecipe.from_dict(cast("Mapping[str, object]", values))


@dataclass(frozen=True)
class DenseRecipe(Recipe):
    """Say how vectors are searched and how a history is read.

    Args:
        index: Exact up to 2,000,000 items, where a search takes some 50 ms on one core; see `Dense`.
        cells: Of an approximate index; None for the defaults of `CellSettings`.
        decay: What each step back in a history costs: as for words.
        history: How many of the last items count; what is further back weighs less than 0.1 %.
        centred: Read a history without what all texts have in common, their mean vector. Not for words: a query's
            vector is made otherwise. Off by default, because what helps differs between catalogues; an engine with
            interactions tries both.

    Raises:
        SettingsError: A setting outside its range.
    """

    index: str = "auto"
    cells: CellSettings | None = None
    decay: float = 0.7
    history: int = 20
    centred: bool = False

    kind: ClassVar[str] = "dense"
    finder: ClassVar[type[Finder]] = Dense

    def __post_init__(self) -> None:
        if isinstance(self.cells, dict):  # from a manifest
            object.__setattr__(self, "cells", CellSettings(**self.cells))
        if self.index not in ("auto", "exact", "approximate"):
            raise SettingsError(f"index={self.index!r}; give 'auto', 'exact' or 'approximate'")
        check_content(self.decay, self.history)

    def build(self, data: Data, progress: Progress) -> Dense:
        """Take the vectors of the data's text encoder."""
        return Dense(
            data.catalog,
            data.encoder,
            vectors=data.text_vectors(progress),
            seed=data.seed,
            index=self.index,
            cells=self.cells,
            decay=self.decay,
            history=self.history,
            centred=self.centred,
        )

    def choices(self) -> list[Recipe]:
        """Try other weights of earlier items in a history, with and without what all texts have in common."""
        tried = [(self.decay, self.centred), *product(DECAYS, (True, False))]
        return [replace(self, decay=decay, centred=centred) for decay, centred in dict.fromkeys(tried)]


def unit_vectors(vectors: npt.ArrayLike, rows: int, what: str) -> Vectors:
    """Check the shape and scale each vector to length 1; a zero vector stays zero.

    Raises:
        ShapeError: Another number of vectors than rows, or a vector that is not finite.
    """
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or len(array) != rows:
        raise ShapeError(f"the vectors have shape {array.shape} for {rows} {what}; give one vector each")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ShapeError(f"the vector of number {row} of {rows} {what} is not finite; check the encoder")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    # Vectors of length 1 stay as they are, bit by bit, so that finders of one engine share them.
    lengths[(lengths == 0) | (np.abs(lengths - 1) < 1e-6)] = 1.0
    if (lengths == 1.0).all():
        return array
    unit: Vectors = (array / lengths).astype(np.float32)
    return unit


def encoder_details(encoder: Encodes) -> Json:
    """Name an encoder in plain values; None for one that has no fingerprint and must be given again."""
    if not all(hasattr(encoder, name) for name in ("name", "fingerprint", "dimensions")):
        return None
    return LazyEncoder.of(cast("Encoder", encoder)).details


def named_encoder(details: Json, given: Encodes | None) -> Encodes:
    """Find the encoder that was saved as `details`.

    Raises:
        FingerprintError: Another one was given, or none where it has no name.
    """
    if details is None:
        if given is None or hasattr(given, "fingerprint"):
            raise FingerprintError("this index was made with an encoder without a fingerprint; give that encoder again")
        return given
    named = cast("JsonObject", details)
    if given is not None and getattr(given, "fingerprint", None) != named["fingerprint"]:
        raise FingerprintError(
            f"this index was made with the encoder {named['name']!r} ({named['fingerprint']}), not with the one given; "
            "give that one"
        )
    return LazyEncoder.named(named, cast("Encoder", given))
