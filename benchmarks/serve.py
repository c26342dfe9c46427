"""Measure a server on this machine: overhead, batching, overload, hot swaps, deletes, tenants, slow clients, fuzz.

    genrail demo --out demo-shop
    python benchmarks/serve.py demo-shop/shop.genrail
    python benchmarks/serve.py beauty.genrail --build ../shared/data/amazon_beauty    # builds it first, in some minutes
    python benchmarks/serve.py beauty.genrail --only overhead,throughput

Load goes over loopback and is bounded in time. The engine is copied before it is changed. Client, server and model
share the cores, so throughput is a lower bound. Questions are histories of 3 to 20 items unless said otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from serve_engine import beauty, fuzzed, histories, texts  # noqa: E402
from serve_load import Connection, Sent, closed_loop, maker, milliseconds, open_loop, percentile, post  # noqa: E402
from serve_long import slow, soak  # noqa: E402
from serve_process import serving  # noqa: E402

from genrail.engine import Engine  # noqa: E402
from genrail.serving.keys import Key, create_key  # noqa: E402
from genrail.types import Query  # noqa: E402


def overhead(engine: Path, bodies: list[Any], count: int = 600) -> dict[str, Any]:
    """Time the same question in this process and over HTTP, in turns, so that both see the same noise."""
    import torch

    torch.set_num_threads(1)
    loaded = Engine.load(engine)

    async def measure(port: int) -> tuple[list[float], list[float]]:
        line, inside, outside = Connection(port), [], []
        for number in range(count + 20):
            body = bodies[number % len(bodies)]
            began = time.perf_counter()
            loaded.search_batch([Query(body.get("query"), body.get("history", ()))], body["k"])
            between = time.perf_counter()
            sent = await line.send(post("/v1/search", body))
            assert sent.status == 200, sent.body
            inside.append(between - began)
            outside.append(sent.seconds)
        return inside[20:], outside[20:]

    with serving(engine) as server:
        inside, outside = asyncio.run(measure(server.port))
    differences = [after - before for before, after in zip(inside, outside, strict=True)]
    return {
        "in process p50 ms": round(1000 * statistics.median(inside), 2),
        "over HTTP p50 ms": round(1000 * statistics.median(outside), 2),
        "overhead p50 ms": round(1000 * statistics.median(differences), 2),
        "overhead p99 ms": round(1000 * percentile(differences, 99), 2),
        "bar ms": 3,
    }


def throughput(engine: Path, bodies: list[Any], seconds: float = 10) -> dict[str, Any]:
    """Compare many clients whose questions are gathered with one request at a time."""
    found: dict[str, Any] = {}
    with serving(engine, "--queue", "256") as server:
        asyncio.run(closed_loop(server.port, maker(bodies), 8, 2))
        one = asyncio.run(closed_loop(server.port, maker(bodies), 1, seconds))
        for clients in (8, 32, 64, 128):
            many = asyncio.run(closed_loop(server.port, maker(bodies), clients, seconds))
            assert {sent.status for sent in many} == {200}, {sent.status for sent in many}
            found[f"{clients} clients per s"] = round(len(many) / seconds)
            found[f"{clients} clients p99 ms"] = milliseconds(many, 99)
    with serving(engine, "--queue", "256", "--batch", "1") as server:
        alone = asyncio.run(closed_loop(server.port, maker(bodies), 64, seconds))
    best = max(value for name, value in found.items() if name.endswith("per s"))
    return {
        "one client per s": round(len(one) / seconds),
        "64 clients without batching per s": round(len(alone) / seconds),
        **found,
        "batched / one at a time": round(best / (len(one) / seconds), 2),
        "batched / not batched": round(best / (len(alone) / seconds), 2),
        "bar": 4,
    }


def overload(engine: Path, bodies: list[Any], seconds: float = 20) -> dict[str, Any]:
    """Send five times what the server can answer, then as much as it can."""
    with serving(engine) as server:
        full = asyncio.run(closed_loop(server.port, maker(bodies), 64, 5))
        capacity = sum(sent.status == 200 for sent in full) / 5
        steady = asyncio.run(open_loop(server.port, maker(bodies), capacity / 2, 5))
        before = server.megabytes

        async def flood() -> tuple[list[Sent], list[Sent]]:
            alive: list[Sent] = []

            async def look() -> None:
                line = Connection(server.port)
                while True:
                    alive.append(await line.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                    await asyncio.sleep(0.2)

            looking = asyncio.create_task(look())
            sent = await open_loop(server.port, maker(bodies), 5 * capacity, seconds, connections=512)
            looking.cancel()
            return sent, alive

        began = time.perf_counter()
        sent, alive = asyncio.run(flood())
        took = time.perf_counter() - began
        grown = server.megabytes / before - 1
        time.sleep(2)
        after = asyncio.run(open_loop(server.port, maker(bodies), capacity / 2, 5))
    good = [one for one in sent if one.status == 200]
    refused = [one for one in sent if one.status in (429, 503)]
    return {
        "capacity per s": round(capacity),
        "offered per s": round(len(sent) / took),
        "goodput share": round(len(good) / took / capacity, 3),
        "refused": len(refused),
        "refused with Retry-After": sum(b"retry-after" in one.headers.lower() for one in refused),
        "refusal p99 ms": milliseconds(refused, 99),
        "refusal p50 ms": milliseconds(refused, 50),
        "answer p99 ms": milliseconds(good, 99),
        "other statuses": len(sent) - len(good) - len(refused),
        "livez p99 ms": milliseconds(alive, 99),
        "memory grown": f"{grown:.1%}",
        "steady p99 ms before": milliseconds(steady, 99),
        "steady p99 ms after": milliseconds(after, 99),
        "bars": "goodput 0.8, refusal p99 50 ms, memory 10 %",
    }


def swaps(engine: Path, bodies: list[Any], count: int = 20, seconds: float = 60) -> dict[str, Any]:
    """Swap catalogue, identifiers and model under half the load that the server can bear."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy.genrail"
        shutil.copytree(engine, folder)
        loaded = Engine.load(folder)
        # Version 2 lacks every second item, so an answer that mixes shows. Of ten items or more
        # of a history some are in both.
        bodies = [body for body in bodies if len(body.get("history", range(10))) >= 10]
        gone = set(loaded.catalog.item_ids[1::2])
        loaded.remove(sorted(gone))
        loaded.save(folder)
        with serving(folder) as server:
            full = asyncio.run(closed_loop(server.port, maker(bodies), 32, 4))
            rate = min(200.0, sum(sent.status == 200 for sent in full) / 4 / 2)
            steady = asyncio.run(open_loop(server.port, maker(bodies), rate, 5))
            before = server.megabytes

            async def run() -> tuple[list[Sent], list[Sent]]:
                changes: list[Sent] = []

                async def swap() -> None:
                    line = Connection(server.port)
                    for number in range(count):
                        request = post("/v1/index/rollback", {"version": 1 + number % 2})
                        changes.append(await line.send(request))
                        await asyncio.sleep(max(0.0, seconds / count - changes[-1].seconds))

                return (await asyncio.gather(open_loop(server.port, maker(bodies), rate, seconds), swap()))[0], changes

            sent, changes = asyncio.run(run())
            time.sleep(1)
            after = server.megabytes
    mixed = 0
    for one in sent:
        if one.status == 200:
            shown = {hit["id"] for hit in one.page["hits"]}
            mixed += one.page["index_version"].startswith("2.") and bool(shown & gone)
    seen = {one.page["index_version"] for one in sent if one.status == 200}
    return {
        "load per s": round(rate),
        "requests": len(sent),
        "swaps": sum(change.status == 200 for change in changes),
        "swap p50 ms": milliseconds(changes, 50),
        "failed": sum(one.status != 200 for one in sent),
        "statuses": sorted({one.status for one in sent}),
        "mixed": mixed,
        "versions seen": sorted(seen),
        "p99 ms steady": milliseconds(steady, 99),
        "p99 ms during swaps": milliseconds(sent, 99),
        "memory grown": f"{after / before - 1:.1%}",
        "bars": "failed 0, mixed 0",
    }


