"""A web page that somebody has open on this machine may not use a server without keys; origins that are named may."""

import dataclasses
import socket

import pytest

from genrail.errors import SettingsError
from genrail.serving.browsers import check_origins
from genrail.serving.keys import Key
from tests.serving.clients import QUICK, assert_problem, bearer, client, keys_in, own_engine
from tests.serving.processes import server

SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def own():
    return own_engine()


def on_loopback(own, keys=None, **settings):
    return client(own, dataclasses.replace(QUICK, **settings), keys, base_url="http://127.0.0.1:8000")


def search(http, **headers):
    return http.post("/v1/search", json={"query": "boot"}, headers=headers)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.1.1", ""]
)
@pytest.mark.parametrize("path", ["/", "/livez", "/v1/about", "/metrics", "/nothing"])
def test_without_keys_the_host_must_be_a_name_of_loopback(own, host, path):
    with on_loopback(own) as http:
        assert_problem(http.get(path, headers={"Host": host}), 421)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:9", "127.8.9.10", "[::1]:8000", "localhost."]
)
def test_names_of_loopback_are_answered(own, host):
    with on_loopback(own) as http:
        assert search(http, Host=host).status_code == 200


def test_a_further_name_can_be_allowed_and_two_names_must_both_be(own):
    with on_loopback(own, hosts=("shop.test",)) as http:
        assert search(http, Host="shop.test:80").status_code == 200
        raw = [("Host", "localhost"), ("Host", "evil.example"), ("Content-Type", "application/json")]
        assert_problem(http.post("/v1/search", content=b'{"query": "boot"}', headers=raw), 421)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "https://evil.example"}, id="another site"),
        pytest.param({"Origin": "http://localhost:3000"}, id="another port"),
        pytest.param({"Origin": "null"}, id="a sandboxed page"),
        pytest.param({"Origin": "http://127.0.0.1:8000.evil.example"}, id="a name that begins like ours"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="cross-site"),
        pytest.param({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, id="a link to a question"),
        pytest.param({"Sec-Fetch-Site": "what else"}, id="a word that nobody knows"),
    ],
)
@pytest.mark.parametrize("verb", ["search", "index/add", "index/remove", "index/publish", "index/reload"])
def test_without_keys_foreign_pages_are_refused(own, headers, verb):
    with on_loopback(own) as http:
        before = http.get("/v1/index").json()
        body = {"add": {"items": [{"sku": "x", "name": "x"}]}, "remove": {"ids": ["s1"]}}.get(verb[6:], {})
        assert_problem(http.post(f"/v1/{verb}", json=body, headers=headers), 403, "another web page")
        assert {**http.get("/v1/index").json(), "request_id": 0} == {**before, "request_id": 0}


def test_the_page_itself_is_answered_and_may_be_linked_to(own):
    with on_loopback(own) as http:
        own_page = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
        assert search(http, **own_page).status_code == 200
        assert search(http, **{"Sec-Fetch-Site": "none"}).status_code == 200
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert http.get("/", headers=link).status_code == 200
        assert_problem(http.get("/v1/about", headers=link), 403)


def test_with_keys_the_key_decides(own, tmp_path):
    keys, tokens = keys_in(tmp_path, Key("shop"))
    with on_loopback(own, keys) as http:
        assert search(http, Host="shop.example", Origin=SHOP, **bearer(tokens["shop"])).status_code == 200
        assert_problem(search(http, Host="shop.example", Origin=SHOP), 401)


