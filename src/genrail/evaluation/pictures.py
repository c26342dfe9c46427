"""Draw curves, points and bars of several methods as SVG, and put them on one page that loads nothing from anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from genrail.evaluation.report import COLOURS, STYLE, _svg, _table

__all__ = ["grouped_bars", "lines", "page", "points", "table"]

LEFT, TOP, WIDTH, HEIGHT = 70, 12, 560, 280  # of the frame, in pixels
PARTS = 5  # labelled values on an axis


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """Put headings and their HTML on one page.

    Args:
        title: Of the page; escaped.
        sections: Headings (escaped) and HTML, such as `table` and the pictures give.
    """
    body = "\n".join(f"<h2>{escape(heading)}</h2>\n{content}" for heading, content in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table; every cell is escaped."""
    return f'<div class="scroll">{_table(header, rows)}</div>'


@dataclass(frozen=True)
class _Axes:
    """Turn values into pixels."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + WIDTH * (value - self.x_low) / (self.x_high - self.x_low)

    def y(self, value: float) -> float:
        return TOP + HEIGHT - HEIGHT * (value - self.y_low) / (self.y_high - self.y_low)

    def frame(self, x_label: str, y_label: str) -> list[str]:
        """Draw the frame, values of the vertical axis and both names."""
        shapes = [f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>']
        for part in range(PARTS + 1):
            value = self.y_low + (self.y_high - self.y_low) * part / PARTS
            shapes.append(
                f'<path d="M{LEFT} {self.y(value):.1f}h{WIDTH}" stroke="#eee"/>'
                f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
            )
        middle = TOP + HEIGHT / 2
        shapes.append(
            f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 38}" text-anchor="middle">{escape(x_label)}</text>'
            f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">'
            f"{escape(y_label)}</text>"
        )
        return shapes

    def x_mark(self, value: float, text: str) -> str:
        """Write one value of the horizontal axis."""
        return f'<text x="{self.x(value):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{escape(text)}</text>'


def lines(curves: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Draw a line for each method.

    Args:
        curves: Points of each method, ascending; methods without points are left out.
        x_label: What goes to the right.
        y_label: What goes up.

    >>> lines({"a": [(0, 1), (1, 2)], "b": []}, "epoch", "loss").count("<polyline")
    1
    """
    drawn = {name: curve for name, curve in curves.items() if curve}
    if not drawn:
        return "<p>Nothing to draw.</p>"
    x_low, x_high = _range([x for curve in drawn.values() for x, _ in curve])
    y_low, y_high = _range([y for curve in drawn.values() for _, y in curve])
    axes = _Axes(x_low, x_high, y_low, y_high)
    shapes = axes.frame(x_label, y_label)
    for part in range(PARTS + 1):
        value = x_low + (x_high - x_low) * part / PARTS
        shapes.append(axes.x_mark(value, f"{value:.3g}"))
    for number, curve in enumerate(drawn.values()):
        path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in curve)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{_colour(number)}" stroke-width="2"/>')
        shapes += [_marker(number, axes.x(x), axes.y(y), 3) for x, y in curve]
    return _with_legend(shapes, list(drawn), f"{y_label} by {x_label}")


def points(places: Mapping[str, tuple[float, float]], x_label: str, y_label: str) -> str:
    """Draw a point for each method; the horizontal axis is logarithmic.

    Args:
        places: Horizontal value (above 0) and vertical value of each method.
        x_label: What goes to the right.
        y_label: What goes up.
    """
    if not places:
        return "<p>Nothing to draw.</p>"
    logs = {name: math.log10(max(x, 1e-4)) for name, (x, _) in places.items()}
    first, last = math.floor(min(logs.values())), math.ceil(max(logs.values()))
    y_low, y_high = _range([y for _, y in places.values()])
    axes = _Axes(first, max(last, first + 1), y_low, y_high)
    shapes = axes.frame(x_label, y_label)
    shapes += [axes.x_mark(power, f"{10.0**power:g}") for power in range(first, int(axes.x_high) + 1)]
    shapes += [
        f"<g>{_marker(number, axes.x(logs[name]), axes.y(y), 6)}<title>{escape(name)}: {x:.3g}, {y:.4f}</title></g>"
        for number, (name, (x, y)) in enumerate(places.items())
    ]
    return _with_legend(shapes, list(places), f"{y_label} against {x_label}")


def grouped_bars(groups: Sequence[str], values: Mapping[str, Sequence[float]], y_label: str) -> str:
    """Draw a group of bars for each name in `groups`, one bar per method.

    Args:
        groups: Names under the groups.
        values: For each method a value per group; NaN where there is none.
        y_label: What the height is.
    """
    heights = [value for row in values.values() for value in row if math.isfinite(value)]
    if not heights:
        return "<p>Nothing to draw.</p>"
    axes = _Axes(0.0, float(len(groups)), 0.0, max(*heights, 1e-9, 0.0) * 1.05)
    shapes = axes.frame("", y_label)
    shapes += [axes.x_mark(place + 0.5, group) for place, group in enumerate(groups)]
    bar = 0.85 / len(values)
    for number, (name, row) in enumerate(values.items()):
        for place, value in enumerate(row):
            if math.isfinite(value):
                x, y = axes.x(place + 0.075 + number * bar), axes.y(value)
                shapes.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{0.9 * bar * WIDTH / len(groups):.1f}" '
                    f'height="{TOP + HEIGHT - y:.1f}" fill="{_colour(number)}" fill-opacity="{_opacity(number)}">'
                    f"<title>{escape(name)}, {escape(groups[place])}: {value:.4f}</title></rect>"
                )
    return _with_legend(shapes, list(values), f"{y_label} by group")


def _with_legend(shapes: list[str], names: Sequence[str], label: str) -> str:
    for number, name in enumerate(names):
        y = TOP + 10 + 20 * number
        shapes.append(
            f'{_marker(number, LEFT + WIDTH + 18, y, 5)}<text x="{LEFT + WIDTH + 30}" y="{y + 4}">{escape(name)}</text>'
        )
    return _svg(LEFT + WIDTH + 260, max(TOP + HEIGHT + 48, TOP + 20 * len(names) + 20), shapes, label)


def _marker(number: int, x: float, y: float, size: float) -> str:
    """Draw a disc, or a ring where the colours begin anew."""
    fill = _colour(number) if number < len(COLOURS) else "#fff"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{fill}" stroke="{_colour(number)}" stroke-width="2"/>'


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _opacity(number: int) -> float:
    return 0.85 if number < len(COLOURS) else 0.45


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or max(abs(high) * 0.1, 1e-3)
    return low - margin, high + margin
