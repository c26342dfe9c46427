"""A live catalogue over HTTP: on the disk before it is acknowledged, swapped whole; a bad version is refused."""

import threading

import numpy as np
import pytest

from genrail.engine import Engine, MergeSettings, load
from genrail.storage import live_version, versions
from tests.serving.clients import assert_problem, client, ids, own_engine

NEVER = MergeSettings(automatic=False)
CLOG = {"sku": "n1", "name": "purple wellington", "colour": "purple", "price": 5, "in_stock": True}


@pytest.fixture
def folder(tmp_path):
    own_engine().save(tmp_path / "shop.genrail")
    return tmp_path / "shop.genrail"


def served(folder):
    return client(Engine.load(folder, live=True, merging=NEVER))


def test_an_added_item_can_be_found_at_once_and_after_a_restart(folder):
    with served(folder) as http:
        page = http.post("/v1/index/add", json={"items": [CLOG]}).json()
        assert (page["changed"], page["items"], page["index_version"]) == (1, 41, "1.1")
        answer = http.post("/v1/search", json={"query": "wellington", "where": "colour = 'purple'"})
        assert ids(answer) == ["n1"]
        assert answer.json()["index_version"] == "1.1"
        assert "n1" in load(folder).catalog  # another process sees it: it is on the disk
    with served(folder) as http:
        assert http.get("/v1/items/n1").json()["title"] == "purple wellington"


def test_a_removed_item_cannot_come_out_of_any_later_request(folder):
    with served(folder) as http:
        assert ids(http.post("/v1/search", json={"query": "boot", "k": 40, "where": "price = 17"})) == ["s7"]
        http.post("/v1/index/remove", json={"ids": ["s7"]})
        assert "s7" not in ids(http.post("/v1/search", json={"query": "boot", "k": 40}))
        assert_problem(http.get("/v1/items/s7"), 404)


def test_an_update_shows_whole(folder):
    with served(folder) as http:
        http.post("/v1/index/update", json={"items": [{"sku": "s7", "price": 999}]})
        assert http.get("/v1/items/s7").json()["metadata"]["price"] == 999
        assert ids(http.post("/v1/search", json={"query": "boot", "where": "price > 900"})) == ["s7"]


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        pytest.param("add", {"items": [{"sku": "s1", "name": "again"}]}, 422, id="an id that is there"),
        pytest.param("add", {"items": [{"name": "no id"}]}, 422, id="no id"),
        pytest.param("add", {"items": []}, 422, id="nothing to add"),
        pytest.param("update", {"items": [{"sku": "zzz", "price": 1}]}, 422, id="an update of nothing"),
        pytest.param("remove", {"ids": ["s1", "zzz"]}, 422, id="an unknown id"),
        pytest.param("rollback", {"version": 99}, 409, id="a version that is not there"),
        pytest.param("rollback", {}, 409, id="no version before"),
    ],
)
def test_a_refused_change_changes_nothing(folder, verb, body, status):
    with served(folder) as http:
        before = http.post("/v1/search", json={"query": "boot", "k": 40}).json()["hits"]
        assert_problem(http.post(f"/v1/index/{verb}", json=body), status)
        assert http.post("/v1/search", json={"query": "boot", "k": 40}).json()["hits"] == before
        assert len(load(folder).catalog) == 40


def test_publish_and_rollback(folder):
    with served(folder) as http:
        http.post("/v1/index/add", json={"items": [CLOG]})
        assert http.post("/v1/index/publish", json={}).json()["index_version"] == "2.0"
        http.post("/v1/index/remove", json={"ids": ["s1"]})
        back = http.post("/v1/index/rollback", json={}).json()
        assert (back["index_version"], back["items"]) == ("1.1", 41)
        assert http.get("/v1/items/s1").status_code == 200
        forth = http.post("/v1/index/rollback", json={"version": 2}).json()
        assert (forth["index_version"], forth["items"]) == ("2.1", 40)
        state = http.get("/v1/index").json()
        assert state["versions"] == versions(folder) == [1, 2]
        assert live_version(folder) == 2


