"""The array type that every room speaks where the numbers may be of several types."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy.typing as npt

__all__ = ["Array"]

Array: TypeAlias = npt.NDArray[Any]
"""An array whose type of numbers is told by the text or checked where it is used."""
