"""Metrics agree with hand cases, with our own short oracle, and with each other."""

import math

import numpy as np
import pytest

from genrail.errors import QueryError, SettingsError, ShapeError
from genrail.evaluation import DEFAULT_METRICS, Metric, Qrels, Run, measure
from genrail.evaluation.metrics import next_item_values, parse_metrics, target_ranks

SIX = ["R@2", "R@5", "nDCG@2", "nDCG@5", "RR@5", "P@2"]


def oracle(order, grades, name):
    """The definitions, in plain Python, for one query."""
    kind, cutoff = name.split("@")[0], int(name.split("@")[1])
    gains = [max(grades.get(item, 0), 0) for item in order[:cutoff]]
    relevant = sum(grade > 0 for grade in grades.values())
    hits = sum(gain > 0 for gain in gains)
    if kind == "R":
        return hits / relevant
    if kind == "P":
        return hits / cutoff
    if kind == "RR":
        return next((1 / rank for rank, gain in enumerate(gains, 1) if gain > 0), 0.0)
    ideal = sorted((max(grade, 0) for grade in grades.values()), reverse=True)[:cutoff]
    discounted = [sum(g / math.log2(r + 1) for r, g in enumerate(values, 1)) for values in (gains, ideal)]
    return discounted[0] / discounted[1]


def test_a_case_by_hand():
    run = Run({"q": {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}})
    qrels = Qrels({"q": {"b": 3, "d": 1, "absent": 2}})
    means = measure(run, qrels, ["R@2", "R@4", "P@4", "RR", "nDCG@4"]).means
    dcg = 3 / math.log2(3) + 1 / math.log2(5)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert means == pytest.approx({"R@2": 1 / 3, "R@4": 2 / 3, "P@4": 0.5, "RR": 0.5, "nDCG@4": dcg / ideal})


def test_a_thousand_random_runs_with_ties_agree_with_the_oracle():
    random = np.random.default_rng(0)
    rankings, judgements, orders = {}, {}, {}
    for number in range(1000):
        items = [f"d{item}" for item in random.permutation(12)[: random.integers(1, 12)]]
        values = random.integers(0, 3, size=len(items)).astype(float)  # three values: many ties
        rankings[f"q{number}"] = dict(zip(items, values.tolist(), strict=True))
        orders[f"q{number}"] = [items[index] for index in np.argsort(-values, kind="stable")]
        grades = {f"d{item}": int(random.integers(-1, 4)) for item in random.permutation(12)[:5]}
        judgements[f"q{number}"] = {**grades, "always": 1}
    measured = measure(Run(rankings), Qrels(judgements), SIX)
    for name in SIX:
        expected = [oracle(orders[query_id], judgements[query_id], name) for query_id in measured.query_ids]
        np.testing.assert_allclose(measured.values[name], expected, atol=1e-6)  # pytrec_eval holds nDCG to 1e-7


@pytest.mark.parametrize("exists", [True, False], ids=["found", "not found"])
def test_one_query(exists):
    measured = measure(Run({"q": {"a" if exists else "b": 1.0}}), Qrels({"q": {"a": 1}}))
    assert set(measured.means.values()) == {1.0 if exists else 0.0}


def test_queries_without_a_relevant_item_do_not_count():
    measured = measure(Run({"q1": {"a": 1.0}}), Qrels({"q1": {"a": 1}, "q2": {"a": 0}, "q3": {"a": -2}, "q4": {}}))
    assert measured.query_ids == ("q1",)
    assert measured.means["R@5"] == 1.0


