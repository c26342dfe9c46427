"""What a live catalogue promises: changes show whole, merges lose nothing, an answer is that of one edition."""

import random
import threading

import numpy as np
import pytest

from genrail.engine import Engine
from genrail.engine.live import MergeSettings
from genrail.errors import CatalogError, DamagedError, SettingsError, StorageError
from genrail.storage import live_version, open_journal, open_version, versions
from genrail.types import Query
from tests.shops import engine

NEVER = MergeSettings(automatic=False)
ALWAYS = MergeSettings(share=0, at_least=0)


def copy(merging=NEVER):
    """Give an engine of its own, for a test that changes it."""
    return Engine(engine().edition, merging=merging)


def shoe(number, **values):
    return {"sku": f"n{number}", "name": f"purple wellington {number}", "colour": "purple", "price": number,
            "in_stock": True, **values}  # fmt: skip


def answers(own, k=60):
    """Give what an engine answers, so that two can be compared."""
    queries = [Query("purple boot"), Query(history=["s1", "s2"]), Query("clog", where="price < 30 AND in_stock")]
    return [
        [(hit.item_id, round(hit.score, 5), hit.attributes) for hit in ranking]
        for ranking in own.search_batch(queries, k)
    ]


@pytest.fixture
def folder(tmp_path):
    copy().save(tmp_path / "shop.genrail")
    return tmp_path / "shop.genrail"


# --- update ---


def test_an_updated_attribute_shows_at_once_and_the_identifier_stays():
    own = copy()
    row = own.catalog.row("s7")
    before = own.edition.finder.table.sequence(row).tolist()
    assert "s7" not in own.search("boot", k=40, where="price > 900").item_ids
    own.update([{"sku": "s7", "price": 999}])
    assert own.search("boot", k=40, where="price > 900").item_ids == ["s7"]
    assert own.catalog.row("s7") == row
    assert own.edition.finder.table.sequence(row).tolist() == before
    assert own.catalog.attributes(row)["in_stock"] is True


def test_an_update_of_the_text_gives_the_item_an_identifier_for_the_new_text():
    own = copy()
    own.update([{"sku": "s7", "name": "purple wellington"}, {"sku": "s8", "price": 1}])
    assert own.catalog.titles[own.catalog.row("s7")] == "purple wellington"
    assert own.catalog.row("s7") == 40
    assert own.catalog.row("s8") == 8
    found = own.search("purple wellington", k=40)
    assert sorted(found.item_ids) == sorted(own.catalog.item_ids[:40])
    assert len(own) == 40


@pytest.mark.parametrize(
    ("items", "says"),
    [
        pytest.param([{"sku": "nope", "price": 1}], "nope", id="unknown id"),
        pytest.param([{"price": 1}], 'no "sku"', id="no id"),
        pytest.param([], "nothing", id="no items"),
        pytest.param([{"sku": "s1", "price": 1}, {"sku": "s1", "price": 2}], "s1", id="an id twice"),
        pytest.param([{"sku": "s1", "price": "cheap"}], "price", id="another type"),
    ],
)
def test_a_refused_update_changes_nothing(items, says):
    own = copy()
    before = own.edition
    with pytest.raises(CatalogError, match=says):
        own.update(items)
    assert own.edition is before


def test_an_update_in_a_live_folder_is_there_when_it_is_opened_again(folder):
    own = Engine.load(folder, live=True)
    own.update([{"sku": "s7", "name": "purple wellington"}, {"sku": "s8", "price": 1, "season": "spring"}])
    own.add([shoe(1)])
    own.update([shoe(1, price=2), {"sku": "s9", "price": None}])
    assert answers(Engine.load(folder)) == answers(own)
    assert Engine.load(folder).catalog.fingerprint == own.catalog.fingerprint


# --- merge ---


def changed(merging=NEVER):
    own = copy(merging)
    own.add([shoe(number) for number in range(12)])
    own.remove(["s1", "s30", "n3"])
    own.update([{"sku": "s2", "name": "yellow wellington"}, {"sku": "s4", "price": 5}])
    return own