def deletes(engine: Path, bodies: list[Any], count: int = 1000) -> dict[str, Any]:
    """Remove items one by one under load; none may come out of a request that starts after its removal returned."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy.genrail"
        shutil.copytree(engine, folder)
        items = Engine.load(folder).catalog.item_ids[:count]
        removed: set[str] = set()
        late: list[str] = []
        asked = 0

        async def run(port: int) -> float:
            nonlocal asked
            make, done = maker([{**body, "k": 100} for body in bodies]), asyncio.Event()

            async def ask() -> None:
                nonlocal asked
                line = Connection(port)
                while not done.is_set():
                    known = set(removed)
                    sent = await line.send(make())
                    asked += sent.status == 200
                    late.extend(known & {hit["id"] for hit in sent.page["hits"]} if sent.status == 200 else ())

            askers = [asyncio.create_task(ask()) for _ in range(4)]
            line, began = Connection(port), time.perf_counter()
            for item in items:
                answer = await line.send(post("/v1/index/remove", {"ids": [item]}))
                assert answer.status == 200, answer.body
                removed.add(item)
            took = time.perf_counter() - began
            done.set()
            await asyncio.gather(*askers)
            return took

        with serving(folder, "--workers", "2") as server:
            took = asyncio.run(run(server.port))
    return {
        "deletes": len(items),
        "per delete ms": round(1000 * took / len(items), 1),
        "requests": asked,
        "late": len(late),
        "workers": 2,
    }


def tenants(engine: Path, bodies: list[Any]) -> dict[str, Any]:
    """Add, change and remove 1,000 items of others; a tenant's answers keep every byte of hits and scores."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy.genrail"
        shutil.copytree(engine, folder)
        loaded = Engine.load(folder, live=True)
        columns = loaded.catalog.columns
        mine = ", ".join(f"'{item}'" for item in loaded.catalog.item_ids[::2])
        tenant = create_key(Path(place) / "keys.json", Key("mine", where=f"item_id IN ({mine})"))
        admin = create_key(Path(place) / "keys.json", Key("boss", role="admin"))

        async def answers(port: int) -> list[bytes]:
            line = Connection(port)
            sent = [await line.send(post("/v1/search", body, tenant)) for body in bodies[:100]]
            assert {one.status for one in sent} <= {200, 422}, {one.status for one in sent}
            return [json.dumps([one.page.get("hits"), one.page.get("warnings")]).encode() for one in sent]

        async def run(port: int) -> list[int]:
            before, line, differing = await answers(port), Connection(port), []
            new = [{columns.item_id: f"new-{n}", columns.title: f"another thing {n}"} for n in range(1000)]
            changed = [{columns.item_id: f"new-{n}", columns.title: f"changed {n}"} for n in range(1000)]
            gone = [f"new-{n}" for n in range(1000)] + loaded.catalog.item_ids[1:1000:2]
            for verb, body in (("add", {"items": new}), ("update", {"items": changed}), ("remove", {"ids": gone})):
                answer = await line.send(post(f"/v1/index/{verb}", body, admin))
                assert answer.status == 200, answer.body
                after = await answers(port)
                differing.append(sum(one != two for one, two in zip(before, after, strict=True)))
            return differing

        with serving(folder, "--keys", str(Path(place) / "keys.json")) as server:
            found = asyncio.run(run(server.port))
    return dict(zip(("differ after add", "differ after update", "differ after remove"), found, strict=True))


