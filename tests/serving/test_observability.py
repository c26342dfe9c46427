"""What a server tells about itself: counts that agree, lines with ids, and nobody's words."""

import dataclasses
import json
import logging
import re
import threading

import pytest

from genrail.serving.keys import Key
from genrail.serving.logs import JsonLines
from genrail.serving.threads import Threads
from tests.serving.clients import QUICK, bearer, client, keys_in, own_engine


@pytest.fixture
def lines():
    """Collect what is logged, as it would be written."""
    written = []

    class Collect(logging.Handler):
        def emit(self, record):
            written.append(JsonLines().format(record))

    handler = Collect()
    loggers = [logging.getLogger(name) for name in ("genrail", "uvicorn")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield written
    for logger in loggers:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def fail(*_):
    raise OSError("canary")


def counted(text, route=None):
    pattern = r'genrail_request_seconds_count\{route="([^"]*)",status="(\d+)"\} ([\d.]+)'
    return sum(int(float(number)) for where, _, number in re.findall(pattern, text) if route in (None, where))


@pytest.mark.parametrize("requests", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_metrics_log_and_client_count_alike(lines, requests):
    statuses = []
    with client() as http:

        def ask(first):
            for number in range(first, requests, 2):
                body = {"query": "boot", "k": 1 + number % 3} if number % 5 else {"query": ""}
                statuses.append(http.post("/v1/search", json=body).status_code)

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        text = http.get("/metrics").text
    logged = [page for page in map(json.loads, lines) if page["event"] == "request" and page["route"] == "/v1/search"]
    assert len(statuses) == len(logged) == counted(text, "/v1/search") == requests
    assert [page["status"] for page in logged].count(422) == statuses.count(422) == requests / 5
    assert len({page["request_id"] for page in logged}) == requests


def test_the_metrics_that_operators_need_are_there():
    with client() as http:
        http.post("/v1/search", json={"query": "boot"})
        http.post("/v1/index/remove", json={"ids": ["s1"]})
        http.get("/nothing")
        text = http.get("/metrics").text
    for name in ("genrail_queue_depth 0.0", "genrail_batch_size_count 1.0", "genrail_decode_seconds_count 1.0",
                 "genrail_items 39.0", 'genrail_changes_total{verb="remove"} 1.0', "genrail_gate_checked",
                 "genrail_closed_world_violations_total 0.0", 'index_version="0.1"',
                 'genrail_request_seconds_count{route="other",status="404"} 1.0'):  # fmt: skip
        assert name in text


@pytest.mark.parametrize("canaries", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_word_of_a_query_reaches_logs_or_metrics(lines, canaries, tmp_path, monkeypatch):
    keys, tokens = keys_in(tmp_path, Key("boss", role="admin"))
    own = own_engine()
    with client(own, QUICK, keys) as http:
        http.headers.update(bearer(tokens["boss"]))
        for number in range(canaries):
            canary = f"canary{number}x"
            body = [
                ("POST", "/v1/search", {"query": canary}),
                ("POST", "/v1/search", {"query": "boot", "where": f"colour = '{canary}'"}),
                ("POST", "/v1/search", {"query": "boot", "where": f"{canary} = 1"}),
                ("POST", "/v1/recommend", {"history": [canary]}),
                ("POST", "/v1/search", {"query": "boot", canary: 1}),
                ("GET", f"/v1/items/{canary}", None),
                ("GET", f"/{canary}?key={canary}", None),
                ("POST", "/rerank", {"query": canary, "documents": [canary]}),
            ][number % 8]
            http.request(body[0], body[1], json=body[2], headers={"User-Agent": canary, "Referer": canary})
        monkeypatch.setattr(type(own.edition.finder.spelling.model), "prefill", fail)
        assert http.post("/v1/search", json={"query": "canary"}).status_code == 500
        text = http.get("/metrics").text
    assert lines and "canary" not in "".join(lines) + text
    assert tokens["boss"] not in "".join(lines) + text


def test_words_are_logged_where_the_operator_asks(lines):
    with client(settings=dataclasses.replace(QUICK, log_queries=True)) as http:
        http.post("/v1/search", json={"query": "walking the dog"})
    assert any("walking the dog" in line for line in lines)


def test_a_failure_of_ours_is_a_problem_without_its_details(lines, monkeypatch):
    async def broken(self, name, page):
        raise RuntimeError("the password is hunter2")

    with client() as http:
        monkeypatch.setattr(Threads, "call", broken)
        answer = http.get("/v1/items/s1")
        monkeypatch.undo()
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text + "".join(lines)
    [page] = [page for page in map(json.loads, lines) if page["event"] == "a request failed"]
    assert page["error"] == "RuntimeError" and page["request_id"] == answer.json()["request_id"]


def test_serving_connects_to_nobody(monkeypatch):
    """The audit hook of Python sees every attempt to connect, whoever makes it."""
    import sys

    calls, watching = [], [True]

    def watch(event, details):
        if watching[0] and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            calls.append((event, details))

    sys.addaudithook(watch)
    with client() as http:
        http.post("/v1/search", json={"query": "http://127.0.0.1:1/x"})
        http.post("/v1/index/add", json={"items": [{"sku": "u", "name": "see http://example.org/", "price": 1}]})
        http.post("/rerank", json={"query": "http://example.org", "documents": ["file:///etc/passwd"]})
        http.get("/openapi.json")
    watching[0] = False
    assert calls == []
