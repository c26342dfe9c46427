"""What titles have anyway, whatever is asked: computed when it is needed, and kept with a finder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from genrail.constraints.compressed import CompressedTrie
from genrail.decoding.empty_scores import EmptyScores
from genrail.finding import Json

__all__ = ["EmptyKept"]

EMPTY = "empty_scores.npz"  # inside a saved engine


class EmptyKept:
    """Keep the empty scores of a model; finders that were grown from one another share them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._scores = EmptyScores()
        self.weight: float | None = None
        """How much they count, where that was chosen on held-out requests; None where nothing was."""

    @property
    def known(self) -> bool:
        """Tell whether any were read."""
        return len(self._scores) > 0

    def extended(
        self, model: Any, context: list[int], trie: CompressedTrie, progress: Callable[[int, int], None] | None
    ) -> EmptyScores:
        """Read what is missing, and give all."""
        with self._lock:
            self._scores = self._scores.extended(model, context, trie, progress)
            return self._scores

    def choose(self, weight: float) -> None:
        """Let them count so much; with 0 they are not kept."""
        with self._lock:
            self.weight = weight
            if not weight:
                self._scores = EmptyScores()

    def save(self, folder: Path, context: list[int]) -> Json:
        """Write them, if there are any; give the prompt that they belong to."""
        if not len(self._scores):
            return None
        self._scores.save(folder / EMPTY)
        return list(context)

    def load(self, folder: Path, saved: Sequence[int], context: Sequence[int]) -> None:
        """Read them, if they belong to this prompt: another version may ask in other words."""
        if list(saved) == list(context):
            self._scores = EmptyScores.load(folder / EMPTY)
