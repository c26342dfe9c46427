"""One process writes at a time; another is told who (B8)."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from genrail.errors import LockedError
from genrail.storage import gc, open_journal, open_version, publish, restore, rollback, snapshot
from tests.storage.content import fill, tag_of

HOLDER = """
    import sys, time
    from pathlib import Path
    from genrail.storage import publish

    def write(path):
        (path / "half").write_bytes(b"half")
        print("writing", flush=True)
        time.sleep(60)

    publish(Path(sys.argv[1]), write)
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "shop.genrail"
    publish(folder, fill(1), details={"tag": 1})
    return folder


@pytest.fixture
def holder(folder):
    """Start a process that is in the middle of publishing."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_a_second_writer_learns_process_host_and_age(folder, holder, tmp_path):
    archive = tmp_path / "shop.tar.gz"
    acts = [
        lambda: publish(folder, fill(2)),
        lambda: gc(folder),
        lambda: rollback(folder, 1),
        lambda: snapshot(folder, archive),
    ]
    for act in acts:
        with pytest.raises(LockedError) as caught:
            act()
        said = re.search(r"is being written by process (\d+) on (\S+), for (\d+) s now", str(caught.value))
        assert said and (int(said[1]), said[2]) == (holder.pid, socket.gethostname())
    assert not archive.exists()
    assert (folder / "versions" / "000002.building" / "half").exists(), "gc leaves a running build alone"


def test_readers_and_changes_go_on_while_a_version_is_built(folder, holder):
    version = open_version(folder)
    assert tag_of(version) == 1
    open_journal(version).append({"remove": ["sku-1"]})
    assert open_journal(version).records() == [{"remove": ["sku-1"]}]


def test_the_lock_of_a_dead_process_is_taken_over(folder, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert json.loads((folder / "build.owner").read_text())["pid"] == holder.pid
    assert publish(folder, fill(2), details={"tag": 2}).number == 2
    assert not list((folder / "versions").glob("*.building"))


def test_a_holder_that_left_no_name_is_reported_all_the_same(folder, holder):
    (folder / "build.owner").unlink()
    with pytest.raises(LockedError, match="another process, which has left no name"):
        gc(folder)


def test_the_name_of_a_dead_process_is_not_given_for_a_living_one(folder, holder):
    """Between taking the lock and signing, the note is that of the holder before."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owner = {"pid": gone.pid, "host": socket.gethostname(), "since": time.time()}
    (folder / "build.owner").write_text(json.dumps(owner))
    with pytest.raises(LockedError, match="another process, which has left no name"):
        gc(folder)


def test_an_interrupted_publish_gives_the_lock_back(folder):
    def write(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(folder, write)
    assert not (folder / "build.owner").exists()
    assert publish(folder, fill(2), details={"tag": 2}).number == 2


def test_threads_that_publish_at_once_take_turns_or_are_refused(folder):
    refused = []

    def publish_some(thread):
        for number in range(5):
            try:
                publish(folder, fill(100 * thread + number), details={"tag": 100 * thread + number})
            except LockedError:
                refused.append(thread)

    threads = [threading.Thread(target=publish_some, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        tag_of(open_version(folder))
        time.sleep(0.001)
    assert open_version(folder).number == 1 + 15 - len(refused)


def test_a_restore_waits_for_nobody(folder, holder, tmp_path):
    other = tmp_path / "other.genrail"
    publish(other, fill(4), details={"tag": 4})
    snapshot(other, tmp_path / "other.tar.gz")
    with pytest.raises(LockedError):
        restore(tmp_path / "other.tar.gz", folder)
