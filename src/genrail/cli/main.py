"""The door: start a command, quiet when it is stopped. Importing this costs nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrail.cli.commands import app

__all__ = ["app", "run"]


def run() -> None:
    """Run the command line."""
    if "OMP_WAIT_POLICY" not in os.environ:  # threads that wait soon leave the core to others (decision 0087)
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
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
