"""An engine on a real local Ray Serve answers as `genrail serve` does. Run by `make test-ray`."""

import importlib.util
import socket

import httpx
import pytest
from fastapi.testclient import TestClient

from genrail.errors import FormatError, SettingsError
from genrail.serving.application import create_application
from genrail.serving.keys import Key, create_key
from genrail.serving.ray_deployment import application, deploy, replica_application
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings
from tests.shops import build, shop

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed; make test-ray runs this in its own environment",
)
QUESTION = {"query": "red boot", "where": "price < 40", "k": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ray") / "shop.genrail"
    build(shop()).save(place)
    return place


def answer_of(page):
    return [(hit["id"], round(hit["score"], 5)) for hit in page["hits"]], page["exhausted"]


def expected(folder):
    from genrail import Engine

    with TestClient(create_application(Service.of(Engine.load(folder)))) as client:
        return answer_of(client.post("/v1/search", json=QUESTION).json())


def test_a_replica_answers_and_refuses_changes(folder):
    with TestClient(replica_application(folder, ServeSettings())) as client:
        assert answer_of(client.post("/v1/search", json=QUESTION).json()) == expected(folder)
        refused = client.post("/v1/index/add", json={"items": [{"sku": "n1", "name": "new boot"}]})
        assert refused.status_code == 405
        assert "genrail add" in refused.json()["detail"]


def test_a_replica_with_keys_asks_for_one(folder, tmp_path):
    token = create_key(tmp_path / "keys.json", Key("shop"))
    with TestClient(replica_application(folder, ServeSettings(), tmp_path / "keys.json")) as client:
        assert client.post("/v1/search", json=QUESTION).status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert client.post("/v1/search", json=QUESTION, headers=headers).status_code == 200


def test_what_cannot_be_deployed_is_refused_in_a_sentence(folder, tmp_path):
    with pytest.raises(FormatError):
        deploy(tmp_path)
    with pytest.raises(SettingsError, match="replicas"):
        deploy(folder, replicas=0)
    for words in ({}, {"engine": str(folder), "port": "1"}, {"engine": str(folder), "replicas": "many"}):
        with pytest.raises(SettingsError):
            application(words)


@needs_ray
def test_two_replicas_on_ray_answer_as_one_server(folder):
    from ray import serve

    from genrail.engine.ray_build import start_ray

    ray = start_ray(2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(application({"engine": str(folder), "replicas": "2", "processors": "0.5"}))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wanted = expected(folder)
            for _ in range(20):
                assert answer_of(client.post("/v1/search", json=QUESTION).json()) == wanted
            assert client.get("/livez").status_code == 200
            assert client.get("/v1/items/s3").json()["id"] == "s3"
            wrong = client.post("/v1/search", json={"query": "boot", "where": "price <"})
            assert wrong.status_code == 422
            assert wrong.headers["content-type"] == "application/problem+json"
            change = client.post("/v1/index/add", json={"items": [{"sku": "n1", "name": "new boot"}]})
            assert change.status_code == 405
    finally:
        serve.shutdown()
        ray.shutdown()
