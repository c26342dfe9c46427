"""What a tenant is told depends on its own items alone, explanations included; a filter that fails is closed."""

import math

import pytest

from genrail.catalog import Catalog
from genrail.engine import Engine, MergeSettings
from genrail.serving.keys import Key
from tests.serving.clients import assert_problem, bearer, client, keys_in, own_engine
from tests.shops import build

RED = Key("red", where="shop = 1")
ADMIN = Key("boss", role="admin")
NEVER = MergeSettings(automatic=False)


MINE, THEIRS = 1, 2  # shops, told apart by a number: the text encoder reads words, and twins must look alike to it


def twins(name, shop, count, first=0):
    """Make items of one title: they share their codes, and a last number tells them apart."""
    return [
        {"sku": f"{name}{number}", "name": "soft boot", "shop": shop, "price": number}
        for number in range(first, first + count)
    ]


@pytest.fixture(scope="module")
def mixed():
    """Twins of others came first, so that the tenant's own have higher numbers."""
    others = [{"sku": f"o{n}", "name": f"hat {n}", "shop": MINE, "price": n} for n in range(20)]
    return build(Catalog.from_items([*twins("blue", THEIRS, 4), *twins("red", MINE, 3), *others]), seed=3)


def asked(http, token, item_id="red1", **more):
    body = {"query": "soft boot", "k": 5, "item_id": item_id, "beams": 20, "children": 20, **more}
    page = http.post("/v1/explain", json=body, headers=bearer(token)).json()
    return {name: page[name] for name in ("hits", "trace", "item", "exhausted", "warnings")}


def below(http, token, prefix):
    page = http.post("/v1/branches", json={"prefix": prefix}, headers=bearer(token))
    assert page.status_code == 200, page.text
    return {name: page.json()[name] for name in ("items", "children", "others")}


