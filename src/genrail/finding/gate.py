"""The last gate: an independent check that every answer is allowed, behind the decoder."""

from __future__ import annotations

from threading import Lock

import numpy as np
import numpy.typing as npt

from genrail.errors import ClosedWorldError

__all__ = ["Gate"]


class Gate:
    """Refuse answers that hold an item which is not allowed, and count them.

    The decoder already guarantees the closed world through the index. This check shares no code with it: it looks rows
    up in a mask made from the catalogue. A violation is a bug of ours, so it is counted and the answer is refused.

    >>> gate = Gate()
    >>> gate.check(np.array([0, 2]), np.array([True, False, True]))
    >>> gate.checked, gate.violations
    (2, 0)
    """

    def __init__(self) -> None:
        self.checked = 0
        self.violations = 0
        self._lock = Lock()

    def check(self, rows: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]) -> None:
        """Check one answer.

        Args:
            rows: Catalogue rows of the hits.
            allowed: Mask over catalogue rows.

        Raises:
            ClosedWorldError: A row is outside the catalogue, not allowed, or there twice.
        """
        inside = (rows >= 0) & (rows < allowed.size)
        wrong = rows[~inside].tolist() + rows[inside][~allowed[rows[inside]]].tolist()
        repeated = rows.size - np.unique(rows).size
        with self._lock:
            self.checked += int(rows.size)
            self.violations += len(wrong) + int(repeated)
        if wrong or repeated:
            raise ClosedWorldError(
                f"the decoder returned {len(wrong)} rows that are not allowed ({wrong[:5]}) and {repeated} repeated "
                "rows; the answer is refused, please report this"
            )
