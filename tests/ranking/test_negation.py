"""What a query excludes is read, and what a text holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrail.ranking.negation import Negation, mentions, read_negation


@pytest.mark.parametrize(
    ("query", "wanted", "excluded"),
    [
        ("wall lamp without cord", "wall lamp", [("cord",)]),
        ("weighted blanket without glass beads", "weighted blanket", [("glass", "beads")]),
        ("%100 silicone not clear", "%100 silicone", [("clear",)]),
        ("paper bags without handles for gifts", "paper bags for gifts", [("handles",)]),
        ("gift not included batteries", "gift", [("batteries",)]),
        ("boots, no laces, not black", "boots, no laces", [("laces",), ("black",)]),
        ("women no show socks", "women no show socks", [("show", "socks")]),
        ("non-slip socks", "non-slip socks", []),
        ("Shoes WITHOUT Laces", "Shoes", [("laces",)]),
        ("trail shoes", "trail shoes", []),
        ("without laces", "without laces", [("laces",)]),
        ("lamp without", "lamp without", []),
        ("notebook nothing note", "notebook nothing note", []),
        ("which country did not sign?", "which country did not sign?", []),
        ("Aspirin does not prevent stroke.", "Aspirin does not prevent stroke.", []),
        ("", "", []),
    ],
)
def test_a_negation_is_read(query, wanted, excluded):
    assert read_negation(query) == Negation(wanted, tuple(excluded))


@given(st.text())
def test_any_text_is_read_and_something_is_left_to_ask(query):
    read = read_negation(query)
    assert read.wanted == query or read.wanted.strip()


@pytest.mark.parametrize(
    ("text", "excluded", "held"),
    [
        ("Lamp with cord", ("cord",), True),
        ("Lamp with cords", ("cord",), True),
        ("Cordless lamp", ("cord",), False),
        ("Lamp without a cord", ("cord",), False),
        ("cord-free lamp", ("cord",), False),
        ("Picnic basket, accessories not included", ("accessories",), False),
        ("Glass lamp", ("glass", "beads"), False),
        ("Blanket with beads of glass", ("glass", "beads"), True),
        ("", ("cord",), False),
        ("Lamp", (), False),
    ],
)
def test_a_text_holds_what_is_excluded_unless_it_excludes_it_itself(text, excluded, held):
    assert mentions(text, excluded) is held
