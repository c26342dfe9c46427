"""Generative retrieval on rails: a catalogue file becomes a search and recommendation engine.

The public names load on first use, so that ``import genrail`` is quick and does without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from genrail.types import Hit as Hit
    from genrail.types import Query as Query
    from genrail.types import Ranking as Ranking

_HOME = {
    "Hit": "genrail.types",
    "Query": "genrail.types",
    "Ranking": "genrail.types",
}

__all__ = ["Hit", "Query", "Ranking", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'genrail' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
