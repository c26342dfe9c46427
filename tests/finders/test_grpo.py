"""GRPO for language models: rollouts on the rails, gradients of a brute-force oracle, rewards that rise."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from genrail.constraints.compressed import compressed
from genrail.engine import Engine
from genrail.errors import SettingsError
from genrail.finders.fine_tuning import _reader, asked, pairs_of
from genrail.finders.rewarding import LanguageCase, RewardedWriter
from genrail.finding import Data
from genrail.training.fine_tuning_settings import FineTuning
from genrail.training.pairs import Pair
from genrail.training.rewards import Rollouts, RolloutSettings, rank, reward_of
from tests.finders import test_fine_tuning
from tests.finders.test_fine_tuning import ITEMS, QRELS, QUERIES, QUICK, engine, language_model, right
from tests.training.test_order import decisions

GRPO = {"recipe": "grpo", "rollouts": 6, "reward": "rank", "kl": 0.0, "learns": "all", "pseudo_queries": 0}


def task(sampler="beam", rollouts=ITEMS, kl=0.3):
    finder = engine().edition.finder
    pairs = [Pair("1 please", (), (1,)), Pair(None, (4, 5), (6,)), Pair("2 please", (3,), (2, 7), (0.5, 0.5))]
    spelling = finder.spelling
    cases = []
    for pair in pairs:
        request = asked(pair, finder.catalog)
        cases.append(LanguageCase(spelling.contexts([request], finder.catalog)[0], request, pair.rows, pair.weights))
    tuning = FineTuning(recipe="grpo", pack_tokens=150, rewarding=RolloutSettings("rank", rollouts, sampler, kl=kl))
    readers = _reader(spelling.language_model), _reader(language_model(seed=1))
    vectors = np.zeros((ITEMS, 1), dtype=np.float32)
    trie = compressed(finder.index)
    return RewardedWriter(finder, *readers, trie, cases, tuning, rank, vectors, [], None, 0), trie


def oracle(own, trie, model, reference, kl):
    """Write every allowed item for every case, and compute GRPO's loss from its definition."""
    terms = []
    for case in own.cases:
        rows = np.flatnonzero(case.request.allowed).tolist()
        now = [decisions(model, trie, case.prompt, row)[1].sum() for row in rows]
        order = np.argsort([-float(one.detach()) for one in now], kind="stable").tolist()
        ranked = [rows[place] for place in order]
        right_items = np.array([[*case.rows, -1][:2]])
        given = rank(Rollouts(np.array([ranked]), right_items, np.zeros((ITEMS, 1), np.float32)))[0]
        gained = (given - given.mean()) / (given.std() + 1e-4)
        for place, advantage in zip(order, gained, strict=True):
            with torch.no_grad():
                before = decisions(reference, trie, case.prompt, rows[place])[1].sum()
            apart = before - now[place]
            term = kl * (apart.exp() - apart - 1) - float(advantage) * (now[place] - now[place].detach()).exp()
            terms.append(term)
    return torch.stack(terms).mean()


def test_the_gradients_are_those_of_a_brute_force_oracle():
    own, trie = task()
    model, reference = own._student.spelling.language_model, language_model(seed=1)
    losses = own.loss(np.array([[0, 1, 2], [5, 6, 7]])), oracle(own, trie, model, reference, 0.3)
    gradients = []
    for loss in losses:
        own.module.zero_grad()
        loss.backward()
        gradients.append([one.grad.clone() for one in own.module.parameters()])
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), rel=1e-3, abs=1e-5)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=5e-5, rtol=5e-3)
    assert max(float(one.abs().max()) for one in gradients[1]) > 1e-3


@pytest.mark.parametrize("sampler", ["beam", "sample"])
def test_rollouts_are_allowed_and_none_comes_twice(sampler):
    own, _ = task(sampler)
    rollouts = own.written(own.cases, ITEMS, [3, 4, 5] if sampler == "sample" else None)
    for rows, case in zip(rollouts.rows, own.cases, strict=True):
        assert sorted(rows[rows >= 0].tolist()) == np.flatnonzero(case.request.allowed).tolist()
    assert rollouts.right.tolist() == [[1, -1], [6, -1], [2, 7]]


def test_rewards_rise_from_a_taught_start():
    own = engine()
    own.train(queries=QUERIES, qrels=QRELS, **QUICK | {"epochs": 9})
    before = right(own)
    report = own.train(queries=QUERIES, qrels=QRELS, **GRPO, validation=0, epochs=12, learning_rate=1e-3, batch=6)
    assert report.kept and report.start == {} and report.pairs == {"judged": ITEMS}
    assert right(own) >= before + 0.2
    assert own.edition.finder.beam.meaning == "renormalised"


