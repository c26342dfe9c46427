"""Draw one page about identifiers: how codes are used, how prefixes divide the catalogue, where items lie."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.errors import MissingPackageError, ShapeError
from genrail.identifiers.quality import leading_codes
from genrail.identifiers.quantizer import check_settings, checked_vectors
from genrail.identifiers.table import IdentifierTable
from genrail.rng import generator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_identifiers", "save_identifier_page"]

Int = npt.NDArray[np.int64]
MOST_TILES = 20  # first codes that are drawn; more tiles have no room for a title
MOST_CHILDREN = 4  # second codes within a tile; the rest of the tile is one
MOST_COLOURS = 10  # first codes that are told apart on the map
MOST_COLUMNS = 4096  # of the heat map
MOST_POINTS = 5000  # of the map; more only blacken it
LETTERS = 190  # of the smallest print, side by side over the whole width
OTHERS = -2  # stands for all second codes that have no tile of their own


def draw_identifiers(
    table: IdentifierTable,
    titles: Sequence[str],
    vectors: npt.ArrayLike | None = None,
    *,
    levels: int | None = None,
    seed: int = 0,
) -> Figure:
    """Draw heat map of code use, treemap of prefixes with titles, and a map of items coloured by first code.

    Args:
        table: The identifiers, one item at least.
        titles: One per row.
        vectors: Text vectors, shape (rows, dimensions), for the map of items; None leaves the map out.
        levels: How many first positions say something; as in `measure`.
        seed: Draws the items of the map when there are more than 5,000.

    Returns:
        A matplotlib figure that belongs to no window; save it with ``figure.savefig``.

    Raises:
        MissingPackageError: matplotlib is not installed.
        ShapeError: Not one title and one vector per row, or no rows.
    """
    if find_spec("matplotlib") is None:
        raise MissingPackageError("matplotlib", "plots", "drawing identifiers")
    from matplotlib.figure import Figure

    check_settings(levels=(1 if levels is None else levels, 1), seed=(seed, 0))
    points = None if vectors is None else checked_vectors(vectors)
    for what, count in (("titles", len(titles)), ("vectors", len(table) if points is None else len(points))):
        if count != len(table) or count == 0:
            raise ShapeError(
                f"there are {len(table)} identifiers but {count} {what}; give one per row, and one at least"
            )
    codes = leading_codes(table, levels)
    figure = Figure(figsize=(12, 16 if points is None else 24), layout="constrained")
    panels = figure.subplots(2 if points is None else 3, 1, height_ratios=[1, 2.2] if points is None else [1, 2.2, 2.2])
    _code_use(panels[0], codes, table.vocab_size)
    _prefix_tiles(panels[1], codes, titles)
    if points is not None:
        _item_map(panels[2], codes[:, 0], points, seed)
    return figure


def save_identifier_page(
    path: str | Path,
    table: IdentifierTable,
    titles: Sequence[str],
    vectors: npt.ArrayLike | None = None,
    *,
    levels: int | None = None,
    seed: int = 0,
) -> None:
    """Write the page of `draw_identifiers`; the ending says how (``.svg``, ``.png``, ``.pdf``)."""
    figure = draw_identifiers(table, titles, vectors, levels=levels, seed=seed)
    with warnings.catch_warnings():  # letters that the bundled font lacks are drawn as boxes
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(path, dpi=110)


def _code_use(panel: Axes, codes: Int, size: int) -> None:
    """Draw items per code: one line per level, codes from the most used to the least."""
    if size > MOST_COLUMNS:  # the vocabulary of a language model, nearly all of it unused
        size = max(len(np.unique(column)) for column in codes.T)
        codes = np.stack([np.unique(column, return_inverse=True)[1].reshape(-1) for column in codes.T], axis=1)
    counts = np.stack([np.sort(np.bincount(column[column >= 0], minlength=size))[::-1] for column in codes.T])
    image = panel.imshow(counts, aspect="auto", interpolation="nearest", cmap="viridis")
    panel.figure.colorbar(image, ax=panel, label="items")
    panel.set_yticks(range(len(counts)), [f"level {level}" for level in range(1, len(counts) + 1)])
    panel.set_xlabel("codes, most used first")
    panel.set_title("Use of codes")


def _prefix_tiles(panel: Axes, codes: Int, titles: Sequence[str]) -> None:
    """Draw a treemap: areas are items under the first code, cut up by the second, with a title as example."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    first, counts = _largest(codes[:, 0], MOST_TILES)
    colours = colormaps["tab20"]
    for number, (code, (left, bottom, width, height)) in enumerate(zip(first, _tiles(counts, 0, 0, 1, 1), strict=True)):
        rows = np.flatnonzero(codes[:, 0] == code)
        second = codes[rows, 1] if codes.shape[1] > 1 else np.zeros(len(rows), np.int64)
        children, sizes = _largest(second, MOST_CHILDREN)
        if rest := len(rows) - int(sizes.sum()):
            children, sizes = np.append(children, OTHERS), np.append(sizes, rest)
        for child, place in zip(children, _tiles(sizes, left, bottom, width, height), strict=True):
            colour = colours(number % 20)
            panel.add_patch(Rectangle(place[:2], *place[2:], facecolor=colour, alpha=0.55, edgecolor="white"))
            example = rows[~np.isin(second, children)] if child == OTHERS else rows[second == child]
            _label(panel, titles[example[0]], place)
        name = f"code {code}: {len(rows)}"
        panel.text(left + 0.003, bottom + height - 0.004, name, fontsize=7, weight="bold", va="top")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.set_axis_off()
    total = len(np.unique(codes[:, 0]))
    panel.set_title(
        f"Items under the {len(first)} fullest of {total} first codes, cut up by the second, with one title each"
    )


