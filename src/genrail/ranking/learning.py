"""Learn the weights of a fusion from graded judgements, and test them on queries that they were not learnt on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from genrail.errors import QueryError, SettingsError
from genrail.evaluation.evaluations import Queries, as_queries
from genrail.evaluation.runs import Qrels
from genrail.ranking.fusion import METHODS, Fusion, FusionSettings, shares_of
from genrail.ranking.weights import ascend
from genrail.rng import generator
from genrail.types import Query, Ranking, Retriever

__all__ = ["CrossFitted", "GradedShares", "cross_fit", "learn_fusion"]

Float = npt.NDArray[np.float64]
BATCH = 64


@dataclass(frozen=True, eq=False)
class GradedShares:
    """Hold what each retriever adds to each item of each query, with the items' gains.

    Args:
        values: Before weights, (queries, items, retrievers); queries with fewer items are filled up at the end.
        gains: Of each item, 0 where it is not judged, (queries, items).
        real: Which places hold an item, (queries, items).
        ideal: Highest discounted gain that a query can have at the cutoff, (queries,).
        counts: How often each query counts, (queries,).
        cutoff: Of nDCG.
    """

    values: npt.NDArray[np.float32]
    gains: npt.NDArray[np.float32]
    real: npt.NDArray[np.bool_]
    ideal: Float
    counts: Float
    cutoff: int

    @classmethod
    def of(
        cls, parts: Sequence[Sequence[Mapping[str, float]]], grades: Sequence[Mapping[str, float]], cutoff: int = 10
    ) -> GradedShares:
        """Lay out what was added, for each retriever and query a mapping from item id, and what is relevant."""
        added = [[part[number] for part in parts] for number in range(len(grades))]
        items = [list(dict.fromkeys(item for one in query for item in one)) for query in added]
        width = max(1, cutoff, *map(len, items))
        values = np.zeros((len(grades), width, len(parts)), dtype=np.float32)
        gains = np.zeros((len(grades), width), dtype=np.float32)
        real = np.zeros((len(grades), width), dtype=np.bool_)
        ideal = np.zeros(len(grades))
        for number, (query, found, grade) in enumerate(zip(added, items, grades, strict=True)):
            real[number, : len(found)] = True
            gains[number, : len(found)] = [max(grade.get(item, 0.0), 0.0) for item in found]
            values[number, : len(found)] = np.array(
                [[one.get(item, 0.0) for one in query] for item in found], dtype=np.float32
            ).reshape(len(found), len(parts))
            best = np.sort(np.maximum(list(grade.values()), 0.0))[::-1][:cutoff]
            ideal[number] = (best / np.log2(np.arange(len(best)) + 2.0)).sum()
        return cls(values, gains, real, ideal, np.ones(len(grades)), cutoff)

    def by_query(self, weights: Float) -> Float:
        """Give each query's nDCG under some weights, (queries,)."""
        sums = np.where(self.real, self.values @ weights.astype(np.float32), -np.inf)
        best = np.argpartition(-sums, self.cutoff - 1, axis=1)[:, : self.cutoff]
        scores = np.take_along_axis(sums, best, axis=1)
        ranked = np.take_along_axis(best, np.argsort(-scores, axis=1, kind="stable"), axis=1)
        gains = np.take_along_axis(self.gains, ranked, axis=1)
        found: Float = (gains / np.log2(np.arange(self.cutoff) + 2.0)).sum(axis=1) / self.ideal
        return found

    def ndcg(self, weights: Float, cutoff: int = 10) -> float:
        """Average nDCG over the queries, each as often as it counts."""
        return float(self.by_query(weights) @ self.counts / self.counts.sum())


@dataclass(frozen=True, eq=False)
class _Answers:
    """Hold what the retrievers said, so that each is asked once."""

    retrievers: Sequence[Retriever]
    asked: dict[str, Query]
    rankings: list[list[Ranking]]  # by retriever, then query
    qrels: Qrels
    depth: int

    @classmethod
    def to(
        cls,
        retrievers: Sequence[Retriever],
        queries: Queries,
        qrels: Qrels | Mapping[str, Mapping[str, float]],
        depth: int,
    ) -> _Answers:
        judged = qrels if isinstance(qrels, Qrels) else Qrels(qrels)
        countable = set(judged.answerable)
        asked = {query_id: query for query_id, query in as_queries(queries).items() if query_id in countable}
        if not asked:
            raise QueryError("no query has a relevant item: there is nothing to learn weights from")
        words = list(asked.values())
        rankings = [
            [
                ranking
                for first in range(0, len(words), BATCH)
                for ranking in one.search_batch(words[first : first + BATCH], depth)
            ]
            for one in retrievers
        ]
        return cls(retrievers, asked, rankings, judged, depth)

    def shares(self, settings: FusionSettings, cutoff: int) -> GradedShares:
        parts = [[shares_of(ranking, settings) for ranking in one] for one in self.rankings]
        return GradedShares.of(parts, [self.qrels[query_id] for query_id in self.asked], cutoff)


@dataclass(frozen=True)
class _Choice:
    """Hold a way to fuse, its weights, and how well it did where it was learnt."""

    settings: FusionSettings
    weights: list[float]
    ndcg: float

    def fusion(self, retrievers: Sequence[Retriever], name: str) -> Fusion:
        return Fusion(retrievers, self.weights, self.settings, name=name)


