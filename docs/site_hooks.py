"""Fill the reference pages of the site from the code itself, so that no public name can be missing.

A line ``<!-- names of genrail.catalog -->`` becomes one entry for each name that the package exports, marked with its
level from stability.md; ``<!-- commands -->`` becomes the help of each command; ``<!-- decisions -->`` their list.
"""

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
REPOSITORY = "https://github.com/genrail/genrail/blob/main"
_told: dict[str, str] = {}  # where a name is defined, and the package on whose page it is told in full
ROW = re.compile(r"^\| `(genrail[\w.]*)` \|([^|]*)\|([^|]*)\|$", re.MULTILINE)


@cache
def levels() -> dict[str, dict[str, str]]:
    """Read the level of each public name from stability.md, by package."""
    table = {}
    for package, *cells in ROW.findall((DOCS / "stability.md").read_text()):
        named = zip(("stable", "provisional"), cells, strict=True)
        table[package] = {name: level for level, cell in named for name in re.findall(r"`(\w+)`", cell)}
    return table


def home(package: str, name: str) -> str:
    """Find where a public name is defined; its package may have a module of the same name."""
    value = getattr(import_module(package), name)
    module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if qualified == "Engine.load":  # bound to its class, a function of its own to whoever reads
        return "genrail.engine.load"
    return f"{module}.{qualified}" if module and qualified == name else f"{package}.{name}"


def names_of(match: re.Match[str]) -> str:
    """Write the entries of a package; the first page lists its names, which other pages tell in full."""
    package = match[1]
    names = sorted(name for name in import_module(package).__all__ if not name.startswith("__"))
    if package == "genrail":
        rows = [f"| [`{name}`][{home(package, name)}] | {_first_line(package, name)} |" for name in names]
        return "\n".join(["| name | |", "|---|---|", *rows])
    entries = []
    for name in names:
        place = home(package, name)
        again = _told.setdefault(place, package) != package
        entries.append(f"## {name}\n\nSee [`{_told[place]}.{name}`][{place}]." if again else f"::: {place}")
    return "\n\n".join(entries)


def _first_line(package: str, name: str) -> str:
    return (getattr(import_module(package), name).__doc__ or "").strip().splitlines()[0]


def commands(_: re.Match[str]) -> str:
    """Write the help of each command, as the terminal prints it, without its frame."""
    import click
    from typer.main import get_command

    from genrail.cli.main import app

    def pages(command: Any, path: str) -> list[str]:
        inner = getattr(command, "commands", None)
        if inner:
            return [page for name, each in inner.items() for page in pages(each, f"{path} {name}")]
        shown = command.get_help(click.Context(command, info_name=path, max_content_width=100, terminal_width=100))
        return [f"## {path}\n\n```text\n{shown}\n```"]

    return "\n\n".join(pages(get_command(app), "genrail"))


def decisions(_: re.Match[str]) -> str:
    """List the records by their titles."""
    records = sorted((DOCS / "decisions").glob("0*.md"))
    titles = [re.sub(r"^\d+ ", "", path.read_text().splitlines()[0].removeprefix("# ")) for path in records]
    return "\n".join(f"- [{path.name[:4]}]({path.name}) {title}" for path, title in zip(records, titles, strict=True))


def on_config(config: Any) -> Any:
    """Add the decision records to the navigation."""
    [group] = [entry["Decisions"] for entry in config.nav if "Decisions" in entry]
    _told.clear()
    group.extend(f"decisions/{path.name}" for path in sorted((DOCS / "decisions").glob("0*.md")))
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the marks of a page; lead links that leave the documents to the repository."""
    markdown = re.sub(r"<!-- names of ([\w.]+) -->", names_of, markdown)
    markdown = re.sub(r"<!-- commands -->", commands, markdown)
    markdown = re.sub(r"<!-- decisions -->", decisions, markdown)
    return re.sub(
        r"\]\((?:\.\./)+(examples|tests|recipes|benchmarks|src|README|CHANGELOG)", rf"]({REPOSITORY}/\1", markdown
    )
