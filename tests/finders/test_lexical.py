"""Words that are unfinished, mistyped or in quotes; what was matched; and plain BM25 for all others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.catalog import Catalog
from genrail.finders import BM25
from genrail.finders.asked import read_words
from genrail.finders.word_index import WordIndex
from genrail.finding import Added, Change, Edition, FindOptions, Gate, answer_each, raised
from genrail.models.words import English, words
from genrail.types import Query

TITLES = [
    "Waterproof trail running shoes",
    "Running shoes for the trail",
    "Shoes, trail laces",
    "Wool hat for the winter",
    "Woollen blanket",
    "Guide to running",
    "Führer durch die Berge",
]


def shop(titles=TITLES):
    return Catalog.from_items([{"id": f"i{row}", "title": title} for row, title in enumerate(titles)])


def explained(method, text, k=3):
    return raised(answer_each(Edition(method.catalog, method), Gate(), [Query(text)], k, FindOptions(explain=True)))[0]


@pytest.mark.parametrize("prefix", ["wo", "woo"])
def test_the_last_word_may_be_unfinished(prefix):
    assert set(BM25(shop()).search(f"a {prefix}", k=2).item_ids) == {"i3", "i4"}


def test_only_the_last_word_is_completed():
    ranking = BM25(shop()).search("wo guide", k=2)
    assert [hit.item_id for hit in ranking if hit.score > 0] == ["i5"]


def test_a_word_that_occurs_is_taken_as_it_stands():
    """ "run" is the stem of "running": no item comes for what it might become."""
    index = BM25(shop(["run", "runway", "runner"])).index
    assert read_words("run", index).words[0].terms == ("run",)


@pytest.mark.parametrize("typed", ["trial", "tral", "traill", "trakl", "rtail"])
def test_a_word_one_letter_off_is_mended_and_that_is_said(typed):
    ranking = BM25(shop()).search(f"{typed} laces", k=1)
    assert ranking.item_ids == ["i2"]
    assert ranking.warnings == (f'"{typed}" is in no item; it was read as "trail"',)


@pytest.mark.parametrize("typed", ["hta", "blnkt", "zzzzzz", "x" * 500, "trai1"])
def test_short_words_and_words_further_off_are_left_alone(typed):
    ranking = BM25(shop()).search(f"{typed} trail", k=1)
    assert not ranking.warnings
    assert ranking[0].score > 0


def test_of_several_words_one_letter_off_the_most_frequent_is_taken():
    method = BM25(shop(["boot", "boat", "boat red", "boat blue"]))
    assert method.search("boqt shoe", k=1).warnings == ('"boqt" is in no item; it was read as "boat"',)


def test_a_removed_item_lends_no_word():
    """What only a removed item holds is neither a completion nor a correction."""
    catalog = shop()
    later = catalog.remove(["i4"])
    method = BM25(catalog).grow(later, Change(gone=np.array([4])))
    assert method.search("blankte hat", k=1).warnings == ()
    assert [hit.item_id for hit in method.search("blank", k=7) if hit.score > 0] == []


@pytest.mark.parametrize("quotes", ['"running shoes"', "“running shoes”", '"Running Shoe"'])
def test_items_with_the_phrase_come_before_all_others(quotes):
    titles = ["running a shop for shoes", "shoes shoes shoes", "running shoes", "a hat", "trail running shoes and more"]
    found = BM25(shop(titles)).search(f"{quotes} hat", k=5).item_ids
    assert set(found[:2]) == {"i2", "i4"}


def test_a_phrase_counts_its_stop_words_and_odd_quotes_are_no_phrase():
    titles = ["lord of the rings", "lord rings", "rings of the lord"]
    assert BM25(shop(titles)).search('"lord of the rings"', k=1).item_ids == ["i0"]
    for odd in ('12" x 10" board', '"', '""', '"rings', '"rings"'):
        plain = BM25(shop(titles)).search(odd.replace('"', " ") + " rings", k=3)
        quoted = BM25(shop(titles)).search(odd + " rings", k=3)
        assert [(hit.item_id, hit.score) for hit in quoted] == [(hit.item_id, hit.score) for hit in plain]


def test_matched_words_are_told_as_they_stand():
    told = {hit.item_id: hit.explanation for hit in explained(BM25(shop()), "shoe for TRAILS")}
    assert told["i2"] == {"matched": ["Shoes", "trail"]}
    assert told["i0"] == {"matched": ["trail", "shoes"]}
    assert explained(BM25(shop()), "führe", k=1)[0].explanation == {"matched": ["Führer"]}
    assert explained(BM25(shop()), "zzzzz", k=1)[0].explanation == {"matched": []}


@settings(deadline=None)
@given(st.lists(st.sampled_from(["trail", "shoes", "for", "hat", "running", "wool"]), min_size=1, max_size=5))
def test_known_words_are_plain_bm25(asked):
    """With every word known, help makes no difference."""
    method = BM25(shop())
    text = " ".join(asked)
    assert read_words(text, method.index) == read_words(text, method.index, help=False)


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_indexed_and_asked_for(text):
    found = words(text)
    assert all(found)
    index = WordIndex.of([text, "other words"], English(), np.ones(2, dtype=bool))
    for word in found:
        term = English().term(word.lower())
        assert term is None or 0 in index.rows_with(term).tolist()


def test_an_added_item_is_found_by_its_own_words_at_once():
    catalog = shop()
    later = catalog.add([{"id": "new", "title": "Glow-in-the-dark trail runner"}])
    method = BM25(catalog).grow(later, Change((Added.of(later, range(7, 8), None),)))
    assert method.search("glow in the dark", k=1).item_ids == ["new"]
