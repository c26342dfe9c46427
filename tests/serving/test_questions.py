"""What clients are promised when they ask: hits with versions, filters, explanations, problems with a way out."""

import pytest

import genrail
from genrail.types import Query
from tests.serving.clients import assert_problem, client, ids, own_engine
from tests.shops import engine, shop


@pytest.fixture(scope="module")
def http():
    with client() as found:
        yield found


def test_an_answer_carries_versions_time_id_and_doubts(http):
    answer = http.post("/v1/search", json={"query": "red boot", "history": ["s1", "nope"], "k": 3})
    page = answer.json()
    assert set(page) == {
        "hits", "exhausted", "warnings", "fits", "took_ms", "index_version", "model_version", "request_id"
    }  # fmt: skip
    assert page["request_id"] == answer.headers["x-request-id"]
    assert "'nope'" in page["warnings"][0]
    assert [hit["rank"] for hit in page["hits"]] == [1, 2, 3]
    assert set(page["hits"][0]) == {"id", "title", "score", "rank", "metadata"}


@pytest.mark.parametrize(
    ("path", "body", "query"),
    [
        pytest.param("search", {"query": "red boot"}, Query("red boot"), id="words"),
        pytest.param("search", {"query": "boot", "history": ["s3"], "include_seen": True},
                     Query("boot", ["s3"], exclude_seen=False), id="words and a past"),
        pytest.param("recommend", {"history": ["s1", "s6"]}, Query(None, ["s1", "s6"]), id="a past"),
        pytest.param("similar", {"id": "s1"}, Query(None, ["s1"]), id="an item"),
        pytest.param("search", {"query": "boot", "where": "price < 20"}, Query("boot", where="price < 20"), id="where"),
    ],
)  # fmt: skip
def test_answers_are_those_of_the_engine(http, path, body, query):
    ranking = engine().search_batch([query], 10)[0]
    page = http.post(f"/v1/{path}", json={**body, "k": 10}).json()
    assert [hit["id"] for hit in page["hits"]] == ranking.item_ids
    assert [hit["score"] for hit in page["hits"]] == pytest.approx([hit.score for hit in ranking], abs=1e-4)
    assert page["exhausted"] == ranking.exhausted


@pytest.mark.parametrize(("where", "allowed"), [("price < 13", 3), ("price = 10", 1), ("price < 0", 0)])
def test_as_many_items_come_as_are_allowed_and_no_filler(http, where, allowed):
    page = http.post("/v1/search", json={"query": "boot", "where": where, "k": 10}).json()
    assert len(page["hits"]) == allowed
    assert page["exhausted"] is True


def test_nothing_allowed_costs_no_model(monkeypatch):
    own = own_engine()
    with client(own) as http:
        model = own.edition.finder.spelling.model
        monkeypatch.setattr(type(model), "prefill", lambda *_: pytest.fail("the model was asked"))
        assert ids(http.post("/v1/search", json={"query": "boot", "where": "price < 0"})) == []


def test_pages_orders_counts_and_marks_are_those_of_the_engine(http):
    body = {"query": "red boot", "k": 4, "facets": ["colour"], "fields": ["price"], "where": {"price": {"<": 40}}}
    pages = [http.post("/v1/search", json={**body, "offset": offset}).json() for offset in (0, 4)]
    found = [engine().search("red boot", k=4, offset=offset, where="price < 40") for offset in (0, 4)]
    assert [[hit["id"] for hit in page["hits"]] for page in pages] == [ranking.item_ids for ranking in found]
    assert [hit["rank"] for hit in pages[1]["hits"]] == [5, 6, 7, 8]
    assert set(pages[0]["hits"][0]["metadata"]) == {"price"}
    assert sum(pages[0]["facets"][0]["counts"]) == 30 and pages[0]["fits"] is True
    body = {"id": "s1", "k": 5, "sort": "-price", "boost": {"in_stock": 0.1}, "pin": ["s9"], "highlight": True}
    hits = http.post("/v1/similar", json=body).json()["hits"]
    assert hits[0]["id"] == "s9"
    assert [hit["metadata"]["price"] for hit in hits[1:]] == sorted(
        (hit["metadata"]["price"] for hit in hits[1:]), reverse=True
    )


def test_an_explanation_shows_the_steps_and_the_fate_of_an_item(http):
    page = http.post(
        "/v1/explain", json={"query": "red boot", "k": 2, "item_id": "s7", "children": 3, "beams": 2}
    ).json()
    steps = page["trace"]["steps"]
    assert steps[0]["beams"][0]["prefix"] == []
    for step in steps:
        assert len(step["beams"]) <= 2 <= max(2, step["beam_count"])
        for beam in step["beams"]:
            assert len(beam["children"]) <= 3
            assert {"token", "probability", "items", "kept", "spelling"} <= set(beam["children"][0])
    assert page["item"]["id"] == "s7"
    assert page["item"]["story"].startswith(("lost at", "finished", "open when"))
    assert page["hits"][0]["identifier"]


def test_several_searches_at_once_answer_each_for_itself(http):
    asked = [{"query": "red boot", "k": 2}, {"query": "clog", "where": "nope = 1"}, {"query": "sandal", "k": 3}]
    results = http.post("/v1/multi-search", json={"requests": asked}).json()["results"]
    assert len(results[0]["hits"]) == 2
    assert results[1]["status"] == 422 and "nope" in results[1]["detail"]
    assert len(results[2]["hits"]) == 3


def test_suggestions_complete_what_is_typed(http):
    page = http.get("/v1/suggest", params={"typed": "red bo", "k": 2}).json()
    assert page["suggestions"][0]["text"] == "red boot" and page["index_version"]
    assert_problem(http.get("/v1/suggest", params={"typed": "x", "k": 0}), 422, "k")


