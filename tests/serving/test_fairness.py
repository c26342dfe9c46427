"""Whatever costs is bounded, has a deadline, stops when nobody waits for it, and is shared out between keys."""

import asyncio
import dataclasses
import threading

import pytest

from genrail.catalog import Catalog
from genrail.catalog.filter_grammar import Like
from genrail.engine import Engine, MergeSettings
from genrail.serving.batching import Batcher, Kind
from genrail.serving.errors import Refusal
from genrail.serving.keys import Key
from genrail.serving.limits import Rates
from genrail.serving.metrics import Metrics
from genrail.serving.service import RERANK_DOCUMENTS, Service
from genrail.serving.settings import ServeSettings
from genrail.serving.turns import Turns
from tests.serving.clients import QUICK, assert_problem, bearer, client, ids, keys_in
from tests.serving.processes import until
from tests.shops import engine

PATTERNS = " OR ".join(f"name ILIKE '%{letter}%'" for letter in "abcdefghijklmnopqrst")


class HeldFilters:
    """Hold the evaluation of conditions with patterns until they are let go, and count them."""

    def __init__(self, monkeypatch):
        self.go, self.evaluated = threading.Event(), 0
        where = Catalog.where

        def held(catalog, expression):
            if isinstance(expression, Like) or "ILIKE" in str(expression):
                self.evaluated += 1
                self.go.wait(120)
            return where(catalog, expression)

        monkeypatch.setattr(Catalog, "where", held)


def fresh():
    """Give an engine that has evaluated no filter yet."""
    return Engine(dataclasses.replace(engine().edition), merging=MergeSettings(automatic=False))


def in_background(call):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return answers, thread


def costly(http, key=None, **more):
    headers = {} if key is None else bearer(key)
    return http.post("/v1/search", json={"query": "boot", "where": PATTERNS, **more}, headers=headers)


def test_a_costly_filter_holds_up_nobody_else(monkeypatch):
    with client(fresh(), QUICK) as http:
        held = HeldFilters(monkeypatch)
        answers, thread = in_background(lambda: costly(http))
        until(lambda: held.evaluated)
        for body in ({"query": "boot"}, {"query": "boot", "where": "price < 30"}):
            assert http.post("/v1/search", json=body).status_code == 200
        assert http.get("/v1/items/s1").status_code == 200
        assert answers == []
        held.go.set()
        thread.join()
        assert len(ids(answers[0])) == 10


def test_a_filter_whose_deadline_is_over_stops_at_its_next_condition(monkeypatch):
    with client(fresh()) as http:
        held = HeldFilters(monkeypatch)
        assert_problem(costly(http, timeout_ms=50), 504, "50 ms")
        begun = held.evaluated
        assert begun <= 1
        held.go.set()
        assert costly(http).status_code == 200
        assert held.evaluated <= begun + 20  # those of the second, and none that the first left undone


def test_costly_requests_of_one_key_leave_room_for_those_of_others(monkeypatch, tmp_path):
    keys, tokens = keys_in(tmp_path, Key("loud"), Key("quiet"))
    with client(fresh(), QUICK, keys) as http:
        held = HeldFilters(monkeypatch)
        loud = [in_background(lambda n=n: costly(http, tokens["loud"], k=n)) for n in (1, 2, 3)]
        until(lambda: http.app.state.service._turns.waiting == 2)
        assert held.evaluated == 1
        quiet, thread = in_background(lambda: costly(http, tokens["quiet"]))
        until(lambda: held.evaluated == 2)  # at once, before the second one of the loud
        held.go.set()
        [one.join() for one in (thread, *(thread for _, thread in loud))]
        assert {answer.status_code for answers in (quiet, *(answers for answers, _ in loud)) for answer in answers} == {
            200
        }


