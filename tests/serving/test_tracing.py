"""What traces promise: three spans of one trace, the caller's trace continued, and nobody's words in them."""

import dataclasses

import pytest

from genrail.errors import MissingPackageError
from genrail.serving import tracing
from tests.serving.clients import QUICK, client

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="pip install opentelemetry-sdk")
TRACED = dataclasses.replace(QUICK, traces=True)


@pytest.fixture(scope="module")
def exporter():
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    found = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    trace.set_tracer_provider(provider)
    return found


@pytest.fixture
def spans(exporter):
    exporter.clear()
    return lambda: {span.name: span for span in exporter.get_finished_spans()}


def test_a_search_is_three_spans_of_the_callers_trace(spans):
    caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with client(settings=TRACED) as http:
        assert http.post("/v1/search", json={"query": "canary boot"}, headers=caller).status_code == 200
    found = spans()
    assert set(found) == {"POST /v1/search", "wait", "decode"}
    whole = found["POST /v1/search"]
    assert f"{whole.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{whole.parent.span_id:016x}" == "b7ad6b7169203331"
    assert dict(whole.attributes) == {
        "http.request.method": "POST", "http.route": "/v1/search", "http.response.status_code": 200
    }  # fmt: skip
    assert found["decode"].attributes["genrail.batch_size"] == 1
    for part in (found["wait"], found["decode"]):
        assert part.parent.span_id == whole.context.span_id
        assert whole.start_time <= part.start_time <= part.end_time <= whole.end_time
    assert "canary" not in "".join(span.to_json() for span in found.values())


def test_paths_are_templates_and_refusals_have_their_status(spans):
    with client(settings=TRACED) as http:
        http.get("/v1/items/canary")
        http.get("/no/canary")
    found = spans()
    assert {name: span.attributes["http.response.status_code"] for name, span in found.items()} == {
        "GET /v1/items/{item_id:path}": 404, "GET other": 404
    }  # fmt: skip
    assert "canary" not in "".join(span.to_json() for span in found.values())


def test_nothing_is_written_unless_asked(spans):
    with client() as http:
        http.post("/v1/search", json={"query": "boot"})
    assert spans() == {}


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setattr(tracing, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"genrail\[otel\]"):
        tracing.Tracing(True)
