"""Late interaction: each word of the query finds the best word of an item (MaxSim over token vectors)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.errors import DamagedError, FingerprintError, SettingsError, ShapeError
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.parts import appended
from genrail.finders.scoring import ContentScoring, check_content
from genrail.finding.finder import Added, Change, Finder, Json, Progress, Recipe
from genrail.models.encoders import LazyEncoder
from genrail.rng import generator
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.finding.data import Data
    from genrail.models.text_encoder import Encoder
    from genrail.models.token_vectors import EncodesTokens

__all__ = ["LateInteraction", "LateInteractionRecipe"]

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
LARGEST = 127  # of a signed byte
BLOCK = 16_384  # token vectors widened to 32 bits at a time: 8 MB at 128 dimensions
SAMPLE = 20_000  # token vectors that the projection is fitted on
HISTORY_TOKENS = 32  # of an item in a history: the length that ColBERT reads of a query


@dataclass(frozen=True, eq=False)
class _Tokens:
    """Hold the token vectors of some rows.

    Args:
        codes: Signed bytes, (tokens, dimensions).
        scales: What a token's codes are multiplied by, (tokens,).
        offsets: Where the tokens of each row begin, (rows + 1,).
    """

    codes: npt.NDArray[np.int8]
    scales: Float
    offsets: Int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, projected: Sequence[Float], dimensions: int) -> _Tokens:
        """Round token vectors to bytes."""
        lengths = np.array([len(vectors) for vectors in projected], dtype=np.int64)
        return cls(*_quantised(projected, dimensions), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def joined(self, other: _Tokens) -> _Tokens:
        """Put the rows of another behind these."""
        return _Tokens(
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.scales, other.scales]),
            np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
        )

    def first(self, row: int, most: int) -> Float:
        """Give the first token vectors of a row."""
        begin, end = self.offsets[row], min(self.offsets[row + 1], self.offsets[row] + most)
        vectors: Float = self.codes[begin:end] * self.scales[begin:end, None]
        return vectors

    def best(self, asked: Sequence[Float]) -> list[Float]:
        """Find the highest cosine of each row with each token of each query, (rows, tokens of the query) each."""
        best = [np.full((len(self), len(vectors)), -1.0, dtype=np.float32) for vectors in asked]
        for first_row, end_row in _blocks(self.offsets, BLOCK):
            begin, end = self.offsets[first_row], self.offsets[end_row]
            wide = self.codes[begin:end].astype(np.float32) * self.scales[begin:end, None]
            rows = first_row + np.flatnonzero(np.diff(self.offsets[first_row : end_row + 1]))
            if not len(rows):
                continue
            starts = self.offsets[rows] - begin
            # One product per query, so that scores do not depend on the batch.
            for vectors, found in zip(asked, best, strict=True):
                found[rows] = np.maximum.reduceat(wide @ vectors.T, starts, axis=0)
        return best


class LateInteraction(ContentScoring):
    """Rank items by the mean, over the query's tokens, of the cosine with the item's most similar token.

    All items are scored. Token vectors are kept in 8 bits each dimension with one scale for each token. A history is
    read as the tokens of its items; see `ContentScoring` for how later ones count more and how words and a history are
    added.

    Args:
        catalog: The items; what is encoded is `catalog.texts()`.
        encoder: Gives token vectors: `genrail.models.token_vectors.TokenEncoder`, or your own.
        settings: How vectors are kept.
        name: For tables.
        progress: Called with (items encoded, items).
        seed: Of the tokens that the projection is fitted on, and of the order between equal scores.

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

    name = "Late interaction"

    def __init__(
        self,
        catalog: Catalog,
        encoder: EncodesTokens,
        *,
        settings: LateInteractionRecipe | None = None,
        name: str = "Late interaction",
        progress: Callable[[int, int], None] | None = None,
        seed: int = 0,
    ) -> None:
        settings = settings or LateInteractionRecipe()
        found = [_unit(vectors) for vectors in encoder.encode_tokens(catalog.texts(), progress)]
        projection = _projection(found, settings, seed)
        width = projection.shape[1]
        tokens = _Tokens.of([_projected(vectors, projection) for vectors in found], width)
        self._set(catalog, encoder, settings, name, (tokens,), projection, seed)

    def _set(
        self,
        catalog: Catalog,
        encoder: EncodesTokens,
        settings: LateInteractionRecipe,
        name: str,
        parts: tuple[_Tokens, ...],
        projection: Float,
        seed: int,
    ) -> None:
        self.catalog = catalog
        self.tokens = encoder
        self.recipe: LateInteractionRecipe = settings
        self.name = name
        self.seed = seed
        self._parts = parts
        self._projection = projection  # (dimensions of the encoder, dimensions)

    @property
    def encoder(self) -> Encoder | None:
        """Give the text encoder, where the token vectors come from one."""
        return self.tokens if isinstance(self.tokens, LazyEncoder) else getattr(self.tokens, "encoder", None)

    @property
    def index_bytes(self) -> int:
        """Count the bytes of the token vectors and of what belongs to them."""
        arrays = [array for part in self._parts for array in (part.codes, part.scales, part.offsets)]
        return sum(array.nbytes for array in [*arrays, self._projection])

    def text_scores(self, texts: Sequence[str]) -> Iterator[Float]:
        """Score all rows by MaxSim with each text, shape (rows,) each."""
        return iter(self._scores([self._asked(vectors) for vectors in self.tokens.encode_tokens(list(texts))]))

    def item_scores(self, rows: Int, weights: npt.NDArray[np.float64]) -> Float:
        """Score all rows by the weighted sum of MaxSim with some items' first tokens, shape (rows,)."""
        starts = np.cumsum([0, *map(len, self._parts)])
        places = np.searchsorted(starts, rows, side="right") - 1
        asked = [
            self._parts[place].first(row - int(starts[place]), HISTORY_TOKENS)
            for row, place in zip(rows.tolist(), places.tolist(), strict=True)
        ]
        total: Float = weights.astype(np.float32) @ np.array(self._scores(asked))
        return total

    def _asked(self, vectors: Float) -> Float:
        vectors = _unit(vectors)
        if len(vectors) and vectors.shape[1] != len(self._projection):
            raise ShapeError(
                f"the encoder gives {vectors.shape[1]} dimensions but the items had {len(self._projection)}; "
                "use the encoder that made the items' vectors"
            )
        return _unit(_projected(vectors, self._projection))

    def _scores(self, asked: Sequence[Float]) -> list[Float]:
        """Score all rows for each query's token vectors, (tokens, dimensions) each."""
        parts = [part.best(asked) for part in self._parts]
        whole = [np.concatenate(found) for found in zip(*parts, strict=True)]
        return [found.mean(axis=1) if found.shape[1] else np.zeros(len(found), np.float32) for found in whole]

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> Json:
        """Encode the tokens of the new texts; bytes and scales travel as base64."""
        told = partial(progress, "token vectors")
        found = self.tokens.encode_tokens(catalog.part(rows).texts(), told)
        tokens = _Tokens.of([self._asked(vectors) for vectors in found], self._projection.shape[1])
        return {
            "codes": _packed(tokens.codes),
            "scales": _packed(tokens.scales.astype("<f4")),
            "tokens": np.diff(tokens.offsets).tolist(),
        }

    def grow(self, catalog: Catalog, change: Change) -> LateInteraction:
        """Append the token vectors of new items; those of removed ones stay and are never allowed."""
        parts = self._parts
        for added in change.added:
            parts = appended(parts, _logged(added, self._projection.shape[1]), _Tokens.joined)
        return self._with(catalog, parts)

    def _with(self, catalog: Catalog, parts: tuple[_Tokens, ...]) -> LateInteraction:
        made = LateInteraction.__new__(LateInteraction)
        made._set(catalog, self.tokens, self.recipe, self.name, parts, self._projection, self.seed)
        return made

    @property
    def pending(self) -> int:
        """Count the parts that `compact` would put into one."""
        return len(self._parts) - 1

    def compact(self) -> LateInteraction:
        """Put all token vectors into one array."""
        return self._with(self.catalog, (self._whole(),))

    def _whole(self) -> _Tokens:
        whole = self._parts[0]
        for part in self._parts[1:]:
            whole = whole.joined(part)
        return whole

    def describe(self) -> dict[str, Json]:
        """Tell the encoder, the dimensions of a token vector, and bytes."""
        return {
            "encoder": str(getattr(self.tokens, "name", type(self.tokens).__name__)),
            "dimensions": int(self._projection.shape[1]),
            "bytes": self.index_bytes,
        }

    def save(self, folder: Path) -> dict[str, Json]:
        """Write token vectors; the encoder is named, not copied."""
        whole = self._whole()
        save_arrays(
            folder,
            {"codes": whole.codes, "scales": whole.scales, "offsets": whole.offsets, "projection": self._projection},
        )
        named = self.tokens.details if isinstance(self.tokens, LazyEncoder) else None
        return {
            "recipe": self.recipe.to_dict(),
            "name": self.name,
            "seed": self.seed,
            "encoder": named,
            "fingerprint": _fingerprint(self.tokens),
            "shape": list(self._projection.shape),
        }

    @classmethod
    def load(
        cls,
        folder: Path,
        details: JsonObject,
        catalog: Catalog,
        encoder: Encoder | EncodesTokens | None = None,
    ) -> Self:
        """Read what `save` wrote; the encoder is loaded when words first arrive.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
            FingerprintError: Another encoder than the one it was made with, or none where one must be given.
        """
        wide, width = details["shape"]
        codes = load_array(folder, "codes", np.int8, (None, width), mapped=True)
        scales = load_array(folder, "scales", np.float32, (len(codes),))
        offsets = load_array(folder, "offsets", np.int64, (len(catalog) + 1,))
        projection = load_array(folder, "projection", np.float32, (wide, width))
        if offsets[0] != 0 or offsets[-1] != len(codes) or (np.diff(offsets) < 0).any():
            raise DamagedError(f"the arrays in {folder} do not fit each other; restore the folder or build it again")
        recipe = LateInteractionRecipe.from_dict(details["recipe"])
        tokens = _encoder_of(details, encoder)
        made = cls.__new__(cls)
        parts = (_Tokens(codes, scales, offsets),)
        made._set(catalog, tokens, recipe, str(details["name"]), parts, projection, int(details["seed"]))
        return made