def test_a_rerank_is_encoded_in_pieces_between_which_questions_are_answered(monkeypatch):
    own = fresh()
    with client(own, QUICK) as http:
        encoder, model = type(own.edition.finder.encoder), type(own.edition.finder.spelling.model)
        encode, prefill = encoder.encode, model.prefill
        happened, go = [], threading.Event()

        def counted(self, texts):
            if texts[0] == "a pair":
                happened.append(len(texts) - 1)
                go.wait(120)
            return encode(self, texts)

        def told(self, contexts):
            happened.append("question")
            return prefill(self, contexts)

        monkeypatch.setattr(encoder, "encode", counted)
        monkeypatch.setattr(model, "prefill", told)
        documents = [f"boot {number}" for number in range(100)]
        answers, thread = in_background(lambda: http.post("/rerank", json={"query": "a pair", "documents": documents}))
        until(lambda: happened)
        found, asking = in_background(lambda: http.post("/v1/search", json={"query": "boot"}))
        until(lambda: http.app.state.service._batcher._busy)
        go.set()
        thread.join()
        asking.join()
        assert found[0].status_code == 200 and len(answers[0].json()["results"]) == 100
        pieces = [one for one in happened if one != "question"]
        assert max(pieces) == RERANK_DOCUMENTS and sum(pieces) == 100
        assert happened.index("question") <= 2


class Backend:
    """Answer when told to, and keep what was asked."""

    parallel = 1
    trouble = None

    def __init__(self):
        self.calls, self.batches, self.go, self.cancelled = [], [], asyncio.Event(), 0

    async def start(self):
        pass

    async def close(self):
        pass

    async def call(self, name, page):
        self.calls.append(name)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return {"scores": [0.5] * len(page.get("documents", ()))}

    async def answer(self, batch):
        self.batches.append([(one.key, one.kind.k) for one in batch.waiting])
        await self.go.wait()
        return {"answers": [{}] * len(batch.waiting), "index_version": "1.0", "model_version": "m"}


async def steps(condition):
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it has not come true")


@pytest.mark.parametrize("name", ["rerank", "filter", "about", "branches"])
def test_work_that_nobody_waits_for_stops(name):
    """The client left: what is asked of the worker is cancelled, and what waits for its turn leaves the line."""

    async def live():
        backend = Backend()
        service = Service(backend, ServeSettings())

        def ask():
            if name == "rerank":
                return service.rerank("boot", ["x"] * 100, "shop")
            if name == "filter":
                return service.ask({"text": "boot", "where": PATTERNS}, 5, key="shop")
            return service.call(name, {}, key="shop")

        first, second = asyncio.ensure_future(ask()), asyncio.ensure_future(ask())
        await steps(lambda: backend.calls and service._turns.waiting == 1)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert backend.calls == [name] and backend.cancelled == 1 and service._turns.waiting == 0
        backend.go.set()
        if name == "rerank":
            assert len((await ask())["scores"]) == 100  # the places were given back

    asyncio.run(live())


def test_the_deadline_of_a_rerank_covers_its_wait_and_all_its_pieces():
    async def live():
        service = Service(Backend(), ServeSettings(deadline_seconds=0.05))
        found = await asyncio.gather(
            *(service.rerank("a", ["x"] * 50, "shop") for _ in range(3)), return_exceptions=True
        )
        assert [one.status for one in found] == [504, 504, 504]

    asyncio.run(live())


# --- turns ------------------------------------------------------------------------------------------------------------


def test_turns_go_round_between_keys():
    async def live():
        turns, order, go = Turns(at_once=1, each=1, waiting=64), [], asyncio.Event()

        async def work(key):
            async with turns.turn(key):
                order.append(key)
                await go.wait()

        tasks = [asyncio.ensure_future(work(key)) for key in "aaaabbc"]
        await steps(lambda: turns.waiting == 6)
        go.set()
        await asyncio.gather(*tasks)
        assert "".join(order) == "aabcaba"

    asyncio.run(live())


def test_one_key_may_fill_its_share_of_those_who_wait_only():
    async def live():
        turns = Turns(at_once=1, each=1, waiting=4)

        async def work(key):
            async with turns.turn(key):
                await asyncio.Event().wait()

        tasks = [asyncio.ensure_future(work("loud")) for _ in range(5)]
        await steps(lambda: turns.waiting == 4)
        with pytest.raises(Refusal, match="as many as may") as found:
            await work("loud")
        assert found.value.status == 503 and found.value.retry_after == 1
        tasks += [asyncio.ensure_future(work("quiet")) for _ in range(2)]
        await steps(lambda: turns.waiting == 6)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert turns.waiting == 0 and not turns._running

    asyncio.run(live())


