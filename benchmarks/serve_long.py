"""What takes patience in `benchmarks/serve.py`: clients that dawdle, and a server that is watched for a long time."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from serve_load import Connection, Sent, maker, milliseconds, open_loop, post
from serve_process import Server, serving

from genrail.engine import Engine

__all__ = ["slow", "soak"]


def slow(engine: Path, bodies: list[Any], clients: int = 200, seconds: float = 15) -> dict[str, Any]:
    """Let 200 clients each send a byte of a request per second, and 200 keep an idle connection; others ask."""

    async def run(server: Server) -> dict[str, Any]:
        rate, port = 50.0, server.port
        before = await open_loop(port, maker(bodies), rate, seconds)
        idle = [Connection(port) for _ in range(clients)]
        for line in idle:
            await line.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        lives: list[float] = []

        async def dawdle(head: bytes) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            began = time.perf_counter()
            writer.write(head)
            over = asyncio.ensure_future(reader.read())
            for byte in b"X-Slow: " + b"y" * 60:
                done, _ = await asyncio.wait({over}, timeout=1)
                if done:
                    break
                writer.write(bytes([byte]))
            lives.append(time.perf_counter() - began)
            writer.close()

        heads = (b"POST /v1/search HTTP/1.1\r\n", post("/v1/search", bodies[0])[:-60])
        dawdlers = [asyncio.create_task(dawdle(heads[number % 2])) for number in range(clients)]
        during = await open_loop(port, maker(bodies), rate, seconds)
        await asyncio.gather(*dawdlers)
        return {
            "others p99 ms before": milliseconds(before, 99),
            "others p99 ms meanwhile": milliseconds(during, 99),
            "others refused": sum(one.status != 200 for one in [*before, *during]),
            "slow ones cut after s, first and last": [round(min(lives), 1), round(max(lives), 1)],
            "bars": "p99 twice, cut at 10 s",
        }

    with serving(engine) as server:
        return asyncio.run(run(server))


def soak(engine: Path, bodies: list[Any], minutes: float) -> dict[str, Any]:
    """Ask 60 times a second, one request in a hundred a bad one, with ten swaps; watch what grows."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy.genrail"
        shutil.copytree(engine, folder)
        Engine.load(folder).save(folder)
        bad = [{"query": "", "k": 5}, {"history": ["nobody"]}, {"k": -1}, {"query": "a", "where": "nope = 1"}]
        mixed = [bad[number // 100 % len(bad)] if number % 100 == 50 else bodies[number % len(bodies)]
                 for number in range(10_000)]  # fmt: skip
        make, samples, statuses = maker(mixed), [], {}
        parts = max(10, round(minutes * 2))

        async def run(server: Server) -> float:
            ready = await open_loop(server.port, make, 60, 10)
            line, began = Connection(server.port), time.perf_counter()
            for part in range(parts):
                count(ready if not part else await open_loop(server.port, make, 60, 60 * minutes / parts))
                if part % max(1, parts // 10) == 0:
                    count([await line.send(post("/v1/index/rollback", {"version": 1 + part // (parts // 10) % 2}))])
                samples.append((time.perf_counter() - began, server.megabytes, *server.held))
            return time.perf_counter() - began

        def count(sent: list[Sent]) -> None:
            for one in sent:
                statuses[one.status] = statuses.get(one.status, 0) + 1

        with serving(folder) as server:
            took = asyncio.run(run(server))
    later = np.array(samples)[len(samples) // 3 :]
    slope = np.polyfit(later[:, 0] / 3600, later[:, 1], 1)[0]
    return {
        "minutes": round(took / 60, 1),
        "requests by status": dict(sorted(statuses.items())),
        "MiB after a third, at the end": [round(float(later[0, 1]), 1), round(float(later[-1, 1]), 1)],
        "MiB each sample": [round(one[1]) for one in samples],
        "slope MiB per hour, last two thirds": round(float(slope), 1),
        "open files, least and most": [int(later[:, 2].min()), int(later[:, 2].max())],
        "threads, least and most": [int(later[:, 3].min()), int(later[:, 3].max())],
    }
