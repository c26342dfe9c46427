"""A process that is killed at any moment loses no acknowledged change and leaves no half version (B1)."""

import multiprocessing
import random
import time

import pytest

from genrail.storage import gc, publish, verify, versions
from tests.storage.content import fill
from tests.storage.crasher import crash, state

LONGEST_LIFE_SECONDS = 0.08  # some ten acts


def run_and_kill(context, folder, seed):
    """Run one crasher for a random while; give what it said."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=crash, args=(folder, seed, sender), daemon=True)
    process.start()
    sender.close()
    assert receiver.recv() == "ready"
    time.sleep(random.Random(seed).uniform(0, LONGEST_LIFE_SECONDS))
    process.kill()
    process.join()
    said = []
    try:
        while True:
            said.append(receiver.recv())
    except (EOFError, OSError):
        receiver.close()
    return said


def kill_again_and_again(folder, kills):
    """Return how many of the kills came in the middle of an act."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.storage.crasher"])
    publish(folder, fill(1), details={"tag": 1})
    acknowledged = (1, [])
    within = 0
    for seed in range(1, kills + 1):
        said = run_and_kill(context, folder, seed)
        done = [act for act, end in zip(said, said[1:], strict=False) if act is not None and end is None]
        acknowledged = done[-1] if done else acknowledged
        pending = said[-1] if said and said[-1] is not None else acknowledged
        within += pending is not acknowledged
        found = state(folder)
        assert found in (acknowledged, pending), f"kill {seed}"
        if seed % 5 == 0:
            gc(folder)
            assert [problem for problem in verify(folder) if "never acknowledged" not in problem] == []
            names = {path.name for path in (folder / "versions").iterdir()}
            assert names == {f"{number:06d}{end}" for number in versions(folder) for end in ("", ".journal")}
            assert len(versions(folder)) <= 2
        acknowledged = found
    return within


def test_a_hundred_kills_lose_nothing(tmp_path):
    assert kill_again_and_again(tmp_path / "shop.genrail", 100) > 25


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_kills_lose_nothing(tmp_path):
    assert kill_again_and_again(tmp_path / "shop.genrail", 1000) > 250
