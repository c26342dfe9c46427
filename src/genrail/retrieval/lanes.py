"""Lanes: how a model reads requests, and how new items get their identifiers.

The native lane reads vectors and rows and writes Semantic IDs; the language-model lane reads a prompt and writes
titles.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.errors import FingerprintError, SettingsError
from genrail.identifiers import IdentifierTable
from genrail.identifiers.table import Identifiers
from genrail.retrieval.new_items import Memory
from genrail.retrieval.requests import Request

if TYPE_CHECKING:
    from genrail.identifiers.semantic_ids import SemanticIds
    from genrail.models.language_model import LanguageModel
    from genrail.models.native import NativeModel
    from genrail.models.text_encoder import Encoder

__all__ = ["Added", "Lane", "NativeLane", "Progress", "load_encoder"]


class Progress(Protocol):
    """Hear how far long work has come."""

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        """Hear that `done` of `total` parts of a stage are behind us."""
        ...


@dataclass(frozen=True)
class Added:
    """Hold the items of one change that get new rows, and what `Lane.read` said of them."""

    items: Catalog
    reading: dict[str, Any]

    @classmethod
    def of(cls, catalog: Catalog, rows: Sequence[int], reading: dict[str, Any]) -> Added:
        """Take some rows of a catalogue."""
        frame = catalog.frame[list(rows)]
        return cls(Catalog(frame, np.ones(len(rows), dtype=np.bool_), catalog.columns, catalog.report), reading)


class Lane(Protocol):
    """Pair a model with the way requests reach it and items get identifiers."""

    @property
    def name(self) -> str:
        """Name the lane: `native`, or the language model's name."""
        ...

    @property
    def model(self) -> LanguageModel[Any, Any]:
        """Give what writes the identifiers."""
        ...

    @property
    def encoder(self) -> Encoder | None:
        """Give the text encoder, if the lane has one."""
        ...

    def contexts(self, requests: Sequence[Request], catalog: Catalog) -> list[Any]:
        """Make what the model reads, one per request."""
        ...

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> dict[str, Any]:
        """Compute what new rows need beyond their text, as plain values that can be logged: vectors, or nothing."""
        ...

    def extend(self, table: Any, added: Sequence[Added]) -> tuple[Lane, Identifiers]:
        """Give new rows identifiers, without retraining; identifiers of earlier rows stay.

        The same items and readings give the same lane and table, one by one or together, so logged changes can be
        applied again.
        """
        ...

    def spell(self, prefix: Sequence[int], catalog: Catalog, table: Any) -> str:
        """Say what a prefix stands for, to people."""
        ...

    def details(self) -> dict[str, Any]:
        """Give what the manifest should hold: the kind of lane, and the fingerprints of its parts."""
        ...

    def save(self, folder: Path) -> None:
        """Write the lane into an existing folder."""
        ...

    def describe(self) -> dict[str, Any]:
        """Tell what this is, in plain values."""
        ...


def load_encoder(encoder: Any, max_tokens: int | None = None) -> Encoder:
    """Find a text encoder: None for all-MiniLM-L6-v2, "hashing", a name or folder, or an object that encodes.

    Args:
        encoder: One of these.
        max_tokens: Where texts are cut, for an encoder that is loaded by name; None for its own limit.

    Raises:
        SettingsError: It is none of these.
    """
    if encoder is None or isinstance(encoder, str | Path):
        if encoder is not None and str(encoder).startswith(HASHING):
            from genrail.models.tiny import HashingEncoder

            return HashingEncoder()
        from genrail.models.text_encoder import TextEncoder

        return TextEncoder.load(None if encoder is None else str(encoder), max_tokens=max_tokens)
    if not hasattr(encoder, "encode"):
        raise SettingsError(f"{encoder!r} is no text encoder; give a name, a folder, or an object with encode(texts)")
    found: Encoder = encoder
    return found


HASHING = "hashing"
TURN = 32  # texts that are encoded before another thread may: a fifth of a second of one core with MiniLM


