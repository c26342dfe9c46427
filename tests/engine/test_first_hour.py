"""What somebody types in the first hour: any table, values that show themselves, errors that name the way out."""

import asyncio
import pickle

import polars as pl
import pytest

import genrail
from genrail.catalog import Catalog, Interactions
from genrail.engine import Engine
from genrail.errors import CatalogError, QueryError, SettingsError

ROWS = [{"sku": f"s{n}", "name": f"boot no{n}", "price": 10.5 + n} for n in range(6)]


def engine(rows=ROWS, **more):
    return Engine.build(rows, "bm25", **more)


def forms():
    frame = pl.DataFrame(ROWS)
    yield "records", ROWS
    yield "a generator", (row for row in ROWS)
    yield "columns", {name: frame[name].to_list() for name in frame.columns}
    yield "Polars", frame
    yield "lazy", frame.lazy()
    yield "Arrow", frame.to_arrow()
    yield "a catalogue", Catalog.from_items(ROWS)


@pytest.mark.parametrize("given", [pytest.param(given, id=name) for name, given in forms()])
def test_an_engine_is_built_from_any_table(given):
    assert engine(given).catalog.fingerprint == Catalog.from_items(ROWS).fingerprint


def test_a_path_pandas_and_a_dataset(tmp_path):
    pl.DataFrame(ROWS).write_csv(tmp_path / "shop.csv")
    assert len(engine(tmp_path / "shop.csv")) == len(engine(str(tmp_path / "shop.csv"), title="name")) == 6
    pandas = pytest.importorskip("pandas")
    assert engine(pandas.DataFrame(ROWS)).catalog.item_ids == [row["sku"] for row in ROWS]


def test_a_hugging_face_dataset():
    datasets = pytest.importorskip("datasets")
    found = datasets.Dataset.from_list(ROWS)
    assert engine(found).catalog.item_ids == [row["sku"] for row in ROWS]
    with pytest.raises(CatalogError, match='data\\["train"\\]'):
        engine(datasets.DatasetDict({"train": found}))


@pytest.mark.parametrize(
    ("given", "says"),
    [(7, "int; give a path"), ({"a": 1}, "not columns of one length"), (["boot"], "item 1 is of type str")],
)
def test_anything_else_is_told_what_to_give(given, says):
    with pytest.raises(CatalogError, match=says):
        engine(given)


def test_interactions_come_in_any_form():
    rows = [{"user": "ann", "item": item} for item in ("a", "b")]
    for given in (rows, pl.DataFrame(rows), {"ann": ["a", "b"]}, {"user": ["ann", "ann"], "item": ["a", "b"]}):
        assert len(Interactions.of(given)) == 2


def test_a_list_of_words_is_refused_by_name_and_a_batch_takes_words():
    with pytest.raises(QueryError, match=r"list; give one text, and for several questions search_batch"):
        engine().search(["boot", "clog"])
    with pytest.raises(QueryError, match="takes a list"):
        engine().search_batch("boot")
    assert [len(ranking) for ranking in engine().search_batch(["boot", "boot no3"], 2)] == [2, 2]


def test_similar_asks_for_an_item_and_knows_which_there_are():
    found = engine().similar("s3", k=2, where={"price": {"<": 100}})
    assert len(found) == 2 and "s3" not in found.item_ids
    with pytest.raises(QueryError, match="'zzz'"):
        engine().similar("zzz")


def test_twins_for_event_loops():
    async def both():
        return await asyncio.gather(engine().asearch("boot", k=2), engine().arecommend(["s1"], k=2))

    assert [len(ranking) for ranking in asyncio.run(both())] == [2, 2]


def test_values_show_themselves_in_one_line_and_as_a_table():
    own = engine()
    ranking = own.search("boot no3", k=3)
    for value in (own, own.catalog, ranking, ranking[0]):
        assert len(repr(value).splitlines()) == 1
    assert repr(ranking).startswith("Ranking(3 hits: 's3' 'boot no3'")
    assert "6 items" in repr(own)
    assert ranking[0]["price"] == 13.5 and ranking[0]["item_id"] == "s3"
    with pytest.raises(KeyError, match="this hit has price"):
        ranking[0]["colour"]
    strange = engine([{"sku": "1", "name": "<b>boot</b>"}])
    for value in (own, own.catalog, strange.search("boot"), strange.catalog):
        assert "<b>" not in value._repr_html_() and "<table>" in value._repr_html_()


def test_a_ranking_becomes_a_table():
    table = engine().search("boot no3", k=3).to_polars()
    assert table.columns == ["rank", "item_id", "title", "score", "price"]
    assert table["item_id"][0] == "s3" and engine().search("boot", where="price < 0").to_polars().is_empty()
    own = engine([{"sku": "1", "name": "boot", "score": 4}]).search("boot").to_polars()
    assert own["attributes.score"].to_list() == [4]
    pytest.importorskip("pandas")
    assert len(engine().search("boot no3", k=3).to_pandas()) == 3


def test_an_engine_is_not_pickled_and_says_why():
    with pytest.raises(SettingsError, match="save"):
        pickle.dumps(engine())


def test_the_first_change_of_an_engine_that_keeps_nothing_says_so(tmp_path):
    engine().save(tmp_path / "e")
    own = genrail.load(tmp_path / "e")
    with pytest.warns(UserWarning, match="live=True"):
        own.remove(["s1"])
    own.remove(["s2"])  # said once
    live = genrail.load(tmp_path / "e", live=True)
    live.remove(["s1"])
    assert len(genrail.load(tmp_path / "e")) == 5


def test_an_engine_completes_what_is_typed_and_follows_changes():
    own = engine()
    assert own.suggest("boo", k=1)[0].text == "boot"
    own.add([{"sku": "n", "name": "Bootlace", "price": 1.0}])
    assert "Bootlace" in [one.text for one in own.suggest("boo")]
