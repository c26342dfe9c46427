"""How kernels are compiled: without the interpreter's lock, and kept on disk between processes where possible."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

import numba
import numpy as np

__all__ = ["Arrays", "Number", "compiled"]

Arrays: TypeAlias = tuple[Any, ...]
"""Arrays, and a few numbers beside them, that enter a kernel together; what each holds is said where it is made."""

Number: TypeAlias = int | np.integer
"""A whole number within a kernel, such as a rank, a token or a depth."""

Kernel = TypeVar("Kernel", bound=Callable[..., object])


@overload
def compiled(function: Kernel) -> Kernel: ...


@overload
def compiled(*, fastmath: set[str] = ..., inline: bool = ..., allocates: bool = ...) -> Callable[[Kernel], Kernel]: ...


def compiled(
    function: Kernel | None = None, *, fastmath: set[str] | None = None, inline: bool = False, allocates: bool = False
) -> Kernel | Callable[[Kernel], Kernel]:
    """Compile a function on first use and cache the machine code on disk.

    The cache lies in `NUMBA_CACHE_DIR`, else beside the source, else in the user's cache folder. Where none of them
    can be written (a read-only container without a home), the kernel is compiled again in each process instead of
    failing.

    Kernels hold the lock of no one (``nogil``), so that a batch can be split over threads. They do not check bounds:
    callers validate what they pass.

    Args:
        function: The function, when the decorator is used without arguments.
        fastmath: Liberties for floating point, by LLVM's names.
        inline: Copy the machine code into each caller.
        allocates: The kernel makes or returns arrays. Without this, it is compiled without reference counts: otherwise
            each array taken out of a tuple costs an atomic increment, which was more than half of a step.

    >>> @compiled
    ... def twice(x): return 2 * x
    >>> twice(21)
    42
    """
    options: dict[str, object] = {"nogil": True, "forceinline": inline, "_nrt": allocates}
    if fastmath is not None:
        options["fastmath"] = fastmath

    def decorate(kernel: Kernel) -> Kernel:
        try:
            kept: Kernel = numba.njit(cache=True, **options)(kernel)
            return _stamped(kept)
        except RuntimeError:  # "cannot cache function: no locator available"
            unkept: Kernel = numba.njit(**options)(kernel)
            return unkept

    return decorate if function is None else decorate(function)


def _stamped(kernel: Kernel) -> Kernel:
    """Let a cached kernel go stale when any kernel changes.

    numba looks at the kernel's own file only, but its machine code holds copies of kernels of other files.
    """
    index = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    if index is not None and hasattr(index, "_source_stamp"):
        index._source_stamp = (index._source_stamp, _sources())
    return kernel


@cache
def _sources() -> bytes:
    """Hash the source of every kernel."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()
