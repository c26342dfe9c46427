"""Write a comparison as one HTML file: inline styles and SVG, no script, nothing loaded from anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from genrail.evaluation.calibration import calibration
from genrail.evaluation.differences import INTERVALS, Differences
from genrail.evaluation.recommendation import recommend

if TYPE_CHECKING:
    from genrail.types import Query

__all__ = ["html_report"]

SHOWN_HITS = 3
SHOWN_QUERIES = 5
BARS = (
    '<p class="note">The lines are 95 % bootstrap intervals of each mean by itself. Whether two methods differ is told '
    "by the table: methods answer the same queries, so that intervals which overlap may still hide a difference.</p>"
)
# Colours that differ in brightness too, for print and for colour-blind readers (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2, h3 { line-height: 1.2; } table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } .scroll { overflow-x: auto; }
svg { max-width: 100%; height: auto; }
.answer { background: #f3f6fa; border-left: 4px solid #0072B2; padding: 0.8rem 1rem; }
.hits td { text-align: left; } .right { font-weight: bold; } .note { color: #555; }
"""


def html_report(comparison: Differences) -> str:
    """Lay a comparison out as an HTML page.

    Every id, title, query and message is escaped: they are data of others.
    """
    header, rows = comparison.rows()
    counted = len(comparison.evaluations[comparison.best].measured.query_ids)
    explanation = (
        f"{counted} of {len(comparison.queries)} queries count: they have a relevant item. {INTERVALS} "
        "\u201cNo difference shown\u201d is not \u201cequal\u201d: the interval says how large a difference may be."
    )
    parts = [
        f'<p class="answer">{escape(recommend(comparison))}</p>',
        f'<p class="note">{explanation}</p>',
        f'<div class="scroll">{_table(header, rows)}</div>',
        _list("Traps in this data", comparison.traps),
        f"<h2>{escape(comparison.metric)} of each method</h2>{_bars(comparison)}{BARS}",
        *_trade_offs(comparison),
        f'<h2>What it costs</h2><div class="scroll">{_table(*comparison.cost_rows())}</div>',
        _slices(comparison),
        f"<h2>Answers</h2>{_answers(comparison)}",
        _calibration(comparison),
        f"<h2>Share of the first ten items in common</h2>{_overlap(comparison)}",
        *[_changes(comparison, name) for name in comparison.against_best],
        _list("How settings were chosen", comparison.choices),
        _list("Notes", _notes(comparison)),
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>genrail: comparison</title><style>{STYLE}</style></head>\n"
        f"<body><h1>Which method to use</h1>\n{body}\n</body></html>\n"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _bars(comparison: Differences) -> str:
    """Draw one bar per method with its interval, best first."""
    names = sorted(comparison.intervals, key=lambda name: -comparison.intervals[name].mean)
    tops = [interval.high if interval.high is not None else interval.mean for interval in comparison.intervals.values()]
    largest = max(*tops, 1e-9, 0.0)
    left, width, step = 190, 480, 34
    shapes = []
    for place, name in enumerate(names):
        interval = comparison.intervals[name]
        y = place * step + 8
        length = width * max(interval.mean, 0.0) / largest
        shapes.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(_short(name))}</text>'
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="20" fill="{_colour(comparison, name)}" '
            f'fill-opacity="0.75"><title>{escape(name)}: {interval.mean:.4f}</title></rect>'
        )
        end = left + length
        if interval.low is not None and interval.high is not None:
            low, end = left + width * interval.low / largest, left + width * interval.high / largest
            shapes.append(
                f'<path d="M{low:.1f} {y + 10}H{end:.1f}M{low:.1f} {y + 5}v10M{end:.1f} {y + 5}v10" stroke="#222"/>'
            )
        shapes.append(f'<text x="{end + 8:.1f}" y="{y + 15}">{interval.mean:.4f}</text>')
    return _svg(left + width + 90, len(names) * step + 12, shapes, f"{comparison.metric} of each method")


def _trade_offs(comparison: Differences) -> list[str]:
    """Draw the deciding metric and recall against time, and recall against memory where it is known."""
    times = {name: comparison.cost(name) for name in comparison.evaluations}
    parts = [f"<h2>Quality against time per query</h2>{_scatter(comparison, comparison.metric, times, 'ms')}"]
    recall = next((metric for metric in comparison.evaluations[comparison.best].means if metric.startswith("R@")), None)
    if recall is None:
        return parts
    parts.append(f"<h2>{escape(recall)} against time per query</h2>{_scatter(comparison, recall, times, 'ms')}")
    sizes = {
        name: cost.index_bytes / 2**20
        for name, cost in comparison.costs.items()
        if cost.index_bytes is not None and name in comparison.evaluations
    }
    if sizes:
        parts.append(f"<h2>{escape(recall)} against memory</h2>{_scatter(comparison, recall, sizes, 'MiB')}")
    return parts


