"""What the page promises without a browser: closed headers, nothing foreign, and overviews that tell the truth."""

import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from fastapi.testclient import TestClient

from genrail.catalog import Catalog
from genrail.errors import SettingsError
from genrail.serving import Service, create_application
from genrail.serving.keys import Key
from genrail.serving.page import PAGE_PATHS
from tests.serving.clients import QUICK, assert_problem, bearer, client, ids, keys_in, own_engine
from tests.shops import engine

STATIC = files("genrail.serving") / "static"


@pytest.fixture(scope="module")
def http():
    with client() as found:
        yield found


def branches(http, **body):
    answer = http.post("/v1/branches", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", sorted(PAGE_PATHS))
def test_files_of_the_page_need_no_key_and_let_nothing_foreign_in(path, tmp_path):
    keys, _ = keys_in(tmp_path, Key("shop"))
    with client(keys=keys) as http:
        answer = http.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = http.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert_problem(http.get("/v1/about"), 401)
        assert_problem(http.get(f"{path}x"), 401)


def test_the_page_names_no_other_host_and_holds_no_inline_script():
    for file in STATIC.iterdir():
        text = file.read_text()
        foreign = [url for url in re.findall(r"https?://[^\s\"'`<)]+", text) if url != "http://www.w3.org/2000/svg"]
        assert foreign == [], file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", text), (
            file.name
        )
    for name in ("index.html", "operate.html"):
        page = (STATIC / name).read_text()
        assert not re.search(r"\son\w+=|\sstyle=|<style", page)
        assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.S) == [""]


def test_pictures_come_from_where_the_operator_says_and_from_nowhere_else():
    settings = replace(QUICK, images=("https://cdn.shop.example",))
    with client(settings=settings) as http:
        policy = http.get("/").headers["content-security-policy"]
        assert "img-src 'self' https://cdn.shop.example;" in policy and "script-src 'self';" in policy
        assert http.get("/v1/about").json()["images"] == ["https://cdn.shop.example"]
    with pytest.raises(SettingsError, match="no origin"):
        create_application(Service.of(engine()), replace(QUICK, images=("https://x; script-src *",)))


def test_branches_are_named_by_words_of_their_titles(http):
    edition = engine().edition
    for child in branches(http, titles=20)["children"]:
        if child["items"] > 1:
            words = [word for item in child["examples"] for word in item["title"].split()]
            assert child["words"] and all(words.count(word) > 1 for word in child["words"])
    page = http.post("/v1/explain", json={"query": "red boot", "beams": 3, "children": 20}).json()
    first = {child["token"]: child["words"] for child in page["trace"]["steps"][0]["beams"][0]["children"]}
    tree = {child["token"]: child["words"] for child in branches(http, most=256)["children"]}
    assert first.items() <= tree.items() and len(edition) == 40


def test_names_of_branches_do_not_move_with_what_a_tenant_does_not_see(tmp_path):
    keys, tokens = keys_in(tmp_path, Key("red", where="colour = 'red'"))
    own = own_engine()
    with client(own, keys=keys) as http:
        http.headers.update(bearer(tokens["red"]))
        before = [child["words"] for child in branches(http)["children"]]
        own.add([{"sku": f"n{n}", "name": "blue boot 9", "colour": "blue", "price": 1} for n in range(5)])
        assert [child["words"] for child in branches(http)["children"]] == before


def test_every_file_of_the_folder_is_served(http):
    for file in STATIC.iterdir():
        path = {"index.html": "/", "operate.html": "/operate"}.get(file.name, f"/static/{file.name}")
        assert http.get(path).text == file.read_text()


def test_about_tells_attributes_examples_and_whether_there_is_a_second_engine(http):
    page = http.get("/v1/about").json()
    found = {each["name"]: each for each in page["attributes"]}
    assert found["price"] == {"name": "price", "kind": "number", "least": 10, "most": 49}
    assert found["in_stock"]["kind"] == "flag"
    assert dict(zip(found["colour"]["values"], found["colour"]["counts"], strict=True)) == dict.fromkeys(
        ("red", "blue", "green", "black"), 10
    )
    assert page["items"] == 40 and page["beside"] is None
    assert page["images"] == []
    titles = " / ".join(engine().edition.catalog.titles)
    assert page["examples"] and all(words in titles for words in page["examples"])


def test_about_knows_a_change(http):
    with client() as own:
        assert own.get("/v1/about").json()["items"] == 40
        own.post("/v1/index/remove", json={"ids": [f"s{number}" for number in range(0, 40, 4)]})
        page = own.get("/v1/about").json()
        assert page["items"] == 30
        assert "red" not in next(each for each in page["attributes"] if each["name"] == "colour")["values"]


