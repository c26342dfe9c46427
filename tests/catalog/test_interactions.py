"""Interactions become sequences: chronological, nothing lost silently, whatever the layout of the file."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.catalog import Catalog, Interactions
from genrail.errors import CatalogError, DamagedError, FormatError

SHOP = Catalog.from_items([{"id": item_id, "title": item_id.upper()} for item_id in "abcdef"])

events = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from("abcdefgh"), st.integers(0, 5)), min_size=1, max_size=30
)


ROWS = [("x", "a", 1), ("y", "c", 1), ("x", "b", 2)]


def frame_of(rows):
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


@given(events)
@settings(max_examples=150, deadline=None)
def test_sequences_equal_a_python_oracle(rows):
    log = Interactions.from_frame(frame_of(rows))
    found = log.sequences(SHOP)
    users = dict.fromkeys(user for user, _, _ in rows)
    expected = {}
    for user in users:
        mine = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])  # stable, like ours
        known = [SHOP.row(item) for _, item, _ in mine if item in SHOP]
        if known:
            expected[user] = known
    assert found.user_ids == list(expected)
    assert [found[number].tolist() for number in range(len(found))] == list(expected.values())
    assert found.unknown == sum(item not in SHOP for _, item, _ in rows)
    assert found.dropped_users == len(users) - len(expected)
    assert found.times is not None
    assert len(found.times) == len(found.rows) == found.offsets[-1]


@given(events)
@settings(max_examples=60, deadline=None)
def test_notes_count_ties_and_repeats(rows):
    notes = " ".join(Interactions.from_frame(frame_of(rows)).report.warnings)
    moments = [(user, time) for user, _, time in rows]
    pairs = {(user, item) for user, item, _ in rows}
    for count, words in (
        (sum(moments.count(moment) > 1 for moment in moments), "share their time"),
        (len(rows) - len(set(rows)), "are exact duplicates"),
        (len(rows) - len(pairs), "repeat an item"),
    ):
        assert (f"{count} events {words}" in notes) == (count > 0)


@given(events)
@settings(max_examples=30, deadline=None)
def test_what_is_saved_is_loaded(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("log")
    log = Interactions.from_frame(frame_of(rows))
    log.save(folder)
    loaded = Interactions.load(folder)
    assert loaded.frame.equals(log.frame)
    assert (loaded.columns, loaded.report, loaded.fingerprint) == (log.columns, log.report, log.fingerprint)


def test_rows_and_sequences_give_the_same(tmp_path):
    files = {
        "rows.csv": "user_id,item_id,timestamp,rating\nx,a,1,5\ny,c,1,4\nx,b,2,3\n",
        "rows.tsv": "user\titem\ttime\nx\ta\t1\ny\tc\t1\nx\tb\t2\n",
        "rows.inter": "user_id:token\titem_id:token\ttimestamp:float\nx\ta\t1.0\ny\tc\t1.0\nx\tb\t2.0\n",
        "rows.jsonl": "".join(f'{{"user":"{user}","asin":"{item}","ts":{time}}}\n' for user, item, time in ROWS),
        "sequences.csv": "user_id,item_ids\nx,a b\ny,c\n",
        "other.csv": "customer_id,items\nx, a  b \ny,c\n",
        "lists.jsonl": '{"user_id":"x","history":["a","b"]}\n{"user_id":"y","history":["c"]}\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        log = Interactions.read(tmp_path / name)
        found = log.sequences(SHOP)
        assert found.user_ids == ["x", "y"], name
        assert found.rows.tolist() == [0, 1, 2], name
        assert log.columns.layout == ("sequences" if "rows" not in name else "rows"), name
        assert log.report.rows_in == log.report.indexed, name
    lists = pl.DataFrame({"user_id": ["x", "y"], "item_ids": [["a", "b"], ["c"]]})
    lists.write_parquet(tmp_path / "lists.parquet")
    assert Interactions.read(tmp_path / "lists.parquet").sequences(SHOP).rows.tolist() == [0, 1, 2]


def test_columns_can_be_given_and_are_shown(tmp_path):
    (tmp_path / "a.csv").write_text("who,what,when_bought\nx,a,2\nx,b,1\n")
    with pytest.raises(CatalogError, match="looks like the user.*who, what, when_bought"):
        Interactions.read(tmp_path / "a.csv")
    log = Interactions.read(tmp_path / "a.csv", user="who", item="what", timestamp="when_bought")
    assert log.frame["item"].to_list() == ["b", "a"]
    assert "timestamp: when_bought" in log.describe()
    assert Interactions.read(tmp_path / "a.csv", user="who", item="what").columns.timestamp is None
    with pytest.raises(CatalogError, match='did you mean "when_bought"'):
        Interactions.read(tmp_path / "a.csv", user="who", item="what", timestamp="when_bougth")


@pytest.mark.parametrize(
    "times",
    [
        [3, 1, 2],
        [3.5, 1.5, 2.5],
        ["3", "1", "2"],
        ["2024-05-03", "2024-05-01", "2024-05-02"],
        ["2024-05-01T12:00:02Z", "2024-05-01T12:00:00Z", "2024-05-01T12:00:01Z"],
        ["2024-05-01 12:00:00.3", "2024-05-01 12:00:00.1", "2024-05-01 12:00:00.25"],
        ["2024-05-01T12:00:00+00:00", "2024-05-01T12:00:00+02:00", "2024-05-01T11:00:00Z"],
        ["2024-05-01T12:00-0100", "2024-05-01", "2024-05-01 12:00"],
        [1_700_000_000_000_000_003, 1_700_000_000_000_000_001, 1_700_000_000_000_000_002],
    ],
)
def test_times_of_all_kinds_sort(times):
    frame = pl.DataFrame({"user_id": ["x"] * 3, "item_id": ["c", "a", "b"], "time": times})
    assert Interactions.from_frame(frame).frame["item"].to_list() == ["a", "b", "c"]


def test_dates_of_a_table_sort():
    frame = pl.DataFrame({"user_id": ["x"] * 2, "item_id": ["b", "a"], "date": ["2024-05-02", "2024-05-01"]})
    for kind in (pl.col("date").str.to_date(), pl.col("date").str.to_datetime()):
        assert Interactions.from_frame(frame.with_columns(kind)).frame["item"].to_list() == ["a", "b"]


def test_unreadable_rows_are_refused_by_row():
    frame = pl.DataFrame(
        {
            "user_id": ["x", None, "x", "x", "y"],
            "item_id": ["a", "a", " ", "b", "c"],
            "time": ["2024-05-01", "2024-05-01", "2024-05-01", "2024-13-01", "2024-02-01T10:00"],
        }
    )
    report = Interactions.from_frame(frame).report
    assert (report.rows_in, report.indexed) == (5, 2)
    assert [row for row, _ in report.refused] == [2, 3, 4]
    assert [reason.split(" in ")[0] for _, reason in report.refused] == ["no user", "no item", "no readable time"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"user_id": [], "item_id": []}, "no rows"),
        ({"user_id": [None], "item_id": ["a"]}, "none of its 1 rows is an event"),
        ({"user_id": ["x"] * 3, "item_id": ["a"] * 3, "time": ["noon", "later", "?"]}, "neither numbers nor ISO dates"),
        ({"user_id": ["x"]}, "looks like the item"),
        ({"item_id": ["x"]}, "looks like the user"),
    ],
)
def test_bad_input_is_named(rows, message):
    with pytest.raises(CatalogError, match=message):
        Interactions.from_frame(pl.DataFrame(rows))


def test_from_sequences():
    log = Interactions.from_sequences({"x": ["b", "a"], "empty": [], "y": ["c"]})
    assert log.sequences(SHOP).rows.tolist() == [1, 0, 2]
    assert log.users == 2
    for wrong in ({"x": "abc"}, {}, {"x": []}):
        with pytest.raises(CatalogError):
            Interactions.from_sequences(wrong)


def test_removed_items_are_unknown_and_nothing_known_is_empty():
    log = Interactions.from_sequences({"x": ["a", "b"], "y": ["b"]})
    found = log.sequences(SHOP.remove(["b"]))
    assert (found.user_ids, found.rows.tolist(), found.unknown, found.dropped_users) == (["x"], [0], 2, 1)
    nothing = log.sequences(SHOP.remove(["a", "b"]))
    assert (len(nothing), nothing.offsets.tolist(), nothing.unknown) == (0, [0], 3)
    with pytest.raises(IndexError):
        nothing[0]


def test_number_ids_meet_string_ids():
    shop = Catalog.from_items([{"id": 7, "title": "x"}])
    log = Interactions.from_frame(pl.DataFrame({"user_id": [1], "item_id": [7], "timestamp": [0]}))
    assert log.sequences(shop).rows.tolist() == [0]


def test_a_damaged_folder_is_refused(tmp_path):
    with pytest.raises(DamagedError):
        Interactions.load(tmp_path)
    Interactions.from_sequences({"x": ["a"]}).save(tmp_path)
    text = (tmp_path / "interactions.json").read_text()
    for old, new, error in (('"format": 1', '"format": 9', FormatError), ('"events": 1', '"events": 2', DamagedError)):
        (tmp_path / "interactions.json").write_text(text.replace(old, new))
        with pytest.raises(error):
            Interactions.load(tmp_path)


@pytest.mark.slow
def test_ten_million_events():
    count = 10_000_000
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, 500_000, count),
            "item_id": rng.integers(0, 100_000, count),
            "timestamp": rng.integers(0, 10**9, count),
        }
    )
    shop = Catalog.from_frame(pl.DataFrame({"item_id": np.arange(50_000), "title": ["x"] * 50_000}))
    found = Interactions.from_frame(frame).sequences(shop)
    assert found.unknown == (frame["item_id"] >= 50_000).sum()
    assert found.offsets[-1] == len(found.rows) == count - found.unknown
    inside = np.diff(found.times) >= 0
    inside[found.offsets[1:-1] - 1] = True
    assert inside.all()
