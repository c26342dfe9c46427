"""An evaluation counts what it says, and tells what is odd about its input."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from genrail.errors import QueryError, SettingsError
from genrail.evaluation import Qrels, evaluate, evaluate_next_item, leave_last_out
from genrail.types import Hit, Query, Ranking
from tests.evaluation.doubles import SHOP, Crashing, Refusing, Scripted

QUERIES = {"q1": "one", "q2": "two", "q3": "three"}
QRELS = {"q1": {"i1": 1}, "q2": {"i2": 2, "i9": 1}, "q3": {"i3": 1}}
METRICS = ["R@2", "RR@2"]


def run(retriever=None, queries=QUERIES, qrels=QRELS, **options):
    retriever = retriever or Scripted({"one": ["i1"], "two": ["i5", "i2"], "three": ["i8", "i9"]})
    return evaluate(retriever, queries, qrels, **{"metrics": METRICS, "k": 5, **options})


def test_means_and_single_queries():
    found = run()
    assert found.means == pytest.approx({"R@2": (1 + 0.5 + 0) / 3, "RR@2": (1 + 0.5 + 0) / 3})
    assert found.measured.by_query("RR@2") == {"q1": 1.0, "q2": 0.5, "q3": 0.0}
    assert list(found.run["q2"]) == ["i5", "i2"]


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_batch_size_changes_no_figure(batch_size):
    assert run(batch_size=batch_size).means == run().means


def test_counts_of_answers():
    scripted = Scripted({"one": ["i1", "nobody", "i1"], "two": [], "three": ["i3", "i4", "i5", "i6", "i7"]})
    counts = run(scripted).counts
    assert (counts.queries, counts.hits, counts.unknown, counts.repeated) == (3, 8, 1, 1)
    assert (counts.exhausted, counts.empty) == (2, 1)
    assert counts.valid_share == 7 / 8
    assert counts.distinct_share == 7 / 8
    assert counts.coverage == 6 / 20


def test_a_repeated_item_counts_once_where_it_came_first():
    found = run(Scripted({"one": ["i5", "i1", "i1"]}), metrics=["RR@3", "P@3"])
    assert found.measured.by_query("RR@3")["q1"] == 0.5
    assert found.measured.by_query("P@3")["q1"] == pytest.approx(1 / 3)


def test_removed_items_are_not_valid():
    found = run(Scripted({"one": ["i1", "i2"]}), catalog=SHOP.remove(["i1"]))
    assert found.counts.valid_share == 0.5
    assert any("1 of 4 relevant items are not in the catalogue" in note for note in found.notes)


def test_without_a_catalog_validity_is_not_claimed():
    found = run(Scripted({"one": ["i1"]}, catalog=None))
    assert found.counts.valid_share is None
    assert found.counts.coverage is None
    assert "valid" not in found.table()


def test_odd_judgements_are_said():
    qrels = {"q1": {"i1": 1, "spam": -2}, "q2": {"i2": 0}, "other": {"i1": 1}}
    found = run(qrels=qrels)
    assert found.measured.query_ids == ("q1",)
    assert [note.split(" ", 1) for note in found.notes] == [
        ["1", "of 3 queries have no judgements and do not count"],
        ["1", "of 3 queries have judgements but no relevant item and do not count"],
        ["1", "judged queries were not asked and do not count"],
        ["1", "grades are below 0 and count as 0"],
    ]


def test_a_refused_query_counts_zero_and_costs_its_neighbours_nothing():
    found = run(Refusing({"one": ["i1"], "three": ["i3"]}, refused={"two"}))
    assert found.measured.by_query("R@2") == {"q1": 1.0, "q2": 0.0, "q3": 1.0}
    assert found.counts.failed == 1
    assert any("'q2': cannot read 'two'" in note for note in found.notes)


def test_a_method_that_refuses_everything_is_an_error():
    with pytest.raises(QueryError, match="refused all 3 queries.*cannot read"):
        run(Refusing({}, refused={"one", "two", "three"}))


def test_a_crash_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run(Crashing())


@pytest.mark.parametrize(
    ("queries", "message"),
    [([("q1", "a"), ("q1", "b")], "'q1' was given twice"), ({}, "no queries"), ({"zz": "a"}, "same query ids")],
    ids=["an id twice", "none", "other ids"],
)
def test_bad_queries_are_refused(queries, message):
    with pytest.raises(QueryError, match=message):
        run(queries=queries)


def test_metrics_deeper_than_the_answers_are_refused():
    with pytest.raises(SettingsError, match="R@10 looks at 10 hits but only k=5"):
        run(metrics=["R@10"])
    with pytest.raises(SettingsError, match="k is 0"):
        run(k=0)


def test_progress_and_latency():
    calls = []
    found = run(batch_size=2, latency_queries=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 3), (3, 3)]
    assert found.latency.queries == 2
    assert 0 < found.latency.p50_milliseconds <= found.latency.p95_milliseconds <= found.latency.p99_milliseconds
    assert run(latency_queries=0).latency is None


def test_queries_may_be_query_objects():
    found = run(Scripted({None: ["i1"]}), queries={"q1": Query(history=["i7"])}, qrels={"q1": {"i1": 1}})
    assert found.means["R@2"] == 1.0


def test_json_and_table():
    values = json.loads(json.dumps(run().to_dict()))
    assert values["metrics"] == run().means
    assert {"valid_share", "distinct_share", "coverage"} <= set(values["answers"])
    assert {"p50_milliseconds", "p95_milliseconds", "p99_milliseconds"} <= set(values["latency"])
    assert "R@2" in run().table()


class LastPlusOne:
    """Guess the items whose numbers follow the last one."""

    name = "last plus one"

    def search_batch(self, queries, k=10):
        rankings = []
        for query in queries:
            start = int(query.history[-1][1:])
            ids = [f"i{(start + step) % 20}" for step in range(0, 4)]
            ids = [item for item in ids if not (query.exclude_seen and item in query.history)][:k]
            rankings.append(Ranking(tuple(Hit(item, item, -float(at), at + 1) for at, item in enumerate(ids))))
        return rankings


def checkerboard():
    users = [[start, start + 1, start + 2, start + 3] for start in range(0, 16, 4)]
    offsets = np.arange(0, 17, 4)
    return leave_last_out(
        SimpleNamespace(user_ids=list("abcd"), offsets=offsets, rows=np.array(users).ravel()), items=20
    )


@pytest.mark.parametrize(("exclude_seen", "rank"), [(True, 1), (False, 2)])
def test_next_items_seen_items_excluded_and_kept(exclude_seen, rank):
    found = evaluate_next_item(
        LastPlusOne(), checkerboard().test, SHOP, exclude_seen=exclude_seen, metrics=["R@1", "RR@4"], k=4
    )
    assert found.means == {"R@1": float(rank == 1), "RR@4": 1 / rank}
    assert found.name == f"last plus one (seen items {'excluded' if exclude_seen else 'kept'})"
    assert found.counts.queries == 4
    assert found.counts.valid_share == 1.0


def test_next_item_equals_evaluation_as_queries():
    split = checkerboard()
    queries = {str(user): Query(history=[f"i{row}" for row in split.validation.history(user)]) for user in range(4)}
    qrels = Qrels({str(user): {f"i{row}": 1} for user, row in enumerate(split.validation.targets)})
    names = ["R@3", "nDCG@3", "RR"]
    slow = evaluate(LastPlusOne(), queries, qrels, metrics=names, k=3)
    fast = evaluate_next_item(LastPlusOne(), split.validation, SHOP, metrics=names, k=3)
    assert fast.means == pytest.approx(slow.means)


def test_nobody_to_test_is_refused():
    empty = leave_last_out(SimpleNamespace(user_ids=["u"], offsets=np.array([0, 2]), rows=np.array([0, 1])))
    with pytest.raises(QueryError, match="no user"):
        evaluate_next_item(LastPlusOne(), empty.test, SHOP)
