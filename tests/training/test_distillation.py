"""Learning from a teacher: the loss is the cross-entropy with its distribution, and words leave histories alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from genrail.errors import ShapeError
from genrail.models.native_network import QUERY
from genrail.training.distillation import Lessons, shares_of
from genrail.training.native import rails_loss, train_native
from genrail.training.pairs import ContextBatch, Likes, QueryPairs
from tests.training.test_native_training import ITEMS, VECTORS, best, circle, fresh, settings

WORDS = ("query_text", "query_direct", "query_weight")


def shaken():
    model = fresh()
    with torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.network.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    model.changed()
    return model


def test_drawn_ways_have_the_expectation_of_the_whole_distribution():
    model = shaken()
    rows = np.array([[3, 4, 3, 17, 8]])  # the same item twice counts twice
    shares = np.array([[0.4, 0.3, 0.1, 0.15, 0.05]], dtype=np.float32)
    representations = model.network.node_representations(model.nodes)

    def loss(row, likes):
        batch = ContextBatch(np.array([[9]]), np.array([[row]]), likes=likes)
        with torch.no_grad():
            return float(rails_loss(model.network, model.nodes, representations.detach(), batch, 0.0))

    softly = sum(share * loss(row, Likes(rows, shares)) for row, share in zip(rows[0], shares[0], strict=True))
    hard = sum(share * loss(row, None) for row, share in zip(rows[0], shares[0], strict=True))
    assert softly == pytest.approx(hard, abs=1e-5)


def test_lessons_are_drawn_by_their_shares_and_read_as_the_student_reads():
    lessons = Lessons([[1, 2], [], [5]], np.array([[7, 8]] * 3), np.array([[0.9, 0.1]] * 3, np.float32), VECTORS[:3])
    drawn = []
    random = np.random.default_rng(0)
    for _ in range(200):
        for batch in lessons.batches(2, random):
            wanted = batch.targets >= 0
            assert wanted.sum(axis=1).tolist() == [1] * len(wanted)
            assert (batch.tokens[wanted] == QUERY).all()  # the words are read last
            assert batch.queries is not None and len(batch.queries) == len(batch.tokens)
            drawn += batch.targets[wanted].tolist()
    assert np.mean(np.array(drawn) == 7) == pytest.approx(0.9, abs=0.03)


def test_shares_do_not_depend_on_the_unit_of_a_score():
    scores = np.array([9.0, 4.0, 1.0])
    one, other = shares_of([scores], 0.5, 4), shares_of([1000 * scores + 3], 0.5, 4)
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert one[0, 3] == 0.0 and one.sum() == pytest.approx(1.0)
    assert shares_of([np.zeros(0), np.ones(2)], 1.0, 2).tolist() == [[0.0, 0.0], [0.5, 0.5]]


def test_a_student_learns_the_order_of_its_teacher():
    model = fresh()
    histories = [[item] for item in range(ITEMS)]
    rows = np.stack([(np.arange(ITEMS) + step) % ITEMS for step in (7, 2, 11)], axis=1)
    shares = np.tile(np.array([0.6, 0.3, 0.1], np.float32), (ITEMS, 1))
    report = train_native(model, lessons=[Lessons(histories, rows, shares)], settings=settings(epochs=150))
    assert report.lessons == ITEMS and "rankings of the teacher" in report.summary()
    answers = best(model, [model.context(history=[item]) for item in range(ITEMS)], k=3)
    assert np.mean([answer == rows[item].tolist() for item, answer in enumerate(answers)]) > 0.9


def test_words_are_learnt_without_a_change_to_what_histories_gave():
    alone, both = fresh(), fresh()
    random = np.random.default_rng(5)
    rows = np.repeat(np.arange(ITEMS), 8)
    noisy = VECTORS[rows] + 0.1 * random.normal(size=(len(rows), 8)).astype(np.float32)
    train_native(alone, circle(60), settings=settings(epochs=2), seed=0)
    report = train_native(both, circle(60), QueryPairs(noisy, rows), settings(epochs=2), seed=0)
    for name, weights in both.network.state_dict().items():
        assert torch.equal(weights, alone.network.state_dict()[name]) != name.startswith(WORDS), name
    assert all(parameter.requires_grad for parameter in both.network.parameters())
    assert report.words is not None and report.to_dict()["words"]["epochs"] == 2
    assert "Recall@10 (history)" in report.loop.best and "Recall@10 (query)" in report.words.best


def test_lessons_of_the_wrong_shape_are_refused():
    rows, shares = np.zeros((2, 3), np.int64), np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match="one per request"):
        Lessons([[1]], rows, shares)
    with pytest.raises(ShapeError, match="query vectors"):
        Lessons([[1], [2]], rows, shares, np.zeros((3, 8), np.float32))
