"""Shops, servers and clients for the tests of this room."""

from contextlib import contextmanager

from fastapi.testclient import TestClient

from genrail.engine import Engine, MergeSettings
from genrail.serving import Limits, ServeSettings, Service, create_application
from genrail.serving.keys import Key, Keys, create_key, read_keys
from tests.shops import engine

# No test is about the standard deadline, and a busy machine may take longer.
QUICK = ServeSettings(check_seconds=0, deadline_seconds=120, limits=Limits())


def own_engine():
    """Give an engine of its own, for a test that changes it."""
    return Engine(engine().edition, merging=MergeSettings(automatic=False))


@contextmanager
def client(served=None, settings=QUICK, keys=None, base_url="http://testserver", **more):
    """Serve an engine inside the test, and talk to it."""
    service = Service.of(served or own_engine(), settings)
    app = create_application(service, settings, keys, **more)
    with TestClient(app, base_url, raise_server_exceptions=False) as http:
        yield http


def keys_in(folder, *keys: Key):
    """Make keys; gives them and their tokens by name."""
    path = folder / "keys.json"
    tokens = {key.name: create_key(path, key) for key in keys}
    found: Keys = read_keys(path)
    return found, tokens


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def assert_problem(answer, status, says=""):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    page = answer.json()
    assert page["status"] == status
    assert page["request_id"] == answer.headers["x-request-id"]
    assert says in page["detail"]
    return page