def test_another_model_goes_live_by_reload(folder):
    with served(folder) as http:
        before = http.post("/v1/search", json={"query": "red boot"}).json()
        Engine.load(folder).save(folder)
        assert_problem(http.post("/v1/index/remove", json={"ids": ["s1"]}), 409, "went live")
        assert http.post("/v1/index/reload", json={}).json()["index_version"] == "2.0"
        after = http.post("/v1/search", json={"query": "red boot"}).json()
        assert after["index_version"] == "2.0"
        assert [hit["id"] for hit in after["hits"]] == [hit["id"] for hit in before["hits"]]
        assert http.post("/v1/index/remove", json={"ids": ["s1"]}).status_code == 200


def test_a_damaged_version_is_refused_and_the_old_one_serves_on(folder):
    with served(folder) as http:
        service = http.app.state.service
        before = http.post("/v1/search", json={"query": "red boot"}).json()["hits"]
        Engine.load(folder).save(folder)
        broken = sorted((folder / "versions" / "000002" / "model").iterdir())[0]
        broken.write_bytes(broken.read_bytes()[:-1])
        page = assert_problem(http.post("/v1/index/reload", json={}), 409, broken.name)
        assert "bytes instead of" in page["detail"]
        assert http.post("/v1/search", json={"query": "red boot"}).json()["hits"] == before
        http.portal.call(service.check)
        ready = http.get("/readyz")
        assert ready.status_code == 200
        assert broken.name in ready.json()["disk"]
        http.post("/v1/index/rollback", json={"version": 1})
        http.portal.call(service.check)
        assert http.get("/readyz").json()["disk"] == "ok"


def test_two_servers_on_one_folder_do_not_lose_each_others_changes(folder):
    with served(folder) as one, served(folder) as two:
        assert one.post("/v1/index/remove", json={"ids": ["s1"]}).status_code == 200
        assert_problem(two.post("/v1/index/remove", json={"ids": ["s2"]}), 409, "another process changed")
        assert two.get("/v1/items/s2").status_code == 200
        two.post("/v1/index/reload", json={})
        assert two.get("/v1/items/s1").status_code == 404
        assert two.post("/v1/index/remove", json={"ids": ["s2"]}).status_code == 200
    assert len(load(folder)) == 38


def test_no_answer_mixes_versions_and_none_fails_during_swaps(folder):
    """Items of version 1 cost below 1,000 and those of version 2 above: an answer holds one kind, and says which."""
    own = Engine.load(folder, live=True, merging=NEVER)
    answers, failures, stop = [], [], threading.Event()
    with client(own) as http:
        http.post("/v1/index/publish", json={})
        dear = [{"sku": f"s{n}", "price": 5000 + n} for n in range(40)]
        http.post("/v1/index/update", json={"items": dear})

        def ask():
            while not stop.is_set():
                answer = http.post("/v1/search", json={"query": "boot", "k": 20})
                (answers if answer.status_code == 200 else failures).append(answer.json())

        threads = [threading.Thread(target=ask) for _ in range(3)]
        [thread.start() for thread in threads]
        for swap in range(6):
            http.post("/v1/index/rollback", json={"version": 1 + swap % 2})
        stop.set()
        [thread.join() for thread in threads]
    assert not failures
    for answer in answers:
        dear = {hit["metadata"]["price"] >= 1000 for hit in answer["hits"]}
        assert dear == {answer["index_version"].startswith("2.")}


@pytest.mark.parametrize("deletes", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_removed_item_appears_late(deletes):
    own = own_engine()
    late, removed, stop = [], {}, threading.Event()
    with client(own) as http:
        fill = [{"sku": f"x{n}", "name": f"boot {n % 7}", "colour": "red", "price": n, "in_stock": True}
                for n in range(deletes)]  # fmt: skip
        http.post("/v1/index/add", json={"items": fill})

        def ask(seed):
            random = np.random.default_rng(seed)
            while not stop.is_set():
                known = set(removed)  # removed before the request starts
                wanted = int(random.integers(0, deletes))
                answer = http.post("/v1/search", json={"query": "boot", "k": 50, "where": f"price >= {wanted}"})
                late.extend(known & set(ids(answer)))

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(2)]
        [thread.start() for thread in threads]
        for number in range(deletes):
            assert http.post("/v1/index/remove", json={"ids": [f"x{number}"]}).status_code == 200
            removed[f"x{number}"] = True
        stop.set()
        [thread.join() for thread in threads]
    assert late == []