@dataclass(frozen=True)
class LateInteractionRecipe(Recipe):
    """Say how token vectors are kept and how a history is read.

    Args:
        dimensions: Token vectors are projected to their so many main directions; None keeps all. 128 as ColBERT.
        decay: What each step back in a history costs: as for words.
        history: How many of the last items count; what is further back weighs less than 0.1 %.

    Raises:
        SettingsError: A setting outside its range.
    """

    dimensions: int | None = 128
    decay: float = 0.7
    history: int = 20

    kind: ClassVar[str] = "late-interaction"
    finder: ClassVar[type[Finder]] = LateInteraction

    def __post_init__(self) -> None:
        if self.dimensions is not None and self.dimensions < 1:
            raise SettingsError(f"dimensions is {self.dimensions}; give 1 or more, or None for all")
        check_content(self.decay, self.history)

    def build(self, data: Data, progress: Progress) -> LateInteraction:
        """Encode the tokens of all texts by the data's text encoder."""
        told = partial(progress, "token vectors")
        return LateInteraction(data.catalog, data.encoder, settings=self, progress=told, seed=data.seed)


def _encoder_of(details: JsonObject, given: Encoder | EncodesTokens | None) -> EncodesTokens:
    """Find the encoder that was saved.

    Raises:
        FingerprintError: It is not the one given, or has to be given and was not.
    """
    named = details["encoder"]
    if named is None:
        if given is None or _fingerprint(given) != details["fingerprint"]:
            raise FingerprintError(
                f"these token vectors were made with another encoder ({details['fingerprint']}); give that one"
            )
        return cast("EncodesTokens", given)
    if given is not None and _fingerprint(given) != named["fingerprint"]:
        raise FingerprintError(
            f"these token vectors were made with the encoder {named['name']!r} ({named['fingerprint']}), not with the "
            "one given; give that one"
        )
    return LazyEncoder.named(named, cast("Encoder | None", given))


