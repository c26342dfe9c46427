"""Fusion adds what it says, keeps the contract of a retriever, and learns weights on validation only."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from genrail.errors import DamagedError, QueryError, SettingsError
from genrail.evaluation import evaluate
from genrail.finders import BM25, TFIDF, Dense
from genrail.ranking import Fusion, FusionSettings
from genrail.types import Query, Ranking
from tests.contracts.retriever import RetrieverContract
from tests.evaluation.doubles import Scripted
from tests.finders.test_contract import Letters


class TestReciprocalRank(RetrieverContract):
    def make(self, catalog):
        return Fusion([BM25(catalog), Dense(catalog, Letters())])


class TestWeighted(RetrieverContract):
    def make(self, catalog):
        return Fusion([BM25(catalog), TFIDF(catalog)], [0.3, 0.7], FusionSettings(method="weighted"))


def scripted(*orders):
    return [Scripted({"q": order}, name=f"m{number}") for number, order in enumerate(orders)]


def fused(fusion, k=10):
    (ranking,) = fusion.search_batch([Query("q")], k=k)
    return {hit.item_id: hit.score for hit in ranking}


def test_reciprocal_ranks_by_hand():
    found = fused(Fusion(scripted(["i1", "i2"], ["i2", "i3"]), [1.0, 2.0]))
    assert found == pytest.approx({"i2": 1 / 62 + 2 / 61, "i3": 2 / 62, "i1": 1 / 61})
    assert list(found) == ["i2", "i3", "i1"]


def test_weighted_scores_by_hand():
    """Scripted scores are -1, -2, -3: brought to 1, 0.5, 0."""
    found = fused(Fusion(scripted(["i1", "i2", "i3"], ["i3", "i1"]), [0.5, 1.0], FusionSettings(method="weighted")))
    assert found == pytest.approx({"i3": 1.0, "i1": 0.5, "i2": 0.25})


class Model(Scripted):
    """Answer with a probability of 0.25."""

    def ranking(self, query, k):
        first = super().ranking(query, k)[0]
        return Ranking((replace(first, log_probability=math.log(0.25)),))


def test_plain_scores_by_hand():
    """Scripted scores are -1, -2, -3; a log-probability counts as a probability."""
    settings = FusionSettings(method="scores")
    assert fused(Fusion(scripted(["i1", "i2"], ["i2"]), [1.0, 2.0], settings)) == pytest.approx(
        {"i1": -1.0, "i2": -4.0}
    )
    found = fused(Fusion([scripted(["i1"])[0], Model({"q": ["i3"]})], [1.0, 4.0], settings))
    assert found == pytest.approx({"i3": 1.0, "i1": -1.0})


def test_equal_sums_keep_the_order_of_the_first_retriever():
    assert list(fused(Fusion(scripted(["i5", "i1"], ["i1", "i5"])))) == ["i5", "i1"]


def test_an_empty_answer_adds_nothing():
    assert list(fused(Fusion(scripted([], ["i1"]), settings=FusionSettings(method="weighted")))) == ["i1"]


def noisy(name, strength, seed, queries=60):
    """Put item i1 ahead of nine others with a probability that grows with `strength`; scores follow."""
    random = np.random.default_rng(seed)
    answers = {}
    for number in range(queries):
        items = [f"i{item}" for item in range(1, 11)]
        scores = random.normal(size=10) + np.eye(10)[0] * strength
        answers[f"words {number}"] = [items[place] for place in np.argsort(-scores)]
    return Scripted(answers, name=name)


QUERIES = {f"q{number}": f"words {number}" for number in range(60)}
QRELS = {query_id: {"i1": 1} for query_id in QUERIES}


@pytest.mark.parametrize("method", ["reciprocal rank", "weighted"])
def test_learnt_weights_are_the_best_of_the_grid(method):
    sources = [noisy("strong", 3.0, seed=1), noisy("weak", 0.0, seed=2)]
    fusion = Fusion(sources, settings=FusionSettings(method=method))
    learnt = fusion.learnt(QUERIES, QRELS)
    assert learnt.weights[0] > learnt.weights[1]
    means = [
        evaluate(
            Fusion(sources, [tenth / 10, 1 - tenth / 10], fusion.settings), QUERIES, QRELS, metrics=["nDCG@10"],
            latency_queries=0,
        ).means["nDCG@10"]
        for tenth in range(11)
    ]  # fmt: skip
    best = evaluate(learnt, QUERIES, QRELS, metrics=["nDCG@10"], latency_queries=0).means["nDCG@10"]
    assert best == pytest.approx(max(means))


def test_between_equal_means_weights_stay_equal():
    sources = scripted(["i1", "i2"], ["i1", "i2"])
    assert Fusion(sources).learnt({"q": "q"}, {"q": {"i1": 1}}).weights == [0.5, 0.5]


def test_three_retrievers_and_progress():
    calls = []
    sources = [noisy(f"m{seed}", seed, seed) for seed in range(3)]
    learnt = Fusion(sources).learnt(QUERIES, QRELS, progress=lambda *call: calls.append(call))
    assert sum(learnt.weights) == pytest.approx(1.0)
    assert calls[-1] == (66, 66)
    assert sources[0].asked == [60]


def test_weights_cannot_be_learnt_without_judgements():
    with pytest.raises(QueryError, match="relevant item"):
        Fusion(scripted(["i1"], ["i2"])).learnt({"q": "q"}, {"other": {"i1": 1}})


@pytest.mark.parametrize(
    ("number", "weights"), [(1, None), (2, [1.0]), (2, [0.0, 0.0]), (2, [-1.0, 2.0]), (2, [float("nan"), 1.0])]
)
def test_weights_must_fit(number, weights):
    with pytest.raises(SettingsError):
        Fusion(scripted(*[["i1"]] * number), weights)


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="'borda'"):
        FusionSettings(method="borda")
    with pytest.raises(SettingsError, match="depth is 0"):
        FusionSettings(depth=0)
    with pytest.raises(SettingsError, match="steps"):
        Fusion(scripted(["i1"], ["i2"])).learnt({"q": "q"}, {"q": {"i1": 1}}, steps=1)


def test_saved_weights_come_back(tmp_path):
    sources = scripted(["i1", "i2"], ["i2", "i3"])
    before = Fusion(sources, [1.0, 2.0], FusionSettings(method="weighted", depth=50), name="hybrid")
    before.save(tmp_path)
    after = Fusion.load(tmp_path, sources)
    assert (after.name, fused(after)) == ("hybrid", fused(before))
    with pytest.raises(SettingsError, match=r"\['m0', 'm1'\], not \['m1', 'm0'\]"):
        Fusion.load(tmp_path, sources[::-1])
    values = json.loads((tmp_path / "fusion.json").read_text())
    del values["weights"]
    (tmp_path / "fusion.json").write_text(json.dumps(values))
    with pytest.raises(DamagedError, match="weights"):
        Fusion.load(tmp_path, sources)
    (tmp_path / "fusion.json").unlink()
    with pytest.raises(DamagedError, match="missing"):
        Fusion.load(tmp_path, sources)