def test_a_query_without_an_answer_counts_zero():
    measured = measure(Run({"q1": {"a": 1.0}, "q2": {}}), Qrels({"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}}))
    assert measured.by_query("R@5") == {"q1": 1.0, "q2": 0.0, "q3": 0.0}
    assert measure(Run({}), Qrels({"q": {"a": 1}}), ["R@5"]).means == {"R@5": 0.0}


def test_negative_grades_count_as_zero():
    run = Run({"q": {"spam": 2.0, "a": 1.0}})
    names = ["nDCG@10", "RR@10", "R@1"]
    plain = measure(run, Qrels({"q": {"a": 2}}), names).means
    assert measure(run, Qrels({"q": {"a": 2, "spam": -2}}), names).means == plain


def test_fractions_are_gains_for_ndcg_and_not_relevant():
    """ESCI's gains: exact 1, substitute 0.1, complement 0.01."""
    run = Run({"q": {"c": 3.0, "s": 2.0, "e": 1.0}})
    expected = (0.01 + 0.1 / math.log2(3) + 1 / 2) / (1 + 0.1 / math.log2(3) + 0.01 / 2)
    measured = measure(run, Qrels({"q": {"e": 1, "s": 0.1, "c": 0.01}}), ["nDCG@10", "R@2", "R@3", "RR", "P@3"])
    assert measured.means == pytest.approx({"nDCG@10": expected, "R@2": 0, "R@3": 1, "RR": 1 / 3, "P@3": 1 / 3})


def test_what_counts_as_relevant_can_be_said():
    run = Run({"q": {"a": 2.0, "b": 1.0}})
    for grades in ({"a": 1, "b": 2}, {"a": 1.5, "b": 2}):
        assert measure(run, Qrels({"q": grades}), ["RR", "RR(rel=2)"]).means == {"RR": 1.0, "RR(rel=2)": 0.5}


def test_grades_too_fine_or_mapped_twice_are_refused():
    run = Run({"q": {"a": 1.0}})
    with pytest.raises(QueryError, match="6 decimal places"):
        measure(run, Qrels({"q": {"a": 1, "b": 1 / 3}}))
    with pytest.raises(SettingsError, match="fractions"):
        measure(run, Qrels({"q": {"a": 1, "b": 0.5}}), ["nDCG(gains={1:3})@10"])


def test_nothing_relevant_anywhere_is_refused():
    with pytest.raises(QueryError, match="none of the 1 judged queries"):
        measure(Run({"q": {"a": 1.0}}), Qrels({"q": {"a": 0}}))


def test_a_metric_is_a_value():
    assert Metric("MRR@100") == Metric("RR@100") != Metric("RR@10")
    assert len({Metric("Recall@5"), Metric("R@5")}) == 1
    assert str(Metric("Recall@5")) == "Recall@5"
    assert measure(Run({"q": {"a": 1.0}}), Qrels({"q": {"a": 1}}), ["Recall@5", "MRR"]).means == {
        "Recall@5": 1.0,
        "MRR": 1.0,
    }


@pytest.mark.parametrize(
    "names", [["nDCG"], ["R"], ["Recal@5"], ["__import__('os')"], [], ["R@5", "Recall@5"], "R@5", ["R@ten"]]
)
def test_names_that_are_no_metrics_are_refused(names):
    with pytest.raises(SettingsError):
        parse_metrics(names)


def test_the_fast_path_equals_ir_measures():
    random = np.random.default_rng(1)
    rows = np.stack([random.permutation(30)[:20] for _ in range(300)])
    rows[random.random(300) < 0.1, 12:] = -1  # shorter answers
    targets = random.integers(0, 30, size=300)
    names = [*DEFAULT_METRICS[:2], "nDCG@5", "nDCG@10", "RR@20", "RR", "AP@20", "P@5", "Success@10", "MRR@5"]
    fast = next_item_values(target_ranks(rows, targets), names)
    run = Run(
        {
            str(user): {str(row): -float(place) for place, row in enumerate(answer) if row >= 0}
            for user, answer in enumerate(rows.tolist())
        }
    )
    slow = measure(run, Qrels({str(user): {str(target): 1} for user, target in enumerate(targets.tolist())}), names)
    for name in names:
        np.testing.assert_allclose(fast[name], slow.values[name], atol=1e-7)


def test_ranks_of_nobody_and_of_empty_answers():
    assert target_ranks(np.empty((0, 5), dtype=np.int64), np.empty(0, dtype=np.int64)).tolist() == []
    assert target_ranks(np.empty((2, 0), dtype=np.int64), np.array([1, 2])).tolist() == [0, 0]
    assert next_item_values(np.array([0, 0]), ["R@5", "RR"])["RR"].tolist() == [0.0, 0.0]


def test_a_metric_over_grades_is_refused_for_one_relevant_item():
    with pytest.raises(SettingsError, match="one relevant item"):
        next_item_values(np.array([1]), ["Judged@5"])
    with pytest.raises(SettingsError, match="one relevant item"):
        next_item_values(np.array([1]), ["R(rel=2)@5"])


def test_answers_and_targets_must_fit():
    with pytest.raises(ShapeError, match="3 targets"):
        target_ranks(np.zeros((2, 5), dtype=np.int64), np.zeros(3, dtype=np.int64))
