"""What a model finds probable anyway: read once, extended by what is new, and taken off while searching."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints.compressed import compressed
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.decoding import BeamSettings, beam_search, empty_scores
from genrail.decoding.empty_scores import EmptyScores
from genrail.errors import DamagedError, StateError
from genrail.models.causal import CausalModel
from genrail.models.tiny_lm import NoiseModel
from tests.models import checkpoints

EMPTY = [9]


class Counting(NoiseModel):
    """Count the runs that are read."""

    runs = 0

    def read_runs(self, state, parents, runs):
        self.runs += len(runs)
        return super().read_runs(state, parents, runs)


def index(count, seed=0, beginning=()):
    rng = np.random.default_rng(seed)
    titles = [[*beginning, *rng.integers(1, 5, size=rng.integers(1, 7)).tolist(), 0] for _ in range(count)]
    return LiveTrie(Trie.from_sequences(titles, 5, end_token=0))


def searched(model, live):
    """Log-probability of each row by a search so wide that nothing is lost."""
    settings = BeamSettings(width=500, meaning="renormalised", jump_tails=False)
    [answer] = beam_search(model, [EMPTY], live, settings, k=500)
    return dict(zip(answer.rows.tolist(), answer.log_probabilities.tolist(), strict=True))


def check(model, scores, live):
    trie = compressed(live)
    found = scores.prior(trie).identifiers
    expected = searched(model, live)
    for number, value in enumerate(found):
        for row in trie.rows_of(number).tolist():
            assert abs(value - expected[row]) < 1e-4


@pytest.mark.parametrize("count", [1, 2, 80])
@pytest.mark.parametrize("beginning", [(), (1, 2)])
@pytest.mark.parametrize("together", [1, 10, 10**6])
def test_they_are_the_log_probabilities_of_a_search_without_loss(count, beginning, together, monkeypatch):
    monkeypatch.setattr(empty_scores, "TOKENS_TOGETHER", together)
    model, live = NoiseModel(5, seed=1), index(count, beginning=beginning)
    check(model, EmptyScores().extended(model, EMPTY, compressed(live)), live)


def test_a_checkpoint_gives_the_same():
    tokenizer = checkpoints.tokenizer()
    model = CausalModel(checkpoints.model("gemma3", len(tokenizer)), tokenizer)
    titles = [[*tokenizer(title)["input_ids"], 2] for title in checkpoints.TITLES]
    live = LiveTrie(Trie.from_sequences(titles, len(tokenizer), end_token=2))
    check(model, EmptyScores().extended(model, EMPTY, compressed(live)), live)


def test_only_what_is_new_is_read():
    model, live = Counting(5, seed=1), index(80)
    first = EmptyScores().extended(model, EMPTY, compressed(live))
    before = model.runs
    assert first.extended(model, EMPTY, compressed(live)) is first
    assert first.extended(model, EMPTY, compressed(live.remove([3, 4]))) is not None
    model.runs = 0
    grown = live.add([[1, 1, 1, 1, 1, 1, 1, 2], [4, 4, 2]])
    with pytest.raises(StateError, match="no empty score yet"):
        first.prior(compressed(grown))
    second = first.extended(model, EMPTY, compressed(grown))
    assert 0 < model.runs < before / 3
    check(model, second, grown)
    check(model, second, grown.remove([0, 5]))


def test_they_are_saved_and_a_damaged_file_is_refused(tmp_path):
    model, live = NoiseModel(5), index(40)
    scores = EmptyScores().extended(model, EMPTY, compressed(live))
    scores.save(tmp_path / "scores.npz")
    again = EmptyScores.load(tmp_path / "scores.npz")
    assert np.array_equal(again.keys, scores.keys)
    assert np.array_equal(again.logits, scores.logits)
    (tmp_path / "scores.npz").write_bytes(b"PK")
    with pytest.raises(DamagedError, match="not readable"):
        EmptyScores.load(tmp_path / "scores.npz")


def test_progress_ends_with_all():
    told = []
    EmptyScores().extended(NoiseModel(5), EMPTY, compressed(index(60)), lambda *now: told.append(now))
    assert told[-1][0] == told[-1][1] == len(compressed(index(60)).depth)
