"""What commands read beside the catalogue: events, queries, judgements, each with its account."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrail.cli.console import print_account

if TYPE_CHECKING:
    from genrail.catalog import Catalog, Interactions, Report

__all__ = [
    "Item",
    "MinRating",
    "Rating",
    "Timestamp",
    "User",
    "format_for",
    "parse_min_rating",
    "read_events",
    "read_settings",
]

User = Annotated[str | None, typer.Option("--user", help="User column of the interactions (guessed otherwise).")]
Item = Annotated[str | None, typer.Option("--item", help="Item column of the interactions (guessed otherwise).")]
Timestamp = Annotated[str | None, typer.Option("--timestamp", help="Time column of the interactions.")]
Rating = Annotated[str | None, typer.Option("--rating", help="Rating column of the interactions.")]
MinRating = Annotated[
    str | None,
    typer.Option("--min-rating", help="Lowest rating that is a like, or all (half of the highest otherwise)."),
]


def format_for(path: Path, format: str | None) -> str | None:
    """Give the format of one of several files: what was said counts for those whose name does not tell.

    >>> format_for(Path("events.csv"), "jsonl"), format_for(Path("events.log"), "jsonl")
    (None, 'jsonl')
    """
    from genrail.catalog.sources import known_by_name

    return None if format is None or known_by_name(path) or path.is_dir() else format


def read_events(
    path: Path, catalog: Catalog, *, format: str | None = None, encoding: str | None = None, **columns: Any
) -> tuple[Interactions, Report]:
    """Read events and account for them against a catalogue, on standard error.

    Raises:
        CatalogError: The file cannot be read, or hardly any of its events is of an item of the catalogue.
    """
    from genrail.catalog import Interactions

    events = Interactions.read(path, format=format_for(path, format), encoding=encoding, **columns)
    report = events.account(catalog)
    told = events.columns
    roles = {
        "user": told.user,
        "item": told.item,
        "timestamp": told.timestamp or "none",
        "rating": told.rating or "none",
    }
    print_account(report, "used", "; " + ", ".join(f"{role}: {name}" for role, name in roles.items()))
    return events, report


def parse_min_rating(given: str | None) -> float | None:
    """Read the lowest rating that is a like; `all` takes every event.

    Raises:
        SettingsError: It is neither a number nor `all`.

    >>> parse_min_rating("all"), parse_min_rating("3.5"), parse_min_rating(None)
    (-inf, 3.5, None)
    """
    from genrail.errors import SettingsError

    if given is None or given == "all":
        return None if given is None else float("-inf")
    try:
        return float(given)
    except ValueError:
        raise SettingsError(f"--min-rating is {given!r}; give a number, or all") from None


# What `Engine.build` and `Engine.train` take beside settings, and the option that gives it.
OPTIONS = {name: f"--{name}" for name in ("encoder", "interactions", "model", "qrels", "queries", "seed", "teacher")}
OPTIONS |= {name: f"--{name}" for name in ("synonyms", "title", "text")}
OPTIONS |= {"catalog": "CATALOG", "hold_out": "--holdout", "item_id": "--id", "recipe": "--recipe"}


def read_settings(given: list[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs; values are JSON where they can be, else words.

    >>> read_settings(["epochs=3", "index=exact"])
    {'epochs': 3, 'index': 'exact'}
    """
    from genrail.errors import SettingsError

    found: dict[str, Any] = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not sign or not name.strip():
            raise SettingsError(f"--set {pair!r} is not NAME=VALUE; write for example --set epochs=3")
        if name.strip() in OPTIONS:
            raise SettingsError(f"--set {pair!r}: that is no setting of a recipe; use {OPTIONS[name.strip()]}")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found
