"""The TypeScript client is what `make client` writes, its types hold, and it talks to a server."""

import importlib.util
import json
import re
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from genrail.serving import Service, create_application
from genrail.storage.events import EventStore
from tests.serving.clients import QUICK
from tests.shops import engine

CLIENTS = Path(__file__).parents[2] / "clients"
CLIENT = CLIENTS / "typescript" / "genrail.ts"
STRIPS_TYPES = (22, 18)  # since when Node runs TypeScript by itself
SCRIPT = """
import { Genrail, GenrailError } from %s;
const shop = new Genrail(process.argv[2] + "/", { userId: "ann" });
const told = {};
const found = await shop.search({ query: "red boot", k: 3, where: { colour: "red" } });
told.hits = found.hits.map((hit) => hit.id);
told.item = (await shop.items(found.hits[0].id)).title;
told.kept = (await shop.events({ events: [{ user_id: "ann", item_id: "s1", kind: "click" }] })).events;
told.trending = (await shop.trending({ days: 1, k: 2 })).hits.map((hit) => hit.id);
told.live = await shop.livez();
told.instant = (await shop.indexesQueries({ requests: [{ query: "boot", hitsPerPage: 1 }] })).results[0].hits.length;
try { await shop.similar({ id: "no/such" }); } catch (error) {
  told.problem = error instanceof GenrailError && [error.status, error.reason, error.message];
}
console.log(JSON.stringify(told));
"""


def made():
    spec = importlib.util.spec_from_file_location("typescript_client", CLIENTS / "typescript.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def node():
    """Find a Node that runs TypeScript: of the system, or the one that playwright brings."""
    found = [shutil.which("node")]
    try:
        from playwright._impl._driver import compute_driver_executable

        found.append(str(compute_driver_executable()[0]))
    except ImportError:
        pass
    for one in filter(None, found):
        told = subprocess.run([one, "--version"], capture_output=True, text=True, check=False).stdout
        if tuple(map(int, re.findall(r"\d+", told)[:2])) >= STRIPS_TYPES:
            return one
    return pytest.skip("no Node of version 22.18 or newer is installed")


@contextmanager
def listening(app):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


def test_the_file_is_what_the_description_gives():
    module = made()
    assert CLIENT.read_text() == module.client(module.document()), "run make client"


def test_every_route_has_a_method():
    module = made()
    methods = set(re.findall(r"  async (\w+)\(", CLIENT.read_text())) - {"send"}
    assert methods == {module._name(path) for path in module.document()["paths"]}


def test_types_hold(tmp_path):
    if shutil.which("tsc") is None:
        pytest.skip("tsc is not installed; npm install --global typescript")
    found = subprocess.run(["tsc", "--noEmit", "-p", CLIENT.parent], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_it_talks_to_a_server(tmp_path):
    runner, script = node(), tmp_path / "use.mts"
    script.write_text(SCRIPT % json.dumps(str(CLIENT)))
    app = create_application(Service.of(engine(), QUICK), QUICK, events=EventStore(tmp_path / "events.db"))
    with listening(app) as url:
        found = subprocess.run([runner, script, url], capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert len(told["hits"]) == 3 and set(told["hits"]) <= {f"s{number}" for number in range(0, 40, 4)}
    assert told["item"].startswith("red")
    assert (told["kept"], told["trending"], told["live"], told["instant"]) == (1, ["s1"], "ok", 1)
    assert told["problem"][:2] == [404, "request"] and "no/such" in told["problem"][2]
