"""Popularity, co-occurrence and item-kNN against counting by hand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrail.catalog import Catalog
from genrail.errors import SettingsError, ShapeError
from genrail.evaluation import Training
from genrail.finders import Cooccurrence, CooccurrenceRecipe, ItemKNN, ItemKNNRecipe, Popularity
from genrail.types import Query

SIZE = 8
SHOP = Catalog.from_items([{"id": f"i{row}", "title": f"T{row}"} for row in range(SIZE)])


def training(users):
    offsets = np.concatenate([[0], np.cumsum([len(events) for events in users])]).astype(np.int64)
    return Training([str(user) for user in range(len(users))], offsets, np.array(sum(users, []), dtype=np.int64))


def scores(method, history, **options):
    (ranking,) = method.search_batch(
        [Query(history=[f"i{row}" for row in history], exclude_seen=False, **options)], k=SIZE
    )
    return {int(hit.item_id[1:]): hit.score for hit in ranking}


users_of = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=7), max_size=6)
histories = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=5)


@given(users_of, histories)
def test_cooccurrence_equals_counting_pairs(users, history):
    settings = CooccurrenceRecipe(window=3, distance_decay=0.5, backward=0.25, decay=0.5, history=4)
    table = Counter()
    for events in users:
        for early in range(len(events)):
            for late in range(early + 1, min(early + 3, len(events) - 1) + 1):
                weight = 0.5 ** (late - early - 1)
                table[events[early], events[late]] += weight
                table[events[late], events[early]] += 0.25 * weight
    expected = {
        row: sum(0.5**age * table[item, row] for age, item in enumerate(reversed(history[-4:]))) for row in range(SIZE)
    }
    assert scores(Cooccurrence(SHOP, training(users), settings), history) == pytest.approx(expected, abs=1e-6)


@given(users_of, histories)
def test_item_knn_equals_cosines_of_user_sets(users, history):
    people = {row: {user for user, events in enumerate(users) if row in events} for row in range(SIZE)}

    def cosine(one, two):
        if one == two or not people[one] or not people[two]:
            return 0.0
        return len(people[one] & people[two]) / (len(people[one]) * len(people[two])) ** 0.5

    expected = {
        row: sum(0.5**age * cosine(item, row) for age, item in enumerate(reversed(history))) for row in range(SIZE)
    }
    method = ItemKNN(SHOP, training(users), ItemKNNRecipe(neighbours=SIZE, decay=0.5))
    assert scores(method, history) == pytest.approx(expected, abs=1e-6)


@given(users_of)
def test_popularity_equals_counting(users):
    counts = Counter(row for events in users for row in events)
    assert scores(Popularity(SHOP, training(users)), [0]) == {row: float(counts[row]) for row in range(SIZE)}


def test_the_checkerboard():
    """Users take only even or only odd items; the withheld one of their colour must come first."""
    colours = [[0, 2, 4, 6], [1, 3, 5, 7]]
    users = [colours[user % 2][: 2 + user % 3] for user in range(40)] + colours
    for method in (Cooccurrence(SHOP, training(users)), ItemKNN(SHOP, training(users))):
        for colour in colours:
            (ranking,) = method.search_batch([Query(history=[f"i{row}" for row in colour[:3]])], k=1)
            assert ranking.item_ids == [f"i{colour[3]}"]


def test_order_matters_for_cooccurrence_and_not_for_item_knn():
    forward = training([[0, 1], [0, 1], [2, 0], [2, 0]])
    assert scores(Cooccurrence(SHOP, forward), [0])[1] > scores(Cooccurrence(SHOP, forward), [0])[2]
    knn = scores(ItemKNN(SHOP, forward), [0])
    assert knn[1] == knn[2]


def test_items_without_neighbours_follow_by_popularity():
    users = [[0, 1], [5], [5], [5], [6], [6]]
    (ranking,) = Cooccurrence(SHOP, training(users)).search_batch([Query(history=["i0"])], k=3)
    assert ranking.item_ids == ["i1", "i5", "i6"]


@pytest.mark.parametrize("method", [Popularity, Cooccurrence, ItemKNN])
def test_words_are_not_read_and_that_is_said(method):
    (ranking,) = method(SHOP, training([[3, 3, 4]])).search_batch([Query("boots")], k=1)
    assert ranking.item_ids == ["i3"]
    assert any("does not read words" in warning for warning in ranking.warnings)


@pytest.mark.parametrize("method", [Popularity, Cooccurrence, ItemKNN])
@pytest.mark.parametrize("users", [[], [[]], [[1]], [[2, 2, 2]]])
def test_hardly_any_events(method, users):
    (ranking,) = method(SHOP, training(users)).search_batch([Query(history=["i0"])], k=SIZE)
    assert len(ranking) == SIZE - 1


@pytest.mark.parametrize("method", [Popularity, Cooccurrence, ItemKNN])
def test_events_outside_the_catalog_are_refused(method):
    with pytest.raises(ShapeError, match="catalogue has 8"):
        method(SHOP, training([[0, 8]]))


def test_other_numbers_of_rows_change_nothing():
    """The answers depend on who took what, not on how items are numbered: and no two counts are equal here."""
    random = np.random.default_rng(3)
    users = [random.permutation(SIZE)[:5].tolist() for _ in range(200)]
    renumbered = random.permutation(SIZE)
    shop = Catalog.from_items([{"id": f"i{np.argsort(renumbered)[row]}", "title": "T"} for row in range(SIZE)])
    moved = training([[int(renumbered[row]) for row in events] for events in users])
    for history in ([0, 3], [5]):
        query = [Query(history=[f"i{row}" for row in history])]
        (one,) = Cooccurrence(SHOP, training(users)).search_batch(query, k=5)
        (two,) = Cooccurrence(shop, moved).search_batch(query, k=5)
        assert one.item_ids == two.item_ids


@pytest.mark.parametrize(
    "settings", [{"window": 0}, {"decay": 0}, {"backward": 2}, {"history": 0}, {"distance_decay": 0}]
)
def test_settings_of_cooccurrence_are_checked(settings):
    with pytest.raises(SettingsError):
        CooccurrenceRecipe(**settings)


def test_settings_of_item_knn_are_checked():
    with pytest.raises(SettingsError):
        ItemKNNRecipe(neighbours=0)
