"""An engine whose process is killed while it changes loses no acknowledged change and still loads whole (B1, B9).

And a disk that fails at any call leaves the engine in memory and in its folder as they were (B2).
"""

import errno
import multiprocessing
import os
import random
import shutil
import signal
import time

import pytest

from genrail.errors import LockedError, StorageError
from genrail.storage import DISK, gc, verify
from genrail.storage.lock import hold
from tests.engine.update_crasher import content, crash, opened
from tests.shops import build, shop
from tests.storage.faults import FailingFiles, interruptions

MOST_SAID = 9  # an act is announced and acknowledged: two things each
LONGEST_PAUSE_SECONDS = 0.02  # an act takes some 10 ms
SIGNALS = [signal.SIGKILL] * 8 + [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "shop.genrail"
    build(shop(40), epochs=2).save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "shop.genrail")


def run_and_kill(context, folder, seed):
    """Run one crasher until it has said a random number of things; give what it said."""
    chance = random.Random(seed)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=crash, args=(folder, seed, sender))
    process.start()
    sender.close()
    assert receiver.recv() == "ready"
    # Counted in what the process says, not in seconds: a busy machine kills at the same places.
    said = [receiver.recv() for _ in range(chance.randint(0, MOST_SAID))]  # EOFError: the process ended by itself
    time.sleep(chance.uniform(0, LONGEST_PAUSE_SECONDS))
    assert process.is_alive()
    number = chance.choice(SIGNALS)
    os.kill(process.pid, number)
    try:
        while True:
            said.append(receiver.recv())
    except (EOFError, OSError):
        receiver.close()
    process.join()
    # An interrupt may surface as any error: libraries written in C report it as one of their own.
    assert number == signal.SIGINT or process.exitcode == -number
    return said


def kill_again_and_again(folder, kills, first=1):
    """Return how many acts were acknowledged, and how many of the kills came in the middle of one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.engine.update_warm"])
    acknowledged = content(opened(folder))
    acts = within = 0
    for seed in range(first, first + kills):
        said = run_and_kill(context, folder, seed)
        done = [act for act, end in zip(said, said[1:], strict=False) if act is not None and end is None]
        acknowledged = done[-1] if done else acknowledged
        pending = said[-1] if said and said[-1] is not None else acknowledged
        acts, within = acts + len(done), within + (pending is not acknowledged)
        engine = opened(folder)
        found = content(engine)
        assert found in (acknowledged, pending), f"kill {seed}"
        if seed % 5 == 0:
            ranking = engine.search("green clog", k=1000)
            assert ranking.exhausted
            assert sorted((hit.item_id, hit.title, hit.attributes["price"]) for hit in ranking) == found
            gc(folder)
            assert [problem for problem in verify(folder) if "never acknowledged" not in problem] == []
        acknowledged = found
    return acts, within


def test_kills_lose_no_acknowledged_change(folder):
    acts, within = kill_again_and_again(folder, 20)
    assert acts > 20 and within > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_kills_lose_no_acknowledged_change(folder):
    acts, within = kill_again_and_again(folder, 1000)
    assert acts > 1000
    assert within > 200


# --- a disk that fails ---

NEW = [{"sku": "new", "name": "purple wellington", "colour": "purple", "price": 5, "in_stock": True}]
ACTS = {
    "add": lambda engine: engine.add(NEW),
    "update": lambda engine: engine.update([{"sku": "s3", "name": "purple slipper"}, {"sku": "s4", "price": 1}]),
    "remove": lambda engine: engine.remove(["s5", "s6"]),
    "merge": lambda engine: engine.merge(),
}
CALLS = ("read", "make_directory", "write", "append", "truncate", "sync", "rename", "remove", "remove_tree")


def every_failure(folder, tmp_path, act, step):
    """Let every `step`-th call that an act makes on the disk fail; return how many were tried."""
    tried = 0
    for files in interruptions(lambda at: FailingFiles(at * step, errno.EIO, False)):
        place = shutil.copytree(folder, tmp_path / str(files.at))
        engine = opened(place, live=True)
        engine.remove(["s0"])
        before = content(engine)
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(DISK, name, getattr(files, name))
            failed = False
            try:
                ACTS[act](engine)
            except StorageError as error:
                failed = True
                assert str(place) in str(error)
        assert (content(engine) == before) == (failed or act == "merge"), files.trace[-3:]
        assert content(opened(place)) == content(engine), files.trace[-3:]
        ACTS["add"](engine) if act != "add" or failed else engine.remove(["new"])
        assert content(opened(place)) == content(engine)
        shutil.rmtree(place)
        tried += 1
    return tried


@pytest.mark.parametrize("act", ["add", "update", "remove"])
def test_a_disk_that_fails_at_any_call_leaves_the_engine_as_it_was(folder, tmp_path, act):
    assert every_failure(folder, tmp_path, act, 1) > 2


def test_a_disk_that_fails_during_a_merge_leaves_version_and_log(folder, tmp_path):
    assert every_failure(folder, tmp_path, "merge", 13) > 2


@pytest.mark.slow
def test_a_disk_that_fails_at_any_call_of_a_merge_leaves_version_and_log(folder, tmp_path):
    assert every_failure(folder, tmp_path, "merge", 1) > 50


def test_a_merge_beside_another_writer_is_refused_by_name_and_can_be_repeated(folder):
    """B8."""
    engine = opened(folder, live=True)
    engine.add(NEW)
    with hold(folder, "build"), pytest.raises(LockedError, match=str(os.getpid())):
        engine.merge()
    engine.merge()
    assert content(opened(folder)) == content(engine)
