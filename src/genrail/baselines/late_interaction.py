"""Late interaction: each word of the query finds the best word of an item (MaxSim over token vectors)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genrail.baselines.content import Content
from genrail.baselines.saved import load_array, load_settings, save_settings
from genrail.errors import DamagedError, FingerprintError, SettingsError, ShapeError
from genrail.rng import generator
from genrail.types import Query, Ranking

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.models.token_vectors import EncodesTokens

__all__ = ["LateInteraction", "LateInteractionSettings"]

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
LARGEST = 127  # of a signed byte
BLOCK = 16_384  # token vectors widened to 32 bits at a time: 8 MB at 128 dimensions
SAMPLE = 20_000  # token vectors that the projection is fitted on
HISTORY_TOKENS = 32  # of an item in a history: the length that ColBERT reads of a query


@dataclass(frozen=True)
class LateInteractionSettings:
    """Say how token vectors are kept.

    Args:
        dimensions: Token vectors are projected to their so many main directions; None keeps all.
        seed: Of the tokens that the projection is fitted on, and of the order between equal scores.

    Raises:
        SettingsError: dimensions below 1.
    """

    dimensions: int | None = 128  # as ColBERT
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dimensions is not None and self.dimensions < 1:
            raise SettingsError(f"dimensions is {self.dimensions}; give 1 or more, or None for all")


class LateInteraction:
    """Rank items by the mean, over the query's tokens, of the cosine with the item's most similar token.

    All items are scored. Token vectors are kept in 8 bits each dimension with one scale for each token. A history is
    read as the tokens of its items; see `Content` for how later ones count more and how words and a history are added.

    Args:
        catalog: The items; what is encoded is `catalog.texts()`.
        encoder: Gives token vectors: `genrail.models.token_vectors.TokenEncoder`, or your own.
        settings: How vectors are kept.
        name: For tables.
        progress: Called with (items encoded, items).

    Raises:
        ShapeError: The encoder gives vectors of different widths, or one that is not finite.

    Cost: memory is tokens x (dimensions + 4) bytes, 132 for each token of the catalogue by default; a query takes
    O(tokens of the catalogue x dimensions) for each of its own tokens.
    Source: Khattab and Zaharia 2020 (ColBERT); for 8-bit storage Santhanam et al. 2022 (ColBERTv2), who need fewer.

    >>> from genrail.catalog import Catalog
    >>> shop = Catalog.from_items([{"id": "a", "title": "red hat"}, {"id": "b", "title": "blue hat"}])
    >>> class Words:
    ...     numbers = {"red": 0, "blue": 1, "hat": 2}
    ...     def encode_tokens(self, texts, progress=None):
    ...         return (np.eye(3, dtype=np.float32)[[self.numbers[word] for word in text.split()]] for text in texts)
    >>> LateInteraction(shop, Words()).search("blue", k=1)[0].item_id
    'b'
    """

    def __init__(
        self,
        catalog: Catalog,
        encoder: EncodesTokens,
        *,
        settings: LateInteractionSettings | None = None,
        name: str = "Late interaction",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        settings = settings or LateInteractionSettings()
        found = [_unit(vectors) for vectors in encoder.encode_tokens(catalog.texts(), progress)]
        projection = _projection(found, settings)
        codes, scales = _quantised([vectors @ projection for vectors in found], projection.shape[1])
        lengths = np.array([len(vectors) for vectors in found], dtype=np.int64)
        self._set(catalog, encoder, settings, name, codes, scales, np.r_[0, np.cumsum(lengths)], projection)

    def _set(
        self,
        catalog: Catalog,
        encoder: EncodesTokens,
        settings: LateInteractionSettings,
        name: str,
        codes: npt.NDArray[np.int8],
        scales: Float,
        offsets: Int,
        projection: Float,
    ) -> None:
        self.catalog = catalog
        self.encoder = encoder
        self.settings = settings
        self.name = name
        self._codes = codes  # (tokens, dimensions)
        self._scales = scales  # (tokens,)
        self._offsets = offsets  # (rows + 1,)
        self._projection = projection  # (dimensions of the encoder, dimensions)
        self._content = Content(self, seed=settings.seed)

    @property
    def index_bytes(self) -> int:
        """Count the bytes of the token vectors and of what belongs to them."""
        return sum(array.nbytes for array in (self._codes, self._scales, self._offsets, self._projection))

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
        return self._content.search_batch(queries, k=k)

    def text_scores(self, texts: Sequence[str]) -> list[Float]:
        """Score all rows by MaxSim with each text, shape (rows,) each."""
        return self._scores([self._project(vectors) for vectors in self.encoder.encode_tokens(list(texts))])

    def item_scores(self, rows: Int, weights: npt.NDArray[np.float64]) -> Float:
        """Score all rows by the weighted sum of MaxSim with some items' first tokens, shape (rows,)."""
        asked = []
        for row in rows.tolist():
            begin, end = self._offsets[row], min(self._offsets[row + 1], self._offsets[row] + HISTORY_TOKENS)
            asked.append(self._codes[begin:end] * self._scales[begin:end, None])
        total: Float = weights.astype(np.float32) @ np.array(self._scores(asked))
        return total

    def _project(self, vectors: Float) -> Float:
        vectors = _unit(vectors)
        if len(vectors) and vectors.shape[1] != len(self._projection):
            raise ShapeError(
                f"the encoder gives {vectors.shape[1]} dimensions but the items had {len(self._projection)}; "
                "use the encoder that made the items' vectors"
            )
        projected: Float = (
            vectors @ self._projection if len(vectors) else np.zeros((0, self._codes.shape[1]), np.float32)
        )
        return _unit(projected)

    def _scores(self, asked: Sequence[Float]) -> list[Float]:
        """Score all rows for each query's token vectors, (tokens, dimensions) each."""
        best = [np.full((len(self.catalog), len(vectors)), -1.0, dtype=np.float32) for vectors in asked]
        for first_row, end_row in _blocks(self._offsets, BLOCK):
            begin, end = self._offsets[first_row], self._offsets[end_row]
            wide = self._codes[begin:end].astype(np.float32) * self._scales[begin:end, None]
            rows = first_row + np.flatnonzero(np.diff(self._offsets[first_row : end_row + 1]))
            if not len(rows):
                continue
            starts = self._offsets[rows] - begin
            # One product per query, so that scores do not depend on the batch.
            for vectors, found in zip(asked, best, strict=True):
                found[rows] = np.maximum.reduceat(wide @ vectors.T, starts, axis=0)
        return [found.mean(axis=1) if found.shape[1] else np.zeros(len(found), np.float32) for found in best]

    def save(self, folder: str | Path) -> None:
        """Write settings and token vectors; the encoder is not saved, only its fingerprint if it has one."""
        settings = {"name": self.name, "settings": asdict(self.settings), "encoder": _fingerprint(self.encoder)}
        folder = save_settings(folder, "late interaction", self.catalog, settings)
        for name, array in self._arrays().items():
            np.save(folder / f"{name}.npy", array)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "codes": self._codes,
            "scales": self._scales,
            "offsets": self._offsets,
            "projection": self._projection,
        }

    @classmethod
    def load(cls, folder: str | Path, catalog: Catalog, encoder: EncodesTokens) -> LateInteraction:
        """Read what `save` wrote, with the encoder for the queries.

        Raises:
            DamagedError, FormatError, FingerprintError: A folder that is not whole, not ours, of another catalogue, or
                of another encoder.
        """
        values = load_settings(folder, "late interaction", catalog)
        if values["encoder"] != _fingerprint(encoder):
            raise FingerprintError(f"{folder} was made with another encoder ({values['encoder']}); give that one")
        arrays = [load_array(Path(folder) / f"{name}.npy") for name in ("codes", "scales", "offsets", "projection")]
        codes, scales, offsets, projection = arrays
        whole = (
            codes.ndim == projection.ndim == 2
            and len(offsets) == len(catalog) + 1
            and int(offsets[-1]) == len(codes) == len(scales)
            and codes.shape[1] == projection.shape[1]
        )
        if not whole:
            raise DamagedError(f"the arrays in {folder} do not fit each other; save the baseline again")
        made = cls.__new__(cls)
        settings = LateInteractionSettings(**values["settings"])
        made._set(catalog, encoder, settings, values["name"], codes, scales, offsets, projection)
        return made


