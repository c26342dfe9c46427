"""A finder as a scorer: what it says of a few items where nothing else is allowed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.finding import Data, Finder, FindOptions, Json, Progress, Recipe, Request, Scorer, save_finder
from genrail.finding.finder import with_settings
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["FinderScorer"]


class FinderScorer(Scorer):
    """Let a finder rank what another one found: a language model that writes titles, taught or not, or any other kind.

    A finder that writes identifiers reads the request once and writes on rails that lead to these items alone, with a
    beam for each, so all of them come out.

    Args:
        finder: Of the same edition as the finder whose items it ranks.
    """

    kind: ClassVar[str] = "finder"

    def __init__(self, finder: Finder) -> None:
        self.finder = finder
        self.name = finder.name

    @classmethod
    def of_same(cls, finder: Finder, catalog: Catalog) -> FinderScorer:
        """Take a finder that is there.

        Raises:
            SettingsError: It is of other items.
        """
        known = getattr(finder, "catalog", catalog)
        if known is not catalog and known.item_ids != catalog.item_ids:
            raise SettingsError(f"{finder.name} knows other items than this catalogue; give a ranker of the same items")
        return cls(finder)

    def score(self, request: Request, rows: npt.NDArray[np.int64], catalog: Catalog) -> npt.NDArray[np.float64]:
        """Score some items; one that the finder does not list has its lowest score. See `Scorer.score`."""
        alone = np.zeros(len(catalog), dtype=np.bool_)
        alone[rows] = True
        named = f"rows {hashlib.sha256(np.sort(rows).tobytes()).hexdigest()}"  # so that finders may keep what they make
        among = replace(request, allowed=alone, filtered=alone, condition=named)
        [found] = self.finder.find([among], len(rows), FindOptions(width=max(1, len(rows))))
        scores = dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True))
        least = min(scores.values(), default=0.0)
        return np.array([scores.get(row, least) for row in rows.tolist()])

    def taught(self, settings: Mapping[str, object], data: Data, progress: Progress) -> FinderScorer:
        """Teach the finder by its recipe with some settings changed."""
        return FinderScorer(with_settings(self.finder.recipe, settings).train(self.finder, data, progress))

    @property
    def learns(self) -> bool:
        """Tell whether the finder is of a kind that learns."""
        return type(self.finder.recipe).train is not Recipe.train

    def save(self, folder: Path) -> dict[str, Json]:
        """Write the finder."""
        return {"finder": save_finder(self.finder, folder)}

    @classmethod
    def load(cls, folder: Path, details: JsonObject) -> Self:
        """Refuse: a finder is read with its catalogue, by whoever holds it."""
        raise SettingsError("a finder is no scorer by itself; build 'reranked' with scorer= a kind of finder")
