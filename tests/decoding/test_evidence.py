"""SEAL's evidence beside the same written from its description, with sets and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genrail.constraints.substring import SubstringIndex
from genrail.decoding.evidence import (
    EvidenceSettings,
    Keys,
    find_candidates,
    gather_evidence,
    unigram_weights,
    weigh,
    weigh_keys,
)
from genrail.errors import LogitsError, SettingsError, ShapeError
from tests.constraints.ngram_oracle import NgramOracle, random_corpus, random_ngrams

# Weights


def slow_weight(log_probability, count, tokens, exponent=2.0, smoothing=5.0):
    p = math.exp(min(log_probability, 0) - 1e-10)
    q = (count + smoothing) / (tokens + smoothing)
    return max(0.0, math.log(p * (1 - q) / (q * (1 - p)))) ** exponent


def test_weights_are_the_difference_of_log_odds():
    rng = np.random.default_rng(0)
    scores, counts = -rng.exponential(4, size=200), rng.integers(0, 1000, size=200)
    expected = [slow_weight(s, int(f), 1000, 1.5, 2.0) for s, f in zip(scores[:199], counts[:199], strict=True)]
    assert weigh(scores, counts, 1000, 1.5, 2.0)[:199] == pytest.approx(expected)


def test_extreme_keys_have_finite_weights():
    weights = weigh([0.0, 1e-3, -np.inf, -1e5, -0.1], [1, 1, 1, 1, 100], 100)
    assert np.isfinite(weights).all()
    assert weights[0] == weights[1] == pytest.approx(slow_weight(0, 1, 100), rel=1e-4)
    assert weights[2:].tolist() == [0, 0, 0]  # the last key is the whole corpus
    with pytest.raises(LogitsError, match="key 1 is NaN"):
        weigh([0, np.nan], [1, 1], 10)


def test_what_the_query_does_not_raise_says_nothing():
    plain = weigh([-2.0] * 3, [5] * 3, 10**6)
    bounded = weigh([-2.0] * 3, [5] * 3, 10**6, gains=[-1.0, 2.0, 100.0])
    assert bounded.tolist() == [0.0, 4.0, plain[2]]
    index = SubstringIndex.from_sequences([[1, 2], [3]] * 20, 5)
    assert weigh_keys(index, [[1], [3], [1]], [-0.3, -0.3, -0.9], gains=[0.0, 1.0, 9.0]).ngrams == ((3,),)
    given = np.log([0.2] * 5)
    assert unigram_weights(index, given, EvidenceSettings(smoothing=0.1), anyway=given).tolist() == [0.0] * 5


def test_below_the_least_probability_nothing_weighs():
    settings = EvidenceSettings(smoothing=2.0)
    least = settings.least(1000)
    assert weigh([least - 1e-9, least + 0.01], [1, 1], 1000, 2.0, 2.0).tolist()[0] == pytest.approx(0.0, abs=1e-9)
    assert weigh([least + 0.01], [1], 1000, 2.0, 2.0)[0] > 0.0


def test_a_rarer_and_a_more_probable_key_weigh_more():
    assert (np.diff(weigh([-2.0] * 4, [1, 10, 100, 1000], 10**6)) < 0).all()
    assert (np.diff(weigh([-4.0, -3.0, -2.0, -1.0], [10] * 4, 10**6)) > 0).all()


def test_keys_are_counted_in_live_documents_and_kept_once_best_first():
    index = SubstringIndex.from_sequences([[1, 2], [1, 2], [3], [4]] * 10, 9).remove([0])
    keys = weigh_keys(index, [[1, 2], [3], [8], [1, 2], [2, 1]], [-3.0, -0.1, -0.1, -0.3, -0.1])
    assert keys.ngrams == ((3,), (1, 2)) and keys.counts.tolist() == [10, 19]
    assert keys.weights == pytest.approx([slow_weight(-0.1, 10, 58), slow_weight(-0.3, 19, 58)])
    assert len(weigh_keys(index, [[3]], [-0.1], EvidenceSettings(frequent=9))) == 0
    assert len(weigh_keys(index, [], [])) == 0
    with pytest.raises(ShapeError, match="key 0 has no tokens"):
        weigh_keys(index, [[]], [-0.1])
    with pytest.raises(ShapeError, match="1 n-grams and 2"):
        weigh_keys(index, [[1]], [-0.1, -0.2])


def test_unigrams_are_the_most_probable_tokens_without_the_exponent():
    index = SubstringIndex.from_sequences([[1, 2, 2], [3]], 6)
    given = np.log([0.3, 0.2, 0.3, 0.1, 0.05, 0.05, 0.0001])
    weights = unigram_weights(index, given, EvidenceSettings(unigrams=3, smoothing=0.1))
    expected = [slow_weight(given[t], f, 4, 1.0, 0.1) if f else 0 for t, f in enumerate([0, 1, 2, 0, 0, 0])]
    assert weights == pytest.approx(expected) and weights.shape == (6,)
    with pytest.raises(ShapeError, match="vocabulary of 6"):
        unigram_weights(index, given[:5])
    assert not unigram_weights(SubstringIndex.from_sequences([[]], 6), given).any()


# Documents


def slow_matches(keys, text):
    return sorted(
        (key, at)
        for key, ngram in enumerate(keys.ngrams)
        for at in range(len(text) - len(ngram) + 1)
        if tuple(text[at : at + len(ngram)]) == ngram
    )


def slow_document(keys, text, matches, settings, unigrams):
    """Score one document by (key, offset), best key first: score and what counted, (offset, n-gram, gain)."""
    positions, tokens, counted, told = set(), set(), set(), []
    score, single = 0.0, 0.0
    for key, at in matches:
        ngram = keys.ngrams[key]
        single = max(single, keys.weights[key])
        here = set(range(at, at + len(ngram)))
        if here & positions:
            continue
        gain = 0.0
        if key not in counted:
            new = len(set(ngram) - tokens) / len(set(ngram))
            gain = keys.weights[key] * (1 - settings.repetition + settings.repetition * new)
        counted.add(key)
        positions |= here
        tokens |= set(ngram)
        score += gain
        told.append((at, ngram, gain))
    if unigrams is not None:
        free = {token for at, token in enumerate(text) if at not in positions} - tokens
        score += sum(unigrams[token] for token in free)
    return single if settings.scoring == "best" else score, sorted(told)


def slow_evidence(live, keys, settings, unigrams, allowed):
    """Both stages: candidates by rare keys, then all keys."""
    first = []
    for row, text in live.items():
        rare = [(key, at) for key, at in slow_matches(keys, text) if keys.counts[key] <= settings.rare]
        if rare and row in allowed:
            first.append((-slow_document(keys, text, rare, settings, None)[0], row))
    candidates = [row for _, row in sorted(first)[: settings.candidates]]
    scored = {
        row: slow_document(keys, live[row], slow_matches(keys, live[row]), settings, unigrams) for row in candidates
    }
    return candidates, scored


def random_keys(rng, oracle, vocab_size):
    """Keys with weights that differ clearly, so that sums in another order cannot change an order."""
    ngrams = sorted({ngram for ngram in random_ngrams(rng, oracle, vocab_size, 15) if oracle.places(ngram)})
    order = rng.permutation(len(ngrams))
    counts = np.array([len(oracle.places(ngrams[i])) for i in order], dtype=np.int64)
    weights = np.sort(rng.exponential(5, size=len(ngrams)))[::-1].copy()
    return Keys(tuple(ngrams[i] for i in order), weights, counts)


@pytest.mark.parametrize("seed", range(150))
def test_evidence_equals_the_description(seed):
    rng = np.random.default_rng(seed)
    vocab_size = int(rng.choice([2, 4, 30]))
    texts = random_corpus(rng, vocab_size)
    index = SubstringIndex.from_sequences(texts[: len(texts) // 2], vocab_size).add(texts[len(texts) // 2 :])
    removed = rng.integers(0, len(texts), size=2) if texts else []
    index = index.remove(removed)
    live = {row: text for row, text in enumerate(texts) if row not in removed}
    keys = random_keys(rng, NgramOracle(live), vocab_size)
    settings = EvidenceSettings(
        rare=int(rng.choice([1, 3, 1500])),
        candidates=int(rng.choice([2, 1500])),
        repetition=float(rng.choice([0, 0.8, 1])),
        scoring=str(rng.choice(["intersective", "intersective", "best"])),
    )
    unigrams = rng.exponential(1, size=vocab_size) if rng.random() < 0.7 else None
    allowed = set(np.flatnonzero(rng.random(len(texts)) < rng.choice([0.3, 1])).tolist())
    subset = index.only(sorted(allowed))
    candidates, expected = slow_evidence(live, keys, settings, unigrams, allowed)
    assert find_candidates(index, keys, subset=subset, settings=settings).tolist() == candidates
    found = gather_evidence(index, keys, unigrams, subset=subset, settings=settings)
    assert {one.row for one in found} == set(candidates)
    for one in found:
        score, told = expected[one.row]
        assert one.score == pytest.approx(score)
        assert [(match.offset, match.ngram) for match in one.matches] == [entry[:2] for entry in told]
        assert [match.gain for match in one.matches] == pytest.approx([entry[2] for entry in told])
        for match in one.matches:
            assert live[one.row][match.offset : match.offset + len(match.ngram)] == match.ngram
    assert [(-one.score, one.row) for one in found] == sorted((-one.score, one.row) for one in found)
    assert gather_evidence(index, keys, unigrams, k=2, subset=subset, settings=settings) == found[:2]


def weighed(*ngrams_and_weights):
    ngrams, weights = zip(*ngrams_and_weights, strict=True)
    return Keys(ngrams, np.array(weights, dtype=float), np.ones(len(ngrams), dtype=np.int64))


def test_the_better_key_takes_the_place_and_the_other_stands_elsewhere():
    index = SubstringIndex.from_sequences([[1, 2, 3, 9, 2, 3]], 10)
    (one,) = gather_evidence(index, weighed(((1, 2), 4), ((2, 3), 3)))
    assert [(match.ngram, match.offset) for match in one.matches] == [((1, 2), 0), ((2, 3), 4)]
    assert one.score == pytest.approx(4 + 3 * (0.2 + 0.8 * 0.5))  # token 2 was counted already


def test_a_key_that_stands_twice_counts_once():
    index = SubstringIndex.from_sequences([[1, 5, 1]], 10)
    (one,) = gather_evidence(index, weighed(((1,), 4)))
    assert one.score == 4 and [(match.offset, match.gain) for match in one.matches] == [(0, 4), (2, 0)]


def test_unigrams_count_where_no_key_stands_each_token_once():
    index = SubstringIndex.from_sequences([[1, 2, 1, 3, 3]], 10)
    (one,) = gather_evidence(index, weighed(((1, 2), 4)), np.arange(10.0))
    assert one.score == 4 + 3  # 1 is covered by the key, 3 stands twice


def test_the_best_single_key_alone():
    index = SubstringIndex.from_sequences([[1, 2, 3], [4]], 10)
    keys = weighed(((4,), 5), ((1,), 4), ((2,), 3))
    assert [one.row for one in gather_evidence(index, keys)] == [0, 1]
    single = gather_evidence(index, keys, np.ones(10), settings=EvidenceSettings(scoring="best"))
    assert [(one.row, one.score) for one in single] == [(1, 5), (0, 4)]


def test_frequent_keys_find_nothing_alone_but_count():
    index = SubstringIndex.from_sequences([[1, 2], [1], [1]], 10)
    keys = Keys(((1,), (2,)), np.array([4.0, 3.0]), np.array([3, 1]))
    found = gather_evidence(index, keys, settings=EvidenceSettings(rare=2))
    assert [(one.row, one.score) for one in found] == [(0, 7)]


def test_without_keys_or_documents_there_is_no_evidence():
    index = SubstringIndex.from_sequences([[1, 2]], 10)
    assert gather_evidence(index, weigh_keys(index, [], []), np.ones(10)) == []
    assert gather_evidence(index, weighed(((1,), 4)), subset=index.only([])) == []
    empty = SubstringIndex.from_sequences([], 10)
    assert gather_evidence(empty, weigh_keys(empty, [[1]], [-1.0]), unigram_weights(empty, np.zeros(10))) == []


def test_settings_outside_their_range_are_refused():
    for name, value in (("repetition", 1.5), ("scoring", "worst"), ("rare", 0), ("candidates", 0), ("smoothing", 0)):
        with pytest.raises(SettingsError, match=name):
            EvidenceSettings(**{name: value})
