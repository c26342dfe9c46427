"""Clicks on interleaved answers: each item has one team, no method gains by its place, the better one is found."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genrail.errors import SettingsError
from genrail.evaluation import Qrels, Run, compare
from genrail.evaluation.interleaving import interleaved, preferences, team_draft
from tests.evaluation.doubles import Scripted

ITEMS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


def run(rankings):
    return Run({query: {item: -place for place, item in enumerate(items)} for query, items in rankings.items()})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(ITEMS, ITEMS, st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_a_draft_lists_each_item_once_and_keeps_both_orders(first, second, seed, depth):
    items, teams = team_draft(first, second, np.random.default_rng(seed), depth)
    assert len(items) == len(set(items)) == len(teams) == min(depth, len({*first, *second}))
    for team, answer in enumerate((first, second)):
        chosen = [item for item, its in zip(items, teams, strict=True) if its == team]
        assert chosen == [item for item in answer if item in chosen]


def test_who_begins_is_tossed_for():
    random = np.random.default_rng(0)
    begun = [team_draft(["a"], ["b"], random)[0][0] for _ in range(200)]
    assert 70 < begun.count("a") < 130


def test_equal_answers_are_not_preferred_and_better_ones_are():
    queries = {f"q{number}": ["x", f"i{number}", "y"] for number in range(60)}
    good, same = run(queries), run(queries)
    bad = run({query: ["u", "v", "w"] for query in queries})
    clicks = Qrels({query: {items[1]: 1} for query, items in queries.items()})
    found = interleaved({"good": good, "same": same, "bad": bad}, "good", clicks)
    assert found["bad"].difference.mean == -1.0 and found["bad"].verdict == "worse"
    assert abs(found["same"].difference.mean) < 0.1 and found["same"].verdict == "no difference shown"


def test_queries_without_clicks_prefer_nobody_and_seeds_repeat():
    one, two = run({"q": ["a", "b"], "r": ["c"]}), run({"q": ["b", "a"], "r": ["d"]})
    clicks = Qrels({"q": {"b": 1, "a": 0}})
    first = preferences(one, two, clicks, seed=1)
    assert first[1] == 0.0 and first[0] < 0 and first == preferences(one, two, clicks, seed=1)


def test_a_method_that_is_not_there_is_named():
    with pytest.raises(SettingsError, match="no method 'x'"):
        interleaved({"a": run({"q": ["a"]})}, "x", Qrels({"q": {"a": 1}}))


def test_compare_tells_what_clicks_prefer():
    right = {f"item {number}": [f"i{number}", "i0"] for number in range(1, 20)}
    wrong = {words: ["i0", "i1"] for words in right}
    methods = [Scripted(right, "right"), Scripted(wrong, "wrong")]
    queries = {words: words for words in right}
    clicks = {words: {items[0]: 1.0} for words, items in right.items()}
    found = compare(methods, queries, clicks, latency_queries=0, interleave=True)
    assert found.interleaved["wrong"].verdict == "worse"
    assert "Interleaved with right, clicks prefer wrong by -" in found.table()
    assert found.to_dict()["interleaved"]["wrong"]["verdict"] == "worse"
    assert not compare(methods, queries, clicks, latency_queries=0).interleaved
