"""Learning from rewards: gradients equal those of a brute-force oracle, and what is rewarded becomes likely."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from genrail.errors import SettingsError, ShapeError
from genrail.models.native import NativeModel
from genrail.models.native_settings import NativeSettings
from genrail.training.grpo import grpo_loss
from genrail.training.native import train_native
from genrail.training.reinforcement import NativeCase, _Reinforcement, reinforce
from genrail.training.rewards import ReinforcementSettings, Rollouts, advantages, hit, likeness, rank, teacher
from tests.training.test_native_training import CODES, ITEMS, VECTORS, circle, settings

ALL = ITEMS
TINY = NativeSettings(width=8, heads=1, encoder_layers=1, dropout=0.0, depth_dropout=0.0, input_dropout=0.0)


def fresh(seed=0, sizes=TINY):
    return NativeModel.create(sizes, CODES, VECTORS, seed)


def shaken(model, size=0.2, seed=0):
    with torch.no_grad():
        torch.manual_seed(seed)
        for parameter in model.network.parameters():
            parameter += size * torch.randn_like(parameter)
    model.changed()
    return model


def log_probability(network, nodes, context, row):
    """Read a context and write an item, one node and one child at a time, with nothing of the loss's own code."""
    representations = network.node_representations(nodes)
    tokens = torch.tensor([context.tokens])
    queries = None if context.query is None else torch.from_numpy(context.query)[None]
    hidden = network.encode(nodes, representations, tokens, queries)[0, -1]
    total, node, written = torch.zeros(()), 0, []
    for level in range(nodes.length):
        state = network.depth_states(representations, hidden[None], torch.tensor([written], dtype=torch.int64))[0, -1]
        logits = []
        children = range(int(nodes.first_child[node]), int(nodes.first_child[node + 1]))
        for child in children:
            logit = (state @ network.level_out[level]) @ representations[child] + network.slot_bias[nodes.slot[child]]
            if queries is not None:
                similar = network.query_direct(queries)[0] @ network.slot_vectors[nodes.slot[child]]
                logit = logit + network.query_weight[level] * similar
            logits.append(logit)
        chosen = int(nodes.path[row, level + 1])
        total = total + torch.log_softmax(torch.stack(logits), dim=0)[chosen - children[0]]
        node = chosen
        written.append(node)
    return total


def oracle(model, reference, cases, reward, settings):
    """Write every allowed item for every case, and compute GRPO's loss from its definition."""
    terms = []
    for context, target, _ in cases:
        rows = [row for row in range(ITEMS) if row not in context.history]
        with torch.no_grad():
            chances = [float(log_probability(model.network, model.nodes, context, row)) for row in rows]
        rows = [rows[place] for place in np.argsort(-np.array(chances), kind="stable")]
        given = reward(Rollouts(np.array([rows]), np.array([target]), VECTORS))[0]
        gained = (given - given.mean()) / (given.std() + 1e-4)
        for row, advantage in zip(rows, gained, strict=True):
            now = log_probability(model.network, model.nodes, context, row)
            with torch.no_grad():
                before = log_probability(reference.network, model.nodes, context, row)
            apart = before - now
            divergence = torch.exp(apart) - apart - 1.0
            terms.append(settings.kl * divergence - float(advantage) * torch.exp(now - now.detach()))
    return torch.stack(terms).sum() / len(terms)


def gradients(loss, network):
    network.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


@pytest.mark.parametrize("sampler", ["beam", "sample"])
def test_the_gradients_are_those_of_a_brute_force_oracle(sampler):
    model, reference = shaken(fresh()), shaken(fresh(), seed=1)
    chosen = ReinforcementSettings(reward="likeness", rollouts=ALL, sampler=sampler, kl=0.3)
    cases = [
        NativeCase(model.context(history=[3, 9]), 14),
        NativeCase(model.context(VECTORS[5] + VECTORS[6]), 5),
        NativeCase(model.context(VECTORS[2], [20]), 7),
    ]
    task = _Reinforcement(model, cases, [], chosen, likeness, seed=0)
    task.reference = reference.network
    model.network.train()
    mine = gradients(task.loss(np.array([[0, 1, 2], [5, 6, 7]])), model.network)
    theirs = gradients(oracle(model, reference, cases, likeness, chosen), model.network)
    for name, gradient in theirs.items():
        torch.testing.assert_close(mine[name], gradient, atol=2e-5, rtol=1e-3, msg=name)
    assert max(float(gradient.abs().max()) for gradient in theirs.values()) > 1e-3


def test_validation_reward_and_ndcg_rise_from_a_taught_start():
    model = fresh(sizes=NativeSettings(width=32, heads=2, dropout=0.0, depth_dropout=0.0, input_dropout=0.0))
    train_native(model, circle(60), settings=settings(epochs=1), seed=0)
    cases = [NativeCase(model.context(history=[item]), (item + 5) % ITEMS) for item in range(ITEMS)]
    chosen = ReinforcementSettings(rollouts=8, epochs=8, batch=8, learning_rate=3e-3, kl=0.0)
    report = reinforce(model, cases, chosen, validation=cases, seed=0)
    assert report.kept
    assert report.loop.best["NDCG@10"] > report.start["NDCG@10"] + 0.05
    assert report.loop.best["reward"] > report.start["reward"]
    assert report.to_dict()["start"] == report.start and "rollouts" in report.summary()["requests"]


