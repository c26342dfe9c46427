"""A learnt ranker is kept where it wins on questions that it was not learnt on, and nowhere else."""

import json
from dataclasses import replace

import numpy as np
import pytest

from genrail.ranking import ranker
from genrail.ranking.mixing import Answers, Mixture, learn_mixture

torch = pytest.importorskip("torch")
EQUAL = Mixture.prior({"one": 1.0, "other": 1.0})


def questions(count, telling, seed=0, items=20):
    """Lanes guess; what stands in the context tells the right item, or nothing."""
    random = np.random.default_rng(seed)
    answers, grades = [], []
    for _ in range(count):
        right = int(random.integers(items))
        scores, context = random.random((2, items)), random.random((items, 2))
        context[right, 1] += telling
        places = np.argsort(np.argsort(-scores, axis=1), axis=1) + 1
        answers.append(Answers(np.arange(items), places, scores, context))
        grades.append({right: 1.0})
    return answers, grades


def first(mixture, answers):
    return [int(one.rows[np.argmax(mixture.sums(one))]) for one in answers]


def test_a_ranker_reads_what_no_lane_says():
    mixture = learn_mixture(EQUAL, *questions(600, telling=1.0))
    assert mixture.ranker is not None
    assert mixture.figures["ranker"] > mixture.figures["mixture"] + 0.2
    answers, grades = questions(200, telling=1.0, seed=1)
    right = [next(iter(one)) for one in grades]
    assert np.mean(np.equal(first(mixture, answers), right)) > 0.6
    assert np.mean(np.equal(first(replace(mixture, ranker=None), answers), right)) < 0.2


def test_a_ranker_that_does_not_win_on_questions_it_has_not_seen_goes():
    mixture = learn_mixture(EQUAL, *questions(400, telling=0.0))
    assert mixture.ranker is None
    assert "ranker" in mixture.figures


def test_no_ranker_is_tried_on_few_questions_on_request_or_without_torch(monkeypatch):
    assert "ranker" not in learn_mixture(EQUAL, *questions(100, telling=1.0)).figures
    assert "ranker" not in learn_mixture(EQUAL, *questions(400, telling=1.0), ranked=False).figures
    monkeypatch.setattr(ranker, "find_spec", lambda name: None)
    assert "ranker" not in learn_mixture(EQUAL, *questions(400, telling=1.0)).figures


def test_a_ranker_survives_json_and_is_the_same_for_the_same_seed():
    told = questions(400, telling=1.0)
    mixture = learn_mixture(EQUAL, *told)
    again = Mixture.from_dict(json.loads(json.dumps(mixture.to_dict())))
    assert again == mixture == learn_mixture(EQUAL, *told)
    answers, _ = questions(20, telling=1.0, seed=2)
    assert first(again, answers) == first(mixture, answers)


def test_every_lane_is_asked_where_a_ranker_reads_them_and_some_lanes_go_without_it():
    mixture = learn_mixture(Mixture.prior({"one": 1.0, "other": 0.0}), *questions(400, telling=1.0))
    assert mixture.asked == ("one", "other")
    assert mixture.only(["one"]).ranker is None
