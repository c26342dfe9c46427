"""Which spans a language model learns to write; apart from the training, so that recipes are read without torch."""

from __future__ import annotations

from dataclasses import dataclass

from genrail.errors import SettingsError

__all__ = ["SpanSettings"]


@dataclass(frozen=True)
class SpanSettings:
    """Say which n-grams are right for a request.

    Args:
        spans: Drawn from the right text each time a request is read; they share its prompt.
        sharpness: How much likelier a span is drawn that overlaps most with the request: exp of this, against one
            without any overlap.

    Raises:
        SettingsError: A setting outside its range.
    """

    spans: int = 8  # SEAL: 10
    sharpness: float = 4.0

    def __post_init__(self) -> None:
        if self.spans < 1 or not 0.0 <= self.sharpness <= 50.0:
            raise SettingsError(f"spans is {self.spans} and sharpness {self.sharpness}; give 1 or more, and 0 to 50")