def fuzz(engine: Path, bodies: list[Any], count: int = 20_000) -> dict[str, Any]:
    """Send requests that a grammar made, right and wrong; none may be answered with an error of the server or hang.

    What is refused because a queue is full (503 with `Retry-After`) says nothing about the request: it is counted apart
    and sent again when the server said so. Any other 5xx, one that is refused ten times, and no answer are failures.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy.genrail"
        shutil.copytree(engine, folder)
        requests = list(fuzzed(bodies, Engine.load(folder).catalog, count))
        at = iter(requests)
        statuses: dict[int, int] = {}
        failed: list[str] = []
        refused = 0

        async def client(port: int) -> None:
            nonlocal refused
            line = Connection(port)
            for request in at:
                for _ in range(10):
                    sent = await line.send(request)
                    if sent.status != 503 or sent.page["reason"] != "queue" or sent.retry_after is None:
                        break
                    refused += 1
                    await asyncio.sleep(sent.retry_after)
                statuses[sent.status] = statuses.get(sent.status, 0) + 1
                if sent.status >= 500 or sent.status == 0:
                    failed.append(f"{sent.status} {request[:300]!r} {sent.body[:200]!r}")

        async def run(port: int) -> None:
            await asyncio.gather(*(client(port) for _ in range(8)))

        with serving(folder) as server:
            workers = server.workers
            asyncio.run(run(server.port))
            same = server.workers == workers
    return {"requests": len(requests), "statuses": dict(sorted(statuses.items())),
            "refused by a full queue and sent again": refused, "5xx or none": len(failed),
            "worker still the same": same, "first failures": failed[:3]}  # fmt: skip


PARTS = (overhead, throughput, overload, swaps, deletes, tenants, slow, fuzz)


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--build", type=Path, help="the data set Amazon Beauty, to build the engine from")
    parser.add_argument("--only", default=",".join(part.__name__ for part in PARTS))
    parser.add_argument("--text", action="store_true", help="ask with words instead of histories")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only this: a steady load for so long")
    parser.add_argument("--requests", type=int, default=20_000, help="of the fuzz")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not given.engine.exists():
        beauty(given.build, given.engine)
    print(f"command: {' '.join(sys.argv)}")
    print(
        f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(f"versions: Python {platform.python_version()}, " + ", ".join(
        f"{name} {version(name)}" for name in ("torch", "numpy", "fastapi", "uvicorn")))  # fmt: skip
    engine = Engine.load(given.engine)
    print(f"engine: {len(engine):,} items, lane {engine.name}; seed {given.seed}\n")
    bodies = (texts if given.text else histories)(engine.catalog, random.Random(given.seed))
    del engine
    parts = [part for part in PARTS if part.__name__ in given.only.split(",")]
    more = {fuzz: {"count": given.requests}, soak: {"minutes": given.soak}}
    for part in [soak] if given.soak else parts:
        began, name = time.perf_counter(), part.__name__
        found = part(given.engine, bodies, **more.get(part, {}))
        print(f"{name} ({time.perf_counter() - began:.0f} s, load {os.getloadavg()[0]:.1f})")
        for line, value in found.items():
            print(f"  {line}: {value}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
