"""Nothing ends the one who keeps the workers: failing starts are repeated, and a worker that hangs is replaced."""

import asyncio
import errno
import os
import signal
import sys

import pytest

from genrail.errors import StorageError
from genrail.serving import worker_process
from genrail.serving import workers as module
from genrail.serving.errors import Refusal
from genrail.serving.pulse import BUSY_LOOKS, HUNG_LOOKS, SILENT_LOOKS, STARTING_LOOKS, Pulse
from genrail.serving.worker_process import STUCK_LOOKS, WorkerProcess
from genrail.serving.workers import GIVE_UP_AFTER, GIVE_UP_LACKING, Workers

LACKS = [
    pytest.param(OSError(errno.EMFILE, "Too many open files"), id="EMFILE"),
    pytest.param(OSError(errno.ENOMEM, "Cannot allocate memory"), id="ENOMEM"),
    pytest.param(OSError(errno.EAGAIN, "Resource temporarily unavailable"), id="EAGAIN"),
    pytest.param(RuntimeError("can't start new thread"), id="no thread"),
    pytest.param(ValueError("whatever else"), id="anything"),
]


class Starts:
    """Stand in for the starts of a worker: each does what comes next in a list; None is a start that works."""

    def __init__(self, monkeypatch, outcomes):
        self.outcomes, self.made, self.lives = list(outcomes), 0, []
        monkeypatch.setattr(module, "FIRST_PAUSE", 0)
        monkeypatch.setattr(WorkerProcess, "start", lambda worker: self.start())
        monkeypatch.setattr(WorkerProcess, "end", lambda worker: self.end(worker))

    async def start(self):
        outcome = self.outcomes.pop(0) if self.outcomes else None
        self.made += 1
        if outcome is not None:
            raise outcome

    async def end(self, worker):
        self.lives.append(asyncio.get_running_loop().create_future())
        code = await self.lives[-1]
        worker.ready = False
        return code


