"""Odd data has a defined result: users of one event, items nobody took, one item, items of equal vectors."""

import numpy as np
import pytest

from genrail.catalog import Catalog
from genrail.evaluation import Training
from genrail.finders import Cooccurrence, CooccurrenceRecipe, Dense, ItemKNN, Popularity
from genrail.types import Query


def shop(items):
    return Catalog.from_items([{"id": f"i{item}", "title": f"title {item}"} for item in range(items)])


def of_users(*sequences):
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])]).astype(np.int64)
    rows = np.array([row for sequence in sequences for row in sequence], dtype=np.int64)
    return Training([f"u{user}" for user in range(len(sequences))], offsets, rows)


def answer(method, *history, k=10, **options):
    (ranking,) = method.search_batch([Query(history=[f"i{row}" for row in history], **options)], k=k)
    return ranking.item_ids


METHODS = [Popularity, ItemKNN, Cooccurrence]


@pytest.mark.parametrize("make", METHODS)
def test_users_with_one_event_leave_popularity(make):
    assert answer(make(shop(4), of_users([2], [2], [1])), 0)[:2] == ["i2", "i1"]


@pytest.mark.parametrize("make", METHODS)
def test_an_item_never_seen_is_read_and_comes_last(make):
    method = make(shop(4), of_users([0, 1], [0, 1], [1, 2]))
    assert set(answer(method, 3)) == {"i0", "i1", "i2"}
    assert answer(method, 0)[-1] == "i3"


@pytest.mark.parametrize("make", METHODS)
def test_one_item(make):
    method = make(shop(1), of_users([0, 0], [0]))
    assert answer(method, 0, exclude_seen=False) == ["i0"]
    assert answer(method, 0) == []


@pytest.mark.parametrize("make", METHODS)
def test_no_event_at_all(make):
    assert set(answer(make(shop(3), of_users()), 0)) == {"i1", "i2"}


def test_items_of_equal_vectors_are_all_reachable_in_one_order():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    method = Dense(shop(4), None, vectors=vectors)
    first = answer(method, 0)
    assert set(first[:2]) == {"i1", "i2"}
    assert first[2] == "i3"
    assert answer(method, 0) == first
    assert answer(method, 0, k=1) == first[:1]


def test_first_order_counts_direct_successors_of_the_last_item_alone():
    method = Cooccurrence(shop(5), of_users([0, 1, 2], [0, 1, 3], [0, 1, 3], [4, 0]), CooccurrenceRecipe.first_order())
    (ranking,) = method.search_batch([Query(history=["i4", "i1"])], k=5)
    assert [(hit.item_id, hit.score) for hit in ranking][:2] == [("i3", 2.0), ("i2", 1.0)]
    assert ranking[2].score == 0.0  # neither what came before, nor what followed older items
