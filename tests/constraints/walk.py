"""Walk an index and the oracle side by side, and compare everything that the index says."""

from __future__ import annotations

import numpy as np

from tests.constraints.oracle import Oracle, random_logits


def compare_walk(index, oracle: Oracle, rng, *, row_count, end_token, steps=3):
    """Take some random steps with random subsets, logits, picks and dead beams; 0 differences allowed."""
    queries, width = int(rng.integers(1, 4)), 1
    meaning = "renormalised" if rng.random() < 0.3 else "full_softmax"
    subsets, allowed = _subsets(index, rng, queries, row_count)
    beams = index.start(queries)
    assert beams.alive.all() == (len(oracle.sequences) > 0) == (len(index) > 0)
    prefixes = [[() if alive else None] for alive in beams.alive[:, 0]]
    scores = np.zeros((queries, 1))
    for _ in range(steps):
        logits = random_logits(rng, queries * width, index.vocab_size + int(rng.choice([0, 0, 3])))
        count = int(rng.choice([1, 2, 7, 24, 60]))
        found = index.candidates(beams, logits, scores, count, subsets, meaning)
        expected = [
            oracle.candidates(prefixes[q], logits[q * width : (q + 1) * width], scores[q], count, allowed[q], meaning)
            for q in range(queries)
        ]
        _compare(index, oracle, found, expected, prefixes, subsets, allowed, end_token)
        width = int(rng.integers(1, 13))
        picks = np.array([_picks(rng, int(found.count[q]), width) for q in range(queries)])
        beams = index.advance(found, picks)
        assert np.array_equal(beams.alive, picks >= 0)
        scores = np.where(picks >= 0, np.take_along_axis(found.scores, np.maximum(picks, 0), axis=1), -np.inf)
        prefixes = [
            [None if p < 0 else (*prefixes[q][expected[q][p][1]], expected[q][p][2]) for p in picks[q]]
            for q in range(queries)
        ]


def _compare(index, oracle, found, expected, prefixes, subsets, allowed, end_token):
    for q, entries in enumerate(expected):
        assert found.count[q] == len(entries)
        got = [
            (found.scores[q, i], int(found.parents[q, i]), int(found.tokens[q, i])) for i in range(int(found.count[q]))
        ]
        assert got == entries
        padding = slice(int(found.count[q]), None)
        assert np.isneginf(found.scores[q, padding]).all() and not found.complete[q, padding].any()
        assert (found.parents[q, padding] == -1).all() and (found.tokens[q, padding] == -1).all()
        for i, (_, parent, token) in enumerate(entries):
            prefix = (*prefixes[q][parent], token)
            state = found.states[q, i]
            assert index.items(state, subsets[q]).tolist() == oracle.below(prefix, allowed[q])
            tokens, counts = index.children(state, subsets[q])
            assert dict(zip(tokens.tolist(), counts.tolist(), strict=True)) == oracle.children(prefix, allowed[q])
            assert tokens.tolist() == sorted(tokens.tolist())
            assert found.complete[q, i] == (not oracle.children(prefix, allowed[q]))
            if end_token is not None:
                assert found.complete[q, i] == (token == end_token)


def _picks(rng, count, width):
    """Some of the candidates in any order, dead beams among them."""
    picks = rng.permutation(count)[:width]
    picks = np.concatenate([picks, np.full(width - len(picks), -1)])
    picks[rng.random(width) < 0.1] = -1
    return rng.permutation(picks)


def _subsets(index, rng, queries, row_count):
    """Random subsets of every make, and the rows that they allow."""
    subsets, allowed = [], []
    everything = set(range(row_count))
    for _ in range(queries):
        kind = rng.integers(6)
        rows = np.flatnonzero(rng.random(row_count) < rng.choice([0.0, 0.01, 0.1, 0.5, 0.9]))
        few = rng.integers(0, row_count, size=int(rng.integers(0, 4))) if row_count else np.zeros(0, dtype=int)
        mask = np.isin(np.arange(row_count), rows)
        if kind == 0:
            subset, kept = None, None
        elif kind == 1:
            subset, kept = index.subset(mask), set(rows.tolist())
        elif kind == 2:
            subset, kept = index.only(rows), set(rows.tolist())
        elif kind == 3:
            subset, kept = index.without(few, index.subset(mask)), set(rows.tolist()) - set(few.tolist())
        elif kind == 4:
            subset, kept = ~index.subset(mask) | index.only(few), everything - set(rows.tolist()) | set(few.tolist())
        else:
            subset, kept = index.without(few) & index.subset(mask), set(rows.tolist()) - set(few.tolist())
        subsets.append(subset)
        allowed.append(kept)
    return subsets, allowed
