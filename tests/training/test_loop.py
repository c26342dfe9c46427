"""The loop: keeps the best, stops in time, resumes to the bit."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from genrail.errors import DamagedError, FingerprintError, SettingsError
from genrail.training.loop import LoopSettings, run

INPUTS = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
TRUTH = INPUTS @ np.array([1.0, -2.0, 0.5, 0.0], dtype=np.float32)


class Line:
    """Fit a line with dropout, so that the random state matters."""

    def __init__(self, figures=None, loss=None):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 1))
        self.figures = figures
        self.scale = loss
        self.validations = 0

    def epoch(self, number):
        order = np.random.default_rng(number).permutation(64)
        return [order[first : first + 16] for first in range(0, 64, 16)]

    def loss(self, batch):
        guess = self.module(torch.from_numpy(INPUTS[batch]))[:, 0]
        error = ((guess - torch.from_numpy(TRUTH[batch])) ** 2).mean()
        return error if self.scale is None else error * self.scale

    def validate(self):
        self.validations += 1
        if self.figures is not None:
            return {"figure": self.figures[self.validations - 1]} if self.figures else {}
        with torch.no_grad():
            guess = self.module(torch.from_numpy(INPUTS))[:, 0]
        return {"minus error": -float(((guess - torch.from_numpy(TRUTH)) ** 2).mean())}

    def bits(self):
        return [parameter.detach().numpy().copy() for parameter in self.module.parameters()]


SETTINGS = LoopSettings(epochs=6, learning_rate=0.1, warm_up=2, weight_decay=0.0, averaging=0.5, patience=10)


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_it_learns_and_tells_what_it_did():
    task = Line()
    report = run(task, SETTINGS, seed=1)
    assert report.best["minus error"] > -1.0  # the variance of the truth is about 5
    assert report.steps == 24 and len(report.history) == 6
    assert report.stopped == "epochs"
    assert report.best == report.history[report.best_epoch - 1].metrics


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_state_alone():
    first, second, third = Line(), Line(), Line()
    torch.manual_seed(4)
    before = torch.get_rng_state()
    run(first, SETTINGS, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(77)
    run(second, SETTINGS, seed=1)
    run(third, SETTINGS, seed=2)
    assert same(first.bits(), second.bits())
    assert not same(first.bits(), third.bits())


def test_the_best_epoch_is_kept_not_the_last():
    task = Line(figures=[0.1, 0.3, 0.2, 0.2, 0.2, 0.1])
    kept = []
    task.validate_plain = task.validate

    def validate():
        kept.append(task.bits())
        return task.validate_plain()

    task.validate = validate
    report = run(task, SETTINGS)
    assert report.best_epoch == 2 and report.best == {"figure": 0.3}
    assert same(task.bits(), kept[1])


def test_it_stops_when_nothing_gets_better():
    task = Line(figures=[0.3, 0.2, 0.2, 0.4, 0.4, 0.4])
    report = run(task, LoopSettings(epochs=6, patience=2))
    assert report.stopped == "patience"
    assert len(report.history) == 3


def test_without_validation_the_last_epoch_is_kept():
    report = run(Line(figures=[]), SETTINGS)
    assert report.best == {} and report.best_epoch == 6


def test_time_runs_out_after_one_step_and_something_is_kept():
    report = run(Line(), LoopSettings(epochs=1000, max_seconds=1e-9))
    assert report.stopped == "time"
    assert report.steps == 1 and report.best


class Cut(Exception):
    """Stand for a power failure."""


@pytest.mark.parametrize("epochs_before", [1, 3])
def test_a_run_that_was_cut_off_resumes_to_the_same_bits(tmp_path, epochs_before):
    whole = Line()
    wanted = run(whole, SETTINGS, seed=3)
    file = tmp_path / "loop.safetensors"

    def cut(progress):
        if progress.epoch == epochs_before + 1 and progress.step == 2:
            raise Cut

    with pytest.raises(Cut):
        run(Line(), SETTINGS, seed=3, progress=cut, checkpoint=file)
    resumed = Line()
    steps = []
    report = run(resumed, SETTINGS, seed=3, progress=lambda p: steps.append(p.step), checkpoint=file)
    assert len(steps) == 4 * (6 - epochs_before)
    assert same(resumed.bits(), whole.bits())
    assert [record.loss for record in report.history] == [record.loss for record in wanted.history]
    assert (report.best, report.best_epoch, report.steps) == (wanted.best, wanted.best_epoch, wanted.steps)


def test_a_finished_run_resumes_to_what_it_was(tmp_path):
    first, second = Line(), Line()
    wanted = run(first, SETTINGS, checkpoint=tmp_path / "loop.safetensors")
    report = run(second, SETTINGS, checkpoint=tmp_path / "loop.safetensors")
    assert same(first.bits(), second.bits()) and report.steps == wanted.steps


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    file = tmp_path / "loop.safetensors"
    run(Line(), SETTINGS, seed=1, checkpoint=file)
    with pytest.raises(FingerprintError, match="another training"):
        run(Line(), SETTINGS, seed=2, checkpoint=file)


def test_a_damaged_checkpoint_is_named(tmp_path):
    file = tmp_path / "loop.safetensors"
    run(Line(), SETTINGS, checkpoint=file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DamagedError, match=r"loop\.safetensors"):
        run(Line(), SETTINGS, checkpoint=file)


def test_progress_counts_up_and_gives_the_time_left():
    seen = []
    run(Line(), SETTINGS, progress=seen.append)
    assert [(p.epoch, p.step) for p in seen] == [(epoch, step) for epoch in range(1, 7) for step in range(1, 5)]
    assert all(p.seconds_left >= 0 and p.steps == 4 and p.epochs == 6 for p in seen)
    assert seen[-1].seconds_left == pytest.approx(0.0, abs=1e-6)


def test_a_loss_that_explodes_is_an_error():
    with pytest.raises(SettingsError, match="loss became nan"):
        run(Line(loss=math.nan), SETTINGS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"averaging": 1.0},
        {"warm_up": -1},
        {"max_seconds": 0.0},
        {"clip": math.inf},
    ],
)
def test_settings_outside_their_range_are_errors(wrong):
    with pytest.raises(SettingsError):
        LoopSettings(**wrong)


def test_killed_while_saving_the_checkpoint_before_it_stays(tmp_path, monkeypatch):
    from genrail.training import loop

    file, plain, calls = tmp_path / "loop.safetensors", loop.os.replace, []
    whole = Line()
    run(whole, SETTINGS, seed=3)

    def killed(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise Cut
        plain(*paths)

    monkeypatch.setattr(loop.os, "replace", killed)
    with pytest.raises(Cut):
        run(Line(), SETTINGS, seed=3, checkpoint=file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    resumed, steps = Line(), []
    run(resumed, SETTINGS, seed=3, progress=lambda p: steps.append(p.step), checkpoint=file)
    assert len(steps) == 4 * 5 and same(resumed.bits(), whole.bits())


def test_a_loss_that_explodes_later_keeps_the_best_and_says_where():
    task = Line(figures=[0.5, 0.4])
    plain = task.loss
    task.loss = lambda batch: plain(batch) * (math.nan if task.validations == 2 else 1.0)
    report = run(task, SETTINGS)
    assert report.stopped == "diverged" and "step 9" in report.trouble and report.best_epoch == 1


def test_without_averaging_the_weights_themselves_are_validated_and_resumed(tmp_path):
    from dataclasses import replace

    plain = replace(SETTINGS, averaging=0.0)
    whole, file = Line(), tmp_path / "loop.safetensors"
    run(whole, plain, seed=3)

    def cut(progress):
        if progress.epoch == 3:
            raise Cut

    with pytest.raises(Cut):
        run(Line(), plain, seed=3, progress=cut, checkpoint=file)
    resumed = Line()
    run(resumed, plain, seed=3, checkpoint=file)
    assert same(resumed.bits(), whole.bits())
