"""Training the native model: the loss is the model's own log-probability, and known answers are learnt."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from genrail.constraints import Trie
from genrail.decoding import beam_search
from genrail.errors import SettingsError
from genrail.models.native import NativeModel
from genrail.models.native_settings import NativeSettings
from genrail.training.loop import LoopSettings
from genrail.training.native import rails_loss, train_native
from genrail.training.native_settings import TrainingSettings
from genrail.training.pairs import ContextBatch, QueryPairs

ITEMS = 24
CODES = np.stack([np.arange(ITEMS) // 6, np.arange(ITEMS) % 6 // 2, np.arange(ITEMS) % 2], axis=1)
VECTORS = np.random.default_rng(2).normal(size=(ITEMS, 8)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
SMALL = NativeSettings(width=32, heads=2, dropout=0.0, depth_dropout=0.0, input_dropout=0.0)


def fresh(seed=0):
    return NativeModel.create(SMALL, CODES, VECTORS, seed)


def settings(epochs=8, **others):
    loop = LoopSettings(epochs=epochs, learning_rate=1e-2, warm_up=10, validate_every=epochs)
    return TrainingSettings(**{"loop": loop, "batch_targets": 64, "batch_queries": 32, "held_out_users": 40, **others})


def circle(users=200, length=6):
    """Everybody walks around the items in steps of five: the last item tells the next."""
    starts = np.random.default_rng(0).integers(0, ITEMS, users)
    rows = (starts[:, None] + 5 * np.arange(length)) % ITEMS
    return rows.ravel(), np.arange(users + 1) * length


def best(model, contexts, k=1):
    trie = Trie.from_matrix(model.table.codes(), model.vocab_size)
    return [answer.rows.tolist() for answer in beam_search(model, contexts, trie, k=k)]


def test_the_loss_is_minus_the_models_log_probability():
    model = fresh()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter += 0.1
    model.changed()
    tokens, targets = np.array([[3, 9], [4, 0]]), np.array([[9, 17], [20, -1]])
    batch = ContextBatch(tokens, targets)
    loss = rails_loss(model.network, model.nodes, model.network.node_representations(model.nodes), batch, smoothing=0.0)
    scores = []
    for history, item in [([3], 9), ([3, 9], 17), ([4], 20)]:
        state, logits = model.prefill([model.context(history=history)])
        for token in CODES[item]:
            scores.append(logits[0][token] - np.logaddexp.reduce(logits[0].astype(np.float64)))
            state, logits = model.step(state, np.array([0]), np.array([token]))
    assert float(loss.detach()) == pytest.approx(-sum(scores) / 3, abs=1e-4)


def test_it_learns_what_follows_what():
    model = fresh()
    report = train_native(model, circle(), settings=settings(), seed=0)
    assert report.loop.best["Recall@10 (history)"] == 1.0
    assert report.loop.best["NDCG@10 (history)"] > 0.9
    answers = best(model, [model.context(history=[item]) for item in range(ITEMS)])
    assert sum(answer == [(item + 5) % ITEMS] for item, answer in enumerate(answers)) >= 22


def test_one_model_learns_queries_histories_and_both():
    model = fresh()
    random = np.random.default_rng(5)
    rows = np.repeat(np.arange(ITEMS), 8)
    noisy = VECTORS[rows] + 0.1 * random.normal(size=(len(rows), 8)).astype(np.float32)
    words = LoopSettings(epochs=25, learning_rate=1e-2, warm_up=10, validate_every=25)
    train_native(model, circle(), QueryPairs(noisy, rows), settings(words=words), seed=0)
    searched = best(model, [model.context(vector) for vector in VECTORS])
    assert sum(answer == [item] for item, answer in enumerate(searched)) >= 22
    both = best(model, [model.context(VECTORS[item], [(item - 5) % ITEMS]) for item in range(ITEMS)])
    assert sum(answer == [item] for item, answer in enumerate(both)) >= 22


def test_queries_alone_are_enough():
    model = fresh()
    report = train_native(model, None, QueryPairs(VECTORS, np.arange(ITEMS)), settings(epochs=2), seed=0)
    assert report.targets == 0 and report.queries == ITEMS - len(VECTORS) // 5
    assert "NDCG@10 (query)" in report.loop.best


def test_the_same_seed_gives_the_same_model():
    models = [fresh(), fresh(), fresh()]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        train_native(model, circle(60), settings=settings(epochs=2), seed=seed)
    assert models[0].fingerprint == models[1].fingerprint != models[2].fingerprint


def test_held_out_items_are_not_learnt_from():
    rows, offsets = circle(50)
    report = train_native(fresh(), (rows, offsets), settings=settings(epochs=1, held_out_users=None))
    assert report.held_out_users == 50
    assert report.targets == 50 * 4


def test_a_resumed_training_ends_with_the_same_model(tmp_path):
    whole, cut = fresh(), fresh()
    train_native(whole, circle(60), settings=settings(epochs=3), seed=0)

    def stop(progress):
        if progress.epoch == 3:
            raise KeyboardInterrupt

    file = tmp_path / "training.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_native(cut, circle(60), settings=settings(epochs=3), seed=0, progress=stop, checkpoint=file)
    resumed = fresh()
    train_native(resumed, circle(60), settings=settings(epochs=3), seed=0, checkpoint=file)
    assert resumed.fingerprint == whole.fingerprint


def test_users_with_one_item_only_are_nothing_to_learn_from():
    with pytest.raises(SettingsError, match="nothing to learn from"):
        train_native(fresh(), (np.array([1, 2]), np.array([0, 1, 2])))
    with pytest.raises(SettingsError, match="nothing to learn from"):
        train_native(fresh())


def test_the_report_is_plain_and_has_a_summary():
    report = train_native(fresh(), circle(30), settings=settings(epochs=1, held_out_users=0), seed=4)
    assert report.to_dict()["seed"] == 4 and report.loop.best == {}
    assert report.summary()["validation"].startswith("none")


def test_one_item_alone_trains():
    model = NativeModel.create(SMALL, [[0, 0]], VECTORS[:1])
    train_native(model, (np.zeros(4, dtype=np.int64), np.array([0, 4])), settings=settings(epochs=1))
    assert best(model, [model.context(history=[0])]) == [[0]]


@pytest.mark.parametrize("wrong", [{"batch_targets": 0}, {"label_smoothing": 1.5}, {"held_out_queries": -1}])
def test_settings_outside_their_range_are_errors(wrong):
    with pytest.raises(SettingsError):
        TrainingSettings(**wrong)


def test_given_validation_cases_are_measured_and_everything_else_is_learnt():
    rows, offsets = circle(50)
    cases = [([item], (item + 5) % ITEMS) for item in range(ITEMS)]
    report = train_native(fresh(), (rows, offsets), settings=settings(epochs=10), validation=cases)
    assert report.held_out_users == 0 and report.targets == 50 * 5
    assert report.loop.best["Recall@10 (history)"] == 1.0
