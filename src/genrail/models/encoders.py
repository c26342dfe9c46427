"""Find a text encoder by name, and stand for the one of a saved engine until words arrive."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from genrail.errors import FingerprintError, MissingPackageError, SettingsError
from genrail.types import Json, JsonObject

if TYPE_CHECKING:
    from genrail.models.text_encoder import Encoder

__all__ = ["LazyEncoder", "load_encoder", "require_torch"]

HASHING = "hashing"
WORDS = "words+"
TURN = 32  # texts that are encoded before another thread may: a fifth of a second of one core with MiniLM
REMEMBERED = 64  # vectors of the last texts: finders of one engine read the same words

_ENCODING = Lock()  # tokenizers are not made for several threads
_IN_USE: WeakValueDictionary[str, Encoder] = WeakValueDictionary()  # by fingerprint: versions of an engine share one
_NAMED: WeakValueDictionary[str, LazyEncoder] = WeakValueDictionary()  # likewise, those not given by the caller

Vectors = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


def load_encoder(encoder: Encoder | str | Path | None, max_tokens: int | None = None) -> Encoder:
    """Find a text encoder: None for all-MiniLM-L6-v2, "hashing", a name or folder, or an object that encodes.

    ``words+`` before any of these names puts the words of a text beside its vector, see `WordsBeside`.

    Args:
        encoder: One of these.
        max_tokens: Where texts are cut, for an encoder that is loaded by name; None for its own limit.

    Raises:
        SettingsError: It is none of these.
    """
    if encoder is None or isinstance(encoder, str | Path):
        if encoder is not None and str(encoder).startswith(WORDS):
            from genrail.models.words_beside import WordsBeside

            return WordsBeside(load_encoder(str(encoder).removeprefix(WORDS) or None, max_tokens))
        if encoder is not None and str(encoder).startswith(HASHING):
            from genrail.models.tiny import HashingEncoder

            return HashingEncoder()
        from genrail.models.text_encoder import TextEncoder

        return TextEncoder.load(None if encoder is None else str(encoder), max_tokens=max_tokens)
    if not hasattr(encoder, "encode"):
        raise SettingsError(f"{encoder!r} is no text encoder; give a name, a folder, or an object with encode(texts)")
    found: Encoder = encoder
    return found


def require_torch() -> None:
    """Refuse to go on without torch, before anything costly is done.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("torch", "torch,offline", "building an engine") from error


class LazyEncoder:
    """Stand for the text encoder of a saved engine until words arrive, so that histories cost no encoder.

    Raises on first use:
        FingerprintError: The encoder found is not the one the engine was built with.
    """

    def __init__(self, details: JsonObject, given: Encoder | str | None = None) -> None:
        self.name: str = details["name"]
        self.fingerprint: str = details["fingerprint"]
        self.dimensions: int = details["dimensions"]
        self.max_tokens: int | None = details["max_tokens"]
        self._given = given
        self._loaded: Encoder | None = None
        self._last: OrderedDict[str, Vectors] = OrderedDict()

    @classmethod
    def of(cls, encoder: Encoder) -> LazyEncoder:
        """Wrap an encoder that is loaded; finders of one engine share the wrapper, and so what it remembers."""
        if isinstance(encoder, LazyEncoder):
            return encoder
        limit = getattr(encoder, "max_tokens", None)
        details = {"name": encoder.name, "fingerprint": encoder.fingerprint, "dimensions": encoder.dimensions}
        made = cls({**details, "max_tokens": limit}, encoder)
        made._loaded = encoder
        return made

    @classmethod
    def named(cls, details: JsonObject, given: Encoder | str | None = None) -> LazyEncoder:
        """Stand for the encoder that was saved as `details`; finders that name the same one share the wrapper."""
        if given is not None:
            return given if isinstance(given, LazyEncoder) else cls(details, given)
        with _ENCODING:
            found = _NAMED.get(details["fingerprint"])
            if found is None:
                found = _NAMED[details["fingerprint"]] = cls(details)
        return found

    @property
    def details(self) -> dict[str, Json]:
        """Give what `named` needs, in plain values: the encoder is named in a saved engine, not copied."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "dimensions": self.dimensions,
            "max_tokens": self.max_tokens,
        }

    @property
    def loaded(self) -> Encoder:
        """Give the encoder itself, loaded if need be.

        Raises:
            FingerprintError: The encoder found is not the one the engine was built with.
        """
        with _ENCODING:
            return self._load()

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Load the encoder if need be, and encode; requests get their turn while many new items are encoded."""
        if len(texts) <= TURN:
            with _ENCODING:
                return self._remembered(texts, progress)
        parts = []
        for first in range(0, len(texts), TURN):
            with _ENCODING:
                parts.append(self._encode(texts[first : first + TURN], None))
            if progress is not None:
                progress(min(first + TURN, len(texts)), len(texts))
            time.sleep(0.0001)  # a lock is not fair: whoever waits takes it now
        return np.concatenate(parts)

    def encode_tokens(self, texts: Sequence[str], progress: Progress | None = None) -> Iterator[Vectors]:
        """Give one vector per token of each text, (its tokens, dimensions); requests get their turn as in `encode`."""
        from genrail.models.token_vectors import token_encoder

        for first in range(0, len(texts), TURN):
            with _ENCODING:
                found = list(token_encoder(self._load()).encode_tokens(texts[first : first + TURN]))
            yield from found
            if progress is not None:
                progress(min(first + TURN, len(texts)), len(texts))

    def _remembered(self, texts: Sequence[str], progress: Progress | None) -> Vectors:
        """Encode what was not encoded a moment ago: finders of one engine ask for the same words."""
        new = [text for text in dict.fromkeys(texts) if text not in self._last]
        if new or not texts:
            vectors = self._encode(new, progress)
            if not texts:
                return vectors
            self._last.update(zip(new, vectors, strict=True))
        found = np.stack([self._last[text] for text in texts])
        for text in texts:
            self._last.move_to_end(text)
        while len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return found

    def cuts(self, text: str) -> bool:
        """Tell whether the encoder reads only the beginning of a text; False where it does not say."""
        if self.max_tokens is None or len(text) < self.max_tokens:  # a token has a character or more
            return False
        counted = self.count_tokens(text)
        room = getattr(self._loaded, "room", None)
        return counted is not None and room is not None and counted[0] > room

    def count_tokens(self, text: str) -> tuple[int, int] | None:
        """Count the tokens of a text and the unknown ones among them; None for an encoder that has no tokens."""
        with _ENCODING:
            count = getattr(self._load(), "count_tokens", None)
            found: tuple[int, int] | None = None if count is None else count(text)
            return found

    def _encode(self, texts: Sequence[str], progress: Progress | None) -> Vectors:
        return self._load().encode(texts, progress)

    def _load(self) -> Encoder:
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
        return self._loaded
