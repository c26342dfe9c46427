"""Problems as they go over the wire (RFC 9457), and which error becomes which."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from genrail.errors import GenrailError
from genrail.types import JsonObject

__all__ = ["PROBLEM", "Refusal", "as_bytes", "problem", "refusal_of"]

PROBLEM = "application/problem+json"
TITLES = {
    400: "Bad request",
    401: "No key, or an unknown one",
    403: "This key may not do that",
    404: "Not found",
    405: "Method not allowed",
    408: "The request came too slowly",
    409: "The engine has moved on",
    413: "The request is too large",
    415: "The body is not JSON",
    421: "This server is not asked by that name",
    422: "The request cannot be answered",
    431: "The headers are too large",
    429: "Too many requests",
    499: "The client has left",
    500: "An error of the server",
    503: "Not now",
    504: "Too late",
    507: "The change cannot be stored",
}
# By the name of the error, since errors come from another process as text.
STATUS = {
    "ItemUnknown": 404,
    "TenantClosed": 403,
    "QueryError": 422,
    "FilterError": 422,
    "CatalogError": 422,
    "SettingsError": 422,
    "IdentifierError": 422,
    "DamagedError": 409,
    "FormatError": 409,
    "FingerprintError": 409,
    "LockedError": 503,
    "StorageError": 409,
    "DiskError": 507,
}


class Refusal(GenrailError):
    """Say that a request is not answered.

    Args:
        status: Of HTTP.
        detail: One sentence: what, where, and the way out.
        reason: One word for programs and the metrics: queue, rate, deadline, limit, invalid, key, unavailable, ...
        retry_after: Seconds after which it is worth to ask again.
    """

    def __init__(self, status: int, detail: str, reason: str = "request", retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason = reason
        self.retry_after = retry_after

    def to_dict(self, request_id: str) -> JsonObject:
        """Write the problem as plain values."""
        return {
            "type": "about:blank",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
            "request_id": request_id,
        }

    @property
    def headers(self) -> dict[str, str]:
        """Say when to come again."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def problem(
    refusal: Refusal,
    request_id: str,
    more: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Make the answer that tells a problem.

    Args:
        refusal: What went wrong.
        request_id: Of the request.
        more: Further members of the problem.
        headers: Further headers, such as `Allow`.
    """
    page = {**refusal.to_dict(request_id), **(more or {})}
    # Whatever a client sent may be quoted here, so anything that is not UTF-8 is written as an escape.
    body = json.dumps(page, ensure_ascii=True).encode()
    told = {"X-Request-Id": request_id, **refusal.headers, **(headers or {})}
    if refusal.status in (408, 413):  # the rest of the body is not waited for
        told["Connection"] = "close"
    if refusal.status == 401:
        told["WWW-Authenticate"] = "Bearer"
    return Response(body, refusal.status, told, media_type=PROBLEM)


def as_bytes(refusal: Refusal, request_id: str) -> bytes:
    """Write a problem as a whole HTTP answer, after which the connection is closed."""
    answer = problem(refusal, request_id)
    status = f"HTTP/1.1 {refusal.status} {TITLES.get(refusal.status, 'Error')}".encode()
    lines = [name + b": " + value for name, value in answer.raw_headers if name != b"connection"]
    return b"\r\n".join([status, *lines, b"connection: close", b"", bytes(answer.body)])


def refusal_of(error: Mapping[str, str]) -> Refusal:
    """Turn what an engine refused, as (kind, message), into what the client is told.

    >>> refusal_of({"kind": "FilterError", "message": "no such field"}).status
    422
    """
    status = STATUS.get(error["kind"], 500)
    if status == 500:
        detail = f"{error['message']} ({error['kind']}); nothing was changed, the log of the server says more"
        return Refusal(500, detail, "error")
    return Refusal(status, error["message"], "request", 1 if status == 503 else None)