def _scatter(comparison: Differences, metric: str, costs: Mapping[str, float], unit: str) -> str:
    """Draw a metric against a cost on a logarithmic axis, for the methods whose cost is known."""
    names = list(costs)
    places = {name: math.log10(max(costs[name], 1e-4)) for name in names}
    means = {name: comparison.evaluations[name].means[metric] for name in names}
    first, last = math.floor(min(places.values())), math.ceil(max(places.values()))
    last = max(last, first + 1)
    low, high = min(means.values()), max(means.values())
    margin = max((high - low) * 0.15, 0.01)
    low, high = low - margin, high + margin
    left, top, width, height = 70, 12, 560, 260
    shapes = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>']
    for power in range(first, last + 1):
        x = left + width * (power - first) / (last - first)
        shapes.append(
            f'<path d="M{x:.1f} {top}v{height}" stroke="#e4e4e4"/>'
            f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{10.0**power:g} {unit}</text>'
        )
    for part in range(5):
        value = low + (high - low) * part / 4
        y = top + height - height * part / 4
        shapes.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>')
    for name in names:
        x = left + width * (places[name] - first) / (last - first)
        y = top + height - height * (means[name] - low) / (high - low)
        beyond = x > left + width * 0.7
        shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{_colour(comparison, name)}"/>'
            f'<text x="{x + (-10 if beyond else 10):.1f}" y="{y + 5:.1f}" '
            f'text-anchor="{"end" if beyond else "start"}">{escape(_short(name))}</text>'
        )
    return _svg(left + width + 20, top + height + 30, shapes, f"{metric} against {unit}")


def _slices(comparison: Differences) -> str:
    header, rows = comparison.slice_rows()
    if not rows:
        return ""
    return f'<h2>Parts of the queries</h2><div class="scroll">{_table(header, rows)}</div>'


def _calibration(comparison: Differences) -> str:
    """Show how often hits are right, from the lowest to the highest scores of each method."""
    rows = []
    for name, evaluation in comparison.evaluations.items():
        if evaluation.run is not None and evaluation.counts.hits:
            found = calibration(evaluation.run, comparison.qrels, bins=5)
            shares = [_share(share) for share in found.right]
            error = "" if found.expected_error is None else f"{found.expected_error:.3f}"
            rows.append([name, *shares, *[""] * (5 - len(shares)), error])
    if not rows:
        return ""
    header = ["right hits by score", "lowest fifth", "2nd", "3rd", "4th", "highest fifth", "calibration error"]
    note = (
        '<p class="note">Of the first ten hits of all judged queries. The error is the mean distance of score and '
        "share, given where scores are between 0 and 1.</p>"
    )
    return f"<h2>Do scores mean something</h2>{_table(header, rows)}{note}"


def _svg(width: float, height: float, shapes: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{escape(label)}" '
        f'font-family="system-ui, sans-serif" font-size="13">{"".join(shapes)}</svg>'
    )


def _answers(comparison: Differences) -> str:
    rows = []
    for name, evaluation in comparison.evaluations.items():
        counts = evaluation.counts
        rows.append(
            [
                name,
                _share(counts.valid_share),
                _share(counts.distinct_share),
                _share(counts.coverage),
                str(counts.failed),
                f"{evaluation.queries_per_second:.0f}",
                "" if evaluation.latency is None else f"{evaluation.latency.p95_milliseconds:.2f}",
            ]
        )
    header = ["method", "valid", "distinct", "catalogue covered", "refused queries", "queries per second", "p95 ms"]
    return _table(header, rows)


def _overlap(comparison: Differences) -> str:
    shares = comparison.overlap()
    return _table(["", *shares], [[name, *[_share(value) for value in row.values()]] for name, row in shares.items()])


def _changes(comparison: Differences, name: str) -> str:
    """Show the queries where the best method wins most over another, and loses most."""
    wins, losses = comparison.changes(comparison.best, name, most=SHOWN_QUERIES)
    test = comparison.against_best[name]
    title = f"<h2>{escape(comparison.best)} against {escape(name)}</h2>"
    summary = (
        f"<p>{escape(comparison.best)} is better on {test.losses} queries, worse on {test.wins}, "
        f"the same on {test.queries - test.wins - test.losses}.</p>"
    )
    blocks = [
        f"<h3>{heading}</h3>{_query_table(comparison, name, query_ids)}"
        for heading, query_ids in (("Largest wins", wins), ("Largest losses", losses))
        if query_ids
    ]
    return title + summary + "".join(blocks)


def _query_table(comparison: Differences, other: str, query_ids: Sequence[str]) -> str:
    values = {
        name: comparison.evaluations[name].measured.by_query(comparison.metric) for name in (comparison.best, other)
    }
    rows = []
    for query_id in query_ids:
        cells = "".join(
            f"<td>{values[name][query_id]:.3f}{_first_hits(comparison, name, query_id)}</td>"
            for name in (comparison.best, other)
        )
        rows.append(f"<tr><td>{escape(_words(comparison.queries[query_id]))}</td>{cells}</tr>")
    head = "".join(f"<th>{escape(cell)}</th>" for cell in ("query", comparison.best, other))
    return (
        f'<div class="scroll"><table class="hits"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        "</div>"
    )


def _first_hits(comparison: Differences, name: str, query_id: str) -> str:
    """List the first hits; the relevant ones are bold."""
    run = comparison.evaluations[name].run
    relevant = set(comparison.qrels.relevant(query_id))
    items = list(run[query_id])[:SHOWN_HITS] if run is not None and query_id in run else []
    lines = [
        f"<br>{place}. <span{' class=right' if item in relevant else ''}>"
        f"{escape(_short(comparison.titles.get(item) or item, 70))}</span>"
        for place, item in enumerate(items, start=1)
    ]
    return "".join(lines)


def _notes(comparison: Differences) -> list[str]:
    notes = dict.fromkeys(note for evaluation in comparison.evaluations.values() for note in evaluation.notes)
    return [*notes, *[f"{name} failed: {message}" for name, message in comparison.failures.items()]]


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<h2>{title}</h2><ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _words(query: Query) -> str:
    past = f" (after {', '.join(query.history)})" if query.history else ""
    return f"{query.text or ''}{past}".strip()


def _colour(comparison: Differences, name: str) -> str:
    return COLOURS[list(comparison.evaluations).index(name) % len(COLOURS)]


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _share(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.1%}"
