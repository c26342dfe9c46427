"""Clients that are slow, many or large lose their own connection, and nobody else's."""

import socket
import time

import pytest

from genrail.serving import ServeSettings
from genrail.serving.connections import HEADER_BYTES
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
    line = socket.create_connection(("127.0.0.1", port), timeout=10)
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
    began = time.monotonic()
    for line in lines:
        assert b" 408 " in said(line)
    assert time.monotonic() - began < 8
    assert ask(http) == 200


def test_dripping_bytes_gain_no_time(running):
    port, http = running
    line, began = connect(port), time.monotonic()
    answer = b""
    line.settimeout(0.1)
    for byte in HEAD * 2:
        try:
            line.sendall(bytes([byte]))
            answer = line.recv(4096)
            break
        except TimeoutError:
            continue
        except OSError:
            break
    assert time.monotonic() - began < 5
    assert b" 408 " in answer or answer == b""
    assert ask(http) == 200


def test_a_kept_connection_is_watched_from_its_next_byte(running):
    port, _ = running
    line = connect(port, HEAD + b"\r\n" + BODY)
    assert b" 200 " in answer_of(line)
    time.sleep(1.5)  # idle between requests is no fault
    line.sendall(HEAD + b"\r\n" + BODY)
    assert b" 200 " in answer_of(line)
    line.sendall(b"GET /li")
    assert b" 408 " in said(line)


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


def test_as_many_may_be_connected_as_the_limit_says_and_the_next_hears_why(running):
    port, http = running
    assert ask(http) == 200
    lines = [connect(port) for _ in range(59)]  # and the one of `http`
    assert ask(http) == 200
    answer = said(connect(port))
    assert b" 503 " in answer and b"retry-after: 1" in answer.lower() and b"60 clients are connected" in answer
    assert ask(http) == 200
    [line.close() for line in lines]
    time.sleep(0.2)
    assert b" 200 " in _alive(port)


def _alive(port):
    line = connect(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return said(line)


def test_the_defaults_stay_below_the_usual_limit_of_open_files():
    assert ServeSettings().connections + 100 <= 1024
