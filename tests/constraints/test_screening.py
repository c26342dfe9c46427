"""Wide prefixes, where a threshold is found before the search: against all children, sorted."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints.segments import LiveTrie
from genrail.constraints.softmax import log_sum_exp
from genrail.constraints.trie import Trie
from genrail.errors import ShapeError
from genrail.rng import generator

CODES = 300


def by_sorting(index, beams, logits, scores, count, subset):
    """All children of one query's beams, listed and sorted: (score, parent, token)."""
    sums = log_sum_exp(logits)
    found = []
    for beam in np.flatnonzero(beams.alive[0]):
        tokens, _ = index.children(beams.states[0, beam], subset)
        logit = np.where(np.isnan(logits[beam, tokens]), -np.inf, logits[beam, tokens]).astype(np.float64)
        found += [(s, int(beam), int(t)) for s, t in zip(scores[0, beam] - sums[beam] + logit, tokens, strict=True)]
    return sorted(found, key=lambda entry: (-entry[0], entry[1], entry[2]))[:count]


def make(kind, codes):
    if kind == "trie":
        return Trie.from_matrix(codes, CODES)
    half = len(codes) * 3 // 4
    live = LiveTrie(Trie.from_matrix(codes[:half], CODES)).add(codes[half:])
    return live if kind == "two segments" else live.remove(np.arange(0, len(codes), 7))


def draw_logits(rng, rows, kind):
    logits = rng.standard_normal((rows, CODES), dtype=np.float32) * 3
    if kind == "ties":
        logits = np.round(logits)
    elif kind == "equal":
        logits[:] = 1
    elif kind == "holes":
        logits[rng.random(logits.shape) < 0.4] = -np.inf
        logits[rng.random(logits.shape) < 0.2] = np.nan
        logits[rng.random(logits.shape) < 0.2] = -np.float32(np.nan)
    return logits


@pytest.mark.parametrize("logit_kind", ["smooth", "ties", "equal", "holes"])
@pytest.mark.parametrize("share", [None, 0.9, 0.3, 0.03, 0.003])
@pytest.mark.parametrize("kind", ["trie", "two segments", "two segments, some removed"])
def test_the_best_of_wide_prefixes_are_those_of_a_sort(kind, share, logit_kind):
    rng = generator(0, kind, str(share), logit_kind)
    codes = np.minimum((rng.random((30_000, 3)) ** 2 * CODES).astype(np.int64), CODES - 1)
    index = make(kind, codes)
    subset = None if share is None else index.subset(rng.random(len(codes)) < share)
    for count in (3, 24, 60):
        beams, scores = index.start(1), np.zeros((1, 1))
        for _ in range(2):
            logits = draw_logits(rng, beams.alive.size, logit_kind)
            found = index.candidates(beams, logits, scores, count, [subset])
            size = int(found.count[0])
            got = list(zip(found.scores[0, :size], found.parents[0, :size], found.tokens[0, :size], strict=True))
            assert got == by_sorting(index, beams, logits, scores, count, subset)
            picks = np.arange(min(size, 20))[None]
            beams, scores = index.advance(found, picks), found.scores[:, : picks.shape[1]]
            for state in beams.states[0, :3]:
                assert len(index.items(state, subset))


def test_a_mask_by_rank_is_the_mask_by_row():
    rng = generator(0, "by rank")
    trie = Trie.from_matrix(rng.integers(0, CODES, size=(1000, 2)), CODES).remove([3, 500])
    mask = rng.random(1000) < 0.3
    by_row, by_rank = trie.subset(mask), trie.subset_by_rank(trie.by_rank(mask))
    assert np.array_equal(by_row.ranks(), by_rank.ranks()) and len(by_row) == len(by_rank)
    with pytest.raises(ShapeError):
        trie.subset_by_rank(mask[1:])
    with pytest.raises(ShapeError):
        trie.by_rank(mask[1:])


def test_read_only_input_gives_the_same_step():
    rng = generator(0, "read-only")
    trie = Trie.from_matrix(rng.integers(0, CODES, size=(1000, 2)), CODES)
    logits = draw_logits(rng, 1, "smooth")
    expected = trie.candidates(trie.start(1), logits, np.zeros((1, 1)), 5)
    logits.setflags(write=False)
    found = trie.candidates(trie.start(1), logits, np.broadcast_to(0.0, (1, 1)), 5)
    assert np.array_equal(found.scores, expected.scores) and np.array_equal(found.tokens, expected.tokens)
