"""`/docs`: the routes of a server on one page, which loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from genrail.serving.routing import Routes
from genrail.types import JsonObject

__all__ = ["documentation", "documentation_routes"]

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h2{border-top:1px solid #ccc;padding-top:1rem;font-size:1.1rem}td,th{text-align:left;vertical-align:top;"
    "padding:.2rem .8rem .2rem 0}pre{background:#f4f4f4;padding:.6rem;overflow-x:auto}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#eee}pre{background:#222}}"
)


def documentation_routes() -> APIRouter:
    """Make the route of the page."""
    routes = Routes()

    @routes.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """Show the routes with their fields and an example of each."""
        return HTMLResponse(documentation(request.app.openapi()), headers=HEADERS)

    return routes


def documentation(schema: JsonObject) -> str:
    """Write an OpenAPI document as one page of HTML."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(schema['info']['title'])}: routes</title><style>{STYLE}</style>",
        f"<h1>{escape(schema['info']['title'])}</h1><p>{escape(schema['info'].get('summary', ''))} ",
        "The same for programs: <a href=/openapi.json>/openapi.json</a>.</p>",
    ]
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            parts += _route(method.upper(), path, route, schema)
    return "".join(parts)


def _route(method: str, path: str, route: JsonObject, schema: JsonObject) -> Iterator[str]:
    yield f"<h2><code>{escape(method)} {escape(path)}</code></h2><p>{escape(route.get('description', ''))}</p>"
    rows = [(one["name"], one["schema"], one.get("required", False)) for one in route.get("parameters", ())]
    content = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    body = _resolved(content.get("schema", {}), schema)
    required = body.get("required", ())
    rows += [(name, one, name in required) for name, one in body.get("properties", {}).items()]
    if rows:
        yield "<table><tr><th>field<th>kind<th>what it says</tr>"
        for name, one, needed in rows:
            said = one.get("description", "")
            yield f"<tr><td><code>{escape(name)}</code><td>{escape(_kind(one))}{' (needed)' if needed else ''}"
            yield f"<td>{escape(said)}</tr>"
        yield "</table>"
    for example in body.get("examples", ())[:1]:
        yield f"<pre>{escape(json.dumps(example, indent=1, ensure_ascii=False))}</pre>"


def _resolved(part: JsonObject, schema: JsonObject) -> JsonObject:
    name = part.get("$ref", "").rpartition("/")[2]
    found: JsonObject = schema["components"]["schemas"][name] if name else part
    return found


def _kind(part: JsonObject) -> str:
    """Name the type of a field.

    >>> _kind({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]})
    'list of string'
    """
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_kind(one) for one in part["anyOf"] if one.get("type") != "null"))
    if part.get("type") == "array":
        return f"list of {_kind(part.get('items', {}))}"
    if "$ref" in part:
        return str(part["$ref"].rpartition("/")[2])
    return str(part.get("type", "anything"))
