"""Beam search for n-grams against writing down all of them."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints.substring import SubstringIndex
from genrail.decoding.ngrams import NgramSettings, write_ngrams
from genrail.decoding.scoring import score_sequences
from genrail.errors import LogitsError, SettingsError, ShapeError
from genrail.models.tiny_lm import NoiseModel
from tests.constraints.ngram_oracle import random_corpus

VOCABULARY = 6


def every_ngram(texts, allowed, longest, enough, behind=(), never=()):
    """List what a beam search that is wide enough writes: n-grams of allowed texts whose beginnings are not rare."""

    def count(ngram, rows):
        size = len(ngram)
        return sum(tuple(texts[row][at : at + size]) == ngram for row in rows for at in range(len(texts[row])))

    found, open_ones = set(), [tuple(behind)]
    for _ in range(longest):
        longer = [(*one, token) for one in open_ones for token in range(VOCABULARY) if token not in never]
        longer = [one for one in longer if count(one, allowed)]
        found |= set(longer)
        open_ones = [one for one in longer if count(one, range(len(texts))) > enough]
    return found


@pytest.mark.parametrize("seed", range(30))
def test_a_wide_search_writes_every_ngram_with_its_probability(seed):
    rng = np.random.default_rng(seed)
    texts = random_corpus(rng, VOCABULARY) or [[1]]
    index = SubstringIndex.from_sequences(texts, VOCABULARY)
    longest, enough = int(rng.integers(1, 5)), int(rng.integers(0, 3))
    allowed = [row for row in range(len(texts)) if rng.random() < 0.7]
    behind, never = [((), ()), ((0,), (0,)), ((), (2, 3))][seed % 3]
    model, settings = NoiseModel(VOCABULARY, seed=seed), NgramSettings(3000, longest, enough)
    [found] = write_ngrams(
        model, [[7]], index, settings, [index.only(allowed)], behind=behind, never=never, given=[[(1, 2, 1), (4,)]]
    )
    wanted = every_ngram(texts, allowed, longest, enough, behind, never)
    given = {(*behind, 1, 2, 1), (*behind, 4)}
    assert set(found.ngrams) == wanted | given and len(set(found.ngrams)) == len(found.ngrams)
    unmarked = [ngram[len(behind) :] for ngram in found.ngrams]
    assert found.log_probabilities == pytest.approx(score_sequences(model, [7], unmarked), abs=1e-5)


def test_what_is_written_anyway_is_taken_off_first_tokens_and_not_off_probabilities():
    index = SubstringIndex.from_sequences([[1, 2, 3, 1], [2, 3, 5], [1, 2, 4]] * 2, VOCABULARY)
    model, contexts = NoiseModel(VOCABULARY), [[1], [2], [3]]
    wide = NgramSettings(width=50, length=3)
    plain = write_ngrams(model, contexts, index, wide)
    anyway = plain[0].first
    calibrated = write_ngrams(model, contexts, index, wide, anyway=anyway)
    for one, other in zip(plain[1:], calibrated[1:], strict=True):
        rises = other.first - anyway
        own = dict(zip(one.ngrams, one.log_probabilities, strict=True))
        raised = {ngram: score for ngram, score in own.items() if rises[ngram[0]] > 0}
        assert dict(zip(other.ngrams, other.log_probabilities, strict=True)) == pytest.approx(raised, abs=1e-5)
        assert one.gains is None
        heads = [ngram[0] for ngram in other.ngrams]
        assert other.gains == pytest.approx(other.first[heads] - anyway[heads])
    narrow = write_ngrams(model, contexts, index, NgramSettings(width=1, length=1), anyway=anyway)[1]
    rises = narrow.first - anyway
    held = [1, 2, 3, 4, 5]
    raised = [token for token in sorted(held, key=lambda token: -rises[token])[:2] if rises[token] > 0]
    assert [ngram[0] for ngram in narrow.ngrams] == raised != []


def test_what_cannot_weigh_is_neither_kept_nor_continued():
    index = SubstringIndex.from_sequences([[1, 2, 3, 1], [2, 3, 5], [1, 2, 4]] * 2, VOCABULARY)
    wide, model = NgramSettings(width=50, length=4), NoiseModel(VOCABULARY)
    [everything] = write_ngrams(model, [[1]], index, wide)
    [some] = write_ngrams(model, [[1]], index, wide, least=-3.0)
    probable = {
        ngram for ngram, score in zip(everything.ngrams, everything.log_probabilities, strict=True) if score > -3.0
    }
    assert set(some.ngrams) == probable and 0 < len(probable) < len(everything.ngrams)


def test_a_batch_is_written_as_each_query_alone_also_in_portions():
    index = SubstringIndex.from_sequences([[1, 2, 3, 1], [2, 3, 5], [1, 2, 4]], VOCABULARY)
    model, contexts, subsets = NoiseModel(VOCABULARY), [[1], [2], [3]], [None, index.only([1]), index.only([])]
    given = [[(1, 2)], [], [(5,), (2, 3, 5)]]
    settings = NgramSettings(width=2, length=3)
    batch = write_ngrams(model, contexts, index, settings, subsets, given=given)
    narrow = write_ngrams(model, contexts, index, NgramSettings(2, 3, logits_bytes=1), subsets, given=given)
    for query, (one, other) in enumerate(zip(batch, narrow, strict=True)):
        place = slice(query, query + 1)
        [alone] = write_ngrams(model, contexts[place], index, settings, subsets[place], given=given[place])
        assert one.ngrams == alone.ngrams == other.ngrams and one.calls == alone.calls
        assert one.log_probabilities.tolist() == alone.log_probabilities.tolist()
    assert set(batch[2].ngrams) == {(5,), (2, 3, 5)}  # nothing is allowed, so nothing is written
    assert write_ngrams(model, [], index) == []


def test_what_does_not_fit_is_refused():
    index = SubstringIndex.from_sequences([[1]], VOCABULARY)
    with pytest.raises(LogitsError, match="5 tokens but the index has 6"):
        write_ngrams(NoiseModel(5), [[1]], index)
    with pytest.raises(ShapeError, match="1 contexts, 2 subsets"):
        write_ngrams(NoiseModel(6), [[1]], index, subsets=[None, None])
    for name in ("width", "length", "enough", "logits_bytes"):
        with pytest.raises(SettingsError, match=name):
            NgramSettings(**{name: -1})