# --- the queue --------------------------------------------------------------------------------------------------------


def batcher(backend, **settings):
    return Batcher(backend, ServeSettings(**settings), Metrics())


def asking(made, key, k=10, text="boot"):
    return asyncio.ensure_future(made.ask({"text": text}, Kind(k), 60, key))


def test_a_key_with_many_kinds_of_questions_does_not_hold_others_up():
    async def live():
        backend = Backend()
        made = batcher(backend)
        made.start()
        loud = [asking(made, "loud", k) for k in range(1, 41)]
        await steps(lambda: backend.batches and made.depth)
        quiet = asking(made, "quiet")
        await steps(lambda: made.depth >= 30)
        backend.go.set()
        await asyncio.gather(quiet, *loud)
        keys = [batch[0][0] for batch in backend.batches]
        assert keys.index("quiet") <= 4 or any(("quiet", 10) in batch for batch in backend.batches[:5])
        await made.close()

    asyncio.run(live())


def test_a_batch_takes_one_of_each_key_at_a_time():
    async def live():
        backend = Backend()
        made = batcher(backend, batch=4)
        tasks = [asking(made, "loud") for _ in range(10)] + [asking(made, "quiet") for _ in range(2)]
        await steps(lambda: made.depth == 12)
        backend.go.set()
        made.start()
        await asyncio.gather(*tasks)
        assert [key for key, _ in backend.batches[0]] == ["loud", "quiet", "loud", "quiet"]
        await made.close()

    asyncio.run(live())


def test_a_full_queue_belongs_to_all_keys_that_wait():
    async def live():
        backend = Backend()
        made = batcher(backend, queue=4)
        loud = [asking(made, "loud") for _ in range(4)]
        await steps(lambda: made.depth == 4)
        assert made.full("loud").status == 503 and made.full("quiet") is None
        quiet = [asking(made, "quiet") for _ in range(2)]
        await steps(lambda: loud[2].done() and loud[3].done())
        assert made.depth == 4
        for task in loud[2:]:
            with pytest.raises(Refusal, match="waiting"):
                task.result()
        assert made.full("quiet").status == made.full("loud").status == 503
        backend.go.set()
        made.start()
        await asyncio.gather(*quiet, *loud[:2])
        await made.close()

    asyncio.run(live())


def test_long_words_count_for_several_short_ones_in_a_batch():
    async def live():
        backend = Backend()
        made = batcher(backend, batch=10)
        tasks = [asking(made, "shop", text="b" * 2048) for _ in range(4)]
        await steps(lambda: made.depth == 4)
        backend.go.set()
        made.start()
        await asyncio.gather(*tasks)
        assert [len(batch) for batch in backend.batches] == [2, 2]
        await made.close()

    asyncio.run(live())


# --- rates ------------------------------------------------------------------------------------------------------------


def test_rates_count_questions_not_requests(tmp_path):
    keys, tokens = keys_in(tmp_path, Key("slow", rate_per_second=1e-6 * 4), Key("some", rate_per_second=4e-6))
    settings = dataclasses.replace(QUICK, burst=1e6)  # a bucket of four, that fills in days
    with client(fresh(), settings, keys) as http:

        def several(count, key):
            body = {"requests": [{"query": "boot"}] * count}
            return http.post("/v1/multi-search", json=body, headers=bearer(tokens[key]))

        assert_problem(several(5, "slow"), 422, "the limit of this key is 4")
        assert_problem(several(4, "slow"), 429, "questions per second")  # one was spent on the one before
        assert several(4, "some").status_code == 200
        assert_problem(http.get("/version", headers=bearer(tokens["some"])), 429)


def test_a_bucket_counts_what_a_request_holds():
    rates = Rates(burst=2, clock=lambda: 0.0)
    assert rates.take("key", 5, 7) is None
    refusal = rates.take("key", 5, 7)
    assert refusal.status == 429 and refusal.retry_after == 1
    assert rates.take("key", 5, 3) is None
    assert rates.take("key", 5, 11).status == 422
