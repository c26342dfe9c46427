"""Constraints: which token sequences exist, which items a request may receive, and the step that obeys both.

Integers in, integers out; no torch. The classes are loaded when first used, so that naming the seam
(`genrail.constraints.index`) does not pay for numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrail.constraints.segments import LiveTrie
    from genrail.constraints.substring import SubstringIndex
    from genrail.constraints.trie import Trie
    from genrail.constraints.warming import is_warm, warm_up

__all__ = ["LiveTrie", "SubstringIndex", "Trie", "is_warm", "warm_up"]

_HOMES = {
    "LiveTrie": "genrail.constraints.segments",
    "SubstringIndex": "genrail.constraints.substring",
    "Trie": "genrail.constraints.trie",
    "is_warm": "genrail.constraints.warming",
    "warm_up": "genrail.constraints.warming",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
