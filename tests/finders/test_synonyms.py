"""Synonyms: read from lines or JSON, heard by the lexical lane, changed without a new build."""

import gzip

import pytest

import genrail
from genrail.catalog import Catalog, read_synonyms
from genrail.errors import CatalogError, SettingsError
from genrail.finders import BM25
from tests.cli.test_commands import good, run, write_csv

TITLES = ["red rubber boot", "wool hat", "trainer of canvas", "sneaker, white", "boot polish", "rubber band"]


def shop():
    return Catalog.from_items([{"id": f"i{row}", "title": title} for row, title in enumerate(TITLES)])


def found(method, text, k=6):
    return [hit.title for hit in method.search(text, k=k) if hit.score > 0.0]


def test_both_forms_say_the_same(tmp_path):
    lines = tmp_path / "synonyms.txt"
    lines.write_text("# shoes\n\nsneaker, trainer\nwellies, gum boots => rubber boot\nA\\, B => c\n", encoding="utf-8")
    page = tmp_path / "synonyms.jsonl.gz"
    page.write_bytes(
        gzip.compress(
            b'{"synonyms": ["sneaker", "trainer"]}\n{"words": ["wellies", "gum boots"], "synonyms": ["rubber boot"]}\n'
            b'{"words": "A, B", "synonyms": "c"}\n'
        )
    )
    assert read_synonyms(lines) == read_synonyms(page) == read_synonyms([str(rule) for rule in read_synonyms(page)])
    assert len(read_synonyms(page)) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a, b\nalone\n", "line 2: 'alone' is no rule"),
        ("a => b => c", "line 1"),
        ("=> b", "line 1"),
        ("a =>", "line 1"),
        ('{"synonyms": ["a"]}', "line 1"),
        ('{"words": [], "synonyms": ["a"]}', "line 1"),
        ('{"synonyms": ["a", 7]}', "line 1"),
        ('{"synonyms": ["a", "b"], "weight": 2}', "line 1"),
        ('a, b\n{"synonyms": [', "line 2 begins as JSON and is none"),
    ],
)
def test_a_line_that_is_no_rule_is_named(tmp_path, text, says):
    path = tmp_path / "rules.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError, match=r"rules\.txt") as error:
        read_synonyms(path)
    assert says in str(error.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(CatalogError, match=r"none\.txt"):
        read_synonyms(tmp_path / "none.txt")


def test_words_that_mean_the_same_find_the_same():
    method = BM25(shop(), synonyms=["sneaker, trainer"])
    assert set(found(method, "sneakers")) == set(found(method, "Trainer")) == {TITLES[2], TITLES[3]}
    assert method.search("sneaker").warnings == ()


def test_an_arrow_replaces_and_goes_one_way():
    method = BM25(shop(), synonyms=["boot => hat"])
    assert found(method, "boot") == [TITLES[1]]
    assert found(method, "hat") == [TITLES[1]]


def test_the_longest_words_count_and_phrases_stand_for_phrases():
    method = BM25(shop(), synonyms=["gum => rubber band", "gum boots => rubber boot"])
    assert found(method, "gum boots", k=1) == [TITLES[0]]
    assert found(method, "gum", k=1) == [TITLES[5]]


def test_synonyms_that_no_item_holds_leave_the_word_as_it_is():
    method = BM25(shop(), synonyms=["boot => galosh", "hat, galosh"])
    plain = BM25(shop())
    for text in ("boot", "red boot"):
        assert [(hit.item_id, hit.score) for hit in method.search(text)] == [
            (hit.item_id, hit.score) for hit in plain.search(text)
        ]
    assert found(method, "hat") == [TITLES[1]]


@pytest.mark.parametrize("text", ["red boot", "rubber", "woool hat", '"rubber boot"', "canvas sneak"])
def test_questions_without_synonyms_are_answered_as_before(text):
    method = BM25(shop(), synonyms=["wellies => rubber boot"])
    assert method.search(text) == BM25(shop()).search(text)


def test_an_item_that_holds_several_counts_once():
    catalog = Catalog.from_items([{"id": "a", "title": "sneaker trainer"}, {"id": "b", "title": "sneaker sock"}])
    one, other = BM25(catalog, synonyms=["sneaker, trainer"]).search("sneaker")
    assert one.score == pytest.approx(other.score)


def test_they_are_said_explained_and_marked():
    engine = genrail.Engine.build(shop(), "bm25", synonyms=["wellies => rubber boot, galosh"])
    ranking = engine.search("red wellies", k=1, explain=True, highlight=True)
    assert ranking.reading == ({"words": "wellies", "synonyms": ["rubber boot"]},)
    assert ranking[0].explanation["synonyms"] == {"wellies": ["rubber boot"]}
    assert set(ranking[0].matched) == {"red", "rubber", "boot"}
    assert ranking.fits


def test_they_are_changed_saved_and_kept_through_changes(tmp_path):
    engine = genrail.Engine.build(shop(), lanes=["bm25", "lookup"])
    assert not engine.search("wellies").fits and engine.synonyms == ()
    before = engine.search("rubber boot").to_dict()
    engine.set_synonyms(["wellies => rubber boot"])
    assert engine.search("wellies", k=1)[0].title == TITLES[0]
    engine.add([{"id": "new", "title": "green rubber boot"}])
    engine.merge()
    engine.save(tmp_path / "shop")
    loaded = genrail.load(tmp_path / "shop", live=True)
    assert loaded.synonyms == ("wellies => rubber boot",)
    assert {hit.title for hit in loaded.search("wellies", k=2)} == {TITLES[0], "green rubber boot"}
    with pytest.raises(CatalogError):
        loaded.set_synonyms(["alone"])
    assert loaded.synonyms == ("wellies => rubber boot",)
    loaded.remove(["new"])
    loaded.set_synonyms([])
    assert loaded.synonyms == () and loaded.search("rubber boot").item_ids == [hit["item_id"] for hit in before["hits"]]


def test_an_engine_that_reads_no_words_refuses_them():
    with pytest.raises(SettingsError, match="reads no synonyms"):
        genrail.Engine.build(shop(), "tfidf", synonyms=["a, b"])


def test_the_commands_build_show_and_change_them(tmp_path):
    items = write_csv(tmp_path / "shop.csv", [{"id": f"i{row}", "title": title} for row, title in enumerate(TITLES)])
    rules, folder = tmp_path / "rules.txt", tmp_path / "shop.genrail"
    rules.write_text("wellies => rubber boot\n", encoding="utf-8")
    good("build", items, "--recipe", "bm25", "--synonyms", rules, "--out", folder)
    assert "rubber boot" in good("search", folder, "wellies", "-k", "1").output
    assert "wellies => rubber boot" in good("synonyms", folder).output
    rules.write_text("alone\n", encoding="utf-8")
    refused = run("synonyms", folder, rules)
    assert refused.exit_code == 2 and "line 1" in refused.output
    rules.write_text("cap => hat\n", encoding="utf-8")
    good("synonyms", folder, rules)
    assert '"cap => hat"' in good("synonyms", folder, "--json").output
    assert "wool hat" in good("search", folder, "cap", "-k", "1").output
