"""Keep foreign web pages out: a browser on this machine reaches loopback, and runs whatever any page tells it.

Without keys everybody who reaches the server may do everything, so what a browser says about the page that asks is
checked: the name it asks for (a page can have its own name resolve to 127.0.0.1), and where the page came from.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from genrail.errors import SettingsError
from genrail.serving.errors import Refusal

__all__ = ["Cors", "check_images", "check_origins", "foreign", "is_loopback", "no_json"]

ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:\d{1,5})?")
OWN_SITES = (b"same-origin", b"none")  # the page itself, or a person who typed the address
JSON = re.compile(rb"application/([a-z0-9.-]+\+)?json\s*(;.*)?", re.IGNORECASE | re.DOTALL)
ALGOLIA_HEADERS = ("X-Algolia-API-Key", "X-Algolia-Application-Id", "X-Algolia-Agent")  # of clients of InstantSearch
REMEMBERED_SECONDS = 600  # that a browser keeps the answer to a preflight


@lru_cache(maxsize=64)  # asked for every request, about one or two names
def is_loopback(host: str) -> bool:
    """Tell whether nobody but this machine can reach an address.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_origins(origins: Iterable[str], keys: bool) -> None:
    """Refuse origins that no browser sends, and everybody's where there are no keys.

    Raises:
        SettingsError: Names the origin.

    >>> check_origins(["https://shop.example", "http://localhost:3000"], keys=False)
    """
    for origin in origins:
        if origin == "*":
            if not keys:
                raise SettingsError("--origin '*' lets every web page change the engine; give --keys, or name origins")
        elif not ORIGIN.fullmatch(origin):
            raise SettingsError(
                f"{origin!r} is no origin; write scheme, host and port in lower case and without a path, such as "
                "https://shop.example or http://localhost:3000"
            )


def check_images(origins: Iterable[str]) -> None:
    """Refuse what is no origin: it goes into a header that says what a page may load.

    Raises:
        SettingsError: Names the origin.
    """
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise SettingsError(f"{origin!r} is no origin of images; write https://cdn.shop.example, without a path")


def foreign(scope: Scope, hosts: Iterable[str], origins: Iterable[str], pages: frozenset[str]) -> Refusal | None:
    """Refuse what another web page than the server's own asks, on a server without keys.

    Args:
        scope: Of the request.
        hosts: Further names by which the server may be asked, beside those of loopback.
        origins: Pages that may ask.
        pages: Paths that a link elsewhere may lead to.
    """
    named = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
    if not _named_well(scope, named, {name.lower() for name in hosts}):
        return Refusal(
            421,
            "this server has no keys and is asked as localhost or 127.0.0.1 only; for another name give it --keys, "
            "or --allow-host NAME",
            "host",
        )
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is not None:
        said = origin.decode("latin-1").lower()
        if said in origins:
            return None
        if said.partition("://")[2] not in named:
            return _elsewhere()
    if headers.get(b"sec-fetch-site", b"none").lower() not in OWN_SITES:
        link = scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == b"navigate" and scope["path"] in pages
        return None if link else _elsewhere()
    return None


def _named_well(scope: Scope, named: list[str], hosts: set[str]) -> bool:
    server, port = scope.get("server") or ("", None)
    if port is None:  # a socket of this machine's file system, which no browser can reach
        return True
    if not is_loopback(server):
        if _is_address(server):
            return True  # the operator opened it to others
        hosts = {*hosts, server}  # a name: of a test client, since sockets have addresses
    bare = [_without_port(name) for name in named]
    return bool(bare) and all(is_loopback(name) or name in hosts for name in bare)


@lru_cache(maxsize=64)
def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _without_port(name: str) -> str:
    host = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    return host.removesuffix(".")


def _elsewhere() -> Refusal:
    return Refusal(
        403, "another web page asks, and this server has no keys; start it with --origin and that page's", "origin"
    )


def no_json(method: str, kind: bytes) -> Refusal | None:
    """Refuse a body that is not said to be JSON: a form on any web page can send everything else.

    Only POST has routes that read a body or change something; a test keeps it so.
    """
    if method != "POST" or kind == b"application/json" or JSON.fullmatch(kind.strip()):
        return None
    return Refusal(415, "send JSON, with the header Content-Type: application/json (and {} for nothing)", "json")


class Cors:
    """Tell browsers that pages of some origins may ask, preflights included; to other origins nothing is told.

    Args:
        app: What is behind it.
        origins: Such as ``https://shop.example``; ``*`` for every page.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app = app
        self._origins = origins
        self._cors = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-Id", "X-User-Id", *ALGOLIA_HEADERS],
            expose_headers=["X-Request-Id", "X-Variant", "Retry-After", "Location"],
            max_age=REMEMBERED_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, by way of starlette's middleware if its origin is one of ours."""
        origin = dict(scope.get("headers", ())).get(b"origin", b"").decode("latin-1")
        known = scope["type"] == "http" and (origin in self._origins or (origin != "" and "*" in self._origins))
        await (self._cors if known else self._app)(scope, receive, send)
