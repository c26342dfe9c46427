"""The steps of a search by branchings are told as those of the search token by token."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints.compressed import compressed
from genrail.constraints.segments import LiveTrie
from genrail.constraints.trie import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.decoding.rails import Prior
from genrail.models.tiny_lm import NoiseModel


@pytest.mark.parametrize("seed", range(12))
def test_with_nothing_taken_off_the_trace_is_that_of_the_search_token_by_token(seed):
    rng = np.random.default_rng(seed)
    titles = [[*rng.integers(1, 5, size=rng.integers(1, 6)), 0] for _ in range(rng.integers(2, 30))]
    index = LiveTrie(Trie.from_sequences(titles, 5, end_token=0)).add([[1, 1, 1, 1, 0]])
    trie = compressed(index)
    subset = index.subset(rng.random(len(titles) + 1) < 0.6) if seed % 2 else None
    model, k = NoiseModel(5, seed=seed), int(rng.integers(1, 6))
    settings = BeamSettings(width=int(rng.integers(1, 8)), meaning="renormalised", trace=True)
    [plain] = beam_search(model, [[3]], index, settings, [subset], k)
    nothing = Prior(trie, np.zeros(len(trie.edge_token)), 0.0)
    [found] = beam_search(model, [[3]], index, settings, [subset], k, prior=nothing)
    assert found.tokens == plain.tokens
    if not len(found):
        return
    for left, right in zip(found.trace.steps, plain.trace.steps, strict=False):
        assert [beam.prefix for beam in left.beams] == [beam.prefix for beam in right.beams]
        assert left.kept[: len(right.kept)] == right.kept[: len(left.kept)]
        for one, other in zip(left.beams, right.beams, strict=True):
            assert one.children.tolist() == other.children.tolist()
            assert one.items.tolist() == other.items.tolist()
            np.testing.assert_allclose(one.log_probabilities, other.log_probabilities, atol=1e-5)
            np.testing.assert_allclose(one.log_probability, other.log_probability, atol=1e-5)
    for tokens in found.tokens:
        assert found.trace.follow(tokens) == plain.trace.follow(tokens)


def test_ranks_are_those_of_what_was_left_after_taking_off():
    """Token 1 is likelier, and so likely anyway that token 2 ranks before it."""
    trie = compressed(index := Trie.from_sequences([[1, 0], [2, 0]], 3, end_token=0))
    prior = Prior(trie, np.log([0.9, 0.1]), 1.0)
    settings = BeamSettings(width=1, meaning="renormalised", trace=True)
    [found] = beam_search(NoiseModel(3, seed=1, sharpness=0.0), [[1]], index, settings, k=1, prior=prior)
    assert found.tokens == [(2, 0)]
    assert found.trace.follow([2, 0]) == "finished at step 2, rank 1"
    assert found.trace.follow([1, 0]).startswith("lost at step 1, rank 2")
    [root] = found.trace.steps[0].beams
    np.testing.assert_allclose(np.exp(root.log_probabilities), 0.5)
    assert root.removed == pytest.approx(0.0)
