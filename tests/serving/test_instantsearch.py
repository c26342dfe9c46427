"""Front ends made with InstantSearch find here what they ask Algolia for: the same parameters, the same shape."""

import json
from functools import cache
from urllib.parse import urlencode

import pytest

from genrail.engine import Engine
from genrail.serving.keys import Key
from tests.serving.clients import assert_problem, client, keys_in
from tests.shops import shop

PATH = "/1/indexes/*/queries"


@cache
def words():
    return Engine.build(shop(), "bm25")


@pytest.fixture(scope="module")
def http():
    with client(words()) as http:
        yield http


def ask(http, **asked):
    answer = http.post(PATH, json={"requests": [{"indexName": "shop", **asked}]})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]


def ids(result):
    return [hit["objectID"] for hit in result["hits"]]


def test_hits_carry_attributes_and_marked_words_and_the_same_order_as_a_search(http):
    result = ask(http, query="red boot", hitsPerPage=3)
    best = http.post("/v1/search", json={"query": "red boot", "k": 3}).json()["hits"]
    assert ids(result) == [hit["id"] for hit in best]
    first = result["hits"][0]
    assert {name: first[name] for name in best[0]["metadata"]} == best[0]["metadata"]
    assert first["name"] == best[0]["title"]
    assert first["_highlightResult"]["name"] == {
        "value": best[0]["title"].replace("red", "<mark>red</mark>").replace("boot", "<mark>boot</mark>"),
        "matchLevel": "full",
        "matchedWords": ["red", "boot"],
    }
    assert (result["query"], result["index"], result["hitsPerPage"], result["page"]) == ("red boot", "shop", 3, 0)
    assert result["processingTimeMS"] >= 1


def test_parameters_may_be_written_as_in_an_address(http):
    fields = {"query": "boot", "hitsPerPage": 2, "page": 1, "facets": ["colour"], "facetFilters": [["colour:red"]]}
    written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    one, two = ask(http, **fields), ask(http, params=urlencode(written))
    told = {"params", "processingTimeMS"}
    assert {name: one[name] for name in one if name not in told} == {
        name: two[name] for name in two if name not in told
    }
    assert len(one["hits"]) == 2 and one["facets"]["colour"]["red"] == one["nbHits"]


def test_pages_lead_to_every_counted_hit_once(http):
    asked = {"query": "boot", "hitsPerPage": 3, "facets": ["colour", "in_stock", "price"]}
    first = ask(http, **asked)
    assert first["nbPages"] == -(-first["nbHits"] // 3)
    pages = [ids(ask(http, **asked, page=page)) for page in range(first["nbPages"])]
    found = [one for page in pages for one in page]
    assert len(found) == len(set(found)) == first["nbHits"]
    assert sum(first["facets"]["colour"].values()) == first["nbHits"]
    assert set(first["facets"]["in_stock"]) <= {"true", "false"}
    assert first["facets"]["price"] == {} and first["facets_stats"]["price"]["min"] >= 10


def test_no_words_list_the_catalogue_and_a_replica_sorts_it(http):
    every = ask(http, hitsPerPage=5, facets=["*"])
    assert every["nbHits"] == 40 and every["exhaustiveNbHits"] and ids(every) == ["s0", "s1", "s2", "s3", "s4"]
    assert every["facets"]["colour"] == {"black": 10, "blue": 10, "green": 10, "red": 10}
    dear = ask(http, indexName="shop_price_desc", hitsPerPage=2, page=1, numericFilters=["price<30"])
    assert ids(dear) == ["s17", "s16"] and dear["nbHits"] == 20
    assert ask(http, indexName="shop_price_asc", hitsPerPage=1)["hits"][0]["price"] == 10


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"facetFilters": [["colour:red", "colour:blue"], "in_stock:true"]}, "colour IN ('red', 'blue') AND in_stock"),
        ({"facetFilters": ["colour:-red"], "numericFilters": ["price>=20", "price<=30"]},
         "colour != 'red' AND price BETWEEN 20 AND 30"),
        ({"filters": "colour:red OR (price < 15 AND NOT in_stock:false)"}, "colour = 'red' OR price < 15 AND in_stock"),
        ({"filters": 'price:12 TO 14 AND colour:"green"', "numericFilters": "price != 13"},
         "price BETWEEN 12 AND 14 AND colour = 'green' AND price != 13"),
    ],
)  # fmt: skip
def test_filters_allow_what_our_own_allow(http, asked, where):
    best = http.post("/v1/search", json={"query": "boot red", "k": 40, "where": where}).json()["hits"]
    assert ids(ask(http, query="boot red", hitsPerPage=40, **asked)) == [hit["id"] for hit in best] != []


def test_text_is_escaped_unless_the_front_end_does_it():
    html = Engine.build(
        [{"id": "1", "title": "boot <b>&", "tags": ["warm boot", "x"]}, {"id": "2", "title": "hat", "tags": []}], "bm25"
    )
    with client(html) as http:
        [hit] = ask(http, query="boots", hitsPerPage=1)["hits"]
        assert hit["_highlightResult"]["title"]["value"] == "<mark>boot</mark> &lt;b&gt;&amp;"
        assert hit["_highlightResult"]["tags"][1]["matchLevel"] == "none"
        own = ask(http, query="boots", highlightPreTag="__ais-highlight__", highlightPostTag="__/ais-highlight__",
                  attributesToHighlight=["title"], attributesToRetrieve=["*", "-tags"])["hits"][0]  # fmt: skip
        assert own["_highlightResult"] == {
            "title": {
                "value": "__ais-highlight__boot__/ais-highlight__ <b>&", "matchLevel": "full", "matchedWords": ["boot"]
            }
        }  # fmt: skip
        assert set(own) == {"objectID", "title", "_highlightResult"}


def test_zero_hits_still_count_values(http):
    result = ask(http, query="boot", hitsPerPage=0, facets=["colour"])
    assert result["hits"] == [] and result["nbPages"] == 0 and result["facets"]["colour"]


def test_browsers_say_text_and_write_their_key_into_the_address(tmp_path):
    keys, tokens = keys_in(tmp_path, Key("page", where="colour = 'red'"))
    body = json.dumps({"requests": [{"query": "boot", "hitsPerPage": 40, "facets": "colour"}]})
    with client(words(), keys=keys) as http:
        headers = {"Content-Type": "text/plain"}
        assert_problem(http.post(PATH, content=body, headers=headers), 401)
        named = {"x-algolia-application-id": "shop", "x-algolia-api-key": tokens["page"]}
        for answer in (
            http.post(PATH, content=body, headers=headers, params=named),
            http.post(PATH, content=body, headers=headers | named),
        ):
            result = answer.json()["results"][0]
            assert set(result["facets"]["colour"]) == {"red"} and {hit["colour"] for hit in result["hits"]} == {"red"}
        assert_problem(http.post("/v1/search", json={"query": "boot"}, params=named), 401)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"tagFilters": ["new"]}, "tagFilters is not possible here"),
        ({"filters": "colour"}, "filters: 'colour' cannot be read"),
        ({"facetFilters": ["colour"]}, "not attribute:value"),
        ({"numericFilters": ["price~3"]}, "no comparison"),
        ({"facets": ["size"]}, "size"),
        ({"filters": "size:3"}, "size"),
        ({"hitsPerPage": "many"}, "hitsPerPage"),
    ],
)
def test_what_cannot_be_done_is_said(http, asked, says):
    answer = http.post(PATH, json={"requests": [{"query": "boot", **asked}]})
    assert_problem(answer, 422, says)
