"""TIGER learns what comes next, from every prefix, and goes on where it was cut off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from genrail.errors import SettingsError
from genrail.models.tiger import TigerModel, TigerSettings
from genrail.training import tiger
from genrail.training.figures import next_item_figures
from genrail.training.loop import LoopSettings
from genrail.training.tiger import TigerTraining, train_tiger

SMALL = TigerSettings(width=16, layers=1, heads=2, head_width=8, feed_forward=24, dropout=0.1, history=3)
CODES = [[a, b] for a in range(3) for b in range(3)]
LEARN = TigerTraining(LoopSettings(epochs=40, learning_rate=0.02, warm_up=5, averaging=0.9), batch=16)


def circle(users=12, events=6):
    """Everybody goes round the nine items."""
    rows = np.concatenate([(np.arange(events) + user) % 9 for user in range(users)])
    return rows, np.arange(users + 1) * events


def weights(model):
    return np.concatenate([p.detach().numpy().ravel() for _, p in sorted(model.model.named_parameters())])


def test_it_learns_a_circle():
    model = TigerModel(CODES, SMALL)
    cases = [([row, (row + 1) % 9], (row + 2) % 9) for row in range(9)]
    report = train_tiger(model, circle(), LEARN, cases)
    assert report.best["Recall@10"] == 1.0
    assert report.best["NDCG@10"] > 0.95


def test_every_event_but_the_first_of_each_sequence_is_a_target_with_its_past():
    task = tiger._Task(TigerModel(CODES, SMALL), (np.array([4, 5, 6, 7, 8, 1]), np.array([0, 5, 6])), LEARN, [], 0)
    seen = {
        int(end): int(past)
        for batch in task.epoch(0)
        for end, past in zip(task.ends[batch], task.past[batch], strict=True)
    }
    assert seen == {1: 1, 2: 2, 3: 3, 4: 3}  # at most three are read; a sequence of one event teaches nothing


def test_padding_changes_no_loss():
    """A short history has the same loss alone and beside a long one."""
    model = TigerModel(CODES, replace(SMALL, dropout=0.0))
    task = tiger._Task(model, circle(2), LEARN, [], 0)
    short, long = int(np.argmin(task.past)), int(np.argmax(task.past))
    alone = [float(task.loss(np.array([one])).detach()) for one in (short, long)]
    together = float(task.loss(np.array([short, long])).detach())
    assert together == pytest.approx(np.mean(alone), abs=1e-5)


def test_a_run_that_was_cut_off_ends_with_the_same_bits(tmp_path):
    def trained(epochs, file, stop=None):
        model = TigerModel(CODES, SMALL, seed=3)
        settings = TigerTraining(LoopSettings(epochs=epochs, learning_rate=0.01, warm_up=2), batch=16)

        def progress(now):
            if stop is not None and now.epoch == stop:
                raise KeyboardInterrupt

        try:
            train_tiger(model, circle(), settings, seed=3, progress=progress, checkpoint=file)
        except KeyboardInterrupt:
            return None
        return weights(model)

    whole = trained(4, tmp_path / "whole.safetensors")
    assert trained(4, tmp_path / "cut.safetensors", stop=3) is None
    assert (trained(4, tmp_path / "cut.safetensors") == whole).all()


def test_nothing_to_learn_from_is_no_error():
    model = TigerModel(CODES, SMALL)
    assert train_tiger(model, (np.array([1, 2]), np.array([0, 1, 2]))) is None


def test_an_epoch_can_be_so_many_updates():
    settings = TigerTraining(batch=4, steps_per_epoch=3)
    task = tiger._Task(TigerModel(CODES, SMALL), circle(), settings, [], 0)
    assert [len(batch) for batch in task.epoch(0)] == [4, 4, 4]
    assert sorted(np.concatenate(task.epoch(0))) != sorted(np.concatenate(task.epoch(1)))


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"steps_per_epoch": 0}, {"label_smoothing": 1.0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        TigerTraining(**wrong)


def test_figures_by_hand():
    ndcg, recall = next_item_figures([1, 9, 10, -1])
    assert recall == 0.5
    assert ndcg == pytest.approx((1 / np.log2(3) + 1 / np.log2(11)) / 4)
