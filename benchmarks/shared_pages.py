"""Open one saved index in several processes; tell how long that takes and what memory they share.

python benchmarks/shared_pages.py --items 10000000 --processes 4
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from genrail.constraints import LiveTrie, Trie, warm_up
from genrail.rng import generator

LEVELS, CODES = 4, 256


def memory(kind: str) -> float:
    """Give one line of this process's memory account, in MB: Rss, or Pss, in which shared pages count in part."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def open_and_tell(folder: Path, pipe: Any) -> None:
    """Open, make one step, read every array; then tell milliseconds and the memory that this added."""
    warm_up(vocab_size=CODES)
    before = memory("Rss"), memory("Pss")
    began = time.perf_counter()
    index = LiveTrie.load(folder)
    opened = time.perf_counter() - began
    index.candidates(index.start(1), np.zeros((1, CODES), np.float32), np.zeros((1, 1)), 20)
    first = time.perf_counter() - began
    for array in index.old.arrays:
        array.max(initial=0)
    pipe.send("open")
    pipe.recv()  # all have read it now
    pipe.send((opened * 1e3, first * 1e3, memory("Rss") - before[0], memory("Pss") - before[1]))
    pipe.recv()  # all have measured


def main() -> None:
    """Build, save, open."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10**7)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, seed {options.seed}")
    codes = generator(options.seed, "shared pages").integers(0, CODES, (options.items, LEVELS), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        index = LiveTrie(Trie.from_matrix(codes, vocab_size=CODES))
        index.save(name)
        print(f"{options.items:,} items of {LEVELS} x {CODES}: {index.nbytes / 2**20:.0f} MB")
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(options.processes)]
        processes = [context.Process(target=open_and_tell, args=(Path(name), theirs)) for _, theirs in pipes]
        for process in processes:
            process.start()
        for mine, _ in pipes:
            mine.recv()
        for mine, _ in pipes:
            mine.send("go")
        told = [mine.recv() for mine, _ in pipes]
        for mine, _ in pipes:
            mine.send("done")
        for process in processes:
            process.join()
    for opened, first, resident, own in told:
        times = f"opened in {opened:.1f} ms, first step after {first:.1f} ms"
        print(f"{times}; {resident:.0f} MB seen, {own:.0f} MB of them its share")


if __name__ == "__main__":
    main()
