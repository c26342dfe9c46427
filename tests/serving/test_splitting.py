"""An A/B test: users stay with one of two engines, and both halves are counted."""

import re

import pytest

from genrail.errors import SettingsError
from genrail.serving import ServeSettings, Service
from genrail.serving.keys import Key
from genrail.serving.running import run_server
from genrail.serving.splitting import variant
from genrail.storage.events import EventStore
from tests.serving.clients import QUICK, assert_problem, bearer, client, ids, keys_in, own_engine

USERS = [f"user-{number}" for number in range(40)]
HALVES = {user: variant(user.encode(), 0.5) for user in USERS}


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Serve two engines; the second lacks an item."""
    other, folder = own_engine(), tmp_path_factory.mktemp("events")
    other.remove(["s0"])
    settings = ServeSettings(check_seconds=0, deadline_seconds=120, split=0.5)
    with client(settings=settings, beside=Service.of(other, QUICK), events=EventStore(folder / "events.db")) as http:
        yield http


def counted(http, name):
    lines = re.findall(rf"{name}_total{{(.*?)}} (\d+)", http.get("/metrics").text)
    named = [(dict(re.findall(r'(\w+)="(.*?)"', labels)), int(number)) for labels, number in lines]
    return {(labels["variant"], labels.get("status") or labels["kind"]): number for labels, number in named}


def test_each_user_stays_with_one_engine_and_the_answer_tells_which(split):
    assert set(HALVES.values()) == {"a", "b"}
    for user in USERS[:12] * 2:
        answer = split.post("/v1/search", json={"query": "boot", "k": 100}, headers={"X-User-Id": user})
        assert answer.headers["x-variant"] == HALVES[user]
        assert ("s0" in ids(answer)) == (HALVES[user] == "a")


def test_questions_and_events_are_counted_by_half(split):
    before = counted(split, "genrail_variant_questions")
    for user in USERS:
        split.post("/v1/recommend", json={"history": ["s3"]}, headers={"X-User-Id": user})
    asked = counted(split, "genrail_variant_questions")
    for half in "ab":
        assert asked[half, "200"] - before.get((half, "200"), 0) == list(HALVES.values()).count(half)
    events = [{"user_id": user, "item_id": "s3", "kind": "click"} for user in USERS]
    assert split.post("/v1/events", json={"events": [*events, {**events[0], "kind": "odd"}]}).status_code == 200
    clicks = counted(split, "genrail_variant_events")
    assert {half: clicks[half, "click"] for half in "ab"} == {half: [*HALVES.values()].count(half) for half in "ab"}
    assert clicks[HALVES[USERS[0]], "other"] == 1


def test_both_halves_recommend_from_what_was_kept(split):
    kept = [{"user_id": user, "item_id": "s5"} for user in USERS[:12]]
    assert split.post("/v1/events", json={"events": kept}).status_code == 200
    for user in USERS[:12]:
        answer = split.post("/v1/recommend", json={"user_id": user, "k": 3}, headers={"X-User-Id": user})
        assert "s5" not in ids(answer)


def test_without_a_user_a_key_is_split_and_what_is_no_question_is_not(tmp_path):
    keys, tokens = keys_in(tmp_path, *(Key(f"shop-{number}") for number in range(12)))
    settings = ServeSettings(check_seconds=0, deadline_seconds=120, split=0.5)
    other = own_engine()
    other.remove(["s0"])
    with client(settings=settings, keys=keys, beside=Service.of(other, QUICK)) as http:
        halves = set()
        for token in tokens.values():
            twice = [http.post("/v1/search", json={"query": "boot", "k": 100}, headers=bearer(token)) for _ in "12"]
            assert len({answer.headers["x-variant"] for answer in twice}) == 1
            halves.add((twice[0].headers["x-variant"], "s0" in ids(twice[0])))
            assert http.get("/v1/items/s0", headers=bearer(token)).status_code == 200
        assert halves == {("a", True), ("b", False)}
        assert_problem(http.post("/v1/search", json={"query": "boot"}), 401)


def test_a_larger_share_moves_users_one_way():
    small, large = ([variant(user.encode(), share) for user in USERS] for share in (0.2, 0.6))
    assert all(two == "b" for one, two in zip(small, large, strict=True) if one == "b")
    assert {variant(user.encode(), 0.0) for user in USERS} == {"a"}
    assert {variant(user.encode(), 1.0) for user in USERS} == {"b"}


def test_a_share_without_a_second_engine_or_out_of_range_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="split is 1.5"):
        ServeSettings(split=1.5)
    own_engine().save(tmp_path / "shop.genrail")
    with pytest.raises(SettingsError, match="--beside"):
        run_server(tmp_path / "shop.genrail", ServeSettings(split=0.5), port=0)
