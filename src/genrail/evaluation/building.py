"""Build the methods that are to be compared, note what each costs, and go on when one crashes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genrail.types import Json, Progress, Retriever

__all__ = ["BuildCost", "Built", "Candidate", "build_all", "folder_bytes", "resident_bytes"]


@dataclass(frozen=True)
class Candidate:
    """Say how a method is made, without making it.

    Args:
        name: For tables and messages.
        make: Makes it; may take long, and may fail.
    """

    name: str
    make: Callable[[], Retriever]


@dataclass(frozen=True)
class BuildCost:
    """Hold what a method costs before the first query.

    Args:
        seconds: To build it; None where it was built before.
        index_bytes: Of its saved folder; None where it cannot be saved.
        memory_bytes: By which the process grew while it was built, freed memory that was used again not counted; None
            where the system does not tell.
    """

    seconds: float | None
    index_bytes: int | None
    memory_bytes: int | None

    def to_dict(self) -> dict[str, Json]:
        """Turn the cost into plain values for JSON."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Built:
    """Hold the methods that could be made.

    Args:
        retrievers: In the order of the candidates.
        costs: By name of the candidate.
        failures: Message of each that could not be made.
    """

    retrievers: Mapping[str, Retriever]
    costs: Mapping[str, BuildCost]
    failures: Mapping[str, str]


def build_all(candidates: Sequence[Candidate], progress: Progress | None = None) -> Built:
    """Make each method in turn, timing it; one that crashes is reported and the others go on.

    Args:
        candidates: Names must differ.
        progress: Called with ("building", done, candidates).
    """
    retrievers: dict[str, Retriever] = {}
    costs: dict[str, BuildCost] = {}
    failures: dict[str, str] = {}
    for done, candidate in enumerate(candidates):
        if progress is not None:
            progress("building", done, len(candidates))
        before, started = resident_bytes(), time.perf_counter()
        try:
            made = candidate.make()
        except Exception as error:  # whatever a method raises, the others must go on
            failures[candidate.name] = f"{type(error).__name__}: {error}"
            continue
        seconds, after = time.perf_counter() - started, resident_bytes()
        grown = None if before is None or after is None else max(0, after - before)
        retrievers[candidate.name] = made
        costs[candidate.name] = BuildCost(seconds, folder_bytes(made), grown)
    if progress is not None:
        progress("building", len(candidates), len(candidates))
    return Built(retrievers, costs, failures)


def folder_bytes(retriever: Retriever) -> int | None:
    """Save a method to a passing folder and add up its files; None where it has no `save` or it fails."""
    save = getattr(retriever, "save", None)
    if save is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            save(Path(folder) / "method")
        except Exception:  # not to be savable is no reason not to be compared
            return None
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def resident_bytes() -> int | None:
    """Give the memory that this process holds right now; None where the system does not tell (only Linux does)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize()
