"""Pictures are whole SVG, escape what others wrote, and stand empty or single values."""

import math
from xml.etree import ElementTree

import pytest

from genrail.evaluation.pictures import grouped_bars, lines, page, points, table

NAME = 'a <b> & "c"'


@pytest.mark.parametrize(
    "picture",
    [
        lines({NAME: [(1.0, 0.5), (2.0, 0.7)], "one": [(1.0, 0.6)], "none": []}, "epoch <", "loss"),
        points({NAME: (0.5, 0.1), "slow": (500.0, 0.2)}, "ms", "R@10"),
        points({"single": (1.0, 0.0)}, "ms", "R@10"),
        grouped_bars(["head", "new <"], {NAME: [0.1, math.nan], "b": [0.2, 0.3]}, "R@10"),
        grouped_bars(["head"], {"zero": [0.0]}, "R@10"),
    ],
)
def test_pictures_are_well_formed(picture):
    ElementTree.fromstring(picture)
    assert "<b>" not in picture
    assert "nan" not in picture


def test_nothing_to_draw_is_said():
    assert "Nothing" in lines({"a": []}, "x", "y")
    assert "Nothing" in points({}, "x", "y")
    assert "Nothing" in grouped_bars(["head"], {"a": [math.nan]}, "y")


def test_more_methods_than_colours_can_be_told_apart():
    picture = points({f"m{number}": (1.0 + number, number / 10) for number in range(9)}, "ms", "R@10")
    markers = [line.get("fill", "") + line.get("stroke", "") for line in ElementTree.fromstring(picture).iter()
               if line.tag.endswith("circle")]  # fmt: skip
    assert len(set(markers)) == 9


def test_a_page_loads_nothing():
    html = page(NAME, [("One", table(["method"], [[NAME]]))])
    assert html.startswith("<!doctype html>")
    assert "<b>" not in html
    for word in ("src=", "href=", "http", "<script"):
        assert word not in html
