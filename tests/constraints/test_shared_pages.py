"""Several processes that open one saved index hold its arrays in memory once."""

import multiprocessing
import re
from pathlib import Path

import numpy as np
import pytest

from genrail.constraints import LiveTrie, Trie

SMAPS = Path("/proc/self/smaps")


def held(folder):
    """Say how many KiB of the mapped arrays of a folder this process holds, and how many of them alone."""
    found = {"Rss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    inside = False
    for line in SMAPS.read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = str(folder) in line
        elif inside and line.split(":")[0] in found:
            found[line.split(":")[0]] += int(line.split()[1])
    return found["Rss"], found["Private_Clean"] + found["Private_Dirty"]


def read_all(folder):
    index = LiveTrie.load(folder)
    return index, [int(array.sum()) for array in index.old.arrays]


def reader(folder, connection):
    index, sums = read_all(folder)
    connection.recv()  # until all others have opened it too
    connection.send((sums, held(folder), len(index)))


@pytest.mark.skipif(not SMAPS.exists(), reason="needs /proc/self/smaps, which Linux has")
def test_processes_that_open_one_index_share_its_pages(tmp_path):
    items = 200_000
    codes = np.random.default_rng(0).integers(0, 256, (items, 4))
    LiveTrie(Trie.from_matrix(codes, vocab_size=256)).save(tmp_path)
    index, sums = read_all(tmp_path)
    context = multiprocessing.get_context("forkserver")
    pipes, processes = [], []
    for _ in range(2):
        mine, theirs = context.Pipe()
        processes.append(context.Process(target=reader, args=(tmp_path, theirs)))
        processes[-1].start()
        pipes.append(mine)
    for pipe in pipes:
        pipe.send("go")
    for pipe in pipes:
        own_sums, (kibibytes, alone), own_items = pipe.recv()
        assert own_sums == sums
        assert own_items == len(index) == items
        assert kibibytes > items * 8 // 1024, "the arrays are not mapped"
        assert alone < 0.05 * kibibytes
    for process in processes:
        process.join()
