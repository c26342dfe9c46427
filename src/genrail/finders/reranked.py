"""A second look: a scorer puts the best items of another finder in a new order."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.finders.finder_scorer import FinderScorer
from genrail.finders.fused import part_of
from genrail.finding import (
    Change,
    Data,
    Edition,
    Finder,
    FindOptions,
    Found,
    Json,
    Progress,
    Recipe,
    Report,
    Request,
    Scorer,
    Searching,
    open_finder,
    recipe_named,
    resolve,
    save_finder,
)
from genrail.finding.finder import with_settings
from genrail.finding.registry import kinds, open_scorer, scorer_named, scorers
from genrail.ranking.second_look import Look, learnt_weight, mixed, scaled
from genrail.rng import generator
from genrail.types import JsonObject, Query

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.models.text_encoder import Encoder

__all__ = ["Reranked", "RerankedRecipe"]

USUAL = 0.5  # what a scorer counts of which nothing is known: as much as the first stage
MOST_QUERIES = 200  # that a weight is learnt on: each costs as much as an answer

_log = logging.getLogger(__name__)


class Reranked(Searching, Finder):
    """Let a scorer look again at the best items of another finder.

    The order follows ``(1 - weight) * first + weight * second``, where `first` is the finder's score and `second` the
    scorer's, both brought to 0 to 1 among the items looked at. Items behind them keep their order. A scorer that fails
    never costs an answer: the finder's own order comes back, with a warning.

    Args:
        catalog: The items.
        inner: Finds items.
        scorer: Looks again.
        recipe: How many items it looks at.
        weight: How much it counts; default: as the recipe says.
    """

    def __init__(
        self, catalog: Catalog, inner: Finder, scorer: Scorer, recipe: RerankedRecipe, weight: float | None = None
    ) -> None:
        self.weight = (USUAL if recipe.weight is None else recipe.weight) if weight is None else weight
        self.catalog = catalog
        self.inner = inner
        self.scorer = scorer
        self.recipe: RerankedRecipe = recipe
        self.name = f"{inner.name}, ranked by {scorer.name}"

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Find by the inner finder, then rank; see `Finder.find`."""
        depth = max(k, self.recipe.depth)
        found = self.inner.find(requests, depth, options)
        return [self._ranked(request, one, k, options) for request, one in zip(requests, found, strict=True)]

    def _ranked(self, request: Request, found: Found, k: int, options: FindOptions) -> Found:
        options.step()
        rows = found.rows[: self.recipe.depth]
        try:
            second = np.asarray(self.scorer.score(request, rows, self.catalog), dtype=np.float64)
            if second.shape != rows.shape or not np.isfinite(second).all():
                raise ValueError(f"{self.scorer.name} gave no finite score for each item")
        except Exception as error:  # whatever a scorer raises, the first stage's answer is there
            _log.warning("ranking by %s failed", self.scorer.name, exc_info=True)
            said = f"{self.scorer.name} could not rank ({type(error).__name__}: {error}); this is the order without it"
            return _first(found, k, said)
        both = mixed(found.scores[: len(rows)], second, self.weight)
        order = np.concatenate([np.argsort(-both, kind="stable"), np.arange(len(rows), len(found))])[:k]
        # Behind those that were looked at come the others; their scores are kept below.
        scores = np.concatenate([1.0 + both, scaled(found.scores[len(rows) :])]) / 2.0
        return found.take(order, scores[order], _told(found, second) if options.explain else None)

    # --- the rest is the inner finder's business --------------------------------------------------------------------

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> Json:
        """Ask the inner finder for its reading, and the ranker where that is a finder too."""
        if self.ranker is None:
            return self.inner.read(catalog, rows, progress)
        return {name: part.read(catalog, rows, progress) for name, part in self.parts.items()}

    def grow(self, catalog: Catalog, change: Change) -> Reranked:
        """Grow the inner finder, and the ranker where that is a finder too; other scorers read texts as they are."""
        if self.ranker is None:
            return self.replaced(catalog=catalog, inner=self.inner.grow(catalog, change))
        grown = {name: part.grow(catalog, part_of(change, name)) for name, part in self.parts.items()}
        return self.replaced(catalog=catalog, inner=grown["inner"], scorer=FinderScorer(grown["ranker"]))

    def replaced(self, **parts: Any) -> Reranked:
        """Make the same finder with other parts."""
        names = ("catalog", "inner", "scorer", "recipe", "weight")
        return Reranked(**{**{name: getattr(self, name) for name in names}, **parts})

    @property
    def ranker(self) -> Finder | None:
        """Give the finder that ranks; None where another kind of scorer does."""
        return self.scorer.finder if isinstance(self.scorer, FinderScorer) else None

    def compact(self) -> Reranked:
        """Compact the inner finder, and the ranker where that is a finder too."""
        scorer = self.scorer if self.ranker is None else FinderScorer(self.ranker.compact())
        return self.replaced(inner=self.inner.compact(), scorer=scorer)

    def save(self, folder: Path) -> dict[str, Json]:
        """Write the inner finder and the scorer, each into a folder of its own."""
        (folder / "inner").mkdir()
        (folder / "scorer").mkdir()
        inner = save_finder(self.inner, folder / "inner")
        scorer = {"kind": self.scorer.kind, **self.scorer.save(folder / "scorer")}
        return {"inner": inner, "scorer": scorer, "weight": self.weight}

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote."""
        inner = open_finder(folder / "inner", details["inner"], catalog, encoder)
        kept = details["scorer"]
        scorer: Scorer
        if kept["kind"] == FinderScorer.kind:
            scorer = FinderScorer(open_finder(folder / "scorer", kept["finder"], catalog, encoder))
        else:
            scorer = open_scorer(folder / "scorer", kept)
        return cls(catalog, inner, scorer, RerankedRecipe.from_dict(details["recipe"]), details.get("weight"))

    @property
    def parts(self) -> Mapping[str, Finder]:
        """Give the inner finder, and the ranker where that is a finder too."""
        return {"inner": self.inner} | ({} if self.ranker is None else {"ranker": self.ranker})

    def with_part(self, part: Finder, other: Finder) -> Finder:
        """See `Finder.with_part`."""
        if part is self:
            return other
        scorer = self.scorer if self.ranker is None else FinderScorer(self.ranker.with_part(part, other))
        return self.replaced(inner=self.inner.with_part(part, other), scorer=scorer)

    @property
    def pending(self) -> int:
        """Count the changes of the part that has most to tidy up."""
        return max(part.pending for part in self.parts.values())

    @property
    def encoder(self) -> Encoder | None:
        """Give the text encoder of the first part that has one."""
        return next((part.encoder for part in self.parts.values() if part.encoder is not None), None)

    @property
    def held_out(self) -> bool:
        """See `Finder.held_out`."""
        return all(part.held_out for part in self.parts.values())

    @property
    def reads_words(self) -> bool:
        """See `Finder.reads_words`."""
        return self.inner.reads_words

    @property
    def reads_histories(self) -> bool:
        """See `Finder.reads_histories`."""
        return any(part.reads_histories for part in self.parts.values())

    @property
    def report(self) -> Report | None:
        """Tell of the ranker's training, else of the inner finder's."""
        return next((part.report for part in reversed([*self.parts.values()]) if part.report is not None), None)

    def warm_up(self) -> None:
        """Warm up each part."""
        for part in self.parts.values():
            part.warm_up()

    def describe(self) -> dict[str, Json]:
        """Tell the scorer and the inner finder."""
        return {
            "ranked by": f"{self.scorer.name}, {self.recipe.depth} items, weight {self.weight}",
            **self.inner.describe(),
        }


def _first(found: Found, k: int, warning: str) -> Found:
    cut = found.take(np.arange(min(k, len(found))))
    return replace(cut, warnings=(*found.warnings, warning))


def _told(found: Found, second: npt.NDArray[np.float64]) -> tuple[Mapping[str, Json], ...]:
    """Add to each explanation which place an item had before, and what the scorer said."""
    before = found.explanations or ({},) * len(found)
    said: list[Mapping[str, Json]] = [
        {**each, "rank before": place + 1, **({"ranker": float(second[place])} if place < len(second) else {})}
        for place, each in enumerate(before)
    ]
    return tuple(said)


@dataclass(frozen=True)
class RerankedRecipe(Recipe):
    """Say which finder is ranked, by what.

    Args:
        inner: Kind of the finder, or its recipe.
        inner_settings: Of that kind.
        scorer: Kind of the scorer, or one that is made; or kind or recipe of a finder, or a finder over the same items,
            that ranks what the first one found, such as ``titles``: a language model that writes on rails.
        scorer_settings: Of that kind.
        depth: How many items the scorer looks at.
        weight: How much the scorer counts against the finder, 0 to 1; default: learnt from judged queries, from some of
            them where there are many, and half where there are none.
    """

    kind: ClassVar[str] = "reranked"
    finder: ClassVar[type[Finder]] = Reranked
    learns: ClassVar[bool] = True

    inner: str | Recipe = "fused"
    inner_settings: Mapping[str, object] | None = None
    scorer: str | Scorer | Recipe | Finder = "cross-encoder"
    scorer_settings: Mapping[str, object] | None = None
    depth: int = 50  # what a small model ranks in a second; RRF holds 90 % of ESCI's right products there
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.depth < 1 or not 0.0 <= (self.weight or 0.0) <= 1.0:
            raise SettingsError(f"depth is {self.depth} and weight {self.weight}; give 1 or more, and 0 to 1")

    def build(self, data: Data, progress: Progress) -> Reranked:
        """Build the inner finder and make the scorer."""
        inner = recipe_named(self.inner, self.inner_settings) if isinstance(self.inner, str) else self.inner
        ranking, judged = self._ranking(), data
        if getattr(ranking, "learns_queries", False):
            data, judged = _parted(data)
        if hasattr(ranking, "build"):
            ranking = FinderScorer(ranking.build(data, progress))
        elif hasattr(ranking, "find"):
            ranking = FinderScorer.of_same(ranking, data.catalog)
        made = Reranked(data.catalog, inner.build(data, progress), ranking, self._kept())
        return self._weighed(made, judged, progress)

    def _kept(self) -> RerankedRecipe:
        """Give what stays once the parts are made: each of them has its own recipe."""
        return replace(self, inner_settings=None, scorer_settings=None)

    def _ranking(self) -> Any:
        """Give what ranks: a scorer, a finder, or the recipe of one."""
        given, settings = self.scorer, self.scorer_settings
        if not isinstance(given, str):
            return given
        if given in scorers():
            return scorer_named(given, settings)
        if given not in kinds():
            raise SettingsError(
                f"scorer is {given!r}; give a scorer ({', '.join(scorers())}), or a finder that ranks "
                f"({', '.join(kinds())})"
            )
        return recipe_named(given, settings)

    def train(self, finder: Finder, data: Data, progress: Progress) -> Reranked:
        """Teach the inner finder and the ranker, if they learn, and learn the weight anew.

        Of judged queries that teach a ranker, a fifth is kept to learn its weight on.
        """
        assert isinstance(finder, Reranked)
        inner, scorer, judged = finder.inner, finder.scorer, data
        if isinstance(scorer, FinderScorer) and scorer.learns:
            data, judged = _parted(data)
            scorer = scorer.taught(self.scorer_settings or {}, data, progress)
        if inner.recipe.learns:
            inner = with_settings(inner.recipe, self.inner_settings or {}).train(inner, data, progress)
        return self._weighed(finder.replaced(inner=inner, scorer=scorer, recipe=self._kept()), judged, progress)

    def _weighed(self, made: Reranked, data: Data, progress: Progress) -> Reranked:
        """Learn how much the scorer counts, where that is left to it and there are judged queries."""
        if self.weight is not None or not data.judged:
            return made
        drawn = generator(data.seed, "ranked queries").permutation(len(data.judged))[:MOST_QUERIES]
        asked = [list(data.judged)[place] for place in sorted(drawn.tolist())]
        edition, looks = Edition(data.catalog, made), []
        for done, query_id in enumerate(asked):
            progress("weight of the ranker", done, len(asked))
            request = resolve(Query((data.queries or {})[query_id]), data.catalog, edition.filters)
            [found] = made.inner.find([request], self.depth, FindOptions())
            second = np.asarray(made.scorer.score(request, found.rows, data.catalog), dtype=np.float64)
            grades = data.judged[query_id]
            gains = np.array([max(0.0, grades.get(data.catalog.item_ids[row], 0.0)) for row in found.rows.tolist()])
            looks.append(Look.of(found.scores, second, gains, list(grades.values())))
        progress("weight of the ranker", len(asked), len(asked))
        return made.replaced(weight=learnt_weight(looks))

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values; finder and scorer are saved by themselves."""
        return {"depth": self.depth, "weight": self.weight}


def _parted(data: Data) -> tuple[Data, Data]:
    """Part judged queries into those that teach and a fifth, at most `MOST_QUERIES`, on which a weight is learnt."""
    ids = list(data.judged)
    kept = max(1, min(MOST_QUERIES, len(ids) // 5))
    if len(ids) < 2:
        return data, data
    order = generator(data.seed, "queries of the weight").permutation(len(ids))
    asked = {ids[place] for place in order[:kept]}
    teaching = {query_id: grades for query_id, grades in data.judged.items() if query_id not in asked}
    weighing = {query_id: grades for query_id, grades in data.judged.items() if query_id in asked}
    return data.with_qrels(teaching), data.with_qrels(weighing)