def _fingerprint(encoder: object) -> str | None:
    value = getattr(encoder, "fingerprint", None)
    return None if value is None else str(value)


def _packed(array: Array) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _logged(added: Added, width: int) -> _Tokens:
    """Read what `LateInteraction.read` wrote of one change.

    Raises:
        DamagedError: It does not hold tokens for each item.
    """
    try:
        reading = cast("JsonObject", added.reading)
        codes = np.frombuffer(base64.b64decode(reading["codes"]), dtype=np.int8).reshape(-1, width)
        scales = np.frombuffer(base64.b64decode(reading["scales"]), dtype="<f4").astype(np.float32)
        offsets = np.concatenate([[0], np.cumsum(np.array(reading["tokens"], dtype=np.int64))]).astype(np.int64)
        if not len(offsets) - 1 == len(added.items) or not offsets[-1] == len(codes) == len(scales):
            raise ValueError("their numbers differ")
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(
            f"the logged token vectors of rows {added.rows.start} to {added.rows.stop - 1} cannot be read ({error}); "
            "restore the folder or build it again"
        ) from None
    return _Tokens(codes, scales, offsets)


def _projected(vectors: Float, projection: Float) -> Float:
    """Project token vectors, (tokens, dimensions); a text without tokens has none of any width."""
    projected: Float = vectors @ projection if len(vectors) else np.zeros((0, projection.shape[1]), np.float32)
    return projected


def _unit(vectors: npt.NDArray[np.floating]) -> Float:
    """Scale each vector to length 1; a zero vector stays zero."""
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ShapeError(f"token vectors of shape {array.shape} with values that may not be finite; check the encoder")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    unit: Float = (array / np.where(lengths > 0, lengths, 1.0)).astype(np.float32, copy=False)
    return unit


def _projection(found: Sequence[Float], settings: LateInteractionRecipe, seed: int) -> Float:
    """Find the main directions of the tokens, (dimensions of the encoder, dimensions), orthonormal."""
    widths = {vectors.shape[1] for vectors in found if len(vectors)}
    if len(widths) > 1:
        raise ShapeError(f"the encoder gives token vectors of {sorted(widths)} dimensions; they must have one width")
    width = widths.pop() if widths else 1
    if settings.dimensions is None or settings.dimensions >= width:
        return np.eye(width, dtype=np.float32)
    kept = [vectors for vectors in found if len(vectors)]
    order = generator(seed, "late interaction").permutation(len(kept))
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
