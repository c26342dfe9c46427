"""Texts become one vector per token, for late interaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.models.text_encoder import Encoder, TextEncoder
from genrail.models.words_beside import WordsBeside

__all__ = ["EncodesTokens", "TokenEncoder", "WordEncoder", "token_encoder"]

Float = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
PART = 1024  # texts whose vectors are held at once


class EncodesTokens(Protocol):
    """Turn each text into the vectors of its tokens."""

    def encode_tokens(self, texts: Sequence[str], progress: Progress | None = None) -> Iterator[Float]:
        """Give the vectors of each text in order, float32, (its tokens, dimensions); no token at all is allowed."""
        ...


class TokenEncoder:
    """Give the last layer of a text encoder, before it is averaged to one vector.

    Args:
        encoder: A `TextEncoder`; one that was trained for late interaction does best.
        max_tokens: Longer texts are cut there, the model's own control tokens included; None for what the encoder says.

    Raises:
        SettingsError: max_tokens outside what the encoder reads.
    """

    def __init__(self, encoder: TextEncoder, max_tokens: int | None = None) -> None:
        if max_tokens is not None and not 3 <= max_tokens <= encoder.max_tokens:
            raise SettingsError(f"max_tokens is {max_tokens}; {encoder.name} reads 3 to {encoder.max_tokens} tokens")
        self.encoder = encoder
        self.max_tokens = max_tokens or encoder.max_tokens

    @property
    def name(self) -> str:
        """Say what this is, for tables."""
        return self.encoder.name

    @property
    def fingerprint(self) -> str:
        """Identify weights and settings."""
        return f"{self.encoder.fingerprint} tokens {self.max_tokens}"

    def encode_tokens(self, texts: Sequence[str], progress: Progress | None = None) -> Iterator[Float]:
        """Give the vectors of each text in order, float32, (its tokens, dimensions); control tokens are included.

        Cost: that of `TextEncoder.encode`; texts are read a thousand at a time, longest first.
        """
        for first in range(0, len(texts), PART):
            part = texts[first : first + PART]
            yield from self.encoder.encode_tokens(part, self.max_tokens)
            if progress is not None:
                progress(first + len(part), len(texts))


class WordEncoder:
    """Encode each word of a text by itself, for an encoder that tells no token vectors.

    Args:
        encoder: A text encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def encode_tokens(self, texts: Sequence[str], progress: Progress | None = None) -> Iterator[Float]:
        """Give the vectors of each text's words in order, float32, (its words, dimensions)."""
        for done, text in enumerate(texts, start=1):
            words = text.split()
            yield self.encoder.encode(words) if words else np.zeros((0, self.encoder.dimensions), np.float32)
            if progress is not None:
                progress(done, len(texts))


def token_encoder(encoder: Encoder) -> EncodesTokens:
    """Read a text encoder token by token; word by word where it does not tell its tokens."""
    if isinstance(encoder, WordsBeside):
        return token_encoder(encoder.encoder)
    return TokenEncoder(encoder) if isinstance(encoder, TextEncoder) else WordEncoder(encoder)