@pytest.mark.parametrize(
    "kind", [None, "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "json", ""]
)
@pytest.mark.parametrize("verb", ["add", "update", "remove", "publish", "rollback", "reload"])
def test_every_changing_route_wants_json(own, verb, kind):
    with client(own) as http:
        headers = {} if kind is None else {"Content-Type": kind}
        for content in (b"", b"{}"):
            assert_problem(http.post(f"/v1/index/{verb}", content=content, headers=headers), 415, "application/json")
    assert len(own) == 40


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"])
def test_json_is_known_however_it_is_spelt(own, kind):
    with client(own) as http:
        content = b'{"query": "boot"}'
        assert http.post("/v1/search", content=content, headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/search/", "/livez/", "/v1/index/", "//evil.example/", "/v1/about/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_redirected_to_a_host_that_was_sent(own, path, method):
    with client(own) as http:
        headers = {"Host": "evil.example", "Content-Type": "application/json"}
        for with_host in (headers, {"Content-Type": "application/json"}):
            answer = http.request(method, "http://testserver" + path, headers=with_host, follow_redirects=False)
            assert not 300 <= answer.status_code < 400 and "location" not in answer.headers


# --- CORS -------------------------------------------------------------------------------------------------------------


def preflight(http, origin, headers="authorization,content-type"):
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
    return http.options("/v1/search", headers=asked)


@pytest.mark.parametrize("keyed", [False, True])
def test_an_origin_that_is_named_may_ask_preflight_included(own, tmp_path, keyed):
    keys, tokens = keys_in(tmp_path, Key("shop")) if keyed else (None, {})
    with on_loopback(own, keys, origins=(SHOP,)) as http:
        answer = preflight(http, SHOP)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()
        asked = {"Origin": SHOP, "Sec-Fetch-Site": "cross-site"} | (bearer(tokens["shop"]) if keyed else {})
        answer = search(http, **asked)
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == SHOP
        # What is refused can be read by the page too.
        broken = http.post("/v1/search", json={"query": ""}, headers=asked)
        assert broken.status_code == 422 and broken.headers["access-control-allow-origin"] == SHOP
        for other in ("https://evil.example", "https://shop.example.evil.example", "http://shop.example"):
            assert preflight(http, other).status_code in (401, 403)
            answer = search(http, **{**asked, "Origin": other})
            assert "access-control-allow-origin" not in answer.headers
            assert answer.status_code == (200 if keyed else 403)


def test_without_the_option_there_is_no_cors(own):
    with on_loopback(own) as http:
        assert_problem(preflight(http, SHOP), 403)


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://shop.example/", "https://Shop.example", "https://*", "", "*"]
)
def test_an_origin_that_no_browser_sends_is_refused_at_start(origin):
    with pytest.raises(SettingsError, match="origin"):
        check_origins([origin], keys=False)
    check_origins(["*", SHOP, "http://[::1]:3000"], keys=True)


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines") / "shop.genrail"
    own_engine().save(folder)
    with server(folder) as (process, http):
        yield process, http


UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n"
)
JSON = b"Content-Type: application/json\r\n"
ODD = {
    "a length of 5,000 digits": (b"POST /v1/search", JSON + b"Content-Length: " + b"1" * 5000 + b"\r\n"),
    "a length that is negative": (b"POST /v1/search", JSON + b"Content-Length: -1\r\n"),
    "two lengths": (b"POST /v1/search", JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n"),
    "a length and chunks": (b"POST /v1/search", JSON + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"),
    "a WebSocket": (b"GET /", UPGRADE),
    "a WebSocket to a question": (b"GET /v1/search", UPGRADE),
    "a WebSocket with a body": (b"POST /v1/index/publish", UPGRADE + JSON + b"Content-Length: 2\r\n"),
    "another upgrade": (b"GET /livez", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"),
    "a tunnel": (b"CONNECT localhost:1", b""),
    "bytes that are no text in the path": (b"GET /\xff\xfe", b""),
    "a broken escape in the path": (b"GET /v1/items/%", b""),
    "bytes that are no text in a header": (b"GET /version", b"X-Request-Id: \xff\xfe\r\nTraceparent: \xff\r\n"),
    "a strange charset": (b"POST /v1/search", JSON.strip() + b"; charset=nonsense\r\nContent-Length: 2\r\n"),
    "an expectation": (b"POST /v1/search", JSON + b"Expect: 200-ok\r\nContent-Length: 2\r\n"),
    "an encoding nobody knows": (b"POST /v1/search", JSON + b"Transfer-Encoding: gzip\r\n"),
    "a whole address": (b"GET http://evil.example/livez", b""),
    "an empty host": (b"GET /livez", b"Host:\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_no_header_gives_5xx(running, name):
    process, http = running
    begin, headers = ODD[name]
    with socket.create_connection(("127.0.0.1", int(process.url.rsplit(":", 1)[1])), timeout=120) as line:
        line.sendall(begin + b" HTTP/1.1\r\nHost: localhost\r\n" + headers + b"Connection: close\r\n\r\n{}")
        said = line.recv(65536)
    assert said[:9] == b"HTTP/1.1 " and said[9:10] in b"24", said[:200]
    assert b" 30" not in said[:13]
    assert http.post("/v1/search", json={"query": "boot"}).status_code == 200
    assert not process.log("a request failed")


def test_only_post_changes_or_reads_a_body_and_other_methods_hear_what_there_is(own):
    with on_loopback(own) as http:
        assert {method for path in http.get("/openapi.json").json()["paths"].values() for method in path} == {
            "get",
            "post",
        }
        refused = http.put("/v1/suggest", json={"typed": "a"})
        assert_problem(refused, 405)
        assert set(refused.headers["allow"].split(", ")) == {"GET", "POST"}