def test_a_merge_changes_no_answer_and_leaves_nothing_pending():
    own = changed()
    before = answers(own)
    assert own.edition.finder.pending == 12 + 3  # n3 went with the next addition, s2 moved to a new row
    own.merge()
    assert own.edition.finder.pending == 0
    assert answers(own) == before
    own.add([shoe(99)])
    assert "n99" in own.search("purple wellington", k=60).item_ids


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda own: own.add([shoe(1)]), id="add"),
        pytest.param(lambda own: own.update([{"sku": "s2", "name": "yellow wellington"}]), id="update"),
        pytest.param(lambda own: own.remove(["s1"]), id="remove"),
    ],
)
def test_each_kind_of_change_starts_a_merge_that_is_due(change, monkeypatch):
    own, started = copy(ALWAYS), []
    monkeypatch.setattr(own, "_merge_in_background", lambda: started.append(own.edition.finder.pending))
    change(own)
    own._merger.join()
    assert len(started) == 1


@pytest.mark.parametrize("gone", [pytest.param(40, id="everything removed"), pytest.param(39, id="one item left")])
def test_a_merge_of_next_to_nothing(gone):
    own = copy()
    own.remove([f"s{number}" for number in range(gone)])
    own.merge()
    assert len(own.search("boot", k=10)) == 40 - gone
    own.add([shoe(1)])
    assert "n1" in own.search("boot", k=10).item_ids


def test_changes_that_arrive_during_a_merge_are_kept(monkeypatch):
    own, plain = changed(), changed()
    compact = type(own.edition.finder.index).compact

    def meanwhile(engine):
        engine.add([shoe(50), shoe(51)])
        engine.remove(["s5", "n50", "n4"])
        engine.update([{"sku": "s6", "name": "yellow slipper"}, {"sku": "n5", "price": 77}])

    def slow(index):
        done = compact(index)
        meanwhile(own)
        return done

    monkeypatch.setattr(type(own.edition.finder.index), "compact", slow)
    own.merge()
    monkeypatch.undo()
    meanwhile(plain)
    assert answers(own) == answers(plain)
    assert len(own) == len(plain)
    own.merge()
    assert answers(own) == answers(plain)


def test_changes_past_a_share_are_merged_by_themselves():
    own = copy(MergeSettings(share=0.2, at_least=5))
    own.add([shoe(number) for number in range(5)])
    own.wait()
    assert own.edition.finder.pending == 5
    own.add([shoe(number) for number in range(5, 15)])
    own.wait()
    assert own.edition.finder.pending == 0
    assert len(own) == 55


def test_a_merge_that_fails_in_the_background_is_told_and_loses_nothing(monkeypatch, caplog):
    own = copy(ALWAYS)

    def broken(index):
        raise MemoryError("no room for a second copy")

    monkeypatch.setattr(type(own.edition.finder.index), "compact", broken)
    own.add([shoe(1)])
    own.wait()
    assert "merging in the background failed" in caplog.text
    assert "n1" in own.search("purple", k=60).item_ids
    monkeypatch.undo()
    own.merge()
    assert len(own) == 41


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"at_least": -1}, {"share": float("nan")}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(SettingsError, match="give 0 or more"):
        MergeSettings(**wrong)


def test_a_published_merge_empties_the_log(folder):
    own = Engine.load(folder, live=True, merging=NEVER)
    own.add([shoe(number) for number in range(5)])
    own.remove(["s3"])
    before = answers(own)
    assert len(open_journal(open_version(folder))) == 2
    own.merge()
    assert len(open_journal(open_version(folder))) == 0
    assert live_version(folder) == 2
    own.remove(["s4"])
    own.add([shoe(9)])
    assert answers(Engine.load(folder)) == answers(own) != before


def test_a_merge_that_cannot_be_published_leaves_version_and_log(folder, monkeypatch):
    own = Engine.load(folder, live=True, merging=NEVER)
    own.add([shoe(1)])
    before = answers(own)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(own.edition.finder.index), "save", full)
    with pytest.raises(StorageError, match="full"):
        own.merge()
    monkeypatch.undo()
    assert answers(own) == answers(Engine.load(folder)) == before
    own.remove(["n1"])
    assert "n1" not in Engine.load(folder).catalog


# --- rollback ---


def test_going_back_and_forth_between_versions(folder):
    own = Engine.load(folder, live=True, merging=NEVER)
    first = answers(own)
    copy().save(folder)  # another process publishes
    own = Engine.load(folder, live=True, merging=NEVER)
    own.update([{"sku": "s2", "price": 1}])
    second = answers(own)
    assert own.rollback() == 1
    assert answers(own) == answers(Engine.load(folder)) == first
    assert own.rollback(2) == 2
    assert answers(own) == answers(Engine.load(folder)) == second
    own.remove(["s2"])
    assert "s2" not in Engine.load(folder).catalog