def test_an_item_and_one_that_is_not_there(http):
    assert http.get("/v1/items/s4").json()["metadata"]["colour"] == "red"
    assert_problem(http.get("/v1/items/zzz"), 404, "'zzz'")
    assert_problem(http.post("/v1/similar", json={"id": "zzz"}), 404)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        pytest.param(b"{", 400, "body", id="broken JSON"),
        pytest.param(b"[" * 20_000, 400, "", id="nested without end"),
        pytest.param(b'{"query": "\xff"}', 400, "", id="no UTF-8"),
        pytest.param(b'{"query": "\\ud800"}', 422, "surrogate", id="half a surrogate pair"),
        pytest.param(b'{"query": ""}', 422, "empty", id="nothing asked"),
        pytest.param(b'{"query": "boot", "colour": "red"}', 422, "colour", id="an unknown field"),
        pytest.param(b'{"query": "boot", "k": "5"}', 422, "k", id="a number as text"),
        pytest.param(b'{"query": "boot", "k": NaN}', 422, "k", id="NaN"),
        pytest.param(b'{"query": "boot", "where": "price <"}', 422, "", id="half a filter"),
        pytest.param(b'{"history": ["nope"]}', 422, "nope", id="unknown items only"),
        pytest.param(b'{"query": "boot", "timeout_ms": 0}', 422, "timeout_ms", id="no time"),
        pytest.param(b'{"query": "boot", "offset": 995}', 422, "offset", id="too deep a page"),
        pytest.param(b'{"query": "boot", "sort": "nope"}', 422, "nope", id="no such attribute"),
        pytest.param(b'{"query": "boot", "boost": {"price": "much"}}', 422, "boost", id="a weight that is none"),
        pytest.param(b'{"query": "boot", "where": {"price": {"~": 1}}}', 422, "operators", id="no such operator"),
        pytest.param(b"null", 422, "", id="null"),
        pytest.param(b"", 422, "", id="no body"),
    ],
)
def test_a_bad_request_is_a_problem_with_a_way_out(http, body, status, says):
    answer = http.post("/v1/search", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, status, says)


def test_unknown_paths_and_methods_are_problems_too(http):
    assert_problem(http.get("/v1/nothing"), 404)
    assert_problem(http.get("/v1/search"), 405)


def test_the_request_id_of_a_client_is_kept_if_it_is_plain(http):
    answer = http.post("/v1/search", json={"query": "boot"}, headers={"X-Request-Id": "shop-77.a"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "shop-77.a"
    forged = http.post("/v1/search", json={"query": "boot"}, headers={"X-Request-Id": "a b\x01"})
    assert forged.headers["x-request-id"] != "a b\x01"


def test_the_schema_describes_every_route_with_examples(http):
    schema = http.get("/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    assert {"/v1/search", "/v1/recommend", "/v1/similar", "/v1/explain", "/v1/items/{item_id}"} <= set(schema["paths"])
    for name in ("SearchRequest", "RecommendRequest", "SimilarRequest", "ExplainRequest", "Items", "SearchAnswer"):
        assert schema["components"]["schemas"][name]["examples"]


def test_the_routes_stand_on_one_page_that_loads_nothing(http):
    answer = http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path in http.get("/openapi.json").json()["paths"]:
        assert f" {path}</code>" in answer.text
    assert "<script" not in answer.text and "://" not in answer.text
    assert "Leave out what scores lower." in answer.text and "list of string" in answer.text


# --- rerank -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_speaks_the_shape_of_cohere_and_jina(http, path):
    body = {"model": "any", "query": "red boot", "documents": ["blue hat", {"text": "red boot"}, "red"], "top_n": 2}
    page = http.post(path, json={**body, "max_chunks_per_doc": 3}).json()
    assert [result["index"] for result in page["results"]] == [1, 2]
    assert page["results"][0]["document"] == {"text": "red boot"}
    assert 0 <= page["results"][1]["relevance_score"] <= page["results"][0]["relevance_score"] <= 1
    assert page["model"] == "any" and page["usage"]["total_tokens"] > 0
    everything = http.post(path, json={**body, "top_n": 0, "return_documents": False}).json()["results"]
    assert len(everything) == 3 and "document" not in everything[0]


def test_rerank_of_text_embeddings_inference_is_a_bare_list(http):
    page = http.post("/tei/rerank", json={"query": "red", "texts": ["blue", "red"]}).json()
    assert [one["index"] for one in page] == [1, 0]
    assert set(page[0]) == {"index", "score"}


# --- health -----------------------------------------------------------------------------------------------------------


def test_alive_ready_and_version(http):
    assert http.get("/livez").text == "ok"
    assert http.get("/readyz").json() == {"ready": True, "disk": "ok", "waiting": 0}
    assert http.get("/version").json()["index_version"] == "0.0"


def test_how_words_were_read_is_told_and_can_be_switched_off():
    with client(genrail.Engine.build(shop(), lanes=["bm25", "lookup"], synonyms=["bootee => boot"])) as http:
        body = {"query": "red bootee", "k": 5}
        page = http.post("/v1/search", json=body).json()
        assert [one["words"] for one in page["reading"]] == ["red", "bootee"]
        assert page["reading"][0]["attributes"] == ["colour"] and page["reading"][1]["synonyms"] == ["boot"]
        plain = http.post("/v1/search", json={**body, "soft_filters": False}).json()
        assert [one["words"] for one in plain["reading"]] == ["bootee"]
        told = http.post("/v1/explain", json=body).json()["hits"]
        assert all(hit["soft_filters"] == (["red"] if hit["metadata"]["colour"] == "red" else []) for hit in told)
        assert "reading" not in http.post("/v1/search", json={"query": "clog", "k": 5}).json()
