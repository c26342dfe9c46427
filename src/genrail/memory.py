"""What was freed goes back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress

__all__ = ["give_back_memory"]


def give_back_memory() -> None:
    """Return freed memory to the system; the C library of Linux would keep its pages for itself, others do not."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