def _unit(vectors: npt.NDArray[np.floating[Any]]) -> Float:
    """Scale each vector to length 1; a zero vector stays zero."""
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ShapeError(f"token vectors of shape {array.shape} with values that may not be finite; check the encoder")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    unit: Float = (array / np.where(lengths > 0, lengths, 1.0)).astype(np.float32, copy=False)
    return unit


def _projection(found: Sequence[Float], settings: LateInteractionSettings) -> Float:
    """Find the main directions of the tokens, (dimensions of the encoder, dimensions), orthonormal."""
    widths = {vectors.shape[1] for vectors in found if len(vectors)}
    if len(widths) > 1:
        raise ShapeError(f"the encoder gives token vectors of {sorted(widths)} dimensions; they must have one width")
    width = widths.pop() if widths else 1
    if settings.dimensions is None or settings.dimensions >= width:
        return np.eye(width, dtype=np.float32)
    kept = [vectors for vectors in found if len(vectors)]
    order = generator(settings.seed, "late interaction").permutation(len(kept))
    sample, tokens = [], 0
    for place in order.tolist():
        if tokens >= SAMPLE:
            break
        sample.append(kept[place])
        tokens += len(kept[place])
    together = np.concatenate(sample).astype(np.float64)
    # Ascending; cosines are about the origin, so that no mean is taken off.
    _, directions = np.linalg.eigh(together.T @ together)
    main: Float = directions[:, ::-1][:, : settings.dimensions].astype(np.float32)
    return np.ascontiguousarray(main)


def _quantised(found: Sequence[Float], dimensions: int) -> tuple[npt.NDArray[np.int8], Float]:
    """Round token vectors of length 1 to signed bytes: codes (tokens, dimensions) and a scale for each token."""
    tokens = sum(len(vectors) for vectors in found)
    codes = np.zeros((tokens, dimensions), dtype=np.int8)
    scales = np.zeros(tokens, dtype=np.float32)
    begin = 0
    for vectors in found:
        end = begin + len(vectors)
        unit = _unit(vectors) if len(vectors) else np.zeros((0, dimensions), np.float32)
        scales[begin:end] = np.abs(unit).max(axis=1, initial=0.0) / LARGEST
        codes[begin:end] = np.rint(unit / np.where(scales[begin:end] > 0, scales[begin:end], 1.0)[:, None])
        begin = end
    return codes, scales


def _blocks(offsets: Int, size: int) -> list[tuple[int, int]]:
    """Cut rows into ranges of about `size` tokens, one row at least."""
    blocks, first, rows = [], 0, len(offsets) - 1
    while first < rows:
        end = max(first + 1, int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1)
        blocks.append((first, min(end, rows)))
        first = blocks[-1][1]
    return blocks


def _fingerprint(encoder: EncodesTokens) -> str | None:
    value = getattr(encoder, "fingerprint", None)
    return None if value is None else str(value)
