"""The step on tensors against the step of the trie: the same candidates, in the same order, ties included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrail.constraints.softmax import log_sum_exp
from genrail.constraints.trie import Trie
from genrail.decoding.torch_index import TorchIndex
from genrail.errors import SettingsError, ShapeError, StateError
from genrail.rng import generator
from tests.constraints.oracle import random_catalog, random_logits

VOCABULARIES = (2, 3, 40, 200, 300, 70_000)


def compare(theirs, ours):
    """Everything equal, scores bit for bit."""
    assert np.array_equal(theirs.count, ours.count) and theirs.depth == ours.depth
    for name in ("scores", "parents", "tokens", "states", "complete"):
        assert np.array_equal(getattr(theirs, name), getattr(ours, name)), name
    assert theirs.nan_logits == ours.nan_logits


def random_subsets(trie, rng, queries):
    rows = trie.row_count
    makers = (
        lambda: None,
        lambda: trie.subset(rng.random(rows) < 0.3),
        lambda: trie.only(np.flatnonzero(rng.random(rows) < 0.05)),
        lambda: trie.without(np.flatnonzero(rng.random(rows) < 0.2)),
    )
    return [makers[int(rng.integers(len(makers)))]() for _ in range(queries)]


@pytest.mark.parametrize("seed", range(120))
def test_every_step_equals_that_of_the_trie(seed):
    rng = generator(seed, "torch")
    sequences, vocab_size, end_token = random_catalog(rng, vocab_sizes=VOCABULARIES)
    trie = Trie.from_sequences(sequences, vocab_size, end_token, heavy=int(rng.choice([1, 4, 32])))
    if sequences and rng.random() < 0.4:
        trie = trie.remove(rng.integers(0, len(sequences), size=int(rng.integers(0, len(sequences)))))
    index = TorchIndex(trie)
    queries = int(rng.integers(1, 4))
    subsets = random_subsets(trie, rng, queries)
    on_device = index.subsets(subsets)
    meaning = "full_softmax" if rng.random() < 0.8 else "renormalised"
    ours, theirs = trie.start(queries), index.start(queries)
    scores = np.zeros((queries, 1))
    for _ in range(4):
        logits = random_logits(rng, ours.alive.size, vocab_size + int(rng.choice([0, 3])))
        count = int(rng.choice([1, 2, 7, 40]))
        expected = trie.candidates(ours, logits, scores, count, subsets, meaning)
        found = index.candidates(
            theirs,
            torch.from_numpy(logits),
            torch.from_numpy(scores),
            count,
            on_device,
            meaning,
            denominators=torch.from_numpy(log_sum_exp(logits)),
        ).to_host()
        if meaning == "renormalised":  # a sum in another order
            np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-12)
            if not np.array_equal(found.tokens, expected.tokens):
                return
        else:
            compare(found, expected)
        width = int(rng.integers(1, 8))
        picks = np.full((queries, width), -1)
        for query in range(queries):
            some = rng.permutation(int(expected.count[query]))[:width]
            picks[query, : len(some)] = some
        ours = trie.advance(expected, picks)
        theirs = index.beams(ours)
        scores = np.where(picks >= 0, np.take_along_axis(expected.scores, np.maximum(picks, 0), axis=1), -np.inf)


def test_its_own_denominator_is_that_of_the_trie():
    rng = generator(0, "torch", "denominator")
    trie = Trie.from_matrix(rng.integers(0, 50, size=(2000, 3)), 50)
    index = TorchIndex(trie)
    ours, theirs, scores = trie.start(4), index.start(4), np.zeros((4, 1))
    for _ in range(3):
        logits = rng.standard_normal((ours.alive.size, 50), dtype=np.float32) * 3
        expected = trie.candidates(ours, logits, scores, 20)
        found = index.candidates(theirs, torch.from_numpy(logits), torch.from_numpy(scores), 20)
        np.testing.assert_allclose(found.scores.numpy(), expected.scores, atol=1e-5)
        assert np.array_equal(found.tokens.numpy(), expected.tokens)
        picks = np.tile(np.arange(10), (4, 1))
        ours, theirs = trie.advance(expected, picks), index.advance(found, torch.from_numpy(picks))
        assert np.array_equal(ours.states, theirs.states.numpy()) and bool(theirs.alive.all())
        scores = expected.scores[:, :10]


def test_equal_scores_come_in_the_order_of_parent_and_token():
    rng = generator(0, "torch", "ties")
    trie = Trie.from_matrix(rng.integers(0, 60, size=(5000, 2)), 60)
    index = TorchIndex(trie)
    first = trie.candidates(trie.start(2), np.zeros((2, 60), np.float32), np.zeros((2, 1)), 8)
    beams = trie.advance(first, np.tile(np.arange(8), (2, 1)))
    expected = trie.candidates(beams, np.zeros((16, 60), np.float32), np.zeros((2, 8)), 100)
    found = index.candidates(index.beams(beams), torch.zeros(16, 60), torch.zeros(2, 8), 100)
    assert np.array_equal(found.parents.numpy(), expected.parents)
    assert np.array_equal(found.tokens.numpy(), expected.tokens)


def test_a_step_can_be_traced_without_a_look_at_its_values():
    """Meta tensors have shapes and no values: whoever reads one on the way fails."""
    trie = Trie.from_matrix(generator(0, "meta").integers(0, 50, size=(2000, 3)), 50).remove([1])
    index = TorchIndex(trie, device="meta")
    beams = index.start(4)
    found = index.candidates(beams, torch.zeros(4, 50, device="meta"), torch.zeros(4, 1, device="meta"), 20)
    beams = index.advance(found, torch.zeros(4, 10, dtype=torch.int64, device="meta"))
    again = index.candidates(beams, torch.zeros(40, 50, device="meta"), torch.zeros(4, 10, device="meta"), 20)
    assert again.states.shape == (4, 20, 4) and again.depth == 2


def test_what_does_not_fit_is_refused():
    trie = Trie.from_sequences([[1, 2], [1, 3]], vocab_size=4)
    index, other = TorchIndex(trie), Trie.from_sequences([[1, 2]], vocab_size=4)
    start, one = index.start(1), torch.zeros(1, 1)
    with pytest.raises(SettingsError):
        index.candidates(start, torch.zeros(1, 4), one, 0)
    with pytest.raises(ShapeError, match="4 or more"):
        index.candidates(start, torch.zeros(1, 3), one, 2)
    with pytest.raises(ShapeError, match="2 rows of logits for 1 beams"):
        index.candidates(start, torch.zeros(2, 4), one, 2)
    with pytest.raises(ShapeError, match="scores have shape"):
        index.candidates(start, torch.zeros(1, 4), torch.zeros(1, 2), 2)
    with pytest.raises(ShapeError, match="rows have shape"):
        index.candidates(start, torch.zeros(1, 4), one, 2, rows=torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(StateError):
        index.subsets([other.only([0])])
