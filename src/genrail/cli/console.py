"""What every command shares: tables, progress, one-sentence errors, exit codes."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from genrail.errors import GenrailError, MissingPackageError, StorageError, UserError

if TYPE_CHECKING:
    from genrail.catalog import Report

__all__ = [
    "errors_as_sentences",
    "note",
    "plain",
    "print_account",
    "print_json",
    "print_table",
    "stage_progress",
    "tolerant_streams",
    "waiting",
]

# Packages that a verb may need beside the base, and the extra that brings them.
_OPTIONAL = dict.fromkeys(
    ("torch", "transformers", "tokenizers", "safetensors", "sentence_transformers", "sklearn", "scipy"), "torch"
) | {"ir_measures": "evaluation", "pyarrow": "arrow"}
_OUT = Console()
_NOTES = Console(stderr=True)
_NAMED = 10  # refused rows that an account names
# What the library calls an argument, by what a command calls the option.
_OPTIONS = {
    "item_id": "--id",
    "title": "--title",
    "text": "--text",
    "user": "--user",
    "item": "--item",
    "timestamp": "--timestamp",
    "rating": "--rating",
    "min_rating": "--min-rating",
    "format": "--format",
    "encoding": "--encoding",
    "allow_large": "--allow-large",
    "where": "--where",
    "history": "--history",
}
_ARGUMENT = re.compile(rf"(?<![\w`'-])({'|'.join(_OPTIONS)})=(\.\.\.|True\b)?")


def plain(value: object) -> str:
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


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as a table; numbers stand to the right, and neither they nor headers are broken over lines."""
    table = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for number, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(Text(column), justify=justify, overflow="fold", no_wrap=numeric, min_width=len(column))
    for row in rows:
        table.add_row(*(Text(plain(value)) for value in row))
    _OUT.print(table)


def print_json(value: object) -> None:
    """Print a value as JSON on standard output, for programs."""
    wide = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")
    sys.stdout.write(json.dumps(value, ensure_ascii=not wide, indent=2, default=str, allow_nan=False) + "\n")


def tolerant_streams() -> None:
    """Let what a terminal cannot show be replaced on the way out, rather than end a command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def note(message: str) -> None:
    """Tell the reader something on standard error, so that standard output stays clean; a line is never broken."""
    _NOTES.print(Text(plain(message)), soft_wrap=True)


def print_account(report: Report, what: str = "used", more: str = "") -> None:
    """Tell on standard error what became of the rows of a file: rows in = used + refused, reasons, warnings.

    Args:
        report: Of the file.
        what: What the used rows are: indexed, added, updated, used.
        more: Said behind it on the same line.
    """
    note(report.sentence.replace(" used", f" {what}", 1) + more)
    for row, reason in report.refused[:_NAMED]:
        note(f"  row {row}: {reason}")
    if len(report.refused) > _NAMED:
        note(f"  and {len(report.refused) - _NAMED} more")
    for warning in report.warnings:
        note(f"warning: {as_options(warning)}")


def _options_there() -> set[str] | None:
    """List the options of the command that runs; None outside of one."""
    import typer

    # Typer brings a click of its own along in some versions: ask the one that its context comes from.
    click = import_module(typer.Context.__mro__[1].__module__.rpartition(".")[0] + ".globals")
    context = click.get_current_context(silent=True)
    return None if context is None else {name for one in context.command.params for name in one.opts}


def as_options(message: str) -> str:
    """Write the library's arguments in a message as the options of a command.

    >>> as_options("name it with item_id=...; or say encoding= (such as cp1252), or pass allow_large=True")
    'name it with --id ...; or say --encoding (such as cp1252), or pass --allow-large'
    """
    there = _options_there()

    def option(match: re.Match[str]) -> str:
        if there is not None and _OPTIONS[match.group(1)] not in there:
            return match.group(0)  # this command has no such option: what is left is the way in Python
        value = f" {match.group(2)}" if match.group(2) == "..." else ""
        quoted = message[match.end() : match.end() + 1] == '"'
        return _OPTIONS[match.group(1)] + value + (" " if quoted else "")

    return _ARGUMENT.sub(option, message)


class _Rate(ProgressColumn):
    """Show how many are done per second, such as texts encoded."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        counted = task.total is not None and task.total >= COUNTED
        return Text(f"{speed:,.0f}/s" if counted and speed else "")


COUNTED = 20  # stages of fewer parts are steps, not things of one kind
LINE_SECONDS = 5.0  # between two lines of a stage, where standard error is a file


class _Lines:
    """Tell how far long work is in plain lines, for a log: one as a stage begins and ends, and one now and then.

    Args:
        say: Takes a line.
        clock: Seconds, rising.

    >>> now = iter([0.0, 1.0, 8.0, 9.0, 50.0, 52.0])
    >>> tell = _Lines(print, lambda: next(now))
    >>> for done in (0, 10, 40, 100, 0, 100):  # a stage that begins once more has a new clock
    ...     tell("text vectors", done, 100)
    text vectors 0/100
    text vectors 40/100, 5/s, 12 s left
    text vectors 100/100 in 9 s
    text vectors 100/100 in 2 s
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._say = say
        self._clock = clock
        self._began: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._done: dict[str, int] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say something about a stage if it is time to."""
        now = self._clock()
        line = f"{stage} {done:,}/{total:,}"
        before = self._done.get(stage)
        self._done[stage] = done
        if before is None or done < before:
            self._began[stage] = self._said[stage] = now
            if before is None:
                self._say(line)
            return
        seconds, ended = now - self._began[stage], done >= total
        if ended and stage in self._said:
            self._say(f"{line} in {seconds:.0f} s")
            del self._said[stage]
        elif not ended and now - self._said.setdefault(stage, now) >= LINE_SECONDS and done and seconds:
            rate = f", {done / seconds:,.0f}/s" if total >= COUNTED else ""
            self._say(f"{line}{rate}, {seconds / done * (total - done):.0f} s left")
            self._said[stage] = now


@contextmanager
def stage_progress(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Show the stages of long work with the time left, on standard error: as bars, or as lines in a file.

    Yields:
        A function (stage, done, total) that the work calls as it goes.
    """
    if not _NOTES.is_terminal:
        yield (lambda *_: None) if quiet else _Lines(note, time.monotonic)
        return
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
        if done < bars.tasks[bars.task_ids.index(tasks[stage])].completed:
            bars.reset(tasks[stage])  # it begins once more
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
    """Turn an error into one sentence and an exit code: 2 for the user's mistake, 1 for ours.

    What nobody expected is one sentence as well; its traceback is in a file that the sentence names.
    """
    try:
        yield
    except GenrailError as error:
        if debug:
            raise
        note(f"error: {as_options(str(error))}")
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
    except BrokenPipeError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        if debug or error.filename is None:
            raise _unexpected(error, debug) from error
        note(f"error: {error.filename}: {(error.strerror or str(error)).lower()}; check the path and its permissions")
        raise SystemExit(2) from error
    except Exception as error:  # whatever it is, nobody should have to read a traceback
        raise _unexpected(error, debug) from error


def _unexpected(error: Exception, debug: bool) -> BaseException:
    if debug:
        return error
    story = "".join(traceback.format_exception(error))
    first = (str(error).strip().splitlines() or [""])[0][:200]
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="genrail-error-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(story)
        where = f"the traceback is in {file.name}"
    except OSError:
        where = "the traceback could not be written; try again with --debug"
    note(f"error: something went wrong that genrail did not expect ({said}); {where}, please report it")
    return SystemExit(1)
