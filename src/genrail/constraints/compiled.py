"""How kernels are compiled: without the interpreter's lock, and kept on disk between processes where possible."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast, overload

import numpy as np

try:
    import numba
except ImportError:  # the base install: `pip install genrail` without the extra `kernels`
    numba = None

__all__ = ["COMPILES", "SLOW", "Arrays", "Number", "compiled"]

COMPILES = numba is not None
"""Whether kernels are compiled; else they run as plain Python, with the same answers."""

SLOW = 'numba is not installed, so constraints run as plain Python, far slower: pip install "genrail[kernels]"'

Arrays: TypeAlias = tuple[Any, ...]
"""Arrays, and a few numbers beside them, that enter a kernel together; what each holds is said where it is made."""

Number: TypeAlias = int | np.integer
"""A whole number within a kernel, such as a rank, a token or a depth."""

Kernel = TypeVar("Kernel", bound=Callable[..., object])


@overload
def compiled(function: Kernel) -> Kernel: ...


@overload
def compiled(
    *, fastmath: set[str] = ..., inline: bool = ..., allocates: bool = ..., plain: Callable[..., object] | None = ...
) -> Callable[[Kernel], Kernel]: ...


def compiled(
    function: Kernel | None = None,
    *,
    fastmath: set[str] | None = None,
    inline: bool = False,
    allocates: bool = False,
    plain: Callable[..., object] | None = None,
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
        plain: What to run in its place where numba is not installed; default the function itself, as plain Python.

    >>> @compiled
    ... def twice(x): return 2 * x
    >>> twice(21)
    42
    """
    options: dict[str, object] = {"nogil": True, "forceinline": inline, "_nrt": allocates}
    if fastmath is not None:
        options["fastmath"] = fastmath

    def decorate(kernel: Kernel) -> Kernel:
        if numba is None:
            return kernel if plain is None else cast(Kernel, plain)
        try:
            kept: Kernel = numba.njit(cache=True, **options)(kernel)
            return _stamped(kept)
        except RuntimeError:  # "cannot cache function: no locator available"
            unkept: Kernel = numba.njit(**options)(kernel)
            return unkept

    return decorate if function is None else decorate(function)


def _stamped(kernel: Kernel) -> Kernel:
    """Let a cached kernel go stale when any kernel changes, and be used for the types that it was compiled for only.

    numba looks at the kernel's own file only, but its machine code holds copies of kernels of other files. And its
    index knows no lock: processes that compile at once on a new machine may write the code for one type under the name
    of another, which would then read arrays as what they are not, in every process from then on.
    """
    kept = getattr(kernel, "_cache", None)
    index = getattr(kept, "_cache_file", None)
    if kept is None or index is None or not hasattr(index, "_source_stamp"):
        return kernel
    index._source_stamp = (index._source_stamp, _sources())
    load = kept.load_overload

    def load_checked(types: tuple[object, ...], target: object) -> object:
        found = load(types, target)
        return found if found is None or tuple(found.signature.args) == tuple(types) else None

    kept.load_overload = load_checked
    return kernel


@cache
def _sources() -> bytes:
    """Hash the source of every kernel."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()
