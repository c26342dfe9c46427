"""Tell those who run a server how it does: load, latencies, versions, and what people asked for in vain."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import Histogram
from prometheus_client.registry import Collector
from starlette.responses import Response

from genrail.serving.door import caller
from genrail.serving.questions import json_answer
from genrail.serving.routing import Routes
from genrail.serving.service import Service
from genrail.serving.settings import ServeSettings
from genrail.storage.events import EventStore
from genrail.types import JsonObject

__all__ = ["operation_routes", "quantile"]

SHOWN = 20  # queries of each list
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def operation_routes(service: Service, settings: ServeSettings, events: EventStore | None = None) -> APIRouter:
    """Make the route that tells how the server does; it asks for an admin's key."""
    routes = Routes(tags=["health"])
    began = time.time()

    @routes.get("/v1/operation")
    async def operation(request: Request) -> Response:
        """Tell load, latencies by route, refusals, versions, and the queries that found nothing.

        Words of queries are kept, in memory alone, where the server was started with ``--log-queries``.
        """
        index = await service.call("describe")
        metrics = service.metrics
        tally = service.tally
        words = {"frequent": _top(tally.asked), "in_vain": _top(tally.in_vain)} if settings.log_queries else None
        page = {
            "up_seconds": round(time.time() - began),
            "waiting": service.waiting,
            "trouble": service.trouble,
            "disk": service.disk,
            "routes": _routes(metrics.requests),
            "refusals": _counts(metrics.refusals, "reason"),
            "changes": _counts(metrics.changes, "verb"),
            "worker_restarts": sum(_counts(metrics.worker_restarts).values()),
            "questions": tally.questions,
            "found_nothing": tally.found_nothing,
            "queries": words,
            "events": None if events is None else await asyncio.to_thread(events.by_day),
        }
        return json_answer(page | index | {"request_id": caller(request).request_id})

    return routes


def _top(counts: Mapping[str, int]) -> list[JsonObject]:
    best = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:SHOWN]
    return [{"query": query, "times": times} for query, times in best]


def _samples(metric: Collector) -> Iterator[Any]:
    return (sample for family in metric.collect() for sample in family.samples)


def _counts(metric: Collector, label: str | None = None) -> dict[str, int]:
    """Give what a counter counted, by a label."""
    found: Counter[str] = Counter()
    for sample in _samples(metric):
        if sample.name.endswith("_total"):
            found[sample.labels[label] if label else ""] += int(sample.value)
    return dict(found)


def _routes(histogram: Histogram) -> list[JsonObject]:
    """Sum up each route: requests, errors of ours, and how long most of them took."""
    buckets: dict[str, Counter[float]] = {}
    failed: Counter[str] = Counter()
    for sample in _samples(histogram):
        route = sample.labels["route"]
        if sample.name.endswith("_bucket"):
            buckets.setdefault(route, Counter())[float(sample.labels["le"])] += int(sample.value)
        elif sample.name.endswith("_count") and sample.labels["status"].startswith("5"):
            failed[route] += int(sample.value)
    pages = []
    for route, found in buckets.items():
        bounds = sorted(found)
        counts = [found[bound] for bound in bounds]
        times = {name: quantile(bounds, counts, share) for name, share in QUANTILES.items()}
        pages.append({"route": route, "requests": counts[-1], "failed": failed[route], **times})
    return sorted(pages, key=lambda page: (-page["requests"], page["route"]))


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Guess a quantile from how many values are at most each bound, as Prometheus does: evenly within a bucket.

    Args:
        bounds: Upper ends, rising; the last may be infinite.
        counts: Values up to each bound.
        share: 0 to 1.

    >>> quantile([1.0, 2.0, float("inf")], [50, 100, 100], 0.75)
    1.5
    """
    wanted = share * counts[-1]
    if not wanted:
        return None
    place = next(place for place, count in enumerate(counts) if count >= wanted)
    low, below = (0.0, 0) if place == 0 else (bounds[place - 1], counts[place - 1])
    if bounds[place] == float("inf"):
        return low
    return round(low + (bounds[place] - low) * (wanted - below) / (counts[place] - below), 6)
