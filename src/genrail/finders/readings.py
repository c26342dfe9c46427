"""Vectors of new items as plain values, as a log holds them: base64 of little-endian float32."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from genrail.errors import FormatError
from genrail.finding import Change, Json

__all__ = ["pack", "unpack"]

Vectors = npt.NDArray[np.float32]


def pack(vectors: Vectors) -> dict[str, Json]:
    """Write vectors of shape (n, dimensions) as plain values."""
    return {"vectors": base64.b64encode(vectors.astype("<f4").tobytes()).decode("ascii")}


def unpack(change: Change, dimensions: int) -> Vectors:
    """Read the vectors of all items that a change added, shape (n, dimensions).

    Raises:
        FormatError: The log holds something else.
    """
    parts = []
    for one in change.added:
        reading = one.reading
        packed = reading.get("vectors") if isinstance(reading, Mapping) else None
        flat = np.frombuffer(base64.b64decode(packed) if isinstance(packed, str) else b"", dtype="<f4")
        if len(flat) != len(one.items) * dimensions:
            raise FormatError(
                f"a change of {len(one.items)} items brings {len(flat)} numbers, not {dimensions} each; "
                "it was made with another text encoder"
            )
        parts.append(flat.astype(np.float32).reshape(-1, dimensions))
    return np.concatenate(parts) if parts else np.zeros((0, dimensions), dtype=np.float32)
