"""What pages, orders, boosts, pins and counts promise, for every finder alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genrail
from genrail.catalog import Catalog
from genrail.errors import FilterError, QueryError
from genrail.finding import Edition, Finder, Found, Gate, answer_each, raised
from genrail.types import Query
from tests.shops import COLOURS, engine, shop


class Fickle(Finder):
    """Order rows otherwise for every k, as a beam search may: what is asked for more is another list."""

    name = "fickle"
    recipe = None

    def find(self, requests, k, options):
        orders = [np.random.default_rng(k).permutation(np.flatnonzero(one.allowed))[:k] for one in requests]
        return [Found(order, np.linspace(1.0, 0.0, len(order))) for order in orders]


def ask(query, k=10, finder=None, catalog=None):
    catalog = shop() if catalog is None else catalog
    return raised(answer_each(Edition(catalog, finder or Fickle()), Gate(), [query], k))[0]


@pytest.fixture(scope="module")
def bm25():
    return genrail.BM25(shop())


# --- pages ------------------------------------------------------------------------------------------------------------


@given(k=st.integers(1, 45), below=st.integers(8, 60))
@settings(max_examples=30, deadline=None)
def test_no_page_repeats_another_and_together_they_are_all(k, below):
    where = f"price < {below}"
    pages = [ask(Query("boot", where=where, offset=offset), k) for offset in range(0, 60, k)]
    ids = [item for page in pages for item in page.item_ids]
    allowed = {f"s{row}" for row in range(40) if 10 + row < below}
    assert len(ids) == len(set(ids))
    assert set(ids) == allowed
    assert [hit.rank for page in pages for hit in page] == list(range(1, len(ids) + 1))
    assert [page.exhausted for page in pages] == [len(page) < k for page in pages]


def test_page_one_is_what_comes_without_an_offset_and_scores_never_rise():
    first, second = (engine().search("red boot", k=7, offset=offset) for offset in (0, 7))
    assert first.item_ids == engine().search("red boot", k=7).item_ids
    assert not set(first.item_ids) & set(second.item_ids)
    scores = [hit.score for hit in (*first, *second)]
    assert scores == sorted(scores, reverse=True)


def test_pages_of_a_sorted_answer_do_not_repeat():
    pages = [ask(Query("boot", sort="-price", offset=offset), 15).item_ids for offset in (0, 15, 30)]
    assert sorted(sum(pages, [])) == sorted(shop().item_ids)


def test_a_page_beyond_the_last_is_empty():
    page = ask(Query("boot", offset=400), 10)
    assert len(page) == 0 and page.exhausted


def test_too_deep_a_page_is_refused():
    with pytest.raises(QueryError, match="1,000 hits"):
        ask(Query("boot", offset=995), 10)


# --- order ------------------------------------------------------------------------------------------------------------


def test_sort_orders_by_an_attribute_and_missing_values_come_last():
    catalog = Catalog.from_items(
        [{"id": str(n), "title": "boot", **({} if n == 1 else {"price": (n * 7) % 5})} for n in range(6)]
    )
    for sort, wanted in (("price", [0, 0, 1, 3, 4]), ("-price", [4, 3, 1, 0, 0])):
        ranking = ask(Query("boot", sort=sort), 6, catalog=catalog)
        assert [hit["price"] for hit in ranking[:5]] == wanted
        assert "price" not in ranking[5].attributes


def test_a_boost_by_a_column_a_flag_and_a_filter(bm25):
    plain = bm25.search("boot", k=8)
    assert all(hit["title"].endswith(("boot 0", "boot 1")) for hit in plain)
    dear = bm25.search("boot", k=8, boost=[("price", 1.0)])
    assert [hit["price"] for hit in dear] == sorted((hit["price"] for hit in plain), reverse=True)
    assert bm25.search("boot", k=8, boost={"colour = 'green'": 0.5})[0]["colour"] == "green"
    assert not bm25.search("boot", k=8, boost={"in_stock": -0.5})[0]["in_stock"]
    assert [hit.score for hit in dear] == sorted((hit.score for hit in dear), reverse=True)


def test_pins_come_first_in_their_order_once_and_only_where_allowed(bm25):
    ranking = bm25.search("boot", k=6, pin=["s7", "zzz", "s3", "s7"], where="price != 13")
    assert ranking.item_ids[0] == "s7" and "s3" not in ranking.item_ids
    second = bm25.search("boot", k=6, pin=["s7"], offset=6)
    assert "s7" not in second.item_ids
    assert len(set(ranking.item_ids)) == 6
    assert bm25.search("clog", k=3, pin=["s0"]).item_ids[0] == "s0", "the first row is an item like any other"


def test_a_pinned_hit_says_so_and_the_others_keep_what_they_say():
    plain = {hit.item_id: hit for hit in engine().search("red boot", k=6, explain=True)}
    pinned = engine().search("red boot", k=6, explain=True, pin=["s39"])
    assert pinned[0].item_id == "s39" and pinned[0].explanation == {"pinned": True}
    assert pinned[0].log_probability is None
    assert len(pinned) == 6
    for hit in pinned[1:]:
        assert hit.explanation == plain[hit.item_id].explanation != {"pinned": True}
        assert hit.log_probability == plain[hit.item_id].log_probability < 0
    quiet = engine().search("red boot", k=6, pin=["s39"])
    assert quiet.item_ids == pinned.item_ids and {hit.explanation for hit in quiet} == {None}


# --- what is left out -------------------------------------------------------------------------------------------------


def test_a_least_score_cuts_the_rest_on_every_page(bm25):
    scores = [hit.score for hit in bm25.search("red boot", k=40)]
    least = scores[4]
    kept = bm25.search("red boot", k=10, min_score=least)
    assert [hit.score for hit in kept] == [score for score in scores if score >= least][:10]
    assert len(bm25.search("red boot", min_score=1e9)) == 0
    assert len(bm25.search("red boot", min_score=1e9, offset=10)) == 0


def test_fields_choose_attributes(bm25):
    assert set(bm25.search("boot", k=1, fields=["price"])[0].attributes) == {"price"}
    assert set(bm25.search("boot", k=1, fields=[])[0].attributes) == set()


# --- what is told -----------------------------------------------------------------------------------------------------


def test_facets_count_what_the_question_finds():
    found = {each["name"]: each for each in ask(Query("boot", where="price < 30", facets=["*"]), 5).facets}
    assert set(found) == {"colour", "price", "in_stock"}
    assert dict(zip(found["colour"]["values"], found["colour"]["counts"], strict=True)) == dict.fromkeys(COLOURS, 5)
    assert (found["price"]["least"], found["price"]["most"]) == (10, 29)
    assert sum(found["in_stock"]["counts"]) == 20


def test_the_words_that_match_are_marked(bm25):
    hit = bm25.search("boots, red", k=1, highlight=True)[0]
    assert set(hit.matched) == {"red", "boot"}
    assert hit.marked("[", "]")[:12] == "[red] [boot]"
    assert bm25.search("boot", k=1)[0].matched is None


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        pytest.param({"offset": -1}, QueryError, "offset is -1", id="negative offset"),
        pytest.param({"sort": "prise"}, QueryError, 'did you mean "price"', id="unknown column"),
        pytest.param({"facets": "price"}, QueryError, r"\['price'\]", id="one string"),
        pytest.param({"facets": ["nope"]}, QueryError, "nope", id="unknown facet"),
        pytest.param({"fields": ["nope"]}, QueryError, "nope", id="unknown attribute"),
        pytest.param({"boost": [("nope !", 1)]}, QueryError, "nope !", id="neither column nor filter"),
        pytest.param({"boost": [("colour", 1)]}, FilterError, "no amount", id="a column of words"),
        pytest.param({"boost": ["price"]}, QueryError, "pairs", id="no weight"),
        pytest.param({"boost": {"price": float("nan")}}, QueryError, "pairs", id="a weight that is no number"),
        pytest.param({"min_score": "high"}, QueryError, "min_score", id="no number"),
        pytest.param({"where": {"price": {"~": 3}}}, FilterError, "operators are", id="unknown operator"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(bm25, options, error, says):
    with pytest.raises(error, match=says):
        bm25.search("boot", **options)


def test_one_question_that_fails_leaves_the_others_alone():
    answers = answer_each(Edition(shop(), Fickle()), Gate(), [Query("a", sort="nope"), Query("a", offset=3)], 4)
    assert isinstance(answers[0], QueryError) and len(answers[1]) == 4


@pytest.mark.parametrize(
    ("where", "written"),
    [
        ({"price": {"<": 20}}, "price < 20"),
        ({"colour": ["red", "blue"], "price": {">=": 12, "<=": 30}},
         "colour IN ('red', 'blue') AND price BETWEEN 12 AND 30"),
        ({"in_stock": True}, "in_stock"),
        ({"colour": {"not in": ["red"]}}, "colour NOT IN ('red')"),
        ({"colour": None}, "colour IS NULL"),
        ({"colour": {"!=": None, "like": "r%"}, "price": {"between": [10, 20]}},
         "colour IS NOT NULL AND colour LIKE 'r%' AND price BETWEEN 10 AND 20"),
        ({}, None),
    ],
)  # fmt: skip
def test_a_dictionary_is_the_filter_that_it_stands_for(bm25, where, written):
    assert bm25.search("boot", k=40, where=where).item_ids == bm25.search("boot", k=40, where=written).item_ids