def test_validation_reward_and_ndcg_rise_on_words_that_were_held_out():
    asked = {f"q{row} {way}": f"{row} {way}" for row in range(ITEMS) for way in ("please", "now", "soon")}
    judged = {query_id: {f"t{query_id.split()[0][1:]}": 1.0} for query_id in asked}
    own = engine()
    own.train(queries=asked, qrels=judged, **QUICK | {"epochs": 4})
    settings = {**GRPO, "validation": 7, "epochs": 2, "learning_rate": 1e-3, "batch": 6}
    report = own.train(queries=asked, qrels=judged, **settings)
    assert report.kept and report.held_out == 7
    assert report.loop.best["nDCG@10"] > report.start["nDCG@10"] + 0.05
    assert report.loop.best["reward"] > report.start["reward"]


def test_validation_tells_ndcg_and_reward_and_a_model_that_gets_no_better_stays_as_it_was():
    own = engine()
    fingerprint = own.edition.finder.spelling.model.fingerprint
    settings = {**GRPO, "validation": 4, "epochs": 1, "learning_rate": 1e-9}
    report = own.train(queries=QUERIES, qrels=QRELS, **settings)
    assert set(report.start) == {"nDCG@10", "R@10", "reward"} == set(report.loop.best)
    assert not report.kept and own.edition.finder.spelling.model.fingerprint == fingerprint
    assert report.summary()["kept"].startswith("no better") and "reward" in report.summary()["validation before"]


def test_a_function_of_ones_own_rewards_and_is_not_saved(tmp_path):
    own = engine()

    def even(rollouts):
        return (rollouts.rows % 2 == 0).astype(np.float64)

    settings = {**GRPO, "reward": even, "validation": 0, "epochs": 6, "learning_rate": 3e-3, "batch": 6}
    before = [hit.item_id for text in QUERIES.values() for hit in own.search(text, k=3)]
    report = own.train(queries=QUERIES, qrels=QRELS, **settings)
    after = [hit.item_id for text in QUERIES.values() for hit in own.search(text, k=3)]
    assert report.kept
    share = [np.mean([int(item_id[1:]) % 2 == 0 for item_id in part]) for part in (before, after)]
    assert share[1] > share[0] + 0.2
    assert "even" in str(own.edition.finder.spelling.card.settings)
    own.save(tmp_path / "e")
    again = Engine.load(tmp_path / "e")
    assert again.edition.finder.recipe.tuning.rewarding.reward == "rank"


def test_a_teacher_says_what_the_items_are_worth_that_the_model_writes():
    own = engine()
    teacher = Engine.build(own.catalog, "bm25")
    settings = {**GRPO, "reward": "teacher", "share": 1.0, "pseudo_queries": 2, "validation": 0}
    words = [pair.text for pair in pairs_of(Data(own.catalog), FineTuning(pseudo_queries=2, validation=0), 20).learnt]
    best = [teacher.search(text, k=1).item_ids for text in words]
    before = np.mean([own.search(text, k=1).item_ids == one for text, one in zip(words, best, strict=True)])
    report = own.train(teacher=teacher, **settings | {"epochs": 12, "batch": 6, "learning_rate": 1e-3})
    after = np.mean([own.search(text, k=1).item_ids == one for text, one in zip(words, best, strict=True)])
    assert report.kept and set(report.pairs) == {"teacher"} and after >= before + 0.2
    assert "teacher" in str(own.edition.finder.spelling.card.settings)
    with pytest.raises(SettingsError, match="nobody teaches"):
        own.train(**settings)


def test_codes_go_on_from_what_they_were_taught():
    own = test_fine_tuning.TestCodes().build()
    settings = {**GRPO, "rollouts": 4, "validation": 0, "epochs": 1}
    assert own.train(queries=QUERIES, qrels=QRELS, **settings).kept
    assert len(own.search("3 please", k=ITEMS)) == ITEMS
    with pytest.raises(SettingsError, match="goes on from a taught model"):
        test_fine_tuning.TestCodes().build(tuning=FineTuning(recipe="grpo"))


def test_likeness_looks_at_texts_and_several_right_items():
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    rollouts = Rollouts(np.array([[1, 0]]), np.array([[0, 2]]), vectors)
    assert reward_of("likeness")(rollouts).round(2).tolist() == [[0.8, 1.0]]
    assert rollouts.hits.tolist() == [[False, True]]


def test_order_losses_are_reached_by_name_and_want_an_order():
    own = engine()
    with pytest.raises(SettingsError, match="no request has two items"):
        own.train(queries=QUERIES, qrels=QRELS, **QUICK | {"loss": "listwise"})
    with pytest.raises(SettingsError, match="side by side"):
        own.train(queries=QUERIES, qrels=QRELS, **QUICK | {"loss": "pairwise", "pack_tokens": None})
    teacher = Engine.build(own.catalog, "bm25")
    for loss in ("pairwise", "listwise", "prefix-margin"):
        one = engine()
        how = {"recipe": "distill", "teacher": teacher, "loss": loss, "pseudo_queries": 1, "epochs": 2}
        report = one.train(**QUICK | how)
        assert report.loop.history[-1].loss < report.loop.history[0].loss
        assert one.edition.finder.beam.meaning == "renormalised"
    for wrong in ({"order_share": 0.0}, {"margin": -1.0}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            own.train(**wrong)
