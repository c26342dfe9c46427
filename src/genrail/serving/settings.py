"""What a server is told when it starts, and the limits that every request is held to."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from genrail.errors import SettingsError

__all__ = ["Limits", "ServeSettings"]

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """Say how large a request may be; a larger one is refused with the limit in the message, never cut.

    Args:
        body_bytes: Of a question.
        change_body_bytes: Of a change to the catalogue.
        query_characters: Of the words.
        history: Item ids of a past. The model reads the last of them and the answer says so.
        k: Hits.
        batch: Questions of one request.
        batch_hits: Hits that the questions of one request ask for together.
        filter_characters: Of a filter.
        filter_values: Values listed in a filter.
        filter_conditions: Conditions of a filter.
        filter_patterns: Those of them with LIKE or ILIKE, each of which reads a whole column of texts.
        title_characters: Of a title that is added.
        item_bytes: Of an item that is added, as JSON.
        items: Items of one change.
        documents: Texts of one rerank request.
        document_characters: Of each.
    """

    body_bytes: int = MEBIBYTE
    change_body_bytes: int = 64 * MEBIBYTE
    query_characters: int = 2048
    history: int = 1000
    k: int = 1000
    batch: int = 64
    batch_hits: int = 4096
    filter_characters: int = 262_144  # 10,000 ids of 24 characters
    filter_values: int = 10_000
    filter_conditions: int = 1000
    filter_patterns: int = 32  # some two seconds for a million items
    title_characters: int = 1024
    item_bytes: int = 65_536
    items: int = 10_000
    documents: int = 1000
    document_characters: int = 8192

    def __post_init__(self) -> None:
        _at_least(self, 1, [each.name for each in fields(self)])


@dataclass(frozen=True)
class ServeSettings:
    """Say how a server works.

    Args:
        deadline_seconds: A request that is not answered by then is refused with 504, and its decode is stopped.
        queue: Questions that may wait; further ones are refused at once with 503.
        change_queue: The same while the engine is changed and until those who waited are fewer than `queue` again: a
            version that is read slows the decoder for half a second, and nobody should be refused for that.
        connections: Clients that may be connected; further ones are told 503 and cut off. Below the usual limit of
            1,024 open files.
        batch: Questions that go into one decode at most.
        drain_seconds: How long a server that is told to stop works on what it has accepted.
        rate_per_second: Requests that each key may make on average; 0 for no limit. A key's own rate goes before it.
        burst: Requests that a key may make at once, as a multiple of its rate.
        change_wait_seconds: How long a change is waited for before it is answered 202 and goes on by itself.
        slow_seconds: A client that sends its headers or its body slower than this, in all, is cut off with 408.
        log_queries: Write the words of queries to the log; otherwise only their length and a hash.
        check_seconds: How often the engine on disk is compared with its manifest (names and sizes); 0 for never.
        beam_width: Beams of a decode; None leaves what the engine was saved with.
        traces: Write spans by OpenTelemetry.
        origins: Web pages of other servers that may ask, such as ``https://shop.example``; ``*`` for all, with keys.
        hosts: Names by which a server without keys may be asked on loopback, beside localhost and 127.0.0.1.
        name: What the page calls the engine.
        split: Share of users, 0 to 1, whose questions the second engine answers; see `genrail.serving.splitting`.
        images: Where the page may load pictures of items from, such as ``https://cdn.shop.example``.
        limits: How large requests may be.
    """

    deadline_seconds: float = 5.0
    queue: int = 64
    change_queue: int = 512
    connections: int = 900
    batch: int = 32
    drain_seconds: float = 10.0
    rate_per_second: float = 0.0
    burst: float = 2.0
    change_wait_seconds: float = 30.0  # below the 60 s after which proxies usually give up
    slow_seconds: float = 10.0
    log_queries: bool = False
    check_seconds: float = 10.0
    beam_width: int | None = None
    traces: bool = False
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    name: str = ""
    split: float = 0.0
    images: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        _at_least(self, 1, ["queue", "change_queue", "connections", "batch", "burst"])
        _at_least(self, 0.001, ["deadline_seconds", "slow_seconds"])
        _at_least(self, 0, ["drain_seconds", "rate_per_second", "check_seconds", "change_wait_seconds", "split"])
        if not self.split <= 1:
            raise SettingsError(
                f"split is {self.split}; give the share of users that the second engine answers, 0 to 1"
            )


def _at_least(settings: object, least: float, names: list[str]) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value >= least:
            raise SettingsError(f"{name} is {value}; give {least} or more")
