"""Show values to people: short texts and tables for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

__all__ = ["html_table", "html_text", "shortened"]

LONGEST = 60  # characters of a cell or a title in one line


def shortened(text: str, most: int = LONGEST) -> str:
    """Cut a text to what fits into a line.

    >>> shortened("a boot for the winter", 10)
    'a boot fo…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def html_table(names: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """Write a table as HTML; every value is text and nothing else.

    >>> html_table(["title"], [["<b>boot</b>"]])
    '<table><thead><tr><th>title</th></tr></thead><tbody><tr><td>&lt;b&gt;boot&lt;/b&gt;</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in row)}</tr>" for row in rows)
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_text(text: str) -> str:
    """Write a text that is laid out for a terminal as HTML.

    >>> html_text("a < b")
    '<pre>a &lt; b</pre>'
    """
    return f"<pre>{escape(text)}</pre>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return shortened(f"{value:.4g}" if isinstance(value, float) else str(value))
