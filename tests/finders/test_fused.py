"""The fused engine answers from all its lanes, says which, and keeps what an engine promises."""

import json
from dataclasses import replace

import numpy as np
import pytest

import genrail
import genrail.engine
from genrail.decoding import ExactSettings
from genrail.errors import SettingsError
from genrail.ranking.ranker import Ranker
from genrail.storage import open_journal, open_version
from genrail.types import Query
from tests.shops import pasts, shop

NEW = {"sku": "new", "name": "glow-in-the-dark trail runner", "colour": "green", "price": 5, "in_stock": True}
ASKED = [
    Query("red boot"),
    Query(history=["s0", "s5"]),
    Query(history=["s0", "s5"], exclude_seen=False),
    Query("blue", ["s3"]),
    Query("boot", where="price < 25"),
]


@pytest.fixture(scope="module")
def engine():
    catalog = shop()
    return genrail.Engine.build(catalog, interactions=pasts(catalog, 60), encoder="hashing", epochs=2)


def grown(engine):
    own = genrail.Engine(engine.edition)
    own.add([NEW])
    return own


def test_the_default_engine_has_lanes_for_words_and_for_histories(engine):
    assert list(engine.edition.finder.lanes) == ["native", "bm25", "dense", "lookup", "cooccurrence"]
    described = engine.describe()
    assert "learnt from" in described["weights for history"]
    assert "by default" in described["weights for words"]


def test_without_interactions_what_needs_them_is_left_out():
    own = genrail.Engine.build(shop(12), encoder="hashing", epochs=1)
    assert "cooccurrence" not in own.edition.finder.lanes


def test_an_added_item_comes_first_for_its_own_words_at_once(engine):
    own = grown(engine)
    assert own.search("glow in the dark", k=3).item_ids[0] == "new"
    own.remove(["new"])
    assert "new" not in own.search("glow in the dark", k=40).item_ids


@pytest.mark.parametrize("words", ["s17", "S17", "is s17 in stock", "green sneaker 1"])
def test_an_id_or_an_exact_title_comes_first(engine, words):
    expected = "s37" if "sneaker" in words else "s17"
    wanted = engine.catalog.titles[engine.catalog.row(expected)]
    first = engine.search(words if "sneaker" not in words else wanted, k=1)[0]
    assert first.title == wanted


def test_what_a_query_excludes_comes_later_and_is_said(engine):
    plain, reader = engine.search("boot", k=8), engine.search("boot without red", k=8)
    assert any("red" in hit.title for hit in plain)
    assert "red" not in reader[0].title
    assert "read as: without" in reader.warnings[0]


@pytest.mark.parametrize("query", ASKED)
def test_scores_lie_between_0_and_1_and_fall(engine, query):
    scores = [hit.score for hit in engine.search_batch([query], 10)[0]]
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert scores == sorted(scores, reverse=True)


def test_one_answer_alone_and_in_a_crowd(engine):
    together = engine.search_batch(ASKED, 10)
    for query, ranking in zip(ASKED, together, strict=True):
        alone = engine.search_batch([query], 10)[0]
        assert alone.item_ids == ranking.item_ids
        assert [hit.score for hit in alone] == pytest.approx([hit.score for hit in ranking], abs=1e-5)


@pytest.mark.parametrize("query", ASKED)
def test_all_allowed_items_come_back(engine, query):
    ranking = engine.search_batch([query], 50)[0]
    allowed = engine.catalog.where(query.where) if query.where else engine.catalog.live
    gone = set(query.history) if query.exclude_seen else set()
    ids = {engine.catalog.item_ids[row] for row in np.flatnonzero(allowed)} - gone
    assert set(ranking.item_ids) == ids
    assert ranking.exhausted


def test_some_lanes_can_be_asked_alone_and_others_are_refused_by_name(engine):
    bm25 = genrail.Engine.build(shop(), "bm25", k1=0.9, b=0.4, title_weight=3, pairs=0.2)
    assert engine.search("red boot", k=5, lanes=["bm25"]).item_ids == bm25.search("red boot", k=5).item_ids
    written = engine.search("red boot", k=5, lanes=["native"])
    assert all(hit.log_probability is not None for hit in written)
    assert len(engine.search("red boot", k=5, lanes=["bm25", "dense"])) == 5
    with pytest.raises(SettingsError, match="no-such"):
        engine.search("red boot", lanes=["no-such"])


def test_a_decoder_says_that_the_model_is_to_write(engine):
    exact = engine.search("red boot", k=5, decoder=ExactSettings())
    assert exact.item_ids == engine.search("red boot", k=5, lanes=["native"], decoder=ExactSettings()).item_ids


def test_explained_hits_say_which_lanes_found_them_and_the_trace_follows_any_item(engine):
    ranking = engine.search("red boot", k=5, explain=True)
    for hit in ranking:
        lanes = hit.explanation["lanes"]
        assert lanes and set(lanes) <= set(engine.edition.finder.lanes)
        assert all(found["rank"] >= 1 for found in lanes.values())
        json.dumps(hit.to_dict())
    assert "boot" in ranking[0].explanation["matched"]
    assert engine.follow("s7", ranking).startswith(("finished", "lost", "open"))


