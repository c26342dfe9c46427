"""Write the TypeScript client from the server's OpenAPI document: types of all bodies, and one method for each route.

    make client        # or: python clients/typescript.py

No engine and no Node is needed: the routes are the same whatever is served.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genrail.serving.application import create_application
from genrail.serving.service import Service
from genrail.serving.workers import Workers

OUT = Path(__file__).parent / "typescript" / "genrail.ts"
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
HEAD = """// Made by clients/typescript.py from the OpenAPI document of genrail {version}; renew it by `make client`.

/** The server refused: `status`, `detail` (one sentence with the way out), `reason` (one word), when to ask again. */
export class GenrailError extends Error {{
  readonly status: number;
  readonly reason: string;
  readonly requestId: string | null;
  readonly retryAfter: number | null;

  constructor(status: number, problem: Partial<Problem>, retryAfter: number | null) {{
    super(problem.detail ?? `the server answered ${{status}}`);
    this.name = "GenrailError";
    this.status = status;
    this.reason = problem.reason ?? "unknown";
    this.requestId = problem.request_id ?? null;
    this.retryAfter = retryAfter;
  }}
}}

/** Settings of a client: a key, who asks (for a split between two engines), and what to send requests with. */
export interface Settings {{
  key?: string;
  userId?: string;
  fetch?: typeof fetch;
}}

/** Ends a request early. */
export interface Options {{
  signal?: AbortSignal;
}}

"""
CLIENT = """/** Talks to one server. Every method throws `GenrailError` when the server refuses. */
export class Genrail {
  private readonly address: string;
  private readonly settings: Settings;

  constructor(address: string, settings: Settings = {}) {
    this.address = address.replace(/\\/+$/, "");
    this.settings = settings;
  }

  private async send(method: string, path: string, body: unknown, options: Options): Promise<Response> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (this.settings.key) headers["Authorization"] = `Bearer ${this.settings.key}`;
    if (this.settings.userId) headers["X-User-Id"] = this.settings.userId;
    const send = this.settings.fetch ?? fetch;
    const init: RequestInit = { method, headers };
    if (body !== undefined) init.body = JSON.stringify(body);
    if (options.signal) init.signal = options.signal;
    const answer = await send(this.address + path, init);
    if (answer.ok) return answer;
    const problem = (await answer.json().catch(() => ({}))) as Partial<Problem>;
    const wait = answer.headers.get("Retry-After");
    throw new GenrailError(answer.status, problem, wait === null ? null : Number(wait));
  }
"""
QUERY = """
function written(query: Record<string, unknown>): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return pairs.length ? "?" + new URLSearchParams(pairs.map(([name, value]) => [name, String(value)])) : "";
}
"""


def main() -> None:
    """Write the client."""
    OUT.write_text(client(document()))
    print(f"wrote {OUT}")


def document() -> dict[str, Any]:
    """Give the OpenAPI document of the server's routes."""
    return create_application(Service(Workers(Path("any.genrail")))).openapi()


def client(schema: dict[str, Any]) -> str:
    """Write the client of a document."""
    parts = [HEAD.format(version=schema["info"]["version"])]
    for name, one in sorted(schema["components"]["schemas"].items()):
        parts += [*_comment(one.get("description", ""), ""), f"export type {name} = {_type(one)};\n\n"]
    parts.append(CLIENT)
    known: set[str] = set()
    for path, methods in schema["paths"].items():
        # What can be asked both ways is asked by POST: its words travel in the body, so that no proxy logs them.
        method = "post" if "post" in methods else next(iter(methods))
        name = _name(path)
        if name not in known:
            known.add(name)
            parts += _method(name, method, path, methods[method])
    return "".join([*parts, "}\n", QUERY])


def _name(path: str) -> str:
    """Name a method by a path without versions and parameters.

    >>> [_name(path) for path in ("/v1/multi-search", "/v1/index/changes/{change}", "/1/indexes/*/queries")]
    ['multiSearch', 'indexChanges', 'indexesQueries']
    """
    words = re.findall(r"[a-z]+", re.sub(r"/v?\d+/|\{.*?\}", "/", path))
    return words[0] + "".join(word.capitalize() for word in words[1:])


def _method(name: str, method: str, path: str, route: dict[str, Any]) -> Iterator[str]:
    given = route.get("parameters", [])
    inside = [one for one in given if one["in"] == "path"]
    queried = [one for one in given if one["in"] == "query"]
    arguments = [f"{_camel(one['name'])}: {_type(one['schema'])}" for one in inside]
    address = re.sub(r"\{(\w+)\}", lambda found: "${encodeURIComponent(" + _camel(found[1]) + ")}", path)
    if queried:
        fields = [f"{one['name']}{'' if one.get('required') else '?'}: {_type(one['schema'])}" for one in queried]
        needed = any(one.get("required") for one in queried)
        arguments.append(f"query: {{ {'; '.join(fields)} }}" + ("" if needed else " = {}"))
        address += "${written(query)}"
    body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        arguments.append(f"body: {_type(body)}")
    arguments.append("options: Options = {}")
    contents = [one.get("content", {}) for status, one in route["responses"].items() if status.startswith("20")]
    text = not any("application/json" in one for one in contents)
    told = [_type(one["application/json"].get("schema", {})) for one in contents if "application/json" in one]
    gives = "string" if text else " | ".join(dict.fromkeys(told))
    yield "\n"
    yield from _comment(route.get("description", ""), "  ")
    yield f"  async {name}({', '.join(arguments)}): Promise<{gives}> {{\n"
    sent = "body" if body is not None else "undefined"
    yield f"    const answer = await this.send({json.dumps(method.upper())}, `{address}`, {sent}, options);\n"
    yield "    return await answer.text();\n" if text else f"    return (await answer.json()) as {gives};\n"
    yield "  }\n"


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _type(schema: dict[str, Any]) -> str:
    """Write a JSON schema as a type.

    >>> _type({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]})
    'string[] | null'
    """
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " | ".join(map(json.dumps, schema.get("enum", [schema.get("const")])))
    kind = schema.get("type")
    if kind == "array":
        inner = _type(schema.get("items", {}))
        return f"({inner})[]" if " | " in inner else f"{inner}[]"
    if "properties" in schema:
        return _object(schema)
    if kind == "object":
        more = schema.get("additionalProperties")
        return f"Record<string, {_type(more) if isinstance(more, dict) else 'unknown'}>"
    return PLAIN.get(str(kind), "unknown")


def _object(schema: dict[str, Any]) -> str:
    needed, lines = schema.get("required", ()), ["{\n"]
    for name, one in schema["properties"].items():
        lines += _comment(one.get("description", ""), "  ")
        lines.append(f"  {name}{'' if name in needed else '?'}: {_type(one)};\n")
    more = ["  [name: string]: unknown;\n"] if schema.get("additionalProperties") is True else []
    return "".join([*lines, *more, "}"])


def _comment(text: str, indent: str) -> Iterator[str]:
    if text:
        yield f"{indent}/** {' '.join(text.split())} */\n"


if __name__ == "__main__":
    main()
