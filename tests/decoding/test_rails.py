"""The search by branchings answers as the search token by token, in fewer calls of the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from genrail.constraints.compressed import compressed
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.decoding.rails import Prior, branch_log_probabilities, rails_search
from genrail.errors import LogitsError
from genrail.models.causal import CausalModel
from genrail.models.tiny_lm import NoiseModel
from tests.models import checkpoints


def catalogue(rng, vocab_size):
    beginning = [1, 2] if rng.random() < 0.3 else []
    count = rng.integers(1, 40)
    titles = [[*beginning, *rng.integers(1, vocab_size, size=rng.integers(1, 7)), 0] for _ in range(count)]
    index = Trie.from_sequences(titles, vocab_size, end_token=0)
    if rng.random() < 0.5:
        return index, count
    return LiveTrie(index).add([[1] * 7, [2, 1, 2]]).remove([0]), count + 2


@pytest.mark.parametrize("seed", range(60))
def test_the_answers_are_those_of_the_search_token_by_token(seed):
    rng = np.random.default_rng(seed)
    vocab_size = int(rng.integers(3, 7))
    index, rows = catalogue(rng, vocab_size)
    model = NoiseModel(vocab_size, seed=seed, sharpness=float(rng.choice([0.5, 2, 4])))
    subsets = [None if rng.random() < 0.5 else index.subset(rng.random(rows) < 0.5) for _ in range(3)]
    settings = BeamSettings(
        width=int(rng.integers(1, 8)),
        meaning=str(rng.choice(["renormalised", "full_softmax"])),
        finish=str(rng.choice(["any", "width"])),
        length_normalisation=float(rng.choice([0, 0.7])),
    )
    k = int(rng.integers(1, 8))
    contexts = [[1], [2], [3]]
    branchings = beam_search(model, contexts, index, settings, subsets, k)
    plain = beam_search(model, contexts, index, replace(settings, jump_tails=False), subsets, k)
    for left, right in zip(branchings, plain, strict=True):
        assert left.rows.tolist() == right.rows.tolist()
        assert left.tokens == right.tokens
        assert left.exhausted == right.exhausted
        np.testing.assert_allclose(left.log_probabilities, right.log_probabilities, atol=1e-5)
        np.testing.assert_allclose(left.scores, right.scores, atol=1e-5)
        assert left.gap <= right.gap + 1e-6


@pytest.mark.parametrize("meaning", ["renormalised", "full_softmax"])
@pytest.mark.parametrize("family", ["qwen2", "gemma3", "gemma2"])
def test_checkpoints_answer_the_same_in_fewer_calls(family, meaning):
    tokenizer = checkpoints.tokenizer()
    built = checkpoints.model(family, len(tokenizer))
    model = CausalModel(built, tokenizer)
    titles = [[*tokenizer(title)["input_ids"], 2] for title in checkpoints.TITLES]
    index = Trie.from_sequences(titles, len(tokenizer), end_token=2)
    calls = []
    hook = model.body.register_forward_hook(lambda *_: calls.append(1))
    contexts = [[1, 50, 60], [1, *range(90, 110)]]
    settings = BeamSettings(width=8, meaning=meaning)
    found = beam_search(model, contexts, index, settings, k=5)
    few = len(calls)
    plain = beam_search(model, contexts, index, replace(settings, jump_tails=False), k=5)
    hook.remove()
    assert few < (len(calls) - few) / (2 if meaning == "renormalised" else 1)
    for left, right in zip(found, plain, strict=True):
        assert left.rows.tolist() == right.rows.tolist()
        np.testing.assert_allclose(left.log_probabilities, right.log_probabilities, atol=1e-4)


def test_forced_runs_are_not_read_where_they_decide_nothing():
    """Behind the only branching nothing is read: the whole search is the prompt."""
    reads = []

    class Counting(NoiseModel):
        def read_runs(self, state, parents, runs):
            reads.append(runs)
            return super().read_runs(state, parents, runs)

    index = Trie.from_sequences([[1, 2, 3, 4], [2, 3, 4, 1], [3, 1, 1, 1]], 5, end_token=0)
    [answer] = beam_search(Counting(5), [[7]], index, BeamSettings(meaning="renormalised"), k=3)
    assert len(answer) == 3
    assert np.isclose(np.exp(answer.log_probabilities).sum(), 1)
    assert reads == []


def test_a_prior_is_taken_off_while_searching():
    """Two beams, an answer behind a beginning that is improbable whatever is asked."""
    rng = np.random.default_rng(1)
    titles = [[*rng.integers(1, 6, size=4), 0] for _ in range(60)]
    index = Trie.from_sequences(titles, 6, end_token=0)
    trie = compressed(index)
    model = NoiseModel(6, seed=3)
    everything = BeamSettings(width=200, meaning="renormalised")
    [asked] = rails_search(model, [[1]], trie, everything, k=60)
    [empty] = rails_search(model, [[2]], trie, everything, k=60)
    anyway = dict(zip(empty.rows.tolist(), empty.log_probabilities.tolist(), strict=True))
    for weight in (0.5, 1.0):
        prior = Prior(trie, edge_prior(model, trie), weight)
        [found] = rails_search(model, [[1]], trie, everything, k=10, prior=prior)
        scores = {
            row: value - weight * anyway[row]
            for row, value in zip(asked.rows.tolist(), asked.log_probabilities.tolist(), strict=True)
        }
        best = sorted(scores.values(), reverse=True)[:10]
        np.testing.assert_allclose(found.scores, best, atol=1e-5)
        np.testing.assert_allclose([scores[row] for row in found.rows.tolist()], best, atol=1e-5)


def edge_prior(model, trie):
    """Log-probabilities of all edges behind the context [2], node by node."""
    values = []
    for node in range(len(trie.depth)):
        path = trie.sequence(trie.low[node])[: trie.depth[node]]
        state, hidden = model.open_runs([[2]])
        if len(path):
            state, hidden = model.read_runs(state, np.array([0]), [path])
        last = max(0, len(path) - 1)
        children = trie.children(node)
        logits = model.logits_of(hidden, np.full(len(children), last), children)
        values.append(branch_log_probabilities(logits, np.array([0])))
    return np.concatenate(values)


def test_the_bound_of_a_prior_holds_below_every_edge():
    rng = np.random.default_rng(4)
    trie = compressed(Trie.from_sequences([[*rng.integers(1, 4, size=5), 0] for _ in range(50)], 4, end_token=0))
    values = -rng.random(len(trie.edge_token)) * 5
    prior = Prior(trie, values, 1.0)
    upto = {}
    for edge in range(len(values)):  # parents come first
        above = np.flatnonzero(trie.edge_node == trie.edge_parent[edge])
        upto[edge] = values[edge] + (upto[int(above[0])] if len(above) else 0.0)
        below = prior.identifiers[trie.edge_low[edge] : trie.edge_high[edge]]
        np.testing.assert_allclose(prior.gains[edge], upto[edge] - below.min(), atol=1e-9)


def test_broken_logits_follow_the_rules_of_the_index():
    found = branch_log_probabilities(np.array([0, 0, np.nan, -np.inf, -np.inf], dtype=np.float32), np.array([0, 3]))
    np.testing.assert_allclose(found, [np.log(0.5)] * 2 + [-np.inf] * 3)
    with pytest.raises(LogitsError, match=r"\+inf"):
        branch_log_probabilities(np.array([np.inf], dtype=np.float32), np.array([0]))