def same(one, other):
    """Compare pages: words and whole numbers exactly, probabilities to what float32 holds."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return other == (pytest.approx(one, abs=1e-5) if isinstance(one, float) else one) and type(one) is type(other)


def test_explanations_do_not_move_with_foreign_items(mixed, tmp_path):
    keys, tokens = keys_in(tmp_path, RED, ADMIN)
    red, admin = tokens["red"], bearer(tokens["boss"])
    with client(Engine(mixed.edition, merging=NEVER), keys=keys) as http:

        def told():
            return [asked(http, red), asked(http, red, where="price < 2"), below(http, red, [])]

        before = told()
        hats = ({"sku": f"b{n}", "name": f"hat {n}", "shop": THEIRS, "price": n} for n in range(40))
        added = [*twins("blue", THEIRS, 30, first=100), *hats]
        assert http.post("/v1/index/add", json={"items": added}, headers=admin).status_code == 200
        assert same(told(), before)
        gone = [f"blue{n}" for n in range(4)] + ["blue100", "b3"]
        assert http.post("/v1/index/remove", json={"ids": gone}, headers=admin).status_code == 200
        assert same(told(), before)


def test_a_tenant_s_numbers_count_its_own_twins(mixed, tmp_path):
    keys, tokens = keys_in(tmp_path, RED, Key("all"))
    table, catalog = mixed.edition.finder.table, mixed.catalog
    spelt = {name: table.sequence(catalog.row(name)).tolist() for name in ("blue0", "red0", "red1", "red2")}
    own = spelt["red0"]
    assert all(one[:-1] == own[:-1] for one in spelt.values()), "the twins of this test share their codes"
    reds = sorted(("red0", "red1", "red2"), key=lambda name: spelt[name][-1])
    assert [spelt[name][-1] for name in reds] != [0, 1, 2], "twins of others stand between them"
    with client(Engine(mixed.edition, merging=NEVER), keys=keys) as http:
        for number, name in enumerate(reds):
            item = asked(http, tokens["red"], name)["item"]
            assert item["identifier"] == [*own[:-1], number] and item["rank"] is not None
        page = asked(http, tokens["red"], where="price < 3")
        assert {hit["identifier"][-1] for hit in page["hits"] if hit["id"].startswith("red")} == {0, 1, 2}
        children = below(http, tokens["red"], own[:-1])["children"]
        shown = sorted((child["token"], child["examples"][0]["id"]) for child in children)
        assert shown == list(enumerate(reds))
        assert below(http, tokens["red"], [*own[:-1], 2])["children"] == []
        assert_problem(
            http.post("/v1/branches", json={"prefix": [*own[:-1], 3]}, headers=bearer(tokens["red"])), 422, "begins"
        )
        last = asked(http, tokens["red"])["trace"]["steps"][-1]
        shown = [child["token"] for beam in last["beams"] if beam["prefix"] == own[:-1] for child in beam["children"]]
        assert sorted(shown) == [0, 1, 2]
        # Whoever sees everything sees the numbers as they are.
        assert asked(http, tokens["all"], "red0")["item"]["identifier"] == own


def test_a_tenant_s_scores_are_shares_of_its_own_items(mixed, tmp_path):
    """Summed over all that a tenant may see, probabilities are 1; not renormalised, the share of others is missing."""
    keys, tokens = keys_in(tmp_path, RED, Key("all"))
    with client(Engine(mixed.edition, merging=NEVER), keys=keys) as http:
        body = {"query": "soft boot", "k": 23}
        mine = http.post("/v1/explain", json=body, headers=bearer(tokens["red"])).json()["hits"]
        everything = http.post("/v1/explain", json={**body, "k": 27}, headers=bearer(tokens["all"])).json()["hits"]
    assert len(mine) == 23 and len(everything) == 27

    def mass(hits):
        return sum(math.exp(hit["log_probability"]) for hit in hits)

    assert mass(mine) == pytest.approx(1.0, abs=1e-3)
    own = [hit for hit in everything if hit["metadata"]["shop"] == MINE]
    assert mass(own) < 0.9, "the others of this test have a share worth missing"
    foreign = {hit["id"]: hit["log_probability"] for hit in own}
    assert all(hit["log_probability"] >= foreign[hit["id"]] - 1e-6 for hit in mine)


def test_the_mass_that_is_removed_is_that_of_the_tenant_s_own_filter(mixed, tmp_path):
    keys, tokens = keys_in(tmp_path, RED)
    with client(Engine(mixed.edition, merging=NEVER), keys=keys) as http:
        free = asked(http, tokens["red"])["trace"]["steps"][0]["beams"][0]
        bound = asked(http, tokens["red"], where="price > 10")["trace"]["steps"][0]["beams"][0]
    assert free["removed_mass"] == pytest.approx(0.0, abs=1e-6)
    assert 0.0 < bound["removed_mass"] < 1.0


# --- a filter that cannot be evaluated --------------------------------------------------------------------------------

ROUTES = [
    ("POST", "/v1/search", {"query": "boot"}),
    ("POST", "/v1/search", {"query": "boot", "where": "price < 30"}),
    ("POST", "/v1/recommend", {"history": ["s1"]}),
    ("POST", "/v1/similar", {"id": "s1"}),
    ("POST", "/v1/explain", {"query": "boot", "item_id": "s1"}),
    ("POST", "/v1/branches", {}),
    ("POST", "/v1/branches", {"where": "price < 30"}),
    ("GET", "/v1/items/s1", None),
    ("GET", "/v1/about", None),
]


@pytest.mark.parametrize("where", ["owner = 'me'", "owner", "price = 'dear'", "colour > 5", "owner IS NULL"])
def test_a_tenant_whose_filter_cannot_be_evaluated_sees_nothing_not_even_columns(tmp_path, where):
    keys, tokens = keys_in(tmp_path, Key("odd", where=where))
    with client(own_engine(), keys=keys) as http:
        for method, path, body in ROUTES:
            answer = http.request(method, path, json=body, headers=bearer(tokens["odd"]))
            assert_problem(answer, 403, "nothing is shown")
            for name in ("colour", "price", "in_stock", "sku", "owner", "words"):
                assert name not in answer.text, (path, answer.text)
        several = {"requests": [{"query": "boot"}] * 2}
        results = http.post("/v1/multi-search", json=several, headers=bearer(tokens["odd"])).json()["results"]
        assert [one["status"] for one in results] == [403, 403]


def test_a_swap_to_other_columns_closes_a_tenant_until_its_column_is_back(tmp_path):
    own_engine().save(tmp_path / "shop.genrail")
    keys, tokens = keys_in(tmp_path, Key("red", where="colour = 'red'"), ADMIN, Key("all"))
    others = build(Catalog.from_items([{"sku": f"s{n}", "name": f"boot {n}", "size": n} for n in range(30)]))
    with client(Engine.load(tmp_path / "shop.genrail", live=True, merging=NEVER), keys=keys) as http:
        red, boss = bearer(tokens["red"]), bearer(tokens["boss"])
        question = {"query": "boot", "k": 40}
        before = http.post("/v1/search", json=question, headers=red).json()["hits"]
        assert len(before) == 10
        others.save(tmp_path / "shop.genrail")
        assert http.post("/v1/index/reload", json={}, headers=boss).status_code == 200
        for method, path, body in ROUTES:
            answer = http.request(method, path, json=body, headers=red)
            assert_problem(answer, 403)
            assert "size" not in answer.text
        # Those whose filters hold are answered from the new version.
        found = http.post("/v1/search", json={**question, "where": "size < 5"}, headers=bearer(tokens["all"])).json()
        assert len(found["hits"]) == 5
        missing = http.post("/v1/search", json={**question, "where": "price < 5"}, headers=bearer(tokens["all"]))
        assert_problem(missing, 422, "price")
        assert http.post("/v1/index/rollback", json={}, headers=boss).status_code == 200
        assert http.post("/v1/search", json=question, headers=red).json()["hits"] == before