def learn_fusion(
    retrievers: Sequence[Retriever],
    queries: Queries,
    qrels: Qrels | Mapping[str, Mapping[str, float]],
    *,
    methods: Sequence[str] = METHODS,
    depth: int = 100,
    cutoff: int = 10,
    bags: int = 10,
    seed: int = 0,
    name: str = "Hybrid",
) -> Fusion:
    """Learn on validation queries how to fuse, and with which weights; never give test queries here.

    For each method, weights are climbed to (`ascend`) on resamples of the queries and averaged, since the best weights
    on few queries are mostly luck; then the method that does best with its averaged weights is taken.

    Args:
        retrievers: Two or more, over one catalogue.
        queries: Validation queries.
        qrels: Their judgements; grades below 1 are gains as well.
        methods: Of `FusionSettings`, to choose from.
        depth: Hits asked of each retriever.
        cutoff: Of the nDCG that is to be high.
        bags: Resamples; 1 learns on the queries as they are.
        seed: Of the resamples.
        name: For tables.

    Raises:
        QueryError: No validation query has a relevant item.
        SettingsError: Fewer than two retrievers, or bags below 1.

    Cost: each retriever once per query; then some hundred measurements per method and bag, about a minute for 700
    queries and six retrievers.
    Source: Breiman 1996 (bagging).
    """
    answers = _Answers.to(retrievers, queries, qrels, depth)
    return _learn(answers, None, methods, cutoff, bags, seed).fusion(retrievers, name)


def _learn(
    answers: _Answers,
    learnt_on: npt.NDArray[np.bool_] | None,
    methods: Sequence[str],
    cutoff: int,
    bags: int,
    seed: int,
) -> _Choice:
    if len(answers.retrievers) < 2 or bags < 1:
        raise SettingsError(f"{len(answers.retrievers)} retrievers, {bags} bags; give 2 or more, and 1 or more")
    every = np.ones(len(answers.asked)) if learnt_on is None else learnt_on.astype(np.float64)
    choices = []
    for method in methods:
        settings = FusionSettings(method=method, depth=answers.depth)
        shares = answers.shares(settings, cutoff)
        found = []
        for bag in range(bags):
            random = generator(seed, "fusion", method, bag)
            drawn = every if bags == 1 else random.multinomial(int(every.sum()), every / every.sum()).astype(np.float64)
            found.append(ascend(replace(shares, counts=drawn), cutoff)[0])
        weights = np.mean(found, axis=0)
        choices.append(_Choice(settings, weights.tolist(), replace(shares, counts=every).ndcg(weights)))
    return max(choices, key=lambda choice: choice.ndcg)


class CrossFitted:
    """Answer each query with weights that were learnt without it; made by `cross_fit`.

    Args:
        fusions: One per fold, each learnt on the other folds.
        folds: Words of each query to its fold.
        name: For tables.
    """

    def __init__(self, fusions: Sequence[Fusion], folds: Mapping[Query, int], name: str) -> None:
        self.fusions = list(fusions)
        self.folds = dict(folds)
        self.name = name

    @property
    def catalog(self) -> object:
        """Give the catalogue of the fused retrievers."""
        return self.fusions[0].catalog

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query.

        Raises:
            QueryError: A query that was in no fold, or whatever one of the retrievers raises.
        """
        rankings: list[Ranking] = [Ranking()] * len(queries)
        places: dict[int, list[int]] = {}
        for place, query in enumerate(queries):
            if query not in self.folds:
                raise QueryError(
                    f"{query.text!r} was in no fold; cross-fitted weights are for judging, not for new words"
                )
            places.setdefault(self.folds[query], []).append(place)
        for fold, own in places.items():
            found = self.fusions[fold].search_batch([queries[place] for place in own], k=k)
            for place, ranking in zip(own, found, strict=True):
                rankings[place] = ranking
        return rankings


def cross_fit(
    retrievers: Sequence[Retriever],
    queries: Queries,
    qrels: Qrels | Mapping[str, Mapping[str, float]],
    *,
    folds: int = 5,
    methods: Sequence[str] = METHODS,
    depth: int = 100,
    cutoff: int = 10,
    bags: int = 10,
    seed: int = 0,
    name: str = "Hybrid",
) -> CrossFitted:
    """Learn a fusion where there are no validation queries: for each fold on the other ones.

    No query is answered with weights that were learnt on it, so its figures are those of a test. What would be used
    afterwards is `learn_fusion` on all queries, which has a little more to learn from.

    Args:
        retrievers: See `learn_fusion`; likewise methods, depth, cutoff, bags, seed and name.
        queries: All of them.
        qrels: Their judgements.
        folds: How many parts, 2 or more.

    Raises:
        SettingsError: Fewer folds than 2 or more than queries.
    """
    answers = _Answers.to(retrievers, queries, qrels, depth)
    count = len(answers.asked)
    if not 2 <= folds <= count:
        raise SettingsError(f"{folds} folds of {count} queries with a relevant item; give 2 to {count}")
    distinct = list(dict.fromkeys(answers.asked.values()))  # equal queries stay together
    dealt = generator(seed, "folds").permutation(len(distinct)) % folds
    fold_of = dict(zip(distinct, dealt.tolist(), strict=True))
    own = np.array([fold_of[query] for query in answers.asked.values()])
    fusions = [
        _learn(answers, own != fold, methods, cutoff, bags, seed).fusion(retrievers, f"{name}, fold {fold}")
        for fold in range(folds)
    ]
    rest = {query: 0 for query in as_queries(queries).values() if query not in fold_of}  # unjudged: any weights do
    return CrossFitted(fusions, {**fold_of, **rest}, name)
