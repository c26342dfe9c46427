"""The demo shop is a pure function of its seed, and there is something to learn in it."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.catalog import Catalog, Interactions, read_qrels, read_queries
from genrail.catalog.demo import demo_catalog, demo_interactions, demo_qrels, demo_queries, write_demo


@pytest.fixture(scope="module")
def shop():
    return demo_catalog()


@pytest.fixture(scope="module")
def log():
    return demo_interactions()


@pytest.fixture(scope="module")
def sequences(shop, log):
    return log.sequences(shop)


def test_the_seed_decides_everything(shop, log):
    assert demo_catalog(7).fingerprint == shop.fingerprint != demo_catalog(8).fingerprint
    assert demo_interactions(7).fingerprint == log.fingerprint != demo_interactions(8).fingerprint


def test_the_shop_is_believable(shop):
    frame = shop.frame
    assert len(shop) == 3_000
    assert not shop.report.refused
    assert frame["title"].n_unique() > 2_950
    assert frame["brand"].n_unique() == 34
    assert frame["category"].n_unique() == 25
    assert frame["price"].min() > 2
    assert frame["price"].max() < 700
    assert 0.85 < frame["in_stock"].mean() < 0.95
    assert frame["weight_grams"].null_count() > 0
    assert set(shop.columns.text) >= {"brand", "category", "colour", "material", "description"}
    kids, others = (frame.filter((frame["audience"] == "kids") == flag)["price"].mean() for flag in (True, False))
    assert kids < others


def test_product_numbers_say_nothing(shop, sequences):
    """Guessing the next numbers, which works on data sets numbered by first appearance, must fail here."""
    last, target = targets(sequences)
    following = (target - last > 0) & (target - last <= 10)
    assert following.mean() < 0.02


def test_every_query_has_items_and_they_are_right(shop):
    qrels = demo_qrels()
    queries = demo_queries()
    assert len({query.text for query in queries}) == len(queries) == 40
    for query in queries:
        marked = np.flatnonzero(shop.where(query.where))
        assert 2 <= len(marked) <= 400, query
        assert qrels[query.query_id] == {shop.item_ids[row]: 1.0 for row in marked}


def test_shoppers_buy_five_to_twenty_different_things_in_time(sequences):
    lengths = np.diff(sequences.offsets)
    assert len(sequences) == 5_000
    assert (lengths.min(), lengths.max()) == (5, 20)
    assert sequences.unknown == 0
    for user in range(0, 5_000, 50):
        assert len(set(sequences[user].tolist())) == lengths[user]
        assert (np.diff(sequences.times[sequences.offsets[user] : sequences.offsets[user + 1]]) > 0).all()


def targets(sequences):
    ends = sequences.offsets[1:]
    return sequences.rows[ends - 2], sequences.rows[ends - 1]


@pytest.mark.parametrize(("column", "times"), [("category", 2.0), ("brand", 2.0), ("colour", 1.05), ("audience", 1.05)])
def test_the_past_tells_about_the_next(shop, sequences, column, times):
    values = shop.frame[column].to_numpy()
    _, target = targets(sequences)
    shuffled = np.random.default_rng(0).permutation(target)
    share = [
        np.mean([values[item] in values[sequences[user][:-1]] for user, item in enumerate(chosen)])
        for chosen in (target, shuffled)
    ]
    assert share[0] > times * share[1]


def test_co_occurrence_beats_popularity_clearly(shop, sequences):
    """The last purchase of each shopper is withheld; the rest is all that either method sees."""
    after = np.zeros((len(shop), len(shop)), dtype=np.float32)
    popularity = np.zeros(len(shop))
    for user in range(len(sequences)):
        past = sequences[user][:-1]
        np.add.at(popularity, past, 1)
        for distance in (1, 2, 3):
            np.add.at(after, (past[:-distance], past[distance:]), 1 / distance)

    def hits(scores):
        found = 0
        for user, target in enumerate(targets(sequences)[1]):
            ranked = scores(sequences[user][:-1]).copy()
            ranked[sequences[user][:-1]] = -1
            found += target in np.argpartition(-ranked, 10)[:10]
        return found / len(sequences)

    popular = hits(lambda past: popularity)
    together = hits(lambda past: after[past[-1]] + 0.5 * after[past[-2]] + 1e-6 * popularity)
    assert 0.005 < popular < 0.05
    assert together > 5 * popular


def test_written_files_are_the_same_shop(tmp_path, shop, sequences):
    write_demo(tmp_path / "demo")
    read = Catalog.read(tmp_path / "demo" / "products.csv")
    assert read.frame.equals(shop.frame)
    assert read.columns == shop.columns
    found = Interactions.read(tmp_path / "demo" / "interactions.csv").sequences(read)
    assert found.rows.tolist() == sequences.rows.tolist()
    assert read_queries(tmp_path / "demo" / "queries.csv") == {query.query_id: query.text for query in demo_queries()}
    assert read_qrels(tmp_path / "demo" / "qrels.csv") == demo_qrels()
