"""What a server counts, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from genrail.types import JsonObject

__all__ = ["Metrics"]

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Hold the counters of one server, apart from those of any other in the process.

    >>> metrics = Metrics()
    >>> metrics.requests.labels("/v1/search", "200").observe(0.01)
    >>> b'genrail_request_seconds_count{route="/v1/search",status="200"} 1.0' in metrics.page()
    True
    """

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Histogram(
            "genrail_request_seconds",
            "From first byte to answer.",
            ["route", "status"],
            buckets=SECONDS,
            registry=registry,
        )
        self.refusals = Counter("genrail_refusals", "Requests refused, by reason.", ["reason"], registry=registry)
        self.queue_depth = Gauge("genrail_queue_depth", "Questions that wait.", registry=registry)
        self.batch_size = Histogram(
            "genrail_batch_size", "Questions decoded together.", buckets=SIZES, registry=registry
        )
        self.decode_seconds = Histogram(
            "genrail_decode_seconds", "One batch, text to hits.", buckets=SECONDS, registry=registry
        )
        self.items = Gauge("genrail_items", "Items that can be found.", registry=registry)
        self.changes = Counter("genrail_changes", "Changes of the engine, by verb.", ["verb"], registry=registry)
        self.events = Counter("genrail_events", "Events of users that were kept.", registry=registry)
        self.variant_questions = Counter(
            "genrail_variant_questions", "Questions by half of a split.", ["variant", "status"], registry=registry
        )
        self.variant_events = Counter(
            "genrail_variant_events", "Events by the user's half of a split.", ["variant", "kind"], registry=registry
        )
        self.version = Gauge(
            "genrail_version_info", "1 for what is live.", ["index_version", "model_version"], registry=registry
        )
        self.worker_restarts = Counter("genrail_worker_restarts", "Workers that died.", registry=registry)
        self.gate_checked = Gauge("genrail_gate_checked", "Rows checked by the last gate.", registry=registry)
        self.gate_violations = Gauge(
            "genrail_closed_world_violations_total", "Rows refused by the last gate; always 0.", registry=registry
        )

    def stand(self, state: JsonObject) -> None:
        """Take over what `Host.state` says."""
        self.items.set(state["items"])
        self.gate_checked.set(state["gate_checked"])
        self.gate_violations.set(state["gate_violations"])
        self.version.clear()
        self.version.labels(state["index_version"], state["model_version"]).set(1)

    def page(self) -> bytes:
        """Write everything as Prometheus reads it."""
        return generate_latest(self._registry)
