"""Learnt weights prefer the retriever that is right, and cross-fitting never looks at its own query."""

import numpy as np
import pytest

from genrail.errors import QueryError, SettingsError
from genrail.evaluation import evaluate
from genrail.ranking.fusion import Fusion
from genrail.ranking.learning import GradedShares, cross_fit, learn_fusion
from genrail.types import Hit, Query, Ranking

ITEMS = [f"i{number}" for number in range(30)]
QUERIES = {f"q{number}": f"words {number}" for number in range(24)}
QRELS = {f"q{number}": {f"i{number}": 1.0, f"i{number + 1}": 0.5} for number in range(24)}


class Placed:
    """Put the right item of a query at a rank that a rule gives."""

    def __init__(self, name, rule):
        self.name, self.rule, self.asked = name, rule, 0

    def search_batch(self, queries, k=10):
        self.asked += len(queries)
        return [self._ranking(int(query.text.split()[1]), k) for query in queries]

    def _ranking(self, number, k):
        others = [item for item in ITEMS if item != f"i{number}"]
        np.random.default_rng([number, len(self.name)]).shuffle(others)
        order = others[: self.rule(number)] + [f"i{number}"] + others[self.rule(number) :]
        hits = tuple(Hit(item, item, 1.0 - rank / 40, rank + 1) for rank, item in enumerate(order[:k]))
        return Ranking(hits, exhausted=k > len(order))


GOOD, POOR = Placed("good", lambda number: number % 2), Placed("poor one", lambda number: 8 + number % 5)


@pytest.mark.parametrize("methods", [("weighted",), ("scores",), ("reciprocal rank", "weighted", "scores")])
def test_the_better_retriever_gets_the_larger_weight(methods):
    hybrid = learn_fusion([GOOD, POOR], QUERIES, QRELS, methods=methods, depth=20, bags=3)
    assert hybrid.weights[0] > hybrid.weights[1]
    means = [
        evaluate(method, QUERIES, QRELS, k=20, metrics=["nDCG@10"], latency_queries=0).means["nDCG@10"]
        for method in (hybrid, GOOD, POOR, Fusion([GOOD, POOR]))
    ]
    assert means[0] >= max(means[2:])


def test_what_is_learnt_from_is_what_the_evaluation_measures():
    parts = [[{hit.item_id: hit.score for hit in one.search_batch([Query(text)], k=20)[0]}
              for text in QUERIES.values()] for one in (GOOD, POOR)]  # fmt: skip
    shares = GradedShares.of(parts, list(QRELS.values()))
    alone = evaluate(GOOD, QUERIES, QRELS, k=20, metrics=["nDCG@10"], latency_queries=0).measured
    assert shares.by_query(np.array([1.0, 0.0])) == pytest.approx(list(alone.by_query("nDCG@10").values()), abs=1e-6)


def test_the_weights_of_a_fold_do_not_change_with_its_own_judgements():
    """Turning one query's judgement upside down moves the other folds, never its own."""
    first = cross_fit([GOOD, POOR], QUERIES, QRELS, folds=4, depth=20, bags=2)
    turned = {**QRELS, "q3": {"i29": 1.0}}
    second = cross_fit([GOOD, POOR], QUERIES, turned, folds=4, depth=20, bags=2)
    fold = first.folds[Query("words 3")]
    assert second.folds == first.folds
    assert second.fusions[fold].weights == first.fusions[fold].weights
    assert first.search_batch([Query("words 3")], k=5) == second.search_batch([Query("words 3")], k=5)


def test_each_query_is_answered_by_its_fold_in_the_order_asked():
    found = cross_fit([GOOD, POOR], QUERIES, QRELS, folds=3, depth=20, bags=1)
    asked = [Query(text) for text in QUERIES.values()]
    together = found.search_batch(asked, k=5)
    assert together == [found.search_batch([query], k=5)[0] for query in asked]
    with pytest.raises(QueryError, match="no fold"):
        found.search_batch([Query("words 99")])


def test_settings_are_checked():
    with pytest.raises(SettingsError):
        cross_fit([GOOD, POOR], QUERIES, QRELS, folds=1)
    with pytest.raises(SettingsError):
        learn_fusion([GOOD], QUERIES, QRELS)
    with pytest.raises(QueryError):
        learn_fusion([GOOD, POOR], QUERIES, {"q0": {"i0": 0.0}})
