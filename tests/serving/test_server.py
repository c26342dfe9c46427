"""A real server: it drains when told to stop, outlives its worker, and refuses to start badly with one sentence."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from genrail.engine import load
from genrail.serving.keys import Key, create_key
from tests.serving.clients import own_engine
from tests.serving.processes import RUN, Server, server, until


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "shop.genrail"
    own_engine().save(path)
    return path


def ask(http, **body):
    return http.post("/v1/search", json={"query": "boot", "k": 5, **body})


@pytest.fixture(scope="module")
def running(folder):
    with server(folder, "--workers", "2") as (process, http):
        yield process, http


def test_two_workers_answer_alike_and_both_know_every_change(running, folder):
    _, http = running
    first = [ask(http).json()["hits"] for _ in range(6)]
    assert all(hits == first[0] for hits in first)
    assert first[0] == [
        {"id": hit.item_id, "title": hit.title, "score": pytest.approx(hit.score, abs=1e-4), "rank": hit.rank,
         "metadata": dict(hit.attributes)} for hit in load(folder).search("boot", k=5)
    ]  # fmt: skip
    for number in range(30, 34):
        gone = f"s{number}"
        assert http.post("/v1/index/remove", json={"ids": [gone]}).status_code == 200
        answers = ask_together(http, 8, k=40)
        assert all(gone not in [hit["id"] for hit in answer.json()["hits"]] for answer in answers)
        assert {answer.json()["index_version"] for answer in answers} == {f"1.{number - 29}"}


def ask_together(http, count, **body):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(http, **body))) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return answers


def test_a_worker_that_is_killed_is_started_again_and_nothing_is_lost(running):
    process, http = running
    before = http.get("/version").json()["index_version"]
    os.kill(process.worker(), signal.SIGKILL)
    statuses = {ask(http).status_code for _ in range(20)}
    assert statuses <= {200, 503}
    os.kill(process.worker(-1), signal.SIGKILL)
    until(lambda: len(process.log("a worker died")) == 2)
    until(lambda: http.get("/readyz").status_code == 200)
    until(lambda: ask(http).status_code == 200)
    until(lambda: http.post("/v1/index/reload", json={}).status_code == 200)
    assert http.get("/version").json()["index_version"] == before
    assert "genrail_worker_restarts_total 2.0" in http.get("/metrics").text


def test_a_client_that_hangs_up_frees_its_place(running):
    process, http = running
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", int(process.url.rsplit(":", 1)[1]))) as line:
            body = json.dumps({"query": "boot", "k": 39}).encode()
            head = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(body)}"
            line.sendall(head.encode() + b"\r\n\r\n" + body)
    until(lambda: sum(page["status"] in (200, 499) for page in process.log("request") if page.get("k") == 39) >= 20)
    assert http.get("/readyz").json()["waiting"] == 0
    assert ask(http).status_code == 200


def test_a_client_that_sends_slowly_disturbs_nobody(running):
    process, http = running
    lines = [socket.create_connection(("127.0.0.1", int(process.url.rsplit(":", 1)[1]))) for _ in range(20)]
    head = (
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    )
    [line.sendall(head) for line in lines]
    assert ask(http).status_code == 200
    [line.close() for line in lines]


def test_told_to_stop_under_load_it_answers_what_it_accepted(folder):
    with server(folder) as (process, http):
        answers, errors, stop = [], [], threading.Event()

        def send():
            with httpx.Client(base_url=process.url, timeout=120) as own:
                while not stop.is_set():
                    try:
                        answers.append(ask(own).status_code)
                    except httpx.ConnectError:
                        return  # it listens no more: nothing was accepted
                    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
                        errors.append(error)
                        return

        threads = [threading.Thread(target=send) for _ in range(4)]
        [thread.start() for thread in threads]
        until(lambda: len(answers) > 20)
        code = process.stop(signal.SIGTERM)
        stop.set()
        [thread.join() for thread in threads]
        assert code == 0
        assert set(answers) == {200}
        # A request written to a kept connection at the moment it closes was never accepted; no answer broke off.
        assert all("disconnected without sending" in str(error) or "reset" in str(error) for error in errors)
        assert http.is_closed is False


def refused(*words, code=2):
    """Start a server that does not come up; gives its one sentence."""
    found = subprocess.run(
        [sys.executable, "-c", RUN, "serve", *map(str, words)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr
    return " ".join(" ".join(line for line in found.stderr.split("\n") if not line.startswith("{")).split())


def test_it_refuses_to_be_open_to_others_without_keys(folder):
    said = refused(folder, "--host", "0.0.0.0", "--port", "0")
    assert "--keys" in said and "--insecure" in said


def test_it_names_an_engine_that_is_not_there(tmp_path):
    assert "nothing.genrail does not exist; give a folder" in refused(tmp_path / "nothing.genrail")


def test_it_names_a_port_that_is_taken(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in refused(folder, "--port", port)


def test_it_names_what_is_wrong_with_a_damaged_engine(tmp_path):
    own_engine().save(tmp_path / "shop.genrail")
    broken = tmp_path / "shop.genrail" / "versions" / "000001" / "model" / "weights.safetensors"
    broken = broken if broken.exists() else sorted(broken.parent.iterdir())[0]
    data = bytearray(broken.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    assert broken.name in refused(tmp_path / "shop.genrail", "--port", "0")


def test_a_file_of_keys_that_is_not_there_is_named(folder, tmp_path):
    assert "genrail keys create" in refused(folder, "--keys", tmp_path / "none.json", "--port", "0")


def test_keys_hold_over_http(folder, tmp_path):
    token = create_key(tmp_path / "keys.json", Key("shop"))
    with server(folder, "--keys", str(tmp_path / "keys.json")) as (process, http):
        assert ask(http).status_code == 401
        http.headers["X-API-Key"] = token
        assert ask(http).status_code == 200
        assert http.get("/metrics").status_code == 403
        command = open(f"/proc/{process.process.pid}/cmdline").read()  # noqa: SIM115
        assert token not in command + "".join(process.lines)


@pytest.mark.slow
def test_an_engine_damaged_on_disk_serves_on_and_says_so_until_its_worker_dies(tmp_path):
    own_engine().save(tmp_path / "shop.genrail")
    with server(tmp_path / "shop.genrail") as (process, http):
        (tmp_path / "shop.genrail" / "versions" / "000001" / "manifest.json").unlink()
        assert ask(http).status_code == 200
        os.kill(process.worker(), signal.SIGKILL)
        until(lambda: process.process.poll() is not None)
    assert process.process.returncode == 3
    assert "manifest.json" in process.log("a worker died")[-1]["why"]


@pytest.mark.parametrize("starts", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_stops_at_any_moment_leave_the_engine_as_it_was(folder, starts):
    """Stopped while it starts or serves, by SIGINT, SIGTERM or SIGKILL: the next start finds the same engine."""
    before = sorted((path.name, path.stat().st_size) for path in folder.rglob("*") if path.is_file())
    for number in range(starts):
        process = Server(folder)
        time.sleep(0.4 + 0.9 * (number % 5))
        process.stop([signal.SIGINT, signal.SIGTERM, signal.SIGKILL][number % 3])
    with server(folder) as (_, http):
        assert ask(http).status_code == 200
    files = sorted((path.name, path.stat().st_size) for path in folder.rglob("*") if path.is_file())
    assert files == before
