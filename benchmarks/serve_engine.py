"""What `benchmarks/serve.py` serves and asks: an engine of Amazon Beauty, questions, and requests made by a grammar."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from genrail.catalog import Catalog, Interactions
from genrail.engine import Engine

__all__ = ["beauty", "fuzzed", "histories", "texts"]


def beauty(data: Path, folder: Path, max_seconds: float = 150) -> None:
    """Build an engine from Amazon Beauty; trained briefly, since load does not ask how good the answers are."""
    catalog = Catalog.read(data / "items.csv.gz", item_id="item_id", title="title", text=["attributes"])
    rows = pl.read_csv(data / "sequences.csv.gz", schema_overrides={"user_id": pl.String, "item_ids": pl.String})
    pasts = Interactions.from_sequences({user: items.split() for user, items in rows.iter_rows()})
    said = [0.0]

    def progress(stage: str, done: int, total: int) -> None:
        if time.monotonic() - said[0] > 10:
            said[0] = time.monotonic()
            print(f"{stage}: {done} of {total}", flush=True)

    engine = Engine.build(catalog, interactions=pasts, pseudo_queries=1, max_seconds=max_seconds, progress=progress)
    engine.save(folder)


def histories(catalog: Catalog, chance: random.Random, count: int = 500) -> list[dict[str, Any]]:
    """Make questions without words: 3 to 20 items each."""
    ids = [item for item, live in zip(catalog.item_ids, catalog.live.tolist(), strict=True) if live]
    return [{"history": chance.sample(ids, chance.randint(3, 20)), "k": 10} for _ in range(count)]


def texts(catalog: Catalog, chance: random.Random, count: int = 500) -> list[dict[str, Any]]:
    """Make questions of two to six words that occur in titles."""
    words = sorted({word for title in catalog.titles for word in title.split()})
    return [{"query": " ".join(chance.choices(words, k=chance.randint(2, 6))), "k": 10} for _ in range(count)]


ODD = (
    None, True, 0, -1, 1, 1.5, 1e308, 10**30, "", " ", "a", "\u0000", "\ud83d\udc5f", "\u202e", "'", '"', "%", "\\",
    "<|im_end|>", "</s>", "<sid_0_12>", "../../etc/passwd", "{{7*7}}", "x" * 3000, [], [[]], {}, {"a": []}, [None],
    ["s0"] * 1200, "1' OR '1'='1", "price < ", "NaN", "-1e999",
)  # fmt: skip
WHERES = ("item_id", "title", "price", "=", "!=", "<", ">", "(", ")", "AND", "OR", "NOT", "IN", "LIKE", "BETWEEN",
          "IS NULL", "'a'", "1", "1.5", ",", "true", "'%'", "''", "\u0000", "--")  # fmt: skip
PATHS = ("/v1/search", "/v1/recommend", "/v1/similar", "/v1/explain", "/v1/multi-search", "/rerank", "/v1/rerank",
         "/tei/rerank", "/v1/index/add", "/v1/index/update", "/v1/index/remove", "/1/indexes/*/queries")  # fmt: skip


def fuzzed(bodies: list[dict[str, Any]], catalog: Catalog, count: int, seed: int = 0) -> Iterator[bytes]:
    """Make requests: right ones, right ones with a wrong part, filters of random words, broken bytes, other methods."""
    chance = random.Random(seed)
    for _ in range(count):
        path = chance.choice(PATHS) if chance.random() < 0.99 else "/v1/index/rollback"  # which reads the whole engine
        body = _body(path, chance, bodies, catalog)
        if chance.random() < 0.5 and body:
            body[chance.choice([*body, "extra"])] = chance.choice(ODD)
        if chance.random() < 0.3 and path.startswith("/v1/") and "index" not in path:
            body["where"] = " ".join(chance.choices(WHERES, k=chance.randint(1, 8)))
        data = json.dumps(body).encode()
        if chance.random() < 0.1:
            data = bytearray(data)
            for _ in range(chance.randint(1, 5)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            data = bytes(data)
        if chance.random() < 0.05:
            data = data[: chance.randrange(len(data))]
        method = "POST" if chance.random() < 0.95 else chance.choice(["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
        if chance.random() < 0.05:
            path, method = f"/v1/items/{chance.choice(['%2e%2e%2f', 'a%00b', '%ff', 'x' * 2000, '1', '..'])}", "GET"
        kind = "application/json" if chance.random() < 0.97 else "text/plain"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        head += f"Content-Length: {len(data)}\r\n\r\n"
        yield head.encode() + data


def _filter(chance: random.Random) -> list[str]:
    return chance.choices((*WHERES, "title:a", "price:1 TO 3", '"x y":z'), k=chance.randint(0, 5))


def _body(path: str, chance: random.Random, bodies: list[dict[str, Any]], catalog: Catalog) -> dict[str, Any]:
    """Make a right body."""
    known = chance.choice(catalog.item_ids)
    ids, title = catalog.columns.item_id, catalog.columns.title
    question = dict(chance.choice(bodies))
    made: dict[str, dict[str, Any]] = {
        "/v1/similar": {"id": known, "k": 3},
        "/v1/explain": {**question, "item_id": known},
        "/v1/multi-search": {"requests": [question, {"query": "a"}]},
        "/1/indexes/*/queries": {"requests": [{"query": "a", "facets": ["*"], "filters": " ".join(_filter(chance))}]},
        "/rerank": {"query": "a b", "documents": ["a", {"text": "b"}], "top_n": 1},
        "/v1/rerank": {"query": "a b", "documents": ["a"]},
        "/tei/rerank": {"query": "a", "texts": ["b", "c"]},
        "/v1/index/add": {"items": [{ids: f"f{chance.randrange(10**9)}", title: "made up"}]},
        "/v1/index/update": {"items": [{ids: known, title: "changed"}]},
        "/v1/index/remove": {"ids": [f"f{chance.randrange(10**9)}"]},
        "/v1/index/rollback": {"version": chance.choice([1, 2, 99])},
    }
    return made.get(path, question)
