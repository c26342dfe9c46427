"""Lay out tables for terminals and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["markdown_table", "text_table"]


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns for a terminal: the first to the left, the others to the right.

    >>> print(text_table(["method", "R@10"], [["BM25", "0.81"]]))
    method  R@10
    ------  ----
    BM25    0.81
    """
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Write a table in Markdown; a bar inside a cell is escaped.

    >>> print(markdown_table(["method", "R@10"], [["a|b", "0.81"]]))
    | method | R@10 |
    | --- | ---: |
    | a\|b | 0.81 |
    """
    rule = ["---", *["---:"] * (len(header) - 1)]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in [header, *rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in [cells[0], rule, *cells[1:]])
