"""Write and read the files of a finder: arrays as .npy, words as JSON; never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.errors import DamagedError

__all__ = ["load_array", "load_json", "save_arrays", "save_json"]


def save_arrays(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Write each array as ``<name>.npy`` into an existing folder."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def load_array(
    folder: Path, name: str, kind: npt.DTypeLike, shape: tuple[int | None, ...], *, mapped: bool = False
) -> Array:
    """Read one array and check its type and shape.

    Args:
        folder: Where it lies.
        name: Of the file, without ``.npy``.
        kind: The type it must have.
        shape: Its sizes; None for any.
        mapped: Leave it on disk and read what is asked for.

    Raises:
        DamagedError: The file is missing, cut, or holds something else.
    """
    path = folder / f"{name}.npy"
    try:
        array: Array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; restore the folder or build it again") from None
    except (ValueError, EOFError, OSError) as error:
        raise DamagedError(f"{path} cannot be read ({error}); restore the folder or build it again") from None
    fits = array.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
    if array.dtype != np.dtype(kind) or not fits:
        raise DamagedError(
            f"{path} holds {array.dtype} of shape {array.shape}, not {np.dtype(kind)} of {shape}; "
            "restore the folder or build it again"
        )
    return array


def save_json(folder: Path, name: str, value: object) -> None:
    """Write plain values as ``<name>.json``."""
    (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def load_json(folder: Path, name: str) -> Any:
    """Read what `save_json` wrote.

    Raises:
        DamagedError: The file is missing or is not JSON.
    """
    path = folder / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; restore the folder or build it again") from None
    except (ValueError, OSError) as error:
        raise DamagedError(f"{path} cannot be read ({error}); restore the folder or build it again") from None