def test_a_model_that_gets_no_better_stays_as_it_was():
    model = fresh()
    before = model.fingerprint
    cases = [NativeCase(model.context(history=[item]), (item + 5) % ITEMS) for item in range(ITEMS)]
    report = reinforce(
        model,
        cases,
        ReinforcementSettings(epochs=1, rollouts=2, reward=lambda one: np.zeros(one.rows.shape)),
        validation=[NativeCase(model.context(history=[0]), 0)],  # an item of its own history is never written
    )
    assert not report.kept and model.fingerprint == before


def test_a_function_of_ones_own_decides():
    model = fresh(sizes=NativeSettings(width=16, heads=1, dropout=0.0, depth_dropout=0.0, input_dropout=0.0))
    wanted = [7]
    cases = [NativeCase(model.context(history=[item]), (item + 5) % ITEMS) for item in range(ITEMS) if item != 7]
    settings = {"rollouts": 12, "epochs": 12, "batch": 8, "learning_rate": 1e-2, "kl": 0.0, "sampler": "sample"}
    chosen = ReinforcementSettings(reward=lambda one: np.isin(one.rows, wanted).astype(float), **settings)
    report = reinforce(model, cases, chosen)
    assert report.to_dict()["settings"]["reward"] == "rank"  # functions are not told, nor saved
    task = _Reinforcement(model, cases, cases, chosen, hit, seed=0)
    assert np.mean(task.written(cases, 1).rows[:, 0] == 7) > 0.8


def test_a_teacher_says_what_each_item_is_worth_that_the_student_writes():
    model = fresh(sizes=NativeSettings(width=16, heads=1, dropout=0.0, depth_dropout=0.0, input_dropout=0.0))
    listed = ([20, 7, 3], [0.2, 0.5, 0.3])
    cases = [NativeCase(model.context(history=[item]), 20, listed) for item in range(ITEMS) if item not in (3, 7, 20)]
    settings = {"rollouts": 12, "epochs": 20, "batch": 8, "learning_rate": 1e-2, "kl": 0.0, "sampler": "sample"}
    chosen = ReinforcementSettings(reward="teacher", **settings)
    report = reinforce(model, cases, chosen, validation=cases)
    assert report.kept and report.loop.best["reward"] > report.start["reward"]
    task = _Reinforcement(model, cases, cases, chosen, teacher, seed=0)
    rollouts = task.written(cases[:1], ITEMS)
    gained = teacher(rollouts)[0]
    assert {int(row): round(share, 3) for row, share in zip(rollouts.rows[0], gained, strict=True) if share} == {
        20: 0.2,
        7: 0.5,
        3: 0.3,
    }
    assert rollouts.hits.sum() == 1  # what was right is not what the teacher lists
    assert np.mean(task.written(cases, 1).rows[:, 0] == 7) > 0.8
    with pytest.raises(SettingsError, match="nobody teaches"):
        teacher(Rollouts(np.array([[1, 2]]), np.array([1]), VECTORS))


def test_rollouts_are_allowed_and_none_comes_twice():
    model = shaken(fresh())
    cases = [NativeCase(model.context(history=list(range(20))), 21)]
    for sampler in ("beam", "sample"):
        task = _Reinforcement(model, cases, [], ReinforcementSettings(sampler=sampler), hit, seed=0)
        rows = task.written(cases, 16, [3]).rows[0]
        assert sorted(rows[rows >= 0].tolist()) == [20, 21, 22, 23]
        assert (rows[4:] == -1).all()


def test_a_strong_penalty_holds_the_model_to_its_reference():
    apart = []
    for kl in (0.0, 100.0):
        model = shaken(fresh())
        cases = [NativeCase(model.context(history=[item]), (item + 5) % ITEMS) for item in range(ITEMS)]
        task = _Reinforcement(model, cases, [], ReinforcementSettings(), hit, seed=0)
        start = task.reference
        reinforce(model, cases, ReinforcementSettings(rollouts=8, epochs=4, batch=8, learning_rate=1e-2, kl=kl))
        now = log_probability(model.network, model.nodes, cases[0][0], 5)
        apart.append(abs(float((now - log_probability(start, model.nodes, cases[0][0], 5)).detach())))
    assert apart[1] < apart[0] / 2


def test_groups_without_a_difference_teach_nothing():
    assert advantages(np.ones((2, 3)), np.zeros((2, 3), dtype=int)).tolist() == [[0.0] * 3] * 2
    loss = grpo_loss(torch.zeros(2, requires_grad=True), torch.zeros(2), torch.zeros(2), 0.1)
    assert float(loss.detach()) == 0.0


def test_wrong_items_cost_by_rank_only_where_the_right_one_was_written():
    rollouts = Rollouts(np.array([[4, 5, 6], [1, 2, -1]]), np.array([5, 9]), np.zeros((10, 2), np.float32))
    given = rank(rollouts)
    assert given[0, 1] == 1.0 and given[0, 0] < given[0, 2] < 0.0
    assert given[0, [0, 2]].sum() == pytest.approx(-1.0)
    assert given[1].tolist() == [0.0, 0.0, 0.0]


def test_what_cannot_be_learnt_from_is_said():
    model = fresh()
    cases = [NativeCase(model.context(history=[1]), 2)]
    with pytest.raises(SettingsError, match="nothing to learn from"):
        reinforce(model, [])
    with pytest.raises(ShapeError, match="rewards"):
        reinforce(model, cases, ReinforcementSettings(reward=lambda one: np.full(one.rows.shape, np.nan)))
    with pytest.raises(SettingsError, match="clicks"):
        ReinforcementSettings(reward="clicks")
    for wrong in ({"rollouts": 1}, {"sampler": "greedy"}, {"kl": -1.0}, {"temperature": 0.0}, {"epochs": 0}):
        with pytest.raises(SettingsError):
            ReinforcementSettings(**wrong)
