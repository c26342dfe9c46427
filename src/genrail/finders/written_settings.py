"""Settings of a language model as JSON and command lines write them: plain values and names of files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from genrail.catalog.readers import read_table
from genrail.catalog.values import written
from genrail.errors import SettingsError
from genrail.models.identifier_writer import WriterSettings
from genrail.models.prompts import Example, PromptTemplate

__all__ = ["read_examples", "typed_setting"]


def typed_setting(name: str, value: object) -> Any:
    """Turn a plain value into what a field of `LanguageModelSettings` holds.

    Args:
        name: Of the field. `template`, `examples` and `writer` may be dictionaries, the first two also files.
        value: As written; values of the right type stay.

    Raises:
        SettingsError: A dictionary with other names, a value of another kind, or a file that is not readable.

    >>> typed_setting("template", {"empty": "Which shoe?"}).empty
    'Which shoe?'
    """
    if name == "template" and value is not None and not isinstance(value, PromptTemplate):
        return _made(PromptTemplate, name, _page(value) if isinstance(value, str | Path) else value)
    if name == "writer" and value is not None and not isinstance(value, WriterSettings):
        return _made(WriterSettings, name, value)
    if name == "examples":
        if isinstance(value, str | Path):
            return read_examples(value)
        if not isinstance(value, Sequence):
            raise SettingsError(f"examples is {value!r}; give a file, or a list of title with query or history")
        return tuple(one if isinstance(one, Example) else _made(Example, name, one) for one in value)
    return tuple(value) if isinstance(value, list) else value


def _page(path: str | Path) -> object:
    """Read a file of JSON.

    Raises:
        SettingsError: There is none, or it holds something else.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is no readable file of JSON ({error})") from None


def read_examples(path: str | Path) -> tuple[Example, ...]:
    """Read answered requests (few-shot) from a table with the columns title and query, history, or both.

    Args:
        path: As in `Catalog.read`. In a history, titles are separated by ``|``; JSON may hold a list.

    Raises:
        CatalogError: The file cannot be read.
        SettingsError: There is no column title, or neither query nor history.
    """
    frame = read_table(path).frame
    if "title" not in frame.columns or not {"query", "history"} & set(frame.columns):
        raise SettingsError(
            f"{path}: examples need a column title, and query or history; the columns are: {', '.join(frame.columns)}"
        )
    return tuple(
        Example(written(row["title"]), row.get("query") or None, _titles(row.get("history")))
        for row in frame.iter_rows(named=True)
    )


def _titles(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(map(str, value))
    return tuple(part.strip() for part in written("" if value is None else value).split("|") if part.strip())


def _made(kind: type[Any], name: str, value: object) -> Any:
    known = [one.name for one in fields(kind)]
    if not isinstance(value, Mapping) or not set(value) <= set(known):
        raise SettingsError(f"{name} is {value!r}; give a dictionary with some of {', '.join(known)}")
    try:
        return kind(**value)
    except TypeError as error:
        raise SettingsError(f"{name} is {value!r}: {error}") from None
