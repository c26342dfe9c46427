"""What `examples/extending` shows holds: what comes from outside is built, saved, served, grown, fused, compared."""

import importlib
import sys
from pathlib import Path

import pytest

import genrail
from genrail.errors import SettingsError
from genrail.finding import kinds
from genrail.serving.host import Host
from genrail.types import Query
from tests.shops import shop

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "extending"
NEW = {"sku": "new", "name": "purple boot", "colour": "purple", "price": 5, "in_stock": True}


LOADED = {}  # examples import each other by plain names, which other modules may have too


def example(name):
    others = {each.stem: sys.modules.pop(each.stem, None) for each in EXAMPLES.glob("*.py")}
    sys.modules.update(LOADED)
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES))
        LOADED.update({each: sys.modules.pop(each) for each in others if each in sys.modules})
        sys.modules.update({each: module for each, module in others.items() if module is not None})


@pytest.fixture(scope="module")
def newest():
    return example("finder")


@pytest.fixture(scope="module")
def winners():
    return example("quantizer")


@pytest.fixture(scope="module")
def trigrams():
    return example("language_model")


@pytest.fixture(scope="module")
def sorted_lists():
    return example("constraint_index")


@pytest.fixture(scope="module")
def short_titles():
    return example("scorer")


def test_a_finder_from_outside_is_built_filtered_grown_saved_and_served(newest, tmp_path):
    assert "newest" in kinds()
    own = genrail.Engine.build(shop(10), "newest")
    assert own.search("boot", k=2).item_ids == ["s9", "s8"]
    assert own.search("boot", k=10, where="price < 13").item_ids == ["s2", "s1", "s0"]
    own.add([NEW])
    own.remove(["s9"])
    own.save(tmp_path / "e")
    again = genrail.load(tmp_path / "e")
    assert again.search("boot", k=2).item_ids == own.search("boot", k=2).item_ids == ["new", "s8"]
    page = Host(again).answer({"questions": [{"text": "boot"}], "k": 2, "tenant": None})
    assert [hit["id"] for hit in page["answers"][0]["hits"]] == ["new", "s8"]


def test_it_is_a_lane_beside_others_and_a_method_to_compare(newest, tmp_path):
    own = genrail.Engine.build(shop(10), lanes=["bm25", "newest"])
    assert set(own.edition.finder.lanes) == {"bm25", "newest"}
    own.save(tmp_path / "e")
    assert genrail.load(tmp_path / "e").search("red boot", k=3).item_ids == own.search("red boot", k=3).item_ids
    single = genrail.Engine.build(shop(10), "newest")
    compared = genrail.compare(
        [single, genrail.BM25(shop(10))], {"q1": "red boot", "q2": "blue sandal"}, {"q1": {"s0": 1}, "q2": {"s1": 1}}
    )
    assert set(compared.evaluations) == {"Newest", "BM25"}


def test_a_scorer_from_outside_ranks_what_was_found(short_titles, tmp_path):
    own = genrail.Engine.build(shop(30), "reranked", inner="bm25", scorer="short-titles", depth=10, weight=1.0)
    ranking = own.search("red", k=5)
    lengths = [len(hit.title) for hit in ranking]
    assert lengths == sorted(lengths)
    own.save(tmp_path / "e")
    assert genrail.load(tmp_path / "e").search("red", k=5).item_ids == ranking.item_ids
    assert len(own.search("red", k=30)) == 30


class Broken:
    kind = name = "broken"

    def score(self, request, rows, catalog):
        raise ValueError("no weights")

    def save(self, folder):
        return {}


def test_a_scorer_that_fails_leaves_the_first_order_with_a_warning():
    plain = genrail.Engine.build(shop(30), "bm25")
    own = genrail.Engine.build(shop(30), "reranked", inner="bm25", scorer=Broken())
    ranking = own.search_batch([Query("red boot")], 5)[0]
    assert ranking.item_ids == plain.search("red boot", k=5).item_ids
    assert "broken could not rank" in ranking.warnings[0]


def test_a_name_that_is_taken_or_unknown_is_refused(newest):
    with pytest.raises(SettingsError, match="newest"):
        genrail.Engine.build(shop(3), "no-such-kind")
    with pytest.raises(SettingsError, match="has no setting"):
        genrail.Engine.build(shop(3), "newest", depth=3)


def test_a_quantizer_from_outside_makes_the_identifiers_of_any_finder_that_has_some(winners, tmp_path):
    from genrail.identifiers.quantizer import quantizers

    assert "winners" in quantizers()
    own = genrail.Engine.build(shop(16), "native", identifiers="winners", encoder="hashing", epochs=1)
    assert type(own.edition.finder.spelling.identifiers.quantizer).__name__ == "Winners"
    own.add([NEW])
    own.save(tmp_path / "e")
    again = genrail.load(tmp_path / "e")
    assert again.search("purple boot", k=17).item_ids == own.search("purple boot", k=17).item_ids
    assert len(own.search("boot", k=20)) == 17
    with pytest.raises(SettingsError, match="winners"):
        genrail.Engine.build(shop(16), "native", identifiers="no-such-quantizer", encoder="hashing")


def test_a_language_model_and_its_training_from_outside(trigrams, tmp_path):
    own = genrail.Engine.build(shop(12), "trigrams", strength=50.0)
    assert own.search(shop(12).titles[7], k=1).item_ids == ["s7"]
    assert sorted(own.search("boot", k=12, where="price < 13").item_ids) == ["s0", "s1", "s2"]
    own.train(queries={"q": "red boot"}, qrels={"q": {"s0": 1}})
    own.add([NEW])
    own.remove(["s3"])
    assert own.search("purple boot", k=1).item_ids == ["new"]
    own.save(tmp_path / "e")
    again = genrail.load(tmp_path / "e")
    everything = again.search("red boot", k=30, explain=True)
    assert everything.item_ids == own.search("red boot", k=30).item_ids
    assert sorted(everything.item_ids) == sorted({"new", *(f"s{n}" for n in range(12) if n != 3)})
    assert everything.trace.spell(everything[0].explanation["identifier"]) == everything[0].title
    page = Host(again).answer({"questions": [{"text": "purple boot"}], "k": 1, "tenant": None})
    assert [hit["id"] for hit in page["answers"][0]["hits"]] == ["new"]


def test_a_constraint_index_from_outside_answers_as_the_built_in_trie(sorted_lists, tmp_path):
    own = genrail.Engine.build(shop(12), "sorted-trigrams", strength=50.0)
    trie = genrail.Engine.build(shop(12), "trigrams", strength=50.0)
    for engine in (own, trie):
        engine.add([NEW])
        engine.remove(["s3"])
    assert type(own.edition.finder.index) is sorted_lists.SortedList
    own.save(tmp_path / "e")
    again = genrail.load(tmp_path / "e")
    for question in ({"k": 5}, {"k": 30}, {"k": 5, "where": "price < 15"}):
        expected = trie.search("red boot", **question)
        assert own.search("red boot", **question).item_ids == expected.item_ids
        assert again.search("red boot", **question).item_ids == expected.item_ids
