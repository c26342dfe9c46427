"""A change of as many items as the limit allows is made, however long it takes, and so is the next one."""

import dataclasses
import threading

import pytest

from genrail.engine import Engine, MergeSettings
from genrail.serving.errors import Refusal
from genrail.serving.jobs import MOST_DONE, MOST_UNDONE, Jobs
from genrail.serving.settings import Limits
from tests.serving.clients import QUICK, assert_problem, client, ids, own_engine
from tests.serving.processes import until
from tests.serving.test_fairness import steps

IMPATIENT = dataclasses.replace(QUICK, change_wait_seconds=0.0)


class SlowReading:
    """Hold the reading of new items' texts until it is let go, as an encoder that takes minutes."""

    def __init__(self, monkeypatch, lane):
        self.go, self.begun = threading.Event(), 0
        read = lane.read

        def slow(lane, catalog, rows, progress):
            progress("reading", 3, len(rows))
            self.begun += 1
            self.go.wait(60)
            return read(lane, catalog, rows, progress)

        monkeypatch.setattr(lane, "read", slow)


def items(first, count):
    return [
        {"sku": f"n{number}", "name": f"boot {number % 50}", "colour": "pink", "price": number, "in_stock": True}
        for number in range(first, first + count)
    ]


def test_a_change_that_takes_long_is_accepted_and_tells_its_progress(monkeypatch):
    own = own_engine()
    with client(own, IMPATIENT) as http:
        slow = SlowReading(monkeypatch, type(own.edition.finder))
        one = http.post("/v1/index/add", json={"items": items(0, 10)})
        two = http.post("/v1/index/add", json={"items": items(10, 10)})
        assert one.status_code == two.status_code == 202
        assert one.headers["location"] == f"/v1/index/changes/{one.json()['change']}"
        until(lambda: slow.begun)
        first, second = (http.get(answer.headers["location"]).json() for answer in (one, two))
        assert (first["status"], first["verb"], second["status"]) == ("running", "add", "waiting")
        assert first["progress"] == {"stage": "reading", "done": 3, "total": 10} and "progress" not in second
        # Questions go on, and nothing of the change shows before it is made.
        assert ids(http.post("/v1/search", json={"query": "boot", "where": "colour = 'pink'"})) == []
        slow.go.set()
        until(lambda: http.get(two.headers["location"]).json()["status"] == "done")
        results = [http.get(answer.headers["location"]).json()["result"] for answer in (one, two)]
        assert [page["items"] for page in results] == [50, 60]
        assert len(ids(http.post("/v1/search", json={"query": "boot", "k": 40, "where": "colour = 'pink'"}))) == 20
        assert_problem(http.get("/v1/index/changes/nobody"), 404)


def test_a_change_that_is_refused_later_says_why(monkeypatch):
    own = own_engine()
    with client(own, IMPATIENT) as http:
        slow = SlowReading(monkeypatch, type(own.edition.finder))
        http.post("/v1/index/add", json={"items": items(0, 1)})
        again = http.post("/v1/index/add", json={"items": items(0, 1)})
        assert again.status_code == 202
        slow.go.set()
        until(lambda: http.get(again.headers["location"]).json()["status"] == "failed")
        problem = http.get(again.headers["location"]).json()["problem"]
        assert problem["status"] == 422 and "n0" in problem["detail"]


def test_the_limit_of_items_of_a_change_holds_twice_in_a_row(tmp_path):
    """As many as the limit says are added, and as many again, with the standard settings; the log keeps them."""
    own_engine().save(tmp_path / "shop.genrail")
    most = Limits().items
    assert most == 10_000
    never = MergeSettings(automatic=False)
    with client(Engine.load(tmp_path / "shop.genrail", live=True, merging=never)) as http:
        for turn in range(2):
            answer = http.post("/v1/index/add", json={"items": items(turn * most, most)})
            assert answer.status_code in (200, 202), answer.text
            if answer.status_code == 202:
                where = answer.headers["location"]
                until(lambda where=where: http.get(where).json()["status"] == "done", 300)
        assert http.get("/v1/index").json()["items"] == 40 + 2 * most
        assert_problem(http.post("/v1/index/add", json={"items": items(0, most + 1)}), 422, f"the limit is {most}")


def test_only_so_many_changes_wait_and_only_so_many_outcomes_are_kept():
    import asyncio

    async def live():
        go = asyncio.Event()

        async def make(page):
            await go.wait()
            return page

        jobs = Jobs(make)
        begun = [jobs.begin({"verb": "add"}) for _ in range(MOST_UNDONE)]
        await steps(lambda: begun[0].running)
        with pytest.raises(Refusal, match="as many as may") as found:
            jobs.begin({"verb": "add"})
        assert found.value.status == 503
        assert [job.status for job in begun[:3]] == ["running", "waiting", "waiting"]
        assert await begun[0].wait(0.0) is None
        go.set()
        await begun[-1].wait(60)
        for _ in range(2 * MOST_DONE):
            await jobs.begin({"verb": "add"}).wait(60)
        assert jobs.find(begun[0].name) is None and len(jobs._jobs) <= MOST_DONE + 1

    asyncio.run(live())


def test_changes_that_a_stop_cuts_off_are_told_to_be_unmade():
    import asyncio

    async def live():
        jobs = Jobs(lambda page: asyncio.Event().wait())
        one, two = jobs.begin({"verb": "add"}), jobs.begin({"verb": "add"})
        await steps(lambda: one.running)
        await jobs.drain(0.0)
        assert one.refusal.status == two.refusal.status == 503

    asyncio.run(live())
