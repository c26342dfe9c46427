"""What those who run a server are told: load, latencies, versions, and words only where they were asked for."""

from dataclasses import replace

import pytest

from genrail.serving.keys import Key
from genrail.serving.tally import KEPT, Tally
from tests.serving.clients import QUICK, assert_problem, bearer, client, keys_in


def test_load_latencies_and_versions_are_told():
    with client() as http:
        for _ in range(3):
            http.post("/v1/search", json={"query": "red boot"})
        http.post("/v1/search", json={"query": "red boot", "where": "price < 0"})
        http.post("/v1/search", json={"query": "red boot", "where": "size < 0"})
        page = http.get("/v1/operation").json()
    search = next(route for route in page["routes"] if route["route"] == "/v1/search")
    assert (search["requests"], search["failed"]) == (5, 0)
    assert 0 < search["p50"] <= search["p95"] <= search["p99"]
    assert (page["questions"], page["found_nothing"]) == (4, 1)
    assert sum(page["refusals"].values()) == 1 and page["items"] == 40 and page["versions"] == []
    assert page["queries"] is None


def test_words_are_kept_where_the_operator_wants_them():
    with client(settings=replace(QUICK, log_queries=True)) as http:
        for words in ("Red  boot", "red boot", "blue clog"):
            http.post("/v1/search", json={"query": words})
        http.post("/v1/search", json={"query": "gold boot", "where": "price < 0"})
        queries = http.get("/v1/operation").json()["queries"]
    assert queries["frequent"][0] == {"query": "red boot", "times": 2}
    assert queries["in_vain"] == [{"query": "gold boot", "times": 1}]


def test_only_admins_see_it(tmp_path):
    keys, tokens = keys_in(tmp_path, Key("reader"), Key("owner", "admin"))
    with client(keys=keys) as http:
        assert_problem(http.get("/v1/operation"), 401)
        assert_problem(http.get("/v1/operation", headers=bearer(tokens["reader"])), 403)
        assert http.get("/v1/operation", headers=bearer(tokens["owner"])).status_code == 200


def test_many_different_queries_do_not_fill_the_memory():
    tally = Tally(words=True)
    for number in range(3 * KEPT):
        tally.count(f"query {number}", {"hits": []})
        tally.count("boots", {"hits": [1]})
    assert tally.questions == 6 * KEPT and tally.found_nothing == 3 * KEPT
    assert len(tally.asked) <= KEPT + 1 and len(tally.in_vain) <= KEPT + 1
    assert tally.asked["boots"] == 3 * KEPT


@pytest.mark.parametrize("counts", [[0, 0, 0], [0, 0, 4], [4, 4, 4]])
def test_a_quantile_lies_within_the_bounds(counts):
    from genrail.serving.operation import quantile

    found = quantile([1.0, 2.0, float("inf")], counts, 0.5)
    assert found is None if counts[-1] == 0 else 0 <= found <= 2