def test_a_version_that_is_not_there_or_damaged_leaves_the_live_one(folder):
    own = Engine.load(folder, live=True, merging=NEVER)
    with pytest.raises(StorageError, match="no version before the live one, 1"):
        own.rollback()
    with pytest.raises(StorageError, match="no version 7"):
        own.rollback(7)
    own.save(folder)
    items = folder / "versions" / "000001" / "catalog" / "items.parquet"
    items.chmod(0o644)
    items.write_bytes(items.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=r"items\.parquet"):
        own.rollback(1)
    assert live_version(folder) == 2
    own.remove(["s2"])
    assert answers(Engine.load(folder)) == answers(own)


def test_an_engine_without_a_folder_cannot_go_back():
    with pytest.raises(SettingsError, match="live=True"):
        copy().rollback()


def test_a_rollback_during_a_merge_wins(folder, monkeypatch):
    own = Engine.load(folder, live=True, merging=NEVER)
    own.save(folder)
    own.add([shoe(1)])
    compact = type(own.edition.finder.index).compact

    def slow(index):
        done = compact(index)
        own.rollback(1)
        return done

    monkeypatch.setattr(type(own.edition.finder.index), "compact", slow)
    own.merge()
    assert "n1" not in own.catalog
    assert live_version(folder) == 1
    assert own.search("boot", k=60).item_ids == copy().search("boot", k=60).item_ids


def test_save_keeps_as_many_versions_as_asked(folder):
    own = Engine.load(folder, live=True)
    for _ in range(3):
        own.save(folder, keep=3)
    assert versions(folder) == [2, 3, 4]


# --- one answer, one edition ---


class Recorder:
    """Ask the same batch again and again, and keep every different answer."""

    def __init__(self, own):
        self.own, self.stop, self.seen, self.failures, self.asked = own, threading.Event(), set(), [], 0

    def run(self):
        queries = [Query("purple boot"), Query("clog", where="price >= 0 AND NOT price > 90000"), Query(history=["s1"])]
        while not self.stop.is_set():
            try:
                batch = self.own.search_batch(queries, 200)
            except Exception as error:  # any failure of a reader is the finding
                self.failures.append(error)
                return
            self.asked += 1
            self.seen.update(
                (number, frozenset((hit.item_id, hit.title, hit.attributes["price"]) for hit in ranking))
                for number, ranking in enumerate(batch)
            )


def content(catalog, number):
    """Say what a complete answer to query `number` is in one edition."""
    hidden = {"s1"} if number == 2 else set()
    rows = np.flatnonzero(catalog.live).tolist()
    prices = catalog.frame.get_column("price").to_list()
    return frozenset(
        (catalog.item_ids[row], catalog.titles[row], prices[row]) for row in rows if catalog.item_ids[row] not in hidden
    )


def test_every_answer_is_that_of_one_edition(folder):
    Engine.load(folder, live=True).save(folder, keep=9)
    own = Engine.load(folder, live=True, merging=MergeSettings(share=0.1, at_least=3, publish=False))
    editions = [own.catalog]
    readers = [Recorder(own) for _ in range(2)]
    threads = [threading.Thread(target=reader.run) for reader in readers]
    for thread in threads:
        thread.start()
    chance = random.Random(0)
    for step in range(25):
        ids = [own.catalog.item_ids[row] for row in np.flatnonzero(own.catalog.live)]
        act = chance.choice(["add", "remove", "update", "reprice", "merge", "swap"])
        if act == "add":
            own.add([shoe(100 * step + number) for number in range(4)])
        elif act == "remove":
            own.remove([item_id for item_id in chance.sample(ids, 3) if item_id != "s1"])
        elif act == "update":
            own.update([{"sku": ids[0], "name": f"clog of step {step}", "price": 1000 * step}])
        elif act == "reprice":
            own.update([{"sku": item_id, "price": 1000 + step} for item_id in ids])
        elif act == "merge":
            own.merge(publish=step % 2 == 0)
        else:
            own.rollback(chance.choice(versions(folder)))
        editions.append(own.catalog)
    for reader, thread in zip(readers, threads, strict=True):
        reader.stop.set()
        thread.join()
    own.wait()
    possible = {(number, content(catalog, number)) for catalog in editions for number in range(3)}
    for reader in readers:
        assert reader.failures == []
        assert reader.asked > 0
        assert reader.seen <= possible


def test_two_writers_wait_for_each_other():
    own = copy(ALWAYS)

    def write(first):
        for number in range(first, first + 10):
            own.add([shoe(number)])

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own.wait()
    assert len(own) == 60
    assert len(own.search("purple", k=60)) == 60
