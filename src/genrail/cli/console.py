"""What every command shares: tables, progress, one-sentence errors, exit codes."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from genrail.errors import GenrailError, MissingPackageError, StorageError, UserError

__all__ = ["errors_as_sentences", "note", "plain", "print_json", "print_table", "stage_progress", "waiting"]

# Packages that a verb may need beside the base, and the extra that brings them.
_OPTIONAL = dict.fromkeys(
    ("torch", "transformers", "tokenizers", "safetensors", "sentence_transformers", "sklearn", "scipy"), "torch"
)
_OUT = Console()
_NOTES = Console(stderr=True)


def plain(value: Any) -> str:
    r"""Turn a value into text that cannot steer a terminal.

    Control and format characters (escape sequences, bidirectional marks) become spaces or vanish; the text stays data.

    >>> plain("Boot\x1b[31m red")
    'Boot [31m red'
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    kinds = ((character, unicodedata.category(character)) for character in str(value))
    return "".join(" " if kind == "Cc" else "" if kind in ("Cf", "Cs") else character for character, kind in kinds)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as a table; numbers stand to the right."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", header_style="bold")
    for number, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(value)) for value in row))
    _OUT.print(table)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output, for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str, allow_nan=False) + "\n")


def note(message: str) -> None:
    """Tell the reader something on standard error, so that standard output stays clean."""
    _NOTES.print(Text(plain(message)))


class _Rate(ProgressColumn):
    """Show how many are done per second, such as texts encoded."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        counted = task.total is not None and task.total >= COUNTED
        return Text(f"{speed:,.0f}/s" if counted and speed else "")


COUNTED = 20  # stages of fewer parts are steps, not things of one kind


@contextmanager
def stage_progress(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Show the stages of long work with the time left, on standard error.

    Yields:
        A function (stage, done, total) that the work calls as it goes.
    """
    bars = Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=_NOTES,
        disable=quiet,
    )
    tasks: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    with bars:
        yield show


@contextmanager
def waiting(message: str) -> Iterator[None]:
    """Say on standard error what is being waited for, while it lasts."""
    with _NOTES.status(Text(message)):
        yield


@contextmanager
def errors_as_sentences(debug: bool = False) -> Iterator[None]:
    """Turn an error into one sentence and an exit code: 2 for the user's mistake, 1 for ours."""
    try:
        yield
    except GenrailError as error:
        if debug:
            raise
        note(f"error: {error}")
        raise SystemExit(2 if isinstance(error, UserError | StorageError) else 1) from error
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if debug or package not in _OPTIONAL:
            raise
        note(f"error: {MissingPackageError(package, _OPTIONAL[package], 'this engine')}")
        raise SystemExit(2) from error
    except KeyboardInterrupt as error:
        note("stopped; nothing was published")
        raise SystemExit(130) from error
