"""Show docstrings on the site: their examples as code, which stand bare for doctest, and the level of a public name."""

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import griffe

# A prompt, and what follows up to an empty line; several such blocks in a row are one example.
EXAMPLE = re.compile(r"(?:^(?P<indent>[ ]*)>>> .*\n(?:(?P=indent)\S.*\n|(?P=indent)[ ]+\S.*\n)*\n?)+", re.MULTILINE)


def fenced(text: str) -> str:
    """Put the examples of a docstring into fences."""
    return EXAMPLE.sub(
        lambda found: f"{found['indent']}```pycon\n{found[0].rstrip()}\n{found['indent']}```\n", text + "\n"
    ).rstrip()


@cache
def marks() -> dict[str, str]:
    """Tell of each public name, by where it is defined, its level and how it is imported."""
    sys.path.insert(0, str(Path(__file__).parent))
    from site_hooks import home, levels

    found: dict[str, str] = {}
    for package, names in levels().items():
        for name, level in names.items():
            found.setdefault(home(package, name), f"*{level}* · `from {package} import {name}`\n\n")
    return found


class Shown(griffe.Extension):
    """Change the docstring of each object when it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence the examples, and mark public names."""
        if obj.docstring is not None:
            obj.docstring.value = marks().get(obj.path, "") + fenced(obj.docstring.value)
