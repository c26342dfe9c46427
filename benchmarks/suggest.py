"""How long a keystroke takes: twelve of them for each of some titles, at 10^5 and 10^6 titles, one thread.

python benchmarks/suggest.py --items 1000000
"""

from __future__ import annotations

import argparse
import platform
import resource
import time

import numpy as np
import polars as pl

import genrail
from genrail.catalog import Catalog
from genrail.catalog.suggesting import Suggester

KEYSTROKES = 12


def titles(items: int, seed: int) -> list[str]:
    """Draw titles of eight words from 50,000 words whose frequency falls as in language (Zipf)."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, size=size)) for size in rng.integers(3, 10, size=50_000)]
    drawn = np.minimum(rng.zipf(1.2, size=(items, 8)) - 1, len(words) - 1)
    return [" ".join(words[place] for place in row) for row in drawn.tolist()]


def main() -> None:
    """Measure, and print the machine, the data and the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--typed", type=int, default=200, help="Titles that are typed.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    names = titles(given.items, given.seed)
    catalog = Catalog.from_frame(pl.DataFrame({"id": [str(n) for n in range(given.items)], "title": names}))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    suggester = Suggester(catalog)
    built = time.process_time() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    rng = np.random.default_rng(given.seed + 1)
    times = np.zeros((given.typed, KEYSTROKES))
    catalog.item_ids, catalog.titles  # noqa: B018  made once, by whatever asks first
    for number, place in enumerate(rng.integers(given.items, size=given.typed).tolist()):
        for keystroke in range(KEYSTROKES):
            start = time.process_time()
            suggester.suggest(names[place][: keystroke + 1], 8)
            times[number, keystroke] = (time.process_time() - start) * 1000
    print(f"genrail {genrail.__version__}, Polars {pl.__version__}, {platform.processor() or platform.machine()}")
    print(
        f"{given.items:,} titles of eight words, seed {given.seed}; {given.typed} typed, {KEYSTROKES} keystrokes each"
    )
    print(f"made in {built:.1f} CPU seconds, {grown / 2**10:.0f} MiB more at the peak")
    median, most = np.median(times, axis=0), np.percentile(times, 99, axis=0)
    print("keystroke       " + "".join(f"{number:>7}" for number in range(1, KEYSTROKES + 1)))
    print("median, CPU ms  " + "".join(f"{value:7.2f}" for value in median))
    print("99th of 100     " + "".join(f"{value:7.2f}" for value in most))


if __name__ == "__main__":
    main()
