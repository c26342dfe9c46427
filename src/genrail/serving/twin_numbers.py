"""Number items that share their codes as if a tenant's were all there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genrail.finders.generative import generative_part
from genrail.finding import Edition

__all__ = ["TwinNumbers"]


class TwinNumbers:
    """Number items that share their codes as if a tenant's were all there are.

    The last code of a Semantic ID only tells such twins apart, and counts those of everybody: as it stands, it would
    say how many twins others have.

    Args:
        edition: As a tenant sees it; None leaves every identifier as it is.

    Cost: one pass over the identifiers for each prefix, once.
    """

    def __init__(self, edition: Edition | None) -> None:
        part = None if edition is None else generative_part(edition.finder)
        self._matrix = None
        if edition is not None and part is not None and part.table.end_token is None:
            self._matrix = part.table.leading.matrix()[edition.catalog.live]
        self._known: dict[tuple[int, ...], list[int]] = {}

    def own(self, sequence: Sequence[int]) -> list[int]:
        """Write a sequence of tokens with the tenant's own number at its end, if it reaches that far."""
        found = list(sequence)
        if self._matrix is not None and len(found) == self._matrix.shape[1]:
            twins = self._twins(tuple(found[:-1]))
            found[-1] = twins.index(found[-1]) if found[-1] in twins else -1
        return found

    def token(self, sequence: Sequence[int]) -> list[int]:
        """Undo `own`; a number that no twin has becomes -1."""
        found = list(sequence)
        if self._matrix is not None and len(found) == self._matrix.shape[1]:
            twins = self._twins(tuple(found[:-1]))
            found[-1] = twins[found[-1]] if 0 <= found[-1] < len(twins) else -1
        return found

    def _twins(self, prefix: tuple[int, ...]) -> list[int]:
        assert self._matrix is not None
        if prefix not in self._known:
            below = (self._matrix[:, :-1] == np.asarray(prefix)).all(axis=1)
            self._known[prefix] = np.unique(self._matrix[below, -1]).tolist()
        return self._known[prefix]
