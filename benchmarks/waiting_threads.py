"""Measure what it costs that threads wait for each other, on quiet cores and beside loops that keep them busy.

    python benchmarks/waiting_threads.py --busy 2

Builds a small engine with histories in a process of its own for each way of waiting, in turns, and prints seconds. The
ways are settings of GNU's OpenMP, which torch loads; `genrail` as a command sets GOMP_SPINCOUNT=10000 (decision 0087).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version

WAYS: dict[str, dict[str, str]] = {
    "as torch comes": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "1,000 rounds": {"GOMP_SPINCOUNT": "1000"},
    "10,000 rounds": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
BUILD = """
import time
import numpy as np
import genrail
random = np.random.default_rng(0)
words = "red blue green trail wool boot shoe sock hat leather".split()
items = [{"id": f"i{row}", "title": " ".join(random.choice(words, 4))} for row in range(300)]
pasts = {f"u{user}": [f"i{row}" for row in random.integers(300, size=8)] for user in range(300)}
events = genrail.Interactions.from_sequences(pasts)
began = time.perf_counter()
genrail.Engine.build(items, "native", interactions=events, encoder="hashing", epochs=2, seed=0)
print(time.perf_counter() - began)
"""


def seconds(settings: dict[str, str]) -> float:
    """Build once in a process with these settings."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", BUILD], capture_output=True, text=True, check=True, env=plain | settings
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print a line for each way of waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0, help="loops that run beside")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    facts = {"machine": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps({**facts, "torch": version("torch"), "command": " ".join(sys.argv)}), flush=True)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(given.busy)]
    try:
        found: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(given.turns):
            for name, settings in WAYS.items():
                found[name].append(seconds(settings))
    finally:
        for loop in loops:
            loop.kill()
    for name, took in found.items():
        print(f"{name:15} {statistics.median(took):6.1f} s ({', '.join(f'{one:.1f}' for one in took)})")


if __name__ == "__main__":
    main()
