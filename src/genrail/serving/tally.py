"""Count questions, those that found nothing, and where the operator wants it the words that were asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Tally"]

KEPT = 2000  # different queries; then those that were asked once go


@dataclass
class Tally:
    """Hold the counts of one server, in memory alone.

    Args:
        words: Keep the words of queries too.

    >>> tally = Tally(words=True)
    >>> tally.count("Boots ", {"hits": [], "fits": True})
    >>> tally.questions, tally.found_nothing, dict(tally.in_vain)
    (1, 1, {'boots': 1})
    """

    words: bool
    questions: int = 0
    found_nothing: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    in_vain: Counter[str] = field(default_factory=Counter)

    def count(self, text: str | None, answer: Mapping[str, Any]) -> None:
        """Count one answer; it found nothing where no item is allowed, or none is near the words."""
        nothing = not answer.get("hits") or answer.get("fits") is False
        self.questions += 1
        self.found_nothing += nothing
        if self.words and text:
            query = " ".join(text.lower().split())
            for counts in (self.asked, self.in_vain) if nothing else (self.asked,):
                counts[query] += 1
                if len(counts) > KEPT:
                    for rare in [each for each, times in counts.items() if times == 1][: KEPT // 2]:
                        del counts[rare]