def _label(panel: Axes, title: str, place: tuple[float, float, float, float]) -> None:
    """Write a title into a tile where there is room for it."""
    left, bottom, width, height = place
    letters = int(width * LETTERS)
    if letters >= 12 and height > 0.02:
        panel.text(
            left + 0.003, bottom + height / 2, _shortened(title, letters), fontsize=6, va="center", parse_math=False
        )


def _item_map(panel: Axes, first: Int, vectors: npt.NDArray[np.float32], seed: int) -> None:
    """Draw items on the first two principal axes of their vectors, coloured by first code."""
    rows = np.arange(len(first))
    if len(rows) > MOST_POINTS:
        rows = np.sort(generator(seed, "item map").choice(len(rows), MOST_POINTS, replace=False))
    centred = (vectors[rows] - vectors[rows].mean(axis=0)).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    places = centred @ axes[:, ::-1][:, :2]
    if places.shape[1] < 2:
        places = np.column_stack([places, np.zeros(len(places))])
    named, _ = _largest(first, MOST_COLOURS)
    others = ~np.isin(first[rows], named)
    panel.scatter(places[others, 0], places[others, 1], color="lightgrey", s=5, linewidths=0, label="other codes")
    for number, code in enumerate(named):
        mine = first[rows] == code
        panel.scatter(
            places[mine, 0], places[mine, 1], color=f"C{number % 10}", s=9, linewidths=0, label=f"code {code}"
        )
    panel.legend(fontsize=7, markerscale=2, ncols=2)
    panel.set_xlabel("first principal axis")
    panel.set_ylabel("second principal axis")
    panel.set_title(f"{len(rows)} items by their texts; the fullest first codes in colour")


def _largest(codes: Int, count: int) -> tuple[Int, Int]:
    """Give the most frequent codes and how often they occur."""
    values, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:count]
    return values[order], counts[order]


def _tiles(
    sizes: Int, left: float, bottom: float, width: float, height: float
) -> list[tuple[float, float, float, float]]:
    """Cut a rectangle into areas in proportion to sizes, always across its longer side, halving the sizes."""
    if len(sizes) == 1:
        return [(left, bottom, width, height)]
    half = int(np.searchsorted(np.cumsum(sizes), sizes.sum() / 2)) + 1
    half = min(max(half, 1), len(sizes) - 1)
    share = float(sizes[:half].sum() / sizes.sum())
    if width >= height:
        return [
            *_tiles(sizes[:half], left, bottom, width * share, height),
            *_tiles(sizes[half:], left + width * share, bottom, width * (1 - share), height),
        ]
    return [
        *_tiles(sizes[:half], left, bottom, width, height * share),
        *_tiles(sizes[half:], left, bottom + height * share, width, height * (1 - share)),
    ]


def _shortened(title: str, most: int) -> str:
    """Cut a title to what fits; only printable characters reach the picture."""
    clean = "".join(letter if letter.isprintable() else " " for letter in title)
    return clean if len(clean) <= most else clean[: max(1, most - 1)] + "…"