def test_a_tenant_learns_nothing_about_other_items(tmp_path):
    keys, tokens = keys_in(tmp_path, Key("red", where="colour = 'red'"))
    with client(keys=keys) as http:
        http.headers.update(bearer(tokens["red"]))
        page = http.get("/v1/about").json()
        assert page["items"] == 10
        assert next(each for each in page["attributes"] if each["name"] == "colour")["values"] == ["red"]
        assert all("red" in title for title in page["examples"])
        tree = branches(http, titles=20)
        assert tree["items"] == 10
        assert all("red" in item["title"] for child in tree["children"] for item in child["examples"])


@pytest.mark.parametrize("where", [None, "price < 30", "colour = 'red' OR in_stock"])
def test_branches_count_what_the_table_of_identifiers_counts(http, where):
    edition = engine().edition
    allowed = np.ones(40, dtype=bool) if where is None else edition.catalog.where(where)
    codes = edition.finder.table.matrix()

    def check(prefix):
        tree = branches(http, prefix=prefix, where=where, most=256, titles=20)
        below = (codes[:, : len(prefix)] == prefix).all(axis=1) & allowed if prefix else allowed
        assert tree["items"] == below.sum()
        tokens, counts = np.unique(codes[below][:, len(prefix)], return_counts=True)
        assert {child["token"]: child["items"] for child in tree["children"]} == dict(zip(tokens, counts, strict=True))
        for child in tree["children"]:
            rows = np.flatnonzero(below & (codes[:, len(prefix)] == child["token"]))
            assert [item["id"] for item in child["examples"]] == [f"s{row}" for row in rows][:20]
        return tree

    tree = check([])
    for child in tree["children"][:5]:
        check([child["token"]])


def test_branches_beyond_the_most_are_summed_up(http):
    whole, cut = branches(http, most=256), branches(http, most=2, titles=0)
    assert len(cut["children"]) == 2 and cut["children"][0]["examples"] == []
    assert cut["others"]["children"] == len(whole["children"]) - 2
    assert cut["others"]["items"] + sum(child["items"] for child in cut["children"]) == 40


def test_branches_refuse_what_does_not_exist(http):
    assert_problem(http.post("/v1/branches", json={"prefix": [99_999]}), 422, "no identifier")
    assert_problem(http.post("/v1/branches", json={"where": "size = 3"}), 422, "size")
    assert_problem(http.post("/v1/branches", json={"most": 257}), 422, "most")
    assert branches(http, where="price < 0") | {"request_id": ""} == {
        "items": 0, "children": [], "others": {"children": 0, "items": 0}, "request_id": "",
        "index_version": "0.0", "model_version": "memory",
    }  # fmt: skip


def test_a_second_engine_answers_beside_with_a_door_of_its_own(tmp_path):
    keys, tokens = keys_in(tmp_path, Key("reader"), Key("owner", "admin"))
    first, second = own_engine(), own_engine()
    second.remove(["s0", "s1"])
    app = create_application(Service.of(first, QUICK), QUICK, keys, Service.of(second, QUICK))
    with TestClient(app) as http:
        assert_problem(http.post("/beside/v1/search", json={"query": "boot"}), 401)
        http.headers.update(bearer(tokens["reader"]))
        assert http.get("/v1/about").json()["beside"] == "/beside"
        assert http.get("/beside/v1/about").json()["items"] == 38
        assert_problem(http.post("/beside/v1/index/remove", json={"ids": ["s2"]}), 403)
        ask = {"query": "red boot", "k": 40}
        assert len(ids(http.post("/v1/search", json=ask))) == 40
        assert len(ids(http.post("/beside/v1/search", json=ask))) == 38
        http.headers.update(bearer(tokens["owner"]))
        assert http.post("/beside/v1/index/remove", json={"ids": ["s2"]}).status_code == 200
        assert len(ids(http.post("/v1/search", json=ask))) == 40
        assert_problem(http.get("/beside/"), 404)
        assert_problem(http.get("/beside/beside/v1/about"), 404)


def test_an_attribute_of_any_type_has_a_facet():
    from genrail.catalog.facets import facets
    from genrail.serving.overview import example_queries
    from genrail.serving.title_words import TitleWords

    shop = Catalog.from_items([{"sku": "a", "name": "boot", "sizes": [1, 2], "weight": None, "note": "x"}])
    assert {each["name"]: each["kind"] for each in facets(shop)}["note"] == "words"
    assert len(facets(shop)) == len(shop.attribute_names)
    assert example_queries(shop, TitleWords(shop)) == ["boot"]
    none = shop.remove(["a"])
    assert example_queries(none, TitleWords(none)) == []
    assert facets(Catalog.from_items([{"sku": "a", "name": "boot"}])) == []
