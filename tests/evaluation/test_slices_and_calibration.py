"""Parts of the queries, calibration of scores, and methods that are built one after the other."""

import numpy as np
import pytest

from genrail.errors import QueryError
from genrail.evaluation import Qrels
from genrail.evaluation.building import Candidate, build_all
from genrail.evaluation.calibration import calibration
from genrail.evaluation.slices import by_length, by_negation, by_popularity, query_slices
from genrail.types import Query
from tests.evaluation.doubles import Scripted

QUERIES = {
    "short": Query("boots"),
    "phrase": Query("boots without any laces"),
    "long": Query("something warm that does not slip on a wet road"),
    "free": Query("sugar-free gum"),
    "nothing": Query("nothing special"),
    "history": Query(history=["a"]),
}


def test_lengths_and_negations_part_the_queries():
    lengths = {part.name: part.query_ids for part in by_length(QUERIES)}
    assert lengths["1 to 3 words"] == {"short", "free", "nothing"}
    assert lengths["4 to 7 words"] == {"phrase"}
    assert lengths["8 and more words"] == {"long"}
    negated, other = by_negation(QUERIES)
    assert negated.query_ids == {"phrase", "long", "free"}
    assert negated.query_ids | other.query_ids == set(QUERIES) - {"history"}


def test_a_part_with_every_query_is_left_out():
    assert query_slices({"a": Query("red"), "b": Query("blue")}) == []


def test_head_torso_tail_and_new_items():
    parts = by_popularity(
        {"1": ["a"], "2": ["b"], "3": ["c"], "4": ["unknown"], "5": ["c", "a"], "6": []}, {"a": 5, "b": 4, "c": 3}
    )
    assert {part.name: part.query_ids for part in parts} == {
        "head items": {"1", "5"},
        "torso items": {"2"},
        "tail items": {"3"},
        "new items": {"4"},
    }
    assert [part.name for part in by_popularity({"1": ["a"]}, {})] == ["new items"]


def test_scores_drawn_as_probabilities_are_calibrated_and_squared_ones_are_not():
    random = np.random.default_rng(0)
    truth = {f"q{n}": random.random(10) for n in range(400)}
    qrels = Qrels({key: {f"i{n}": int(random.random() < p) for n, p in enumerate(row)} for key, row in truth.items()})
    honest = {key: {f"i{n}": float(p) for n, p in enumerate(row)} for key, row in truth.items()}
    bold = {key: {item: p**2 for item, p in row.items()} for key, row in honest.items()}
    good, poor = calibration(honest, qrels), calibration(bold, qrels)
    assert good.expected_error < 0.03 < 0.1 < poor.expected_error
    assert good.ordered == poor.ordered == 1.0
    assert sum(good.hits) == 10 * len(qrels.answerable)
    logits = {key: {item: 10 * p - 5 for item, p in row.items()} for key, row in honest.items()}
    assert calibration(logits, qrels).expected_error is None
    with pytest.raises(QueryError):
        calibration({}, qrels)


def test_a_method_that_cannot_be_built_is_reported_and_the_others_are_built():
    def crash():
        raise ZeroDivisionError("deep inside")

    seen = []
    made = build_all(
        [Candidate("good", lambda: Scripted({}, name="good")), Candidate("bad", crash)], lambda *now: seen.append(now)
    )
    assert set(made.retrievers) == set(made.costs) == {"good"}
    assert made.failures == {"bad": "ZeroDivisionError: deep inside"}
    assert made.costs["good"].index_bytes is None  # it cannot be saved
    assert seen[-1] == ("building", 2, 2)