def test_a_folder_and_its_log_answer_as_the_engine_did(engine, tmp_path):
    own = genrail.Engine(engine.edition)
    own.save(tmp_path / "e")
    live = genrail.load(tmp_path / "e", live=True)
    live.add([NEW])
    live.update([{"sku": "s1", "name": "yellow wellington"}])
    live.remove(["s2"])
    again = genrail.load(tmp_path / "e")
    for one, other in zip(live.search_batch(ASKED, 10), again.search_batch(ASKED, 10), strict=True):
        assert one.item_ids == other.item_ids
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)
    live.merge()
    assert [one.item_ids for one in live.search_batch(ASKED, 10)] == [
        one.item_ids for one in again.search_batch(ASKED, 10)
    ]


def test_vectors_that_two_lanes_need_are_logged_once(engine, tmp_path):
    genrail.Engine(engine.edition).save(tmp_path / "e")
    live = genrail.load(tmp_path / "e", live=True)
    live.add([NEW])
    [record] = open_journal(open_version(tmp_path / "e")).records()
    assert [isinstance(reading, dict) for reading in record["reading"].values()].count(True) == 1


def test_judged_queries_teach_the_weights_for_words():
    catalog = shop(40)
    queries = {f"q{row}": f"{catalog.titles[row]} please" for row in range(40)}
    qrels = {f"q{row}": {catalog.item_ids[row]: 1.0} for row in range(40)}
    own = genrail.Engine.build(catalog, encoder="hashing", epochs=1, queries=queries, qrels=qrels)
    mixture = own.edition.finder.mixtures["words"]
    assert mixture.questions == 40
    best = max(mixture.figures[name] for name in mixture.lanes)
    assert max(mixture.figures["mixture"], mixture.figures["prior"]) >= best - 0.02


def test_events_that_weights_are_learnt_on_are_kept_from_the_lanes_that_say_something_of_them():
    """With pairs that occur once only, a lane that saw the validation event would be right about all of them."""
    catalog = shop(40)
    random = np.random.default_rng(0)
    ids = catalog.item_ids
    events = genrail.Interactions.from_sequences(
        {f"u{user}": [ids[row] for row in random.choice(40, 4, replace=False)] for user in range(40)}
    )
    own = genrail.Engine.build(catalog, lanes=["bm25", "cooccurrence"], interactions=events)
    assert own.edition.finder.mixtures["history"].figures["cooccurrence"] < 0.5


# --- nothing fits -----------------------------------------------------------------------------------------------------


class Letters:
    """Encode a text by which letters it holds: a stand-in by which nothing is ever far from anything."""

    name, dimensions, fingerprint = "letters", 26, "letters"

    def encode(self, texts, progress=None):
        counts = np.array([[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
        vectors = counts.astype(np.float32) + 1e-3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def wordy():
    return genrail.Engine.build(shop(), lanes=("bm25", "dense", "lookup"), encoder=Letters())


@pytest.mark.parametrize("words", ["asdfqwer zzz", "zzzz", "the of and"])
def test_nothing_fits_words_that_mean_nothing(wordy, words):
    ranking = wordy.search(words, k=3)
    assert not ranking.fits
    assert len(ranking) == 3  # completeness holds
    assert len(wordy.search(words, k=3, min_score=0.0)) == 0


@pytest.mark.parametrize("words", ["red boot", "a zzzz boot", "s17", "asdfqwer sandals"])
def test_something_fits_words_that_an_item_holds(wordy, words):
    assert wordy.search(words, k=3).fits
    assert len(wordy.search(words, k=3, min_score=0.0)) == 3


def test_a_past_beside_the_words_does_not_make_them_fit(wordy):
    assert not wordy.search("asdfqwer zzz", history=["s1"]).fits
    assert wordy.recommend(["s1"]).fits


def test_what_fits_is_known_after_a_restart_and_not_by_older_folders(wordy, tmp_path):
    wordy.save(tmp_path / "e")
    again = genrail.load(tmp_path / "e", encoder=Letters())
    assert not again.search("asdfqwer zzz").fits
    finder = wordy.edition.finder.replaced(noise=None)
    assert genrail.Engine(genrail.engine.Edition(wordy.catalog, finder)).search("asdfqwer zzz").fits


def test_a_lexical_engine_knows_by_itself():
    own = genrail.BM25(shop())
    assert not own.search("asdfqwer zzz").fits and own.search("boots").fits and own.search("", history=["s1"]).fits


def popular_first(inputs):
    """A ranker that looks at nothing but how popular an item is."""
    one = tuple(1.0 if place == inputs - 4 else 0.0 for place in range(inputs))
    return Ranker(0.0, (0.0,) * inputs, (1.0,) * inputs, tuple((value,) for value in one), (0.0,), (1.0,))


def test_a_ranker_decides_is_saved_and_knows_no_events_of_new_items(engine, tmp_path):
    finder = engine.edition.finder
    mixture = finder.mixtures["history"]
    ranked = replace(mixture, ranker=popular_first(3 * len(mixture.lanes) + 5), slope=1.0, offset=0.0)
    own = genrail.Engine(
        replace(engine.edition, finder=finder.replaced(mixtures=finder.mixtures | {"history": ranked}))
    )
    hits = own.recommend(["s0", "s5"], k=20)
    taken = [int(finder.popularity[engine.catalog.row(item)]) for item in hits.item_ids]
    assert taken == sorted(taken, reverse=True)
    assert taken[0] > taken[-1]
    own.add([NEW])
    assert own.edition.finder.popularity[own.catalog.row("new")] == 0
    own.save(tmp_path / "e")
    again = genrail.load(tmp_path / "e")
    assert again.recommend(["s0", "s5"], k=20).item_ids == own.recommend(["s0", "s5"], k=20).item_ids
