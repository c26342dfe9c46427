"""Draw the pictures of `constraints.py`; alone, from the JSON that it wrote.

python benchmarks/constraint_pictures.py constraints.json FOLDER
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

Results = dict[str, list[dict[str, Any]]]
COLOURS = {"ours": "C0", "unconstrained": "C1", "STATIC": "C2", "dict": "C3"}


def draw(results: Results, folder: Path) -> None:
    """Draw step time by catalogue size for all peers, and by share of allowed items, as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "genrail", "svg.fonttype": "none"})  # the same figures, the same file
    folder.mkdir(parents=True, exist_ok=True)
    by_size(results).savefig(folder / "constraint-step-by-size.svg", bbox_inches="tight", metadata={"Date": None})
    by_selectivity(results).savefig(
        folder / "constraint-step-by-selectivity.svg", bbox_inches="tight", metadata={"Date": None}
    )


def by_size(results: Results, shape: str = "8x20") -> Any:
    """Draw one panel per kind of catalogue and one line per peer."""
    from matplotlib import pyplot

    rows = [row for row in results.get("steps", []) if row["shape"] == shape]
    works = list(dict.fromkeys(row["work"] for row in rows))
    figure, panels = pyplot.subplots(1, len(works), figsize=(4.5 * len(works), 4), sharey=True, squeeze=False)
    for axes, work in zip(panels[0], works, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            for peer, values in row["levels_ms"].items() if row["work"] == work else ():
                lines.setdefault(peer, []).append((row["items"], statistics.mean(values)))
        for peer, points in sorted(lines.items()):
            line = "-" if peer == "ours" else "--"
            axes.loglog(*zip(*sorted(points), strict=True), line, color=COLOURS[peer], marker="o", label=peer)
        axes.set(xlabel="items", title=work)
        axes.legend(fontsize=8)
    panels[0][0].set_ylabel(f"milliseconds per step, {shape}")
    return figure


def by_selectivity(results: Results) -> Any:
    """Draw one line per kind of catalogue and shape."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for row in results.get("subsets", []):
        axes.semilogx(row["shares"], row["ratios"], marker="o", label=f"{row['work']}, {row['shape']}")
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xlabel="share of the items that are allowed", ylabel="step, by the unfiltered step")
    axes.set_ylim(0, None)
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
