"""Every limit at n - 1, n and n + 1: nothing is cut silently, and the message names the limit."""

import dataclasses
import json
import threading

import pytest

from genrail.errors import SettingsError
from genrail.serving import Limits, ServeSettings
from genrail.serving.keys import Key
from genrail.serving.limits import Rates
from tests.serving.clients import QUICK, assert_problem, bearer, client, keys_in, own_engine
from tests.serving.processes import until

SMALL = Limits(
    body_bytes=5_000, change_body_bytes=20_000, query_characters=50, history=5, k=20, batch=4, batch_hits=30,
    filter_characters=200, filter_values=6, filter_conditions=5, filter_patterns=2,
    title_characters=40, item_bytes=500, items=3, documents=4,
    document_characters=30,
)  # fmt: skip


@pytest.fixture(scope="module")
def http():
    with client(own_engine(), dataclasses.replace(QUICK, limits=SMALL)) as found:
        yield found


def item(number, size=None, title="boot"):
    made = {"sku": f"n{number}", "name": title, "colour": "red", "price": 1, "in_stock": True}
    if size is not None:
        made["colour"] = "r" * (size - len(json.dumps(made)) + 3)
        assert len(json.dumps(made)) == size
    return made


CASES = {
    "query": (50, lambda n: ("/v1/search", {"query": "b" * n})),
    "history": (5, lambda n: ("/v1/recommend", {"history": [f"s{i}" for i in range(n)]})),
    "k": (20, lambda n: ("/v1/search", {"query": "boot", "k": n})),
    "batch": (4, lambda n: ("/v1/multi-search", {"requests": [{"query": "boot", "k": 1}] * n})),
    "batch hits": (30, lambda n: ("/v1/multi-search", {"requests": [{"query": "a", "k": k} for k in (15, n - 15)]})),
    "filter characters": (200, lambda n: ("/v1/search", {"query": "boot", "where": "price > 1" + " " * (n - 9)})),
    "filter values": (6, lambda n: ("/v1/search", {"query": "boot", "where": f"price IN ({','.join('1234567'[:n])})"})),
    "filter conditions": (5, lambda n: ("/v1/search", {"query": "boot", "where": " AND ".join(["price>1"] * n)})),
    "filter patterns": (2, lambda n: ("/v1/search", {"query": "a", "where": " OR ".join(["name ILIKE 'b%'"] * n)})),
    "documents": (4, lambda n: ("/rerank", {"query": "boot", "documents": ["x"] * n})),
    "document": (30, lambda n: ("/rerank", {"query": "boot", "documents": ["x" * n]})),
    "rerank query": (50, lambda n: ("/rerank", {"query": "b" * n, "documents": ["x"]})),
    "items removed": (3, lambda n: ("/v1/index/remove", {"ids": [f"zz{i}" for i in range(n)]})),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_a_limit_holds_exactly(http, name, beside):
    limit, make = CASES[name]
    path, body = make(limit + beside)
    answer = http.post(path, json=body)
    if beside == 1:
        assert_problem(answer, 422, f"the limit is {limit}")
    else:
        assert f"the limit is {limit}" not in answer.text
        assert answer.status_code == (422 if path.endswith("remove") else 200)  # unknown ids, not too many


@pytest.mark.parametrize("beside", [-1, 0, 1])
@pytest.mark.parametrize(("name", "limit"), [("title", 40), ("bytes", 500), ("items", 3)])
def test_items_are_held_to_their_limits(http, name, limit, beside):
    number = limit + beside
    made = {
        "title": lambda: [item(f"t{number}", title="b" * number)],
        "bytes": lambda: [item(f"b{number}", size=number)],
        "items": lambda: [item(f"i{number}-{i}") for i in range(number)],
    }[name]()
    answer = http.post("/v1/index/add", json={"items": made})
    if beside == 1:
        assert_problem(answer, 422, f"the limit is {limit}")
    else:
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("beside", [-1, 0, 1])
@pytest.mark.parametrize(("path", "limit"), [("/v1/search", 5_000), ("/v1/index/add", 20_000)])
def test_a_body_is_held_to_its_limit_with_and_without_a_length(http, path, limit, beside, chunked):
    body = b'{"x":"' + b"y" * (limit + beside - 8) + b'"}'
    content = (body[at : at + 999] for at in range(0, len(body), 999)) if chunked else body
    answer = http.post(path, content=content, headers={"Content-Type": "application/json"})
    if beside == 1:
        assert_problem(answer, 413, f"{limit} bytes")
    else:
        assert_problem(answer, 422, "body.")  # read, and then not understood


def test_a_length_that_is_no_number_is_refused(http):
    headers = {"Content-Type": "application/json", "Content-Length": "-5"}
    assert_problem(http.post("/v1/search", content=b"{}", headers=headers), 413)


def test_long_histories_are_warned_about_not_cut_silently():
    with client() as http:
        history = [f"s{n % 40}" for n in range(30)]
        page = http.post("/v1/recommend", json={"history": history, "include_seen": True}).json()
        assert any("20" in warning for warning in page["warnings"]), page["warnings"]


def test_the_rate_of_a_key_is_its_own(tmp_path):
    keys, tokens = keys_in(tmp_path, Key("slow", rate_per_second=1), Key("quick", rate_per_second=1000))
    with client(own_engine(), QUICK, keys) as http:
        slow = [http.get("/version", headers=bearer(tokens["slow"])) for _ in range(4)]
        assert [answer.status_code for answer in slow[:2]] == [200, 200]
        assert_problem(slow[3], 429, "1 questions per second")
        assert int(slow[3].headers["retry-after"]) >= 1
        assert all(http.get("/version", headers=bearer(tokens["quick"])).status_code == 200 for _ in range(20))


@pytest.mark.parametrize("rate", [0.5, 3.0, 50.0])
def test_a_rate_is_kept_within_five_hundredths_over_half_a_minute(rate):
    now = [0.0]
    rates = Rates(burst=1, clock=lambda: now[0])
    passed = 0
    while now[0] < 30:
        passed += rates.take("key", rate) is None
        now[0] += 0.001
    assert abs(passed - max(1.0, rate) - 30 * rate) <= 0.05 * 30 * rate + 1


def test_a_clock_that_jumps_gives_nobody_more():
    now = [100.0]
    rates = Rates(burst=2, clock=lambda: now[0])
    assert [rates.take("key", 1) is None for _ in range(3)] == [True, True, False]
    now[0] = 0.0
    assert rates.take("key", 1) is not None
    now[0] = 1e9
    assert [rates.take("key", 1) is None for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    "values",
    [{"queue": 0}, {"batch": 0}, {"deadline_seconds": 0}, {"rate_per_second": -1}, {"burst": 0.5}, {"slow_seconds": 0}],
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(SettingsError, match=next(iter(values))):
        ServeSettings(**values)
    with pytest.raises(SettingsError):
        Limits(k=0)


# --- the queue --------------------------------------------------------------------------------------------------------


class Held:
    """Hold decodes until they are let go, and count the batches and steps."""

    def __init__(self, monkeypatch, own):
        self.go, self.steps, self.batches = threading.Event(), 0, []
        network = type(own.edition.finder.spelling.model)
        prefill, step = network.prefill, network.step

        def slow_prefill(model, contexts):
            self.batches.append(len(contexts))
            self.go.wait(120)
            return prefill(model, contexts)

        def counted(model, *values):
            self.steps += 1
            return step(model, *values)

        monkeypatch.setattr(network, "prefill", slow_prefill)
        monkeypatch.setattr(network, "step", counted)


def together(http, count, body=None):
    """Send requests at the same time; gives a list that fills with their answers, and the threads."""
    answers = []

    def send():
        answers.append(http.post("/v1/search", json=body or {"query": "boot"}))

    threads = [threading.Thread(target=send) for _ in range(count)]
    [thread.start() for thread in threads]
    return answers, threads


@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_the_queue_holds_what_it_may_and_refuses_the_rest_at_once(monkeypatch, beside):
    own = own_engine()
    with client(own, dataclasses.replace(QUICK, queue=4, batch=8)) as http:
        service = http.app.state.service
        held = Held(monkeypatch, own)
        first, thread = together(http, 1)
        until(lambda: held.batches)
        waiting, threads = together(http, 4 + beside)
        until(lambda: service.waiting + len(waiting) == 4 + beside)
        refused = list(waiting)
        held.go.set()
        [one.join() for one in thread + threads]
        assert len(refused) == max(0, beside)
        for answer in refused:
            assert_problem(answer, 503, "4 questions are waiting")
            assert int(answer.headers["retry-after"]) >= 1
        assert sorted(answer.status_code for answer in first + waiting) == [200] * (5 + min(0, beside)) + [503] * len(
            refused
        )
        assert held.batches == [1, 4 + min(0, beside)]  # those who waited were decoded together


def test_a_batch_is_no_larger_than_it_may_be(monkeypatch):
    own = own_engine()
    with client(own, dataclasses.replace(QUICK, batch=3)) as http:
        held = Held(monkeypatch, own)
        _, first = together(http, 1)
        until(lambda: held.batches)
        answers, threads = together(http, 7)
        until(lambda: http.app.state.service.waiting == 4)  # a whole batch lies ready at the decoder
        held.go.set()
        [thread.join() for thread in first + threads]
        assert held.batches == [1, 3, 3, 1]
        assert [answer.status_code for answer in answers] == [200] * 7


def test_questions_of_other_sizes_do_not_share_a_decode_and_none_starves(monkeypatch):
    own = own_engine()
    with client(own) as http:
        held = Held(monkeypatch, own)
        _, first = together(http, 1)
        until(lambda: held.batches)
        some, threads = together(http, 3, {"query": "boot", "k": 3})
        until(lambda: http.app.state.service.waiting == 3)
        others, more = together(http, 2, {"query": "boot", "k": 5})
        until(lambda: http.app.state.service.waiting == 5)
        held.go.set()
        [thread.join() for thread in first + threads + more]
        assert held.batches == [1, 3, 2]
        assert {len(answer.json()["hits"]) for answer in some} == {3}
        assert {len(answer.json()["hits"]) for answer in others} == {5}


def test_one_bad_question_does_not_spoil_its_neighbours(monkeypatch):
    own = own_engine()
    with client(own) as http:
        held = Held(monkeypatch, own)
        _, first = together(http, 1)
        until(lambda: held.batches)
        good, threads = together(http, 2)
        bad, more = together(http, 1, {"query": "boot", "where": "nope = 1"})
        unknown, again = together(http, 1, {"history": ["nobody"]})
        until(lambda: http.app.state.service.waiting == 4)
        held.go.set()
        [thread.join() for thread in first + threads + more + again]
        assert [answer.status_code for answer in good] == [200, 200]
        assert_problem(bad[0], 422, "nope")
        assert_problem(unknown[0], 422, "nobody")


@pytest.mark.parametrize("timeout_ms", [1, 50])
def test_a_deadline_is_kept_and_the_decode_stops(monkeypatch, timeout_ms):
    own = own_engine()
    with client(own) as http:
        held = Held(monkeypatch, own)
        answer = http.post("/v1/search", json={"query": "boot", "timeout_ms": timeout_ms})
        assert_problem(answer, 504, f"{timeout_ms} ms")
        held.go.set()
        assert http.post("/v1/search", json={"query": "boot"}).status_code == 200
        steps = held.steps
        assert http.post("/v1/search", json={"query": "boot"}).status_code == 200
        assert steps == held.steps - steps  # the first one made no step after its deadline


def test_the_server_s_own_deadline_holds_too(monkeypatch):
    own = own_engine()
    with client(own, dataclasses.replace(QUICK, deadline_seconds=0.05)) as http:
        held = Held(monkeypatch, own)
        assert_problem(http.post("/v1/search", json={"query": "boot", "timeout_ms": 60_000}), 504, "50 ms")
        held.go.set()


@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_more_may_wait_while_the_engine_is_changed_until_the_queue_has_run_down(monkeypatch, beside):
    own = own_engine()
    with client(own, dataclasses.replace(QUICK, queue=2, change_queue=6, batch=8)) as http:
        service = http.app.state.service
        held = Held(monkeypatch, own)
        first, thread = together(http, 1)
        until(lambda: held.batches)
        http.portal.call(service._batcher.change, True)
        waiting, threads = together(http, 6 + beside)
        until(lambda: service.waiting + len(waiting) == 6 + beside)
        http.portal.call(service._batcher.change, False)
        refused = list(waiting)
        assert len(refused) == max(0, beside)
        held.go.set()
        [one.join() for one in thread + threads]
        assert sorted(answer.status_code for answer in first + waiting) == [200] * (7 + min(0, beside)) + [503] * len(
            refused
        )
        assert service.waiting == 0
