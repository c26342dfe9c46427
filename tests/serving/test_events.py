"""What users did is kept for recommendations, for each tenant by itself, until somebody is forgotten."""

import pytest

from genrail.catalog import Interactions
from genrail.serving.keys import Key
from genrail.storage.events import EventStore
from tests.serving.clients import assert_problem, bearer, client, ids, keys_in
from tests.shops import engine

USER = "ann"


@pytest.fixture
def store(tmp_path):
    found = EventStore(tmp_path / "events.sqlite")
    yield found
    found.close()


def did(*items, user=USER, **more):
    return {"events": [{"user_id": user, "item_id": item, **more} for item in items]}


def test_recommendations_follow_what_was_kept_and_given(store):
    with client(events=store) as http:
        assert_problem(http.post("/v1/recommend", json={"user_id": USER}), 422, "trending")
        assert http.post("/v1/events", json=did("s1", "s6", kind="purchase")).json()["events"] == 2
        found = ids(http.post("/v1/recommend", json={"user_id": USER, "k": 5}))
        assert found == engine().recommend(["s1", "s6"], k=5).item_ids
        found = ids(http.post("/v1/recommend", json={"user_id": USER, "history": ["s3"], "k": 5}))
        assert found == engine().recommend(["s1", "s6", "s3"], k=5).item_ids


def test_what_is_trending_is_allowed_and_counted_by_users(store):
    with client(events=store) as http:
        for user in ("ann", "bob"):
            http.post("/v1/events", json=did("s1", "gone", user=user))
        http.post("/v1/events", json=did("s2", "s2", "s2"))
        hits = http.get("/v1/trending").json()["hits"]
        assert [hit["id"] for hit in hits] == ["s1", "s2"]
        assert hits[0]["score"] > hits[1]["score"] and hits[0]["metadata"]["price"] == 11
        assert ids(http.get("/v1/trending", params={"where": "price > 11"})) == ["s2"]
        assert b"genrail_events_total 7" in http.get("/metrics").content


def test_a_user_can_be_read_and_forgotten(store, tmp_path):
    with client(events=store) as http:
        http.post("/v1/events", json=did("s1", kind="click", timestamp=5.0))
        told = http.post("/v1/events/of", json={"user_id": USER}).json()["events"]
        assert told == [{"item_id": "s1", "kind": "click", "timestamp": 5.0}]
        assert len(Interactions.read(tmp_path / "events.sqlite")) == 1
        assert http.post("/v1/events/forget", json={"user_id": USER}).json()["events"] == 1
        assert http.post("/v1/events/of", json={"user_id": USER}).json()["events"] == []


def test_tenants_keep_events_of_their_own_and_only_admins_forget(store, tmp_path):
    made = (Key("red", where="colour = 'red'"), Key("blue", where="colour = 'blue'"), Key("boss", "admin"))
    keys, tokens = keys_in(tmp_path, *made)
    red, blue = bearer(tokens["red"]), bearer(tokens["blue"])
    with client(events=store, keys=keys) as http:
        http.post("/v1/events", json=did("s0", "s4"), headers=red)
        http.post("/v1/events", json=did("s1"), headers=blue)
        assert set(ids(http.get("/v1/trending", headers=red))) == {"s0", "s4"}
        assert ids(http.get("/v1/trending", headers=blue)) == ["s1"]
        assert http.get("/v1/trending", headers=bearer(tokens["boss"])).json()["hits"] == []
        assert_problem(http.post("/v1/events/forget", json={"user_id": USER}, headers=red), 403)
        assert_problem(http.post("/v1/events", json=did("s1")), 401)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param({"events": []}, "events", id="none"),
        pytest.param(did("s1", kind="a b"), "kind", id="a kind that is no word"),
        pytest.param(did("s1", timestamp=-1.0), "timestamp", id="before 1970"),
        pytest.param(did("s1", colour="red"), "colour", id="an unknown field"),
        pytest.param(did(*["s1"] * 1001), "1000", id="too many"),
    ],
)
def test_what_is_no_event_is_refused(store, body, says):
    with client(events=store) as http:
        assert_problem(http.post("/v1/events", json=body), 422, says)
        assert store.everything() == []


def test_a_server_without_a_file_says_how_to_keep_events():
    with client() as http:
        for answer in (
            http.post("/v1/events", json=did("s1")),
            http.post("/v1/recommend", json={"user_id": USER}),
            http.get("/v1/trending"),
        ):
            assert_problem(answer, 404, "--events FILE")
        assert_problem(http.post("/v1/recommend", json={}), 422, "history")
