"""The door: start a command, quiet when it is stopped. Importing this costs nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrail.cli.commands import app

__all__ = ["app", "run"]


def run() -> None:
    """Run the command line."""
    try:
        from genrail.cli.commands import app
        from genrail.cli.console import tolerant_streams

        tolerant_streams()
        app()
    except KeyboardInterrupt:
        sys.exit(130)


def __getattr__(name: str) -> object:
    if name == "app":
        from genrail.cli.commands import app

        return app
    raise AttributeError(name)
