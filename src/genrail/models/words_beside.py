"""A text encoder whose vectors also hold the words of a text, so that texts that share words come near each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import log

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.models.text_encoder import Encoder
from genrail.models.words import English, words

__all__ = ["WordsBeside"]

VERSION = 1  # of the recipe below; part of the fingerprint
PLACES = 8  # that a word is added to: by one alone, words that fall together could not be told apart


class WordsBeside:
    """Put the words of a text beside its vector: half of the likeness of two texts is then that of their words.

    Sentence encoders know what texts mean, and blur names, numbers and rare words; shared words are what BM25 goes by.
    Words are cut and stemmed as BM25's are, count by the logarithm of how often they stand there, and are added with
    signs to places of a vector that a hash chooses: its products are those of the words themselves, up to chance. No
    word weighs more than another, so nothing has to be counted in a catalogue. All words of a text are read, also those
    behind the tokens that `encoder` reads.

    Args:
        encoder: Of the meaning.
        dimensions: Of the words, beside those of `encoder`; more of them tell more words apart.

    Raises:
        SettingsError: `dimensions` below `PLACES`.

    Cost: that of `encoder`, and O(words).
    Source: Weinberger et al. 2009, feature hashing; Kane and Nelson 2014 for several places of a word.

    >>> from genrail.models.tiny import HashingEncoder
    >>> encoder = WordsBeside(HashingEncoder())
    >>> one, other, third = encoder.encode(["pump P300", "the P300 pump for ponds", "pump P400"])
    >>> one.shape, bool(one @ other > one @ third)
    ((1152,), True)
    """

    def __init__(self, encoder: Encoder, dimensions: int = 1024) -> None:
        if dimensions < PLACES:
            raise SettingsError(f"dimensions is {dimensions}; give {PLACES} or more")
        self.encoder, self._own, self._analysis = encoder, dimensions, English()
        self.max_tokens: int | None = getattr(encoder, "max_tokens", None)
        self.dimensions = encoder.dimensions + dimensions

    @property
    def name(self) -> str:
        """Say what this is, in the words by which it is loaded again."""
        return f"words+{self.encoder.name}"

    @property
    def fingerprint(self) -> str:
        """Identify both parts."""
        return f"words-{self._own}-v{VERSION}+{self.encoder.fingerprint}"

    @property
    def room(self) -> int | None:
        """Give how many tokens of a text the other encoder reads; None where it does not tell."""
        return getattr(self.encoder, "room", None)

    def count_tokens(self, text: str) -> tuple[int, int] | None:
        """Count the tokens of a text and the unknown ones among them; None where the other encoder has no tokens."""
        count = getattr(self.encoder, "count_tokens", None)
        return None if count is None else count(text)

    def encode(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Give one vector per text, float32, shape (n, dimensions), L2-normalised.

        Args:
            texts: Strings.
            progress: Called with (texts done, all texts).
        """
        meaning = np.asarray(self.encoder.encode(texts, progress), dtype=np.float32)
        both = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        both[:, : meaning.shape[1]] = meaning
        for row, text in enumerate(texts):
            both[row, meaning.shape[1] :] = self._words(text)
        both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
        return both

    def _words(self, text: str) -> npt.NDArray[np.float64]:
        """Add the words of a text up, (dimensions,); of length 1, or 0 without words."""
        counts = Counter(term for word in words(text) if (term := self._analysis.term(word.lower())) is not None)
        found = np.zeros(self._own)
        for term, count in counts.items():
            drawn = _drawn(term)
            np.add.at(found, (drawn >> 1) % self._own, np.where(drawn & 1, 1.0, -1.0) * (1.0 + log(count)))
        length = float(np.linalg.norm(found))
        return found / length if length else found


@lru_cache(65_536)
def _drawn(term: str) -> npt.NDArray[np.uint32]:
    """Draw the places of a term and their signs by a hash, (PLACES,)."""
    return np.frombuffer(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4 * PLACES).digest(), "<u4")
