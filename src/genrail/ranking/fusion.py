"""Put the answers of several retrievers together: by reciprocal rank, or weighted with weights learnt on validation."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genrail.errors import DamagedError, QueryError, SettingsError
from genrail.evaluation.evaluations import Queries, as_queries
from genrail.evaluation.metrics import measure
from genrail.evaluation.runs import Qrels, Run
from genrail.ranking.weights import Shares, ascend
from genrail.types import Hit, Query, Ranking, Retriever

__all__ = ["METHODS", "Fusion", "FusionSettings", "shares_of"]

METHODS = ("reciprocal rank", "weighted", "scores")


@dataclass(frozen=True)
class FusionSettings:
    """Say how answers are put together.

    Args:
        method: "reciprocal rank" adds weight / (constant + rank); "weighted" adds weight times the score, which is
            first brought to 0 (last of the answer) ... 1 (first); "scores" adds weight times the score as it is, and
            log-probabilities as probabilities. The last keeps how sure a retriever is from one query to the next, and
            needs scores that mean the same for every query and are not below 0: counts, cosines, probabilities.
        depth: Hits that each retriever is asked for, at least; an item that a retriever does not return adds nothing.
        constant: Of reciprocal rank; 60 as in the paper, larger flattens the ranks.

    Raises:
        SettingsError: A setting outside its range.
    """

    method: str = "reciprocal rank"
    depth: int = 100
    constant: float = 60.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingsError(f"method is {self.method!r}; choose {' or '.join(map(repr, METHODS))}")
        if self.depth < 1 or self.constant < 0:
            raise SettingsError(f"depth is {self.depth} and constant {self.constant}; give depth >= 1, constant >= 0")


class Fusion:
    """Ask several retrievers and rank the items by the weighted sum of their places or scores.

    All retrievers must answer over one catalogue. Equal sums keep the order of the first retriever that has the item.

    Args:
        retrievers: Two or more.
        weights: One per retriever, 0 or more, not all 0; equal by default.
        settings: How answers are put together.
        name: For tables; by default made of the names.

    Raises:
        SettingsError: Fewer than two retrievers, or weights that do not fit them.

    Cost: that of all retrievers together.
    Source: Cormack, Clarke, Buettcher 2009 (reciprocal rank); Bruch, Gai, Ingber 2023 (weighted scores).

    >>> from genrail.finders import BM25, TFIDF
    >>> from genrail.catalog import Catalog
    >>> shop = Catalog.from_items([{"id": "a", "title": "trail shoes"}, {"id": "b", "title": "wool hat"}])
    >>> Fusion([BM25(shop), TFIDF(shop)]).search_batch([Query("shoes")], k=1)[0].item_ids
    ['a']
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        weights: Sequence[float] | None = None,
        settings: FusionSettings | None = None,
        *,
        name: str | None = None,
    ) -> None:
        weights = [1.0] * len(retrievers) if weights is None else [float(weight) for weight in weights]
        if len(retrievers) < 2 or len(weights) != len(retrievers):
            raise SettingsError(
                f"there are {len(retrievers)} retrievers and {len(weights)} weights; give two or more, one weight each"
            )
        if not all(np.isfinite(weights)) or min(weights) < 0 or max(weights) <= 0:
            raise SettingsError(f"the weights are {weights}; give numbers of 0 or more, not all 0")
        self.retrievers = list(retrievers)
        self.weights = weights
        self.settings = settings or FusionSettings()
        self.name = name or f"{' + '.join(retriever.name for retriever in retrievers)} ({self.settings.method})"

    @property
    def catalog(self) -> Any:
        """Give the catalogue of the first retriever that has one, or None."""
        return next((found for one in self.retrievers if (found := getattr(one, "catalog", None)) is not None), None)

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Raises:
            QueryError: k below 1, or whatever one of the retrievers raises.
        """
        if k < 1:
            raise QueryError(f"k is {k}; ask for 1 item or more")
        depth = max(k, self.settings.depth)
        answers = [retriever.search_batch(queries, k=depth) for retriever in self.retrievers]
        return [self._fused(list(rankings), k) for rankings in zip(*answers, strict=True)]

    def _fused(self, rankings: list[Ranking], k: int) -> Ranking:
        hits: dict[str, Hit] = {}
        for ranking in rankings:
            for hit in ranking:
                hits.setdefault(hit.item_id, hit)
        sums = _sums([shares_of(ranking, self.settings) for ranking in rankings], self.weights)
        order = sorted(hits, key=lambda item: -sums[item])[:k]
        fused = tuple(
            replace(hits[item], score=sums[item], rank=rank, log_probability=None, explanation=None)
            for rank, item in enumerate(order, start=1)
        )
        warnings = tuple(dict.fromkeys(warning for ranking in rankings for warning in ranking.warnings))
        return Ranking(fused, exhausted=len(fused) < k, warnings=warnings)

    def learnt(
        self,
        queries: Queries,
        qrels: Qrels | Mapping[str, Mapping[str, float]],
        *,
        metric: str = "nDCG@10",
        steps: int = 10,
        progress: Callable[[int, int], None] | None = None,
    ) -> Fusion:
        """Choose the weights that do best on validation queries; never give test queries here.

        All weights in steps of 1 / steps that add up to 1 are tried, on answers that are asked for once. Between equal
        means the weights nearest to equal ones win.

        Args:
            queries: Validation queries.
            qrels: Their judgements.
            metric: What is to be high.
            steps: Fineness of the grid, 2 or more.
            progress: Called with (done, total) weightings.

        Returns:
            A new fusion of the same retrievers.

        Raises:
            QueryError: No validation query has a relevant item.
            SettingsError: steps below 2, or a grid of more than 100,000 weightings.

        Cost: the retrievers once per query, then one measurement per weighting: 11 for two retrievers, 66 for three.
        """
        asked = as_queries(queries)
        judgements = qrels if isinstance(qrels, Qrels) else Qrels(qrels)
        judgements = Qrels({query_id: grades for query_id, grades in judgements.items() if query_id in asked})
        grid = _simplex(len(self.retrievers), steps)
        parts = [
            [
                shares_of(ranking, self.settings)
                for ranking in one.search_batch(list(asked.values()), self.settings.depth)
            ]
            for one in self.retrievers
        ]
        found = []
        for done, weights in enumerate(grid, start=1):
            sums = [_sums(list(shares), weights) for shares in zip(*parts, strict=True)]
            mean = measure(Run(dict(zip(asked, sums, strict=True))), judgements, [metric]).means[metric]
            found.append((mean, -float(np.var(weights)), weights))
            if progress is not None:
                progress(done, len(grid))
        best = max(found, key=lambda entry: entry[:2])[2]
        return Fusion(self.retrievers, best, self.settings, name=f"{self.name}, learnt weights")

    def learnt_next_item(
        self, queries: Sequence[Query], targets: Sequence[str], *, cutoff: int = 10, batch_size: int = 256
    ) -> tuple[Fusion, float]:
        """Choose the weights that do best on withheld next items; never give test items here.

        For thousands of users and several retrievers, where the grid of `learnt` would take hours: weights are climbed
        to one at a time (see `ascend`).

        Args:
            queries: Histories.
            targets: The item that came next, one for each.
            cutoff: Of the nDCG that is to be high.
            batch_size: Queries per call of a retriever.

        Returns:
            A new fusion of the same retrievers, and its nDCG on these queries.

        Raises:
            QueryError: No retriever found any of the targets.
            ShapeError: Another number of targets than queries.
        """
        parts: list[list[dict[str, float]]] = [[] for _ in self.retrievers]
        for start in range(0, len(queries), batch_size):
            asked = queries[start : start + batch_size]
            for part, one in zip(parts, self.retrievers, strict=True):
                part += [shares_of(ranking, self.settings) for ranking in one.search_batch(asked, self.settings.depth)]
        weights, ndcg = ascend(Shares.of(parts, targets), cutoff)
        return Fusion(self.retrievers, weights.tolist(), self.settings, name=f"{self.name}, learnt weights"), ndcg

    def save(self, folder: str | Path) -> None:
        """Write weights and settings as JSON; the retrievers are saved by themselves."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        values = {"name": self.name, "weights": self.weights, "settings": dict(self.settings.__dict__)}
        text = json.dumps({**values, "retrievers": [one.name for one in self.retrievers]}, ensure_ascii=False, indent=1)
        (folder / "fusion.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, retrievers: Sequence[Retriever]) -> Fusion:
        """Read weights and settings and put them over retrievers of the same names, in the same order.

        Raises:
            DamagedError: The file is missing or is not as it was written.
            SettingsError: Other retrievers than those that the weights were made for.
        """
        path = Path(folder) / "fusion.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            names, weights, settings, name = (values[key] for key in ("retrievers", "weights", "settings", "name"))
            settings = FusionSettings(**settings)
        except FileNotFoundError:
            raise DamagedError(f"{path} is missing; save the fusion again") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{path} cannot be read ({error}); save the fusion again") from None
        if names != [one.name for one in retrievers]:
            raise SettingsError(
                f"{path} is for {names}, not {[one.name for one in retrievers]}; give these in this order"
            )
        return cls(retrievers, weights, settings, name=name)


def shares_of(ranking: Ranking, settings: FusionSettings) -> dict[str, float]:
    """Give what each item of one answer adds, before weights."""
    if settings.method == "reciprocal rank":
        return {hit.item_id: 1.0 / (settings.constant + hit.rank) for hit in ranking}
    if settings.method == "scores":
        return {hit.item_id: _plain(hit) for hit in ranking}
    if not len(ranking):
        return {}
    low, high = ranking[-1].score, ranking[0].score
    # A single item, or equal scores, count as found: 1.
    return {hit.item_id: (hit.score - low) / (high - low) if high > low else 1.0 for hit in ranking}


def _plain(hit: Hit) -> float:
    return hit.score if hit.log_probability is None else math.exp(hit.log_probability)


def _sums(parts: Sequence[Mapping[str, float]], weights: Sequence[float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for part, weight in zip(parts, weights, strict=True):
        for item, share in part.items():
            sums[item] = sums.get(item, 0.0) + weight * share
    return sums


def _simplex(size: int, steps: int) -> list[tuple[float, ...]]:
    """List all weights in steps of 1 / steps that add up to 1."""
    if steps < 2 or (steps + 1) ** (size - 1) > 100_000:
        raise SettingsError(f"{steps} steps for {size} retrievers: give 2 or more, and at most 100,000 weightings")
    firsts = itertools.product(range(steps + 1), repeat=size - 1)
    return [
        (*(part / steps for part in first), (steps - sum(first)) / steps) for first in firsts if sum(first) <= steps
    ]
