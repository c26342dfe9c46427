"""The page is drawn for any identifiers, and shows what a count shows."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from genrail.errors import IdentifierError, MissingPackageError, ShapeError
from genrail.identifiers import IdentifierTable, SemanticIds, quality_plots
from genrail.identifiers.quality_plots import draw_identifiers, save_identifier_page

VECTORS = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
TABLE = SemanticIds.fit(VECTORS, levels=2, codes=8).assign(VECTORS)
TITLES = [f"Shoe {row}" for row in range(200)]


def panel(figure, title):
    return next(axes for axes in figure.axes if title in axes.get_title())


def test_the_page_has_three_panels_and_the_map_is_left_out_without_vectors():
    names = ["Use of codes", "Items under the 8 fullest of 8 first codes", "items by their texts"]
    figure = draw_identifiers(TABLE, TITLES, VECTORS)
    assert all(panel(figure, name) for name in names)
    assert not any(names[2] in axes.get_title() for axes in draw_identifiers(TABLE, TITLES).axes)


def test_the_heat_map_holds_the_counts():
    image = panel(draw_identifiers(TABLE, TITLES), "Use of codes").images[0].get_array()
    expected = [np.sort(np.bincount(column, minlength=TABLE.vocab_size))[::-1] for column in TABLE.matrix()[:, :2].T]
    assert np.array_equal(image, expected)


def test_areas_of_the_tiles_are_shares_of_the_items():
    figure = draw_identifiers(TABLE, TITLES)
    tiles = panel(figure, "Items under").patches
    areas = np.array([tile.get_width() * tile.get_height() for tile in tiles])
    assert areas.sum() == pytest.approx(1)
    assert np.allclose(areas * 200, np.round(areas * 200), atol=1e-6)


def test_every_item_is_on_the_map():
    points = panel(draw_identifiers(TABLE, TITLES, VECTORS), "by their texts").collections
    assert sum(len(part.get_offsets()) for part in points) == 200


def test_the_map_samples_large_catalogues(monkeypatch):
    monkeypatch.setattr(quality_plots, "MOST_POINTS", 50)
    points = panel(draw_identifiers(TABLE, TITLES, VECTORS), "by their texts").collections
    assert sum(len(part.get_offsets()) for part in points) == 50


@pytest.mark.parametrize("ending", ["svg", "png"])
@pytest.mark.parametrize(
    ("table", "vectors"),
    [
        (TABLE, VECTORS),
        (IdentifierTable.from_matrix([[0, 0]], 2), np.ones((1, 1))),
        (IdentifierTable.from_matrix([[3]] * 5, 4), np.ones((5, 3))),
        (IdentifierTable.from_sequences([[9000, 0], [7, 8, 0], [0]], 10000, end_token=0), None),
    ],
    ids=["many", "one item", "all equal", "titles"],
)
def test_any_table_is_drawn(tmp_path, table, vectors, ending):
    path = tmp_path / f"page.{ending}"
    save_identifier_page(path, table, TITLES[: len(table)], vectors)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("title", ["a $x_{$ b", "line\nbreak", "<script>alert(1)</script>", "\x00\x1b[31m", "抹茶", ""])
def test_titles_are_data(tmp_path, title):
    path = tmp_path / "page.svg"
    save_identifier_page(path, IdentifierTable.from_matrix([[0, 0]], 1), [title])
    assert "<script" not in path.read_text(encoding="utf-8")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="200 identifiers but 3 titles"):
        draw_identifiers(TABLE, TITLES[:3])
    with pytest.raises(ShapeError, match="200 identifiers but 3 vectors"):
        draw_identifiers(TABLE, TITLES, VECTORS[:3])
    with pytest.raises(ShapeError, match="one at least"):
        draw_identifiers(IdentifierTable.from_matrix(np.empty((0, 2), int), 2), [])
    with pytest.raises(IdentifierError, match="NaN"):
        draw_identifiers(TABLE, TITLES, np.full((200, 2), np.nan))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(quality_plots, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"genrail\[plots\]"):
        draw_identifiers(TABLE, TITLES)
