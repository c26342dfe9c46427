"""What a language model learns n-grams from, and that it learns them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from genrail.constraints.substring import SubstringIndex
from genrail.errors import SettingsError
from genrail.models.checkpoints import wrap
from genrail.rng import generator
from genrail.training.fine_tuning import Reader
from genrail.training.fine_tuning_settings import FineTuning
from genrail.training.loop_settings import LoopSettings
from genrail.training.span_settings import SpanSettings
from genrail.training.spans import SpanLesson, Spans, _SpanTask, train_spans
from tests.models import checkpoints

MARK, SIZE = 2, 30
TEXTS = [[5, 6, 7, 8, 9, 10], [5, 6, 11, 12, 13], [14, 15, 5, 6, 7, 16], [20, 21]]
INDEX = SubstringIndex.from_sequences([[MARK, *text] for text in TEXTS * 60], SIZE)
EVERYWHERE = np.ones(SIZE, dtype=np.bool_)


def lesson(row, words=(), titles=(4,)):
    return SpanLesson([3, 20 + row], titles, frozenset(words), [row])


def reader(shared=True):
    model = wrap(checkpoints.model("qwen2", SIZE), checkpoints.tokenizer())
    return Reader(model.model, model.body, model.output, model.sees if shared else None)


def tuning(**settings):
    loop = LoopSettings(epochs=6, learning_rate=3e-3, warm_up=1, weight_decay=0.0, averaging=0.0)
    return FineTuning(**{"learns": "all", "batch": 2, "loop": loop, **settings})


def test_spans_overlap_with_the_request_the_sharper_the_more():
    spans = Spans(INDEX, EVERYWHERE, SpanSettings(spans=1, sharpness=40.0), 2)
    drawn = {spans.draw(0, frozenset([8, 9]), generator(0, number))[0] for number in range(20)}
    assert drawn == {(8, 9)}
    blunt = Spans(INDEX, EVERYWHERE, SpanSettings(spans=1, sharpness=0.0), 2)
    assert len({blunt.draw(0, frozenset([8, 9]), generator(0, number))[0] for number in range(40)}) > 4


def test_spans_begin_at_words_end_with_the_passage_and_are_each_of_another_place():
    begins = np.isin(np.arange(SIZE), [6, 10])
    spans = Spans(INDEX, begins, SpanSettings(spans=8), 3)
    assert spans.draw(0, frozenset(), generator(0)) == [(6, 7, 8), (10,)]
    assert Spans(INDEX, begins, SpanSettings(), 3).draw(3, frozenset(), generator(0)) != []  # no word begins there
    assert spans.title(1) == (MARK, 5, 6, 11) and spans.title(3) == (MARK, 20, 21)
    empty = SubstringIndex.from_sequences([[MARK]], SIZE)
    assert Spans(empty, EVERYWHERE, SpanSettings(), 3).draw(0, frozenset(), generator(0)) == []


def test_of_several_passages_the_one_that_shares_most_is_right():
    spans = Spans(INDEX, EVERYWHERE, SpanSettings(), 3)
    several = SpanLesson([3], None, frozenset([16, 5]), [0, 1, 2])
    assert spans.best_passage(several) == 2


def test_on_the_rails_only_what_is_open_is_learnt():
    spans = Spans(INDEX, EVERYWHERE, SpanSettings(spans=6), 3)
    task = _SpanTask(reader(), [lesson(0)], [], spans, tuning(), 0)
    [(pack, allowed)] = task._packs(lesson_of(task), 0)
    assert set(allowed) == set(pack.tokens)
    for slot, tokens in allowed.items():
        assert len(tokens) > 1 and set(pack.tokens[slot]) <= set(tokens.tolist())
    whole = _SpanTask(reader(), [lesson(0)], [], spans, tuning(loss="cross-entropy"), 0)
    [(longer, _)] = whole._packs(lesson_of(whole), 0)
    assert len(longer.tokens) > len(pack.tokens) and longer.weight == pack.weight == pytest.approx(2.0)


def lesson_of(task):
    return task.epoch(0)[0][0][1]


def test_tries_and_rows_have_the_same_loss():
    spans = Spans(INDEX, EVERYWHERE, SpanSettings(spans=3), 3)
    lessons = [lesson(0, [7]), lesson(1, titles=None), lesson(2)]
    for loss in ("rails", "cross-entropy"):
        both = [
            _SpanTask(reader(shared), lessons, [], spans, tuning(loss=loss, batch=3), 0) for shared in (True, False)
        ]
        with torch.no_grad():
            one, other = (float(task.loss(task.epoch(0)[0])) for task in both)
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("loss", ["rails", "cross-entropy"])
def test_the_right_spans_become_more_probable(loss):
    lessons = [lesson(row) for row in range(3)]
    spans = Spans(INDEX, EVERYWHERE, SpanSettings(spans=3), 3)
    report = train_spans(reader(), lessons, spans, tuning(loss=loss), held_out=lessons)
    figures = [one.metrics["log-probability of spans"] for one in report.history]
    assert max(figures) > figures[0] + 0.3 and report.best_epoch > 1


def test_nothing_to_learn_from_is_said():
    spans = Spans(INDEX, EVERYWHERE, SpanSettings(), 3)
    with pytest.raises(SettingsError, match="no requests to learn n-grams from"):
        train_spans(reader(), [], spans, tuning())
    for settings in ({"spans": 0}, {"sharpness": -1.0}):
        with pytest.raises(SettingsError, match="spans is"):
            SpanSettings(**settings)
