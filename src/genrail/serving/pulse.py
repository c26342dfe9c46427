"""Tell from outside whether a process still works: it answers beats, or at least uses the processor."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Pulse", "processor_seconds"]

SILENT_LOOKS = 2  # then nobody is sent there any more
HUNG_LOOKS = 6  # neither answers nor works: nothing will come of it
BUSY_LOOKS = 120  # works and does not answer, as one that merges a large index in one call
STARTING_LOOKS = 120  # reading an engine from a slow disk uses next to no processor


class Pulse:
    """Judge a process by looks in even steps; there is no clock here, so that none can jump.

    Args:
        starting: Whether it still opens its engine, and answers no beat.

    >>> pulse = Pulse()
    >>> for _ in range(1 + HUNG_LOOKS):  # a new one counts as heard at the first
    ...     pulse.look(used=1.5)
    >>> pulse.silent, pulse.hung
    (True, True)
    """

    def __init__(self, starting: bool = False) -> None:
        self._starting = starting
        self._most = STARTING_LOOKS if starting else HUNG_LOOKS
        self._beaten = True
        self._used: float | None = None
        self._quiet = 0  # looks in a row without a sign of life
        self._busy = 0  # looks in a row without an answer

    def beat(self) -> None:
        """Hear an answer."""
        self._beaten = True

    def look(self, used: float | None) -> None:
        """Take a step.

        Args:
            used: Seconds of processor time that the process has used; None where that cannot be told.
        """
        works = used is not None and self._used is not None and used > self._used
        self._quiet = 0 if self._beaten or works else self._quiet + 1
        self._busy = 0 if self._beaten else self._busy + 1
        self._beaten, self._used = False, used

    @property
    def silent(self) -> bool:
        """Tell whether it has not been heard of lately."""
        return self._quiet >= SILENT_LOOKS

    @property
    def hung(self) -> bool:
        """Tell whether it has to be ended."""
        # One that opens its engine answers no beat for as long as that takes, and only has to work.
        return self._quiet >= self._most or (not self._starting and self._busy >= BUSY_LOOKS)


def processor_seconds(pid: int) -> float | None:
    """Tell how much processor time a process has used; None where the system does not say.

    >>> processor_seconds(os.getpid()) != 0
    True
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
