"""Events are on the disk when they are acknowledged, apart for each tenant, and gone when they are forgotten."""

import os
import subprocess
import sys

import pytest

from genrail.catalog import Interactions
from genrail.errors import DamagedError, DiskError, FormatError
from genrail.storage.events import DAY, Event, EventStore, is_event_store

NOW = 1_000_000_000.0


@pytest.fixture
def store(tmp_path):
    found = EventStore(tmp_path / "events.sqlite", clock=lambda: NOW)
    yield found
    found.close()


def events(user, *items, kind="view", at=NOW - DAY):
    return [Event(user, item, kind, at + place) for place, item in enumerate(items)]


def test_a_history_is_the_last_events_oldest_first_whatever_the_order_they_came_in(store):
    store.add(events("ann", *"abcde")[::-1], tenant="")
    assert store.history("ann", tenant="", most=3) == ["c", "d", "e"]
    assert store.history("nobody", tenant="") == []


def test_tenants_do_not_see_each_other(store):
    store.add(events("ann", "a"), tenant="red")
    store.add(events("ann", "b"), tenant="blue")
    assert store.history("ann", tenant="red") == ["a"]
    assert [item for item, _ in store.trending(tenant="blue")] == ["b"]
    assert store.forget("ann", tenant="red") == 1
    assert store.history("ann", tenant="blue") == ["b"]


def test_trending_counts_users_not_clicks_and_late_ones_more(store):
    store.add(
        [*events("ann", *"aaaa"), *events("ann", "b"), *events("bob", "b"), *events("old", "c", at=NOW - 6 * DAY)],
        tenant="",
    )
    store.add([*events("far", "d", at=NOW - 30 * DAY), *events("later", "e", at=NOW + DAY)], tenant="")
    found = dict(store.trending(tenant=""))
    assert list(found) == ["b", "a", "c"]
    assert found["b"] == pytest.approx(2 * found["a"], rel=1e-3)


def test_what_is_forgotten_is_not_in_the_file(store, tmp_path):
    store.add(events("ann-the-secret-user", *"abc"), tenant="")
    store.add(events("bob", "a"), tenant="")
    assert len(store.of_user("ann-the-secret-user", tenant="")) == 3
    assert store.forget("ann-the-secret-user", tenant="") == 3
    assert all(b"ann-the-secret-user" not in path.read_bytes() for path in tmp_path.iterdir())
    assert store.history("bob", tenant="") == ["a"]


def test_a_process_that_is_killed_keeps_what_it_acknowledged(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from genrail.storage.events import Event, EventStore; "
        "EventStore(Path(sys.argv[1])).add([Event('ann', 'a', 'view', 1.0)], tenant=''); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "e"], check=False)
    assert done.returncode == -9
    assert EventStore(tmp_path / "e").history("ann", tenant="") == ["a"]


def test_events_are_interactions_to_learn_from(store, tmp_path):
    store.add(events("ann", "b", at=2.0) + events("ann", "a", at=1.0), tenant="")
    store.add(events("ann", "c"), tenant="red")
    log = Interactions.read(tmp_path / "events.sqlite")
    assert (len(log), log.users, log.columns.timestamp) == (3, 2, "timestamp")
    assert log.frame.get_column(log.columns.item).to_list()[:2] == ["a", "b"]


def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path):
    (tmp_path / "shop.csv").write_text("sku,name\n1,boot\n")
    with pytest.raises(FormatError, match="no events"):
        EventStore(tmp_path / "shop.csv")
    assert (tmp_path / "shop.csv").read_text() == "sku,name\n1,boot\n"
    assert not is_event_store(tmp_path / "shop.csv") and not is_event_store(tmp_path / "nothing")


def test_a_damaged_or_newer_file_and_a_missing_folder_are_sentences(store, tmp_path):
    store.add(events("ann", *"abc"), tenant="")
    store.close()
    whole = (tmp_path / "events.sqlite").read_bytes()
    (tmp_path / "newer").write_bytes(whole[:60] + (99).to_bytes(4, "big") + whole[64:])
    with pytest.raises(FormatError, match="format 99"):
        EventStore(tmp_path / "newer")
    (tmp_path / "cut").write_bytes(whole[:100] + os.urandom(len(whole) - 100))
    with pytest.raises(DamagedError, match="cut is damaged"):
        EventStore(tmp_path / "cut").history("ann", tenant="")
    with pytest.raises(DiskError, match="check its permissions"):
        EventStore(tmp_path / "nowhere" / "events.sqlite")


def test_events_are_counted_by_day(store):
    store.add(events("ann", *"abc", at=NOW - DAY), tenant="red")
    store.add([*events("bob", "a", at=NOW - 5), *events("far", "d", at=NOW - 30 * DAY)], tenant="")
    assert store.by_day() == [("2001-09-09", 1), ("2001-09-08", 3)]  # NOW is 2001-09-09 01:46:40