@dataclass(frozen=True)
class NativeLane:
    """Read queries as one text vector and histories as rows; write Semantic IDs."""

    encoder: Encoder
    identifiers: SemanticIds
    model: NativeModel
    held_out: bool = True  # were each user's last two events kept out of training
    memory: Memory | None = None  # of what training histories held; None where there was no training on histories

    name = "native"

    def contexts(self, requests: Sequence[Request], catalog: Catalog) -> list[Any]:
        """Encode all words of the batch at once; one context per request."""
        texts = [request.text for request in requests if request.text is not None]
        vectors = iter(self.encoder.encode(texts)) if texts else iter(())
        return [
            self.model.context(next(vectors) if request.text is not None else None, request.history.tolist())
            for request in requests
        ]

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> dict[str, Any]:
        """Encode the new texts; vectors travel as base64 of little-endian float32."""
        texts = catalog.texts()[rows.start : rows.stop]
        vectors = self.encoder.encode(texts, lambda done, total: progress("text vectors", done, total))
        return {"vectors": base64.b64encode(vectors.astype("<f4").tobytes()).decode("ascii")}

    def extend(self, table: IdentifierTable, added: Sequence[Added]) -> tuple[NativeLane, IdentifierTable]:
        """Give the new rows codes from the frozen codebooks, and the model nodes for them."""
        flat = np.frombuffer(b"".join(base64.b64decode(one.reading["vectors"]) for one in added), dtype="<f4")
        parts = [len(one.items) for one in added]
        groups = np.repeat(np.arange(len(parts)), parts)
        vectors = flat.astype(np.float32).reshape(len(groups), self.encoder.dimensions)
        # Identifiers may know who was taken with whom; for the new ones that is guessed from like texts, or zero.
        described = np.pad(vectors, ((0, 0), (0, self.identifiers.dimensions - vectors.shape[1])))
        memory, like = (None, None) if self.memory is None else self.memory.grown(self.model, vectors, parts)
        if memory is not None and described.shape[1] == vectors.shape[1] + memory.together.shape[1]:
            described[:, vectors.shape[1] :] = memory.together[len(table) :]
        grown = self.identifiers.extend(table, described, vocab_size=self.model.vocab_size)
        model = self.model.add_items(grown.matrix()[len(table) :], vectors, groups)
        if like is not None:
            from genrail.models.native_warm_start import warm_start

            model = warm_start(model, self.model, *like, groups)
        return NativeLane(self.encoder, self.identifiers, model, self.held_out, memory), grown

    def spell(self, prefix: Sequence[int], catalog: Catalog, table: IdentifierTable) -> str:
        """Name an item below the prefix: codes mean nothing to people."""
        below = (table.matrix()[:, : len(prefix)] == np.asarray(prefix)).all(axis=1) & catalog.live
        return f"e.g. {catalog.titles[int(below.argmax())]}" if below.any() else ""

    def save(self, folder: Path) -> None:
        """Write codebooks and weights; the text encoder is named, not copied."""
        (folder / "model").mkdir()
        self.identifiers.save(folder / "identifiers")
        self.model.save(folder / "model")
        if self.memory is not None:
            self.memory.save(folder / "model")

    def details(self) -> dict[str, Any]:
        """Name the text encoder and fingerprint the codebooks."""
        return {
            "lane": "native",
            "encoder": {
                "name": self.encoder.name,
                "fingerprint": self.encoder.fingerprint,
                "dimensions": self.encoder.dimensions,
                "max_tokens": getattr(self.encoder, "max_tokens", None),
            },
            "codebooks": self.identifiers.fingerprint,
            "held_out": self.held_out,
            "memory": self.memory is not None,
        }

    @classmethod
    def load(cls, folder: Path, details: dict[str, Any], encoder: Any) -> NativeLane:
        """Read what `save` wrote; the encoder itself is loaded when words first arrive."""
        from genrail.identifiers.semantic_ids import SemanticIds
        from genrail.models.native import NativeModel

        identifiers = SemanticIds.load(folder / "identifiers")
        if identifiers.fingerprint != details["codebooks"]:
            raise FingerprintError(
                f"the codebooks in {folder} are {identifiers.fingerprint}, the engine was built with "
                f"{details['codebooks']}; restore the folder or build the engine again"
            )
        named = LazyEncoder(details["encoder"], encoder)
        memory = Memory.load(folder / "model") if details.get("memory") else None  # saved by earlier versions: none
        return cls(named, identifiers, NativeModel.load(folder / "model"), bool(details["held_out"]), memory)

    def describe(self) -> dict[str, Any]:
        """Tell encoder, identifiers and model."""
        return {
            "encoder": self.encoder.name,
            "identifiers": f"{self.identifiers.levels} x {self.identifiers.codes} codes, one to tell duplicates apart",
            **{f"model {key}": value for key, value in self.model.describe().items()},
        }


_ENCODING = Lock()  # tokenizers are not made for several threads
_IN_USE: WeakValueDictionary[str, Encoder] = WeakValueDictionary()  # by fingerprint: versions of an engine share one


class LazyEncoder:
    """Stand for the text encoder of a saved engine until words arrive, so that histories cost no encoder.

    Raises on first use:
        FingerprintError: The encoder found is not the one the engine was built with.
    """

    def __init__(self, details: dict[str, Any], given: Any = None) -> None:
        self.name: str = details["name"]
        self.fingerprint: str = details["fingerprint"]
        self.dimensions: int = details["dimensions"]
        self.max_tokens: int | None = details["max_tokens"]
        self._given = given
        self._loaded: Encoder | None = None

    def encode(self, texts: Sequence[str], progress: Any = None) -> npt.NDArray[np.float32]:
        """Load the encoder if need be, and encode; requests get their turn while many new items are encoded."""
        if len(texts) <= TURN:
            with _ENCODING:
                return self._encode(texts, progress)
        parts = []
        for first in range(0, len(texts), TURN):
            with _ENCODING:
                parts.append(self._encode(texts[first : first + TURN], None))
            if progress is not None:
                progress(min(first + TURN, len(texts)), len(texts))
            time.sleep(0.0001)  # a lock is not fair: whoever waits takes it now
        return np.concatenate(parts)

    def cuts(self, text: str) -> bool:
        """Tell whether the encoder reads only the beginning of a text; False where it does not say."""
        model = getattr(self._loaded, "model", None)
        if self.max_tokens is None or model is None or len(text) < self.max_tokens:  # a token has a character or more
            return False
        from genrail.models.plain_text import plain_tokens

        with _ENCODING:
            tokens = len(plain_tokens(model.tokenizer, [text])[0])
            return tokens > self.max_tokens - int(model.tokenizer.num_special_tokens_to_add())

    def _encode(self, texts: Sequence[str], progress: Any) -> npt.NDArray[np.float32]:
        if self._loaded is None and self._given is None:
            self._loaded = _IN_USE.get(self.fingerprint)  # another version of the engine has it
        if self._loaded is None:
            found = load_encoder(self._given if self._given is not None else self.name, self.max_tokens)
            if found.fingerprint != self.fingerprint:
                raise FingerprintError(
                    f"the engine was built with the text encoder {self.name!r} ({self.fingerprint}), but the one found "
                    f"here is {found.fingerprint}; install the same weights or build the engine again"
                )
            self._loaded = found
            with suppress(TypeError):  # given by the user, of a kind that cannot be referred to weakly
                _IN_USE[self.fingerprint] = found
        return self._loaded.encode(texts, progress)