async def until(condition):
    for _ in range(600_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it has not come true")


@pytest.mark.parametrize("error", LACKS)
def test_a_restart_that_fails_with_any_exception_is_tried_again(monkeypatch, tmp_path, error):
    async def live():
        starts = Starts(monkeypatch, [None, error, error, error])
        kept = Workers(tmp_path)
        await kept.start()
        await until(lambda: starts.lives)
        starts.lives[0].set_result(-9)
        await until(lambda: len(starts.lives) == 2)
        assert starts.made == 5  # the first, three that failed, and the one that lives
        assert kept.given_up is None and kept.trouble is None
        await kept.close()

    asyncio.run(live())


@pytest.mark.parametrize(
    ("error", "tries"),
    [(OSError(errno.EMFILE, "Too many open files"), GIVE_UP_LACKING), (StorageError("not whole"), GIVE_UP_AFTER)],
)
def test_starts_that_fail_for_good_end_the_server(monkeypatch, tmp_path, error, tries):
    async def live():
        starts = Starts(monkeypatch, [None, *[error] * 100])
        ended = []
        kept = Workers(tmp_path, when_given_up=lambda: ended.append(True))
        await kept.start()
        await until(lambda: starts.lives)
        starts.lives[0].set_result(-9)
        await until(lambda: kept.given_up)
        assert ended == [True] and str(error) in kept.given_up
        # The death of the one that worked counts where starts then fail for reasons of the engine's own.
        assert starts.made == 1 + tries - 1
        with pytest.raises(Refusal, match="could not be kept alive"):
            await kept.call("state", {})
        await kept.close()

    asyncio.run(live())


def test_a_keeper_that_fails_ends_the_server_instead_of_leaving_it_without_one(monkeypatch, tmp_path):
    async def live():
        starts, ended = Starts(monkeypatch, [None]), []

        def fail():
            raise RuntimeError("a counter that fails")

        kept = Workers(tmp_path, when_given_up=lambda: ended.append(True), when_died=fail)
        await kept.start()
        await until(lambda: starts.lives)
        starts.lives[0].set_result(-9)
        await until(lambda: ended)
        assert "RuntimeError" in kept.given_up
        await kept.close()

    asyncio.run(live())


def test_a_first_start_that_lacks_something_is_one_sentence(monkeypatch, tmp_path):
    async def live():
        Starts(monkeypatch, [OSError(errno.EMFILE, "Too many open files")])
        with pytest.raises(StorageError, match="cannot be started.*Too many open files"):
            await Workers(tmp_path).start()

    asyncio.run(live())


# --- the heartbeat, in steps ------------------------------------------------------------------------------------------


def test_a_process_that_answers_is_never_ended():
    pulse = Pulse()
    for _ in range(1000):
        pulse.look(used=0.0)
        assert not pulse.silent and not pulse.hung
        pulse.beat()


def test_a_process_that_neither_answers_nor_works_is_silent_and_then_hung():
    pulse = Pulse()
    pulse.look(used=1.0)
    found = []
    for _ in range(HUNG_LOOKS):
        pulse.look(used=1.0)
        found.append((pulse.silent, pulse.hung))
    assert found.index((True, False)) == SILENT_LOOKS - 1
    assert found[-1] == (True, True) and (True, True) not in found[:-1]


def test_a_process_that_works_may_be_busy_for_long_but_not_for_ever():
    pulse = Pulse()
    for look in range(BUSY_LOOKS):
        pulse.look(used=float(look))
        assert not pulse.hung
    pulse.look(used=1e6)
    assert pulse.hung


def test_a_process_that_opens_its_engine_has_more_time():
    pulse = Pulse(starting=True)
    pulse.look(used=1.0)
    for _ in range(STARTING_LOOKS - 1):
        pulse.look(used=1.0)
        assert not pulse.hung
    pulse.look(used=1.0)
    assert pulse.hung


def test_a_process_that_opens_a_large_engine_may_work_on_it_for_as_long_as_that_takes():
    pulse = Pulse(starting=True)
    for look in range(100 * BUSY_LOOKS):
        pulse.look(used=float(look))
        assert not pulse.hung


def test_where_processor_time_is_not_told_beats_alone_decide():
    pulse = Pulse()
    for _ in range(HUNG_LOOKS + 1):
        pulse.look(used=None)
    assert pulse.hung


def test_a_worker_that_does_not_end_what_nobody_waits_for_is_ended():
    worker = WorkerProcess([])
    worker.ready = True
    worker._asked[7] = None
    worker.leave(7)
    for _ in range(STUCK_LOOKS):
        worker._pulse.beat()
        assert not worker.look(used=1.0)
    worker._pulse.beat()
    assert worker.look(used=1.0)


def test_a_worker_that_does_not_answer_is_given_no_work_until_it_does(tmp_path):
    """Of two, one falls silent: the other gets everything; heard again, the first gets its turns back."""

    async def live():
        kept = Workers(tmp_path, count=2)
        silent, other = kept._workers
        for worker in (silent, other):
            worker.ready = True
            worker._pulse = Pulse()
            kept._idle.put_nowait(worker)
        for _ in range(SILENT_LOOKS + 1):
            silent.look(used=1.0)
        assert kept.trouble is None
        assert await kept._idle_worker() is other
        assert silent.aside == 1 and kept._idle.empty()
        silent._pulse.beat()
        silent.look(used=1.0)
        assert silent.aside == 0 and await kept._idle_worker() is silent
        for worker in (silent, other):
            worker._pulse = Pulse()
            for _ in range(SILENT_LOOKS + 1):
                worker.look(used=1.0)
        assert "does not answer" in kept.trouble

    asyncio.run(live())


STUB = """#!{python} -SE
import json, socket, struct, sys
line = socket.socket(fileno=int(sys.argv[sys.argv.index("--socket") + 1]))
stream = line.makefile("rb")
def send(page):
    data = json.dumps(page).encode()
    line.sendall(struct.pack(">I", len(data)) + data)
send({{"ready": {{}}}})
while len(head := stream.read(4)) == 4:
    frame = json.loads(stream.read(struct.unpack(">I", head)[0]))
    answer = {{"beat": True}} if frame["name"] == "beat" else {{"page": {{"said": "it lives"}}}}
    send({{"id": frame["id"], **answer}})
"""


def test_a_stopped_process_is_noticed_ended_and_replaced(monkeypatch, tmp_path):
    """SIGSTOP, as a debugger would do it, to a real process that speaks as a worker does and holds no engine."""
    stub = tmp_path / "worker"
    stub.write_text(STUB.format(python=sys.executable))
    stub.chmod(0o700)
    monkeypatch.setattr(worker_process.sys, "executable", str(stub))
    monkeypatch.setattr(worker_process, "BEAT_SECONDS", 0.5)

    async def live():
        kept = Workers(tmp_path)
        await kept.start()
        [stopped] = kept.pids
        os.kill(stopped, signal.SIGSTOP)
        said = set()

        def replaced():
            said.add(kept.trouble)
            return kept.pids not in ([], [stopped]) and kept.trouble is None

        await until(replaced)
        assert "the process that holds the model does not answer" in said  # what /readyz tells meanwhile
        assert await kept.call("item", {}) == {"said": "it lives"}
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)
        await kept.close()

    asyncio.run(live())
