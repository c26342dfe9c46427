"""Weights for next items: measured like the evaluation does, never worse than a single retriever."""

import numpy as np
import pytest

from genrail.errors import QueryError, ShapeError
from genrail.evaluation import evaluate
from genrail.ranking import Fusion, FusionSettings
from genrail.ranking.weights import Shares, ascend
from genrail.types import Query
from tests.evaluation.doubles import Scripted


def test_shares_lie_side_by_side():
    shares = Shares.of([[{"a": 1.0, "b": 0.5}, {}], [{"b": 0.25}, {"c": 1.0}]], ["b", "x"])
    assert shares.values.tolist() == [[1.0, 0.0], [0.5, 0.25], [0.0, 1.0]]
    assert shares.query.tolist() == [0, 0, 1]
    assert shares.target.tolist() == [1, -1]


def test_ndcg_by_hand():
    """Rank 2 of one query, not found in the other; between equal sums the target comes last."""
    shares = Shares.of([[{"a": 1.0, "b": 0.5}, {}]], ["b", "x"])
    assert shares.ndcg(np.array([1.0])) == pytest.approx(0.5 / np.log2(3))
    assert shares.ndcg(np.array([0.0])) == pytest.approx(0.5 / np.log2(3))
    assert shares.ndcg(np.array([1.0]), cutoff=1) == 0.0


def noisy(name, strength, seed, queries=60):
    """Put the right item ahead of nine others with a probability that grows with `strength`."""
    random = np.random.default_rng(seed)
    answers = {}
    for number in range(queries):
        scores = random.normal(size=10) + np.eye(10)[0] * strength
        answers[f"words {number}"] = [f"i{place + 1}" for place in np.argsort(-scores)]
    return Scripted(answers, name=name)


QUERIES = [Query(f"words {number}") for number in range(60)]
ASKED = {f"q{number}": query for number, query in enumerate(QUERIES)}
QRELS = {query_id: {"i1": 1} for query_id in ASKED}


def measured(fusion):
    return evaluate(fusion, ASKED, QRELS, metrics=["nDCG@10"], latency_queries=0).means["nDCG@10"]


@pytest.mark.parametrize("method", ["reciprocal rank", "weighted"])
def test_learnt_weights_are_no_worse_than_equal_or_single_ones(method):
    sources = [noisy("strong", 2.0, seed=1), noisy("other", 1.5, seed=2), noisy("weak", 0.0, seed=3)]
    settings = FusionSettings(method=method)
    learnt, _ = Fusion(sources, settings=settings).learnt_next_item(QUERIES, ["i1"] * 60, batch_size=7)
    assert sum(learnt.weights) == pytest.approx(1.0)
    for weights in ([1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]):
        assert measured(learnt) >= measured(Fusion(sources, weights, settings)) - 1e-9


def test_what_is_climbed_to_is_what_the_evaluation_measures():
    sources = [noisy("strong", 2.0, seed=1), noisy("other", 1.5, seed=2)]
    fusion, found = Fusion(sources, settings=FusionSettings(method="weighted")).learnt_next_item(QUERIES, ["i1"] * 60)
    (first, second) = ([one.search_batch([query], 100)[0] for query in QUERIES] for one in sources)
    scaled = [[{hit.item_id: (10 - hit.rank) / 9 for hit in ranking} for ranking in part] for part in (first, second)]
    shares = Shares.of(scaled, ["i1"] * 60)
    _, best = ascend(shares)
    assert best == pytest.approx(shares.ndcg(np.array(fusion.weights)))
    assert best == pytest.approx(found) == pytest.approx(measured(fusion), abs=1e-6)


def test_targets_must_fit_and_be_found():
    sources = [noisy("a", 1.0, 1), noisy("b", 1.0, 2)]
    with pytest.raises(ShapeError, match="one for each"):
        Fusion(sources).learnt_next_item(QUERIES, ["i1"])
    with pytest.raises(QueryError, match="nothing to learn"):
        Fusion(sources).learnt_next_item(QUERIES, ["not there"] * 60)
    with pytest.raises(QueryError, match="nothing to learn"):
        Fusion(sources).learnt_next_item([], [])
