"""One JSON object a line: for machines, with request ids, and without the words of anybody's query unless asked for."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TextIO

from genrail.types import JsonObject

__all__ = ["JsonLines", "about_text", "log_to"]

_encode = json.JSONEncoder(default=str).encode  # made once: json.dumps makes one for each line


class JsonLines(logging.Formatter):
    """Write a record as one line of JSON; `extra={"page": {...}}` becomes keys of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        page: JsonObject = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "page", {}),
        }
        if record.exc_info:
            # The type and the places, not the message: it may quote what a client sent.
            kind, _, trace = record.exc_info
            page["error"] = getattr(kind, "__name__", str(kind))
            page["at"] = _places(trace)
        return _encode(page)


def _places(trace: Any) -> list[str]:
    found = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found[-8:]


def about_text(text: str | None, whole: bool) -> JsonObject:
    """Say of a query what may be logged: its length and a hash, or the words where the operator asked for them.

    >>> about_text("red shoes", whole=False)
    {'query_characters': 9, 'query_hash': '61959b3a'}
    """
    if text is None:
        return {}
    if whole:
        return {"query": text}
    return {"query_characters": len(text), "query_hash": sha256(text.encode("utf-8", "replace")).hexdigest()[:8]}


def log_to(stream: TextIO | None = None, level: int = logging.INFO) -> logging.Handler:
    """Send what genrail and uvicorn log to a stream as lines of JSON."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("genrail", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level if name == "genrail" else logging.WARNING)
        logger.propagate = False
    return handler
