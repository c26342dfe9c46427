"""Show the examples of docstrings as code: they stand bare, as doctest reads them, not in a section of their own."""

import re
from typing import Any

import griffe

# A prompt, and what follows up to an empty line; several such blocks in a row are one example.
EXAMPLE = re.compile(r"(?:^(?P<indent>[ ]*)>>> .*\n(?:(?P=indent)\S.*\n|(?P=indent)[ ]+\S.*\n)*\n?)+", re.MULTILINE)


def fenced(text: str) -> str:
    """Put the examples of a docstring into fences."""
    return EXAMPLE.sub(
        lambda found: f"{found['indent']}```pycon\n{found[0].rstrip()}\n{found['indent']}```\n", text + "\n"
    ).rstrip()


class Examples(griffe.Extension):
    """Change the docstring of each object when it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence the examples."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
