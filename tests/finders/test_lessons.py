"""What a teacher is asked, and what a student takes from it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import genrail
from genrail.errors import SettingsError
from genrail.finders.lessons import Distillation, later_events, on_held_back, on_histories, on_words
from genrail.finding import Data, recipe_named
from genrail.types import Query
from tests.shops import pasts, shop


def quiet(stage, done, total):
    pass


@pytest.fixture(scope="module")
def data():
    catalog = shop()
    return Data(catalog, pasts(catalog, 60), text_encoder="hashing")


def test_each_event_but_the_first_has_a_past(data):
    histories, targets, users = later_events(data.sequences, 10**6, np.random.default_rng(0), longest=2)
    rows, offsets = data.sequences.rows, data.sequences.offsets
    assert len(histories) == len(rows) - len(offsets) + 1
    first = histories[0]
    assert 1 <= len(first) <= 2 and targets[0] == rows[offsets[users[0]] + 1]


def test_a_counting_teacher_is_asked_without_the_user_whom_it_is_asked_about():
    catalog = shop(12)
    ids = catalog.item_ids
    events = genrail.Interactions.from_sequences({f"u{n}": [ids[n], ids[n + 6], ids[0]] for n in range(6)})
    own = Data(catalog, events, hold_out=False)  # each user is the only one who takes the second after the first
    teacher = recipe_named("cooccurrence", {"backward": 0.0}).build(own, quiet)
    asked = Distillation(share=1.0, folds=6, depth=12)
    blind, seeing = (
        on_histories(teacher, own, 20, one, quiet) for one in (asked, Distillation(share=1.0, folds=1, depth=12))
    )
    places = [place for place, past in enumerate(blind.histories) if len(past) == 1]
    firsts = [[lessons.rows[place, 1] == lessons.rows[place, 0] for place in places] for lessons in (blind, seeing)]
    assert np.mean(firsts[1]) == 1.0 and np.mean(firsts[0]) < 0.5
    np.testing.assert_allclose(blind.shares.sum(axis=1), 1.0, atol=1e-5)


def test_a_teacher_of_words_ranks_as_it_answers(data):
    teacher = recipe_named("bm25").build(data, quiet)
    lessons = on_words(
        teacher, data, ["red boot"], np.zeros((1, 8), np.float32), np.array([3]), Distillation(share=0.5), quiet
    )
    answer = teacher.search_batch([Query("red boot")], 5)[0].item_ids
    assert [data.catalog.item_ids[row] for row in lessons.rows[0, 1:6]] == answer
    assert lessons.rows[0, 0] == 3 and lessons.shares[0, 0] == pytest.approx(0.5)


def test_the_native_lane_of_a_fused_engine_is_taught_by_the_others():
    catalog = shop()
    engine = genrail.Engine.build(
        catalog,
        interactions=pasts(catalog, 60),
        encoder="hashing",
        epochs=1,
        learning={"recipe": "distill", "distillation": {"folds": 2}},
    )
    assert engine.edition.finder.lanes["native"].report.lessons > 0
    assert list(engine.edition.finder.lanes)[0] == "native"
    alone = genrail.Engine.build(catalog, "native", interactions=pasts(catalog, 60), encoder="hashing", epochs=1)
    assert alone.edition.finder.report.lessons == 0
    with pytest.raises(SettingsError, match="nobody to learn from"):
        genrail.Engine.build(catalog, "native", encoder="hashing", epochs=1, **{"learning.recipe": "distill"})


def test_an_engine_learns_from_rewards():
    catalog = shop()
    events = pasts(catalog, 60)
    engine = genrail.Engine.build(catalog, "native", interactions=events, encoder="hashing", epochs=1)
    report = engine.train(interactions=events, recipe="grpo", epochs=1)
    assert "reward" in report.to_dict()["start"]
    fused = genrail.Engine.build(catalog, interactions=events, encoder="hashing", epochs=1)
    report = fused.train(interactions=events, recipe="grpo", epochs=1)
    assert "reward" in report.to_dict()["start"]


def test_a_student_is_taught_on_what_it_writes_itself():
    catalog = shop()
    events = pasts(catalog, 60)
    how = {"recipe": "grpo", "reward": "teacher", "epochs": 2, "rollouts": 8, "learning.distillation.folds": 2}
    fused = genrail.Engine.build(catalog, interactions=events, encoder="hashing", epochs=1)
    report = fused.train(interactions=events, **how)  # the other lanes teach
    assert report.settings.reward == "teacher" and report.loop.best["reward"] >= report.start["reward"] > 0.0
    texts = genrail.Engine.build(catalog, encoder="hashing", epochs=1, pseudo_queries=1)
    assert texts.train(**how).requests > 0  # no history, no judged query: the lanes are asked made-up ones
    with pytest.raises(SettingsError, match="nothing to learn from"):
        texts.train(epochs=1)
    words = genrail.Engine.build(catalog, "native", encoder="hashing", epochs=1, pseudo_queries=2)
    report = words.train(teacher=genrail.Engine.build(catalog, "bm25"), **how)
    assert report.requests + len(catalog) * 2 // 5 == len(catalog) * 2  # a fifth of the made-up queries is held out
    with pytest.raises(SettingsError, match="nobody to learn from; give a teacher"):
        words.train(**how)


def test_held_back_events_are_asked_with_all_of_the_past(data):
    teacher = recipe_named("bm25").build(data, quiet)
    before = data.without_validation
    lessons = on_held_back(teacher, before, Distillation(share=0.5, depth=4), quiet)
    assert [(past, row) for past, row in before.held_back.cases()] == [
        (list(past), int(row)) for past, row in zip(lessons.histories, lessons.rows[:, 0], strict=True)
    ]
    np.testing.assert_allclose(lessons.shares[:, 0], 0.5, atol=1e-6)


def test_without_histories_a_teacher_is_asked_what_is_learnt_anyway():
    catalog = shop()
    teacher = genrail.Engine.build(catalog, "bm25")
    engine = genrail.Engine.build(catalog, "native", encoder="hashing", epochs=1, pseudo_queries=2)
    assert engine.train(teacher=teacher, recipe="distill", epochs=1).lessons == 2 * len(catalog)


def test_what_a_model_learns_from_is_saved_with_it(tmp_path):
    catalog = shop()
    settings = {"learning.recipe": "distill", "learning.distillation.share": 0.25, "epochs": 1}
    engine = genrail.Engine.build(catalog, encoder="hashing", **settings)
    engine.save(tmp_path / "shop")
    recipe = genrail.load(tmp_path / "shop").edition.finder.recipe
    assert recipe == engine.edition.finder.recipe and recipe.learning.distillation.share == 0.25
    with pytest.raises(SettingsError, match="knows sft"):
        genrail.Engine.build(catalog, "native", encoder="hashing", learning={"recipe": "calrec"})


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"temperature": 0.0}, {"folds": 0}, {"queries": -1}])
def test_settings_outside_their_range_are_errors(wrong):
    with pytest.raises(SettingsError):
        Distillation(**wrong)


def test_a_rate_of_ones_own_is_that_of_pairs_and_of_rewards():
    catalog = shop()
    engine = genrail.Engine.build(catalog, "native", encoder="hashing", epochs=1, pseudo_queries=1)
    before = engine.edition.finder.spelling.model.fingerprint
    for recipe in ("sft", "grpo"):
        still = genrail.Engine(engine.edition)
        still.train(queries={"a": "red boot"}, qrels={"a": {"s3": 1.0}}, recipe=recipe, epochs=1, learning_rate=1e-12)
        assert still.search("red boot", k=5).item_ids == engine.search("red boot", k=5).item_ids
    moved = genrail.Engine(engine.edition)
    moved.train(queries={"a": "red boot"}, qrels={"a": {"s3": 1.0}}, epochs=2, learning_rate=0.05)
    assert moved.edition.finder.spelling.model.fingerprint != before
    with pytest.raises(SettingsError, match="learning_rate is 0"):
        engine.train(queries={"a": "red boot"}, qrels={"a": {"s3": 1.0}}, learning_rate=0.0)
