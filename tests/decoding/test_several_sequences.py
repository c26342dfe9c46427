"""Items with several identifiers: each comes once, by the best of them or by all, and k come whenever k can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.constraints import LiveTrie, Trie
from genrail.decoding import BeamSettings, ExactSettings, SampleSettings, beam_search, exact_search, sample_search
from genrail.decoding.answers import Pool
from genrail.decoding.scoring import score_sequences
from genrail.decoding.summing import sum_sequences
from genrail.models.tiny_lm import NoiseModel
from tests.decoding.strategies import END, VOCAB, catalogs, masks, models, quietly


@st.composite
def shops(draw):
    """Identifiers and whose they are; of one row they differ."""
    owners, sequences = [], []
    row, own = 0, []
    for sequence in draw(catalogs()):
        if own and (sequence in own or draw(st.booleans())):
            row, own = row + 1, []
        own.append(sequence)
        owners.append(row)
        sequences.append(sequence)
    return sequences, np.array(owners)


def make(shop, live=False):
    sequences, owners = shop
    ends = all(one[-1] == END and END not in one[:-1] for one in sequences)
    if not live:
        return Trie.from_sequences(sequences, VOCAB, END if ends else None, owners=owners)
    half = int(np.searchsorted(owners, (owners[-1] + 1) // 2))
    old = Trie.from_sequences(sequences[:half], VOCAB, END if ends else None, owners=owners[:half])
    return LiveTrie(old).add(sequences[half:], owners[half:] - (owners[half] if half < len(owners) else 0))


def best_of(model, context, shop):
    sequences, owners = shop
    scores = np.full(owners[-1] + 1, -np.inf)
    np.maximum.at(scores, owners, score_sequences(model, context, sequences))
    return scores


@given(
    shop=shops(),
    model=models,
    mask=masks,
    k=st.integers(1, 30),
    width=st.integers(1, 4),
    live=st.booleans(),
    finish=st.sampled_from(["any", "width"]),
)
@settings(deadline=None, max_examples=120)
def test_every_item_comes_once_and_k_of_them_do(shop, model, mask, k, width, live, finish):
    index, count = make(shop, live), shop[1][-1] + 1
    allowed = np.array(mask[:count])
    subsets = [index.subset(allowed), None]
    searches = [
        (beam_search, BeamSettings(width=width, finish=finish)),
        (exact_search, ExactSettings(budget=3, width=1)),
        (sample_search, SampleSettings(seed=k)),
    ]
    own = [{tuple(one) for one, owner in zip(*shop, strict=True) if owner == row} for row in range(count)]
    for search, how in searches:
        for answer, permitted in zip(
            quietly(search, model, [[1], [2]], index, how, subsets, k), (allowed, np.ones(count, bool)), strict=True
        ):
            assert len(set(answer.rows.tolist())) == len(answer.rows) == min(k, int(permitted.sum()))
            assert permitted[answer.rows].all() and answer.exhausted == (permitted.sum() < k)
            assert all(tokens in own[row] for row, tokens in zip(answer.rows, answer.tokens, strict=True))
            assert list(answer.scores) == sorted(answer.scores, reverse=True)


@given(shop=shops(), model=models, k=st.integers(1, 12), live=st.booleans())
@settings(deadline=None, max_examples=80)
def test_an_item_counts_as_its_best_identifier(shop, model, k, live):
    index = make(shop, live)
    expected = best_of(model, [4], shop)
    for search, how in ((beam_search, BeamSettings(width=200)), (exact_search, ExactSettings())):
        [answer] = quietly(search, model, [[4]], index, how, k=k)
        assert answer.exact
        np.testing.assert_allclose(answer.scores, np.sort(expected)[::-1][:k], atol=1e-4)
        np.testing.assert_allclose(answer.scores, expected[answer.rows], atol=1e-4)


@given(shop=shops(), seed=st.integers(0, 50), k=st.integers(1, 6), width=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_a_doubt_is_never_too_small(shop, seed, k, width):
    model = NoiseModel(VOCAB, seed)
    [answer] = beam_search(model, [[1]], make(shop), BeamSettings(width=width), k=k)
    best = np.sort(best_of(model, [1], shop))[::-1][:k]
    assert answer.gap >= best[-1] - answer.scores[-1] - 1e-9


@given(shop=shops(), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_a_sum_is_that_of_all_identifiers(shop, seed):
    index, model = make(shop), NoiseModel(VOCAB, seed)
    sequences, owners = shop
    expected = np.full(owners[-1] + 1, -np.inf)
    np.logaddexp.at(expected, owners, score_sequences(model, [1], sequences))
    [found] = beam_search(model, [[1]], index, BeamSettings(width=200), k=99)
    answer = sum_sequences(model, [1], found, index, k=3)
    np.testing.assert_allclose(answer.scores, np.sort(expected)[::-1][:3], atol=1e-6)
    np.testing.assert_allclose(answer.log_probabilities, expected[answer.rows], atol=1e-6)
    assert answer.exhausted == (len(expected) < 3) and not answer.exact


@pytest.mark.parametrize("search", [beam_search, exact_search, sample_search])
def test_an_item_that_owns_every_probable_identifier_does_not_keep_the_others_out(search):
    """Sixty identifiers of row 0 are before the only one of row 1, at every step of the search."""
    sequences = [[1, a, b] for a in range(2, 10) for b in range(2, 10)][:60] + [[0, 0, 0]]

    class Sure(NoiseModel):
        def _logits(self, state):
            logits = np.zeros((len(state.rows), self.vocab_size), dtype=np.float32)
            logits[:, 0] = -50.0
            return logits

    index = Trie.from_sequences(sequences, 10, owners=[0] * 60 + [1])
    how = {"beam_search": BeamSettings(width=1), "exact_search": ExactSettings(budget=2, width=1)}
    [answer] = search(Sure(10, 0), [[1]], index, how.get(search.__name__), k=2)
    assert answer.rows.tolist() == [0, 1] and not answer.exhausted


def test_a_pool_moves_an_item_to_its_better_identifier():
    pool = Pool(2, several=True)
    pool.add(-3.0, -3.0, (1,), np.array([4, 7]))
    assert pool.threshold == -3.0
    pool.add(-1.0, -1.0, (2,), np.array([7]))
    pool.add(-2.0, -2.0, (3,), np.array([7]))
    answer = pool.decoded(False, -np.inf)
    assert answer.rows.tolist() == [7, 4] and answer.tokens == [(2,), (1,)] and answer.scores.tolist() == [-1.0, -3.0]
