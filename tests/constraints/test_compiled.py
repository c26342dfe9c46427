"""Kernels kept on disk: another process uses them, and never for other types than they were compiled for."""

from __future__ import annotations

import os
import subprocess
import sys

MODULE = """
import sys
import numpy as np
from genrail.constraints.compiled import compiled

@compiled
def total(values):
    found = values[0]
    for i in range(1, values.size):
        found += values[i]
    return found

if __name__ == "__main__":
    print(total(np.array([1, 2, 3])), total(np.array([0.5, 0.25])))
    print(sum(total.stats.cache_hits.values()), sum(total.stats.cache_misses.values()))
"""


def run(folder):
    """Sum integers and decimals in a process of its own; return what it says, and how many kernels it found there."""
    (folder / "sums.py").write_text(MODULE)
    places = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "kept")}
    said = subprocess.run([sys.executable, folder / "sums.py"], env=places, capture_output=True, text=True, check=True)
    sums, hits = said.stdout.splitlines()
    return sums, hits


def test_the_next_process_compiles_nothing(tmp_path):
    assert run(tmp_path) == ("6 0.75", "0 2")
    assert run(tmp_path) == ("6 0.75", "2 0")


def test_code_that_lies_under_the_name_of_another_type_is_compiled_again(tmp_path):
    """As two processes leave it that compile at once: numba's index of what is kept has no lock."""
    run(tmp_path)
    first, second = sorted((tmp_path / "kept").rglob("*.nbc"))
    ours, theirs = first.read_bytes(), second.read_bytes()
    first.write_bytes(theirs)
    second.write_bytes(ours)
    assert run(tmp_path) == ("6 0.75", "0 2")
    assert run(tmp_path) == ("6 0.75", "2 0")
