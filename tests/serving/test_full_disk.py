"""A disk that is full, read-only or broken: 507, the old version serves on, and the worker lives."""

import errno
import os
import resource

import numpy as np
import pytest

from genrail.engine import Engine, MergeSettings
from genrail.serving.frames import pack
from genrail.serving.host import error_of
from genrail.serving.worker import Worker
from genrail.storage import live_version
from genrail.storage.lock import FileLock
from tests.serving.clients import assert_problem, client, ids, own_engine
from tests.serving.processes import server

NEVER = MergeSettings(automatic=False)
CLOG = {"sku": "n1", "name": "purple wellington", "colour": "purple", "price": 5, "in_stock": True}


@pytest.fixture
def folder(tmp_path):
    own_engine().save(tmp_path / "shop.genrail")
    return tmp_path / "shop.genrail"


class SafetensorError(Exception):
    """As the library's, which tells of the system in words only."""


FAULTS = {
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "read-only": OSError(errno.EROFS, "Read-only file system"),
    "broken": OSError(errno.EIO, "Input/output error"),
    "numpy": OSError("4096 requested and 1024 written"),
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "safetensors, read-only": SafetensorError("I/O error: Read-only file system (os error 30)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails_while_publishing_is_507_and_the_old_version_serves_on(folder, monkeypatch, fault):
    with client(Engine.load(folder, live=True, merging=NEVER)) as http:
        before = ids(http.post("/v1/search", json={"query": "boot", "k": 40}))
        lane = type(http.app.state.service._backend._host.engine.edition.finder)

        def fail(*_):
            raise FAULTS[fault]

        monkeypatch.setattr(lane, "save", fail)
        page = assert_problem(http.post("/v1/index/publish", json={}), 507)
        assert str(folder) in page["detail"] and "moved on" not in page["title"]
        assert live_version(folder) == 1
        assert ids(http.post("/v1/search", json={"query": "boot", "k": 40})) == before
        monkeypatch.undo()
        assert http.post("/v1/index/publish", json={}).json()["index_version"] == "2.0"


@pytest.mark.parametrize("fault", ["full", "read-only", "broken"])
def test_a_disk_that_fails_while_a_change_is_logged_is_507_and_nothing_is_changed(folder, monkeypatch, fault):
    with client(Engine.load(folder, live=True, merging=NEVER)) as http:

        def fail(*_, **__):
            raise FAULTS[fault]

        monkeypatch.setattr(FileLock, "acquire", fail)  # the first thing that a read-only file system refuses
        assert_problem(http.post("/v1/index/add", json={"items": [CLOG]}), 507)
        monkeypatch.undo()
        assert http.get("/v1/items/n1").status_code == 404
        assert http.post("/v1/index/add", json={"items": [CLOG]}).status_code == 200


class Closed:
    """A line that keeps what is written."""

    def __init__(self, gone=False):
        self.written, self.gone = [], gone

    def write(self, data):
        if self.gone:
            raise BrokenPipeError
        self.written.append(data)


def test_an_error_of_the_system_in_a_call_is_no_server_that_left(monkeypatch):
    ends = []
    monkeypatch.setattr(os, "_exit", ends.append)
    line = Closed()
    worker = Worker(line, None)

    def fail():
        raise OSError(errno.ENOSPC, "No space left on device")

    worker._reply(3, fail)
    assert ends == [] and line.written == [pack({"id": 3, "error": error_of(FAULTS["full"])})]
    assert error_of(FAULTS["full"])["kind"] == "DiskError"
    worker._reply(4, lambda: {"scores": np.float32(1)})  # what cannot be written is told as well
    assert ends == [] and b"TypeError" in line.written[-1]
    Worker(Closed(gone=True), None)._reply(5, dict)
    assert ends == [0]


def test_a_really_full_disk_under_a_real_server(folder):
    """The worker may write no file beyond so many bytes, as on a disk with little room; each size stops another one."""
    with server(folder) as (process, http):
        worker = process.worker()
        hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)[1]
        for size in (1, 700, 5_000, 40_000):
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, hard))
            page = assert_problem(http.post("/v1/index/publish", json={}), 507)
            assert str(folder) in page["detail"], size
            assert http.post("/v1/search", json={"query": "boot"}).status_code == 200
        assert process.worker() == worker and live_version(folder) == 1
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard, hard))
        assert http.post("/v1/index/publish", json={}).json()["index_version"] == "2.0"
