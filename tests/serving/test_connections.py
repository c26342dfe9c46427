"""Clients that are slow, many or large lose their own connection, and nobody else's."""

import socket

import pytest
import uvicorn
from uvicorn.server import ServerState

from genrail.serving import ServeSettings
from genrail.serving.connections import HEADER_BYTES, guarded
from tests.serving.clients import own_engine
from tests.serving.processes import server

HEAD = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 17\r\n"
BODY = b'{"query": "boot"}'


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines") / "shop.genrail"
    own_engine().save(folder)
    with server(folder, "--slow", "1", "--connections", "60") as (process, http):
        yield int(process.url.rsplit(":", 1)[1]), http


def connect(port, first=b""):
    line = socket.create_connection(("127.0.0.1", port), timeout=120)
    line.sendall(first)
    return line


def said(line):
    """Read until the server hangs up."""
    found = b""
    while part := line.recv(65536):
        found += part
    line.close()
    return found


def answer_of(line):
    """Read one whole answer, whose head and body may come apart."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += line.recv(65536)
    head, body = found.split(b"\r\n\r\n", 1)
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += line.recv(65536)
    return head


def ask(http):
    return http.post("/v1/search", json={"query": "boot"}).status_code


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"POST /v1/sea", id="half a line"),
        pytest.param(HEAD, id="headers without end"),
        pytest.param(HEAD + b"\r\n{", id="a body without end"),
    ],
)
def test_slow_clients_are_cut_off_and_disturb_nobody(running, first):
    port, http = running
    lines = [connect(port, first) for _ in range(40)]
    assert all(ask(http) == 200 for _ in range(10))
    for line in lines:
        assert b" 408 " in said(line)
    assert ask(http) == 200


@pytest.mark.parametrize(("size", "status"), [(HEADER_BYTES - 1000, b" 200 "), (HEADER_BYTES + 1, b" 431 ")])
def test_headers_have_a_limit(running, size, status):
    port, _ = running
    line = connect(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
    filler = b"X-Filler: " + b"y" * 990 + b"\r\n"
    try:
        for _ in range(size // len(filler) + (status == b" 431 ")):
            line.sendall(filler)
        line.sendall(b"\r\n" if status == b" 200 " else b"")
    except OSError:
        pass  # cut off while it was sending
    assert status in line.recv(65536)
    line.close()


def test_idle_connections_keep_nobody_out(running):
    """Far more clients than may be connected do nothing: whoever asks is answered, and the idle ones give way."""
    port, _ = running  # the client of other tests keeps a connection, which may be the idle one that gives way
    lines = [connect(port) for _ in range(150)]
    for _ in range(75):
        assert b" 200 " in answer_of(connect(port, HEAD + b"\r\n" + BODY))
    [line.close() for line in lines]


# --- the same in steps, without a clock -------------------------------------------------------------------------------


class Loop:
    """Keep timers until a test fires them; run nothing."""

    def __init__(self):
        self.timers = []

    def call_later(self, seconds, call):
        timer = Timer(seconds, call)
        self.timers.append(timer)
        return timer

    def create_task(self, work, **_):
        work.close()
        return Timer(0, None)

    def watching(self):
        return [timer for timer in self.timers if not timer.cancelled and timer.call.__name__ == "_too_slow"]


class Timer:
    def __init__(self, seconds, call):
        self.seconds, self.call, self.cancelled = seconds, call, False

    def cancel(self):
        self.cancelled = True

    def add_done_callback(self, _):
        pass


class Transport:
    def __init__(self):
        self.written, self.closed = b"", False

    def get_extra_info(self, name, default=None):
        return default

    def is_closing(self):
        return self.closed

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    def set_protocol(self, _):
        pass

    pause_reading = resume_reading = lambda self: None


@pytest.fixture
def connected():
    """Give a function that connects one more client to a server for two."""
    config = uvicorn.Config(lambda *_: None, http=guarded(ServeSettings(connections=2, slow_seconds=7)), lifespan="off")
    config.load()
    state, loop = ServerState(), Loop()

    def connect_one():
        protocol = config.http_protocol_class(config, state, {}, loop)
        protocol.connection_made(Transport())
        return protocol

    return loop, connect_one


def answered(protocol):
    """Let the request of a connection be answered."""
    protocol.cycle.response_complete = True
    protocol.on_response_complete()


def test_dripping_bytes_gain_no_time(connected):
    loop, connect_one = connected
    one = connect_one()
    [timer] = loop.watching()
    assert timer.seconds == 7
    for byte in HEAD:
        one.data_received(bytes([byte]))
    assert loop.watching() == [timer]  # the one that was set when the client connected
    timer.call()
    assert b" 408 " in one.transport.written and one.transport.closed


def test_a_kept_connection_is_watched_from_its_next_byte(connected):
    loop, connect_one = connected
    one = connect_one()
    one.data_received(HEAD + b"\r\n" + BODY)
    answered(one)
    assert loop.watching() == []  # idle between requests is no fault
    one.data_received(b"GET /li")
    [timer] = loop.watching()
    timer.call()
    assert b" 408 " in one.transport.written


def test_the_next_client_hears_why_when_all_are_in_the_middle_of_something(connected):
    _, connect_one = connected
    busy = [connect_one(), connect_one()]
    busy[0].data_received(HEAD + b"\r\n" + BODY)  # is being answered
    busy[1].data_received(b"GET /li")
    third = connect_one()
    assert third.transport.closed and b" 503 " in third.transport.written
    assert b"retry-after: 1" in third.transport.written.lower()
    assert b"2 clients are connected" in third.transport.written
    assert not any(one.transport.closed for one in busy)
    third.connection_lost(None)
    answered(busy[0])
    fourth = connect_one()
    assert busy[0].transport.closed and not fourth.transport.closed


def test_the_longest_idle_client_gives_way(connected):
    _, connect_one = connected
    first, second = connect_one(), connect_one()
    first.data_received(HEAD + b"\r\n" + BODY)
    answered(first)  # so that the second has been idle for longer
    third = connect_one()
    assert second.transport.closed and not first.transport.closed and not third.transport.closed
    assert second.transport.written == b""


def test_the_defaults_stay_below_the_usual_limit_of_open_files():
    assert ServeSettings().connections + 100 <= 1024
