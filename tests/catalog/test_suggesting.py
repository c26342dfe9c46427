"""What somebody types is completed by what live items hold, and by nothing else."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.catalog import Catalog
from genrail.catalog.suggesting import BLOCK, Suggester
from genrail.types import Suggestion

WORDS = ("trail", "boot", "boots", "bo", "wool", "Ärmel", "red")


def shop(titles):
    return Catalog.from_items([{"id": f"i{number}", "title": title} for number, title in enumerate(titles)])


def texts(suggester, typed, k=8):
    return [one.text for one in suggester.suggest(typed, k)]


@given(
    titles=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join), min_size=1, max_size=12),
    typed=st.sampled_from(("t", "b", "bo", "boot", "är", "wo", "x")),
)
@settings(max_examples=60, deadline=None)
def test_the_first_word_is_the_one_that_most_titles_hold(titles, typed):
    holding = Counter(word for title in titles for word in set(title.lower().split()) if word.startswith(typed))
    found = Suggester(shop(titles)).suggest(typed, 20)
    assert bool(found) == bool(holding)
    if found:
        assert found[0].items == max(holding.values())
        for one in found:
            assert one.text.lower().startswith(typed)
            assert any(one.text.lower() in title.lower() for title in titles)


def test_words_phrases_and_titles_with_counts_and_ids():
    made = Suggester(shop(["Trail boot, red", "Trail boot, blue", "Trail mix"]))
    assert made.suggest("tr") == [
        Suggestion("trail", 3),
        Suggestion("trail boot", 2),
        Suggestion("Trail mix", 1, "i2"),
        Suggestion("Trail boot, red", 1, "i0"),
        Suggestion("Trail boot, blue", 1, "i1"),
    ]
    assert texts(made, "TRAIL  bo", 1) == ["trail boot"]
    assert texts(made, "trail ", 1) == ["trail boot"]


@pytest.mark.parametrize("typed", ["", "   ", "zzz", "cheap zzz", "\U0010ffff", "%_\\"])
def test_nothing_is_suggested_where_nothing_begins_so(typed):
    assert Suggester(shop(["Trail boot"])).suggest(typed) == []


def test_the_last_words_are_completed_where_the_whole_is_unknown():
    found = Suggester(shop(["Trail boot", "Trail boot high"])).suggest("cheap trail b", 1)
    assert found == [Suggestion("cheap trail boot", 2)]


def test_a_short_beginning_finds_what_is_frequent_among_very_many():
    titles = [f"m{number:05d} shoe" for number in range(4 * BLOCK)] + ["mzz boot"] * 3
    assert Suggester(shop(titles)).suggest("m", 1)[0] == Suggestion("mzz boot", 3, f"i{4 * BLOCK}")


def test_later_items_are_suggested_and_removed_ones_are_not():
    first = shop(["Trail boot, red", "Trail boot, blue"] + ["Wool hat"] * 30)
    made = Suggester(first)
    later = first.remove(["i1"]).add([{"id": "n", "title": "Trail boot, green"}])
    grown = made.after(later)
    assert "Trail boot, green" in texts(grown, "trail") and "Trail boot, blue" not in texts(grown, "trail")
    assert grown.after(later) is grown
    assert made.suggest("trail")[0].items == 2  # a value: the earlier one stays
    many = later.remove([f"i{number}" for number in range(2, 22)])
    assert grown.after(many).suggest("wool")[0].items == 10
    other = shop(["Clog"] * 40)
    assert texts(grown.after(other), "trail") == []


def test_what_others_see_is_not_suggested():
    everything = shop(["Trail boot", "Secret sandal"])
    own = everything.only(np.array([True, False]))
    assert Suggester(own).suggest("sec") == []
