"""What every `LanguageModel` promises. Inherit, give a `model` fixture and contexts, and the tests come with it."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.decoding.tails import TailModel
from genrail.models.language_model import LanguageModel
from genrail.models.log_softmax import log_softmax


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


class LanguageModelContract:
    """Subclasses give the fixtures `model` and `contexts` (three or more, of different length where that exists)."""

    tolerance = 1e-4

    def walk(self, model, context, tokens):
        """Read one context and tokens alone, one by one; give the logits after each."""
        state, logits = model.prefill([context])
        seen = [logits[0]]
        for token in tokens:
            state, logits = model.step(state, rows(0), rows(token))
            seen.append(logits[0])
        return np.array(seen)

    @pytest.fixture
    def tokens(self, model):
        return np.random.default_rng(0).integers(0, model.vocab_size, size=(12, 6))

    def close(self, left, right):
        np.testing.assert_allclose(left, right, atol=self.tolerance, rtol=self.tolerance)

    def test_it_is_a_language_model(self, model):
        assert isinstance(model, LanguageModel)
        assert isinstance(model.describe(), dict)
        assert len(model.fingerprint) == 64

    def test_logits_are_float32_and_as_wide_as_the_vocabulary(self, model, contexts):
        state, logits = model.prefill(contexts)
        assert logits.dtype == np.float32
        assert logits.shape == (len(contexts), model.vocab_size)
        _, logits = model.step(state, rows(0, 0), rows(1, 2))
        assert logits.dtype == np.float32
        assert logits.shape == (2, model.vocab_size)

    def test_a_batch_reads_as_one_by_one(self, model, contexts, tokens):
        state, logits = model.prefill(contexts)
        seen = [logits]
        for depth in range(3):
            state, logits = model.step(state, np.arange(len(contexts)), tokens[: len(contexts), depth])
            seen.append(logits)
        for place, context in enumerate(contexts):
            self.close(np.array(seen)[:, place], self.walk(model, context, tokens[place, :3]))

    def test_rows_repeat(self, model, contexts, tokens):
        state, _ = model.prefill(contexts)
        parents = rows(0, 0, 0, 1, 2, 2)
        state, first = model.step(state, parents, tokens[:6, 0])
        _, second = model.step(state, np.arange(6), tokens[:6, 1])
        for row, parent in enumerate(parents):
            alone = self.walk(model, contexts[parent], tokens[row, :2])
            self.close([first[row], second[row]], alone[1:])

    def test_rows_change_order_and_drop_out(self, model, contexts, tokens):
        state, _ = model.prefill(contexts)
        state, _ = model.step(state, rows(0, 0, 1, 1, 2, 2), tokens[:6, 0])
        order = rows(1, 0, 1, 5)  # context 1 has left, row 1 is there twice
        state, logits = model.step(state, order, tokens[6:10, 1])
        owner = [0, 0, 0, 2]
        for row in range(4):
            path = [tokens[order[row], 0], tokens[6 + row, 1]]
            self.close(logits[row], self.walk(model, contexts[owner[row]], path)[-1])
        _, logits = model.step(state, rows(3), tokens[0, 2:3])
        self.close(logits[0], self.walk(model, contexts[2], [tokens[5, 0], tokens[9, 1], tokens[0, 2]])[-1])

    def test_no_row_is_fine(self, model, contexts):
        state, _ = model.prefill(contexts)
        _, logits = model.step(state, rows(), rows())
        assert len(logits) == 0

    def test_old_states_stay_usable_where_the_model_says_so(self, model, contexts, tokens):
        if not getattr(model, "keeps_states", False):
            pytest.skip("this model does not keep old states")
        old, _ = model.prefill(contexts)
        _, before = model.step(old, rows(0, 1), tokens[:2, 0])
        after, _ = model.step(old, rows(0, 0, 2), tokens[2:5, 0])
        model.step(after, rows(0, 1, 2), tokens[5:8, 0])
        _, again = model.step(old, rows(0, 1), tokens[:2, 0])
        self.close(before, again)

    def test_tails_are_scored_like_single_steps(self, model, contexts, tokens):
        if not isinstance(model, TailModel):
            pytest.skip("this model does not read tails")
        state, _ = model.prefill(contexts)
        tails = [rows(), tokens[1, 1:4], rows(), tokens[3, 1:2], tokens[4, 1:6]]
        owner = rows(0, 0, 1, 2, 2)
        after, logits, scores = model.step_tails(state, owner, tokens[:5, 0], tails)
        assert logits.shape == (2, model.vocab_size)
        for row, tail in enumerate(tails):
            alone = log_softmax(self.walk(model, contexts[owner[row]], [tokens[row, 0], *tail])[1:])
            self.close(scores[row], alone[np.arange(len(tail)), tail])
        for place, row in enumerate([0, 2]):
            self.close(logits[place], self.walk(model, contexts[owner[row]], tokens[row, :1])[-1])
        _, logits = model.step(after, rows(1, 0), tokens[8:10, 0])
        self.close(logits[0], self.walk(model, contexts[1], [tokens[2, 0], tokens[8, 0]])[-1])

    def test_tails_alone_are_scored(self, model, contexts, tokens):
        if not isinstance(model, TailModel):
            pytest.skip("this model does not read tails")
        state, _ = model.prefill(contexts[:1])
        _, logits, [score] = model.step_tails(state, rows(0), tokens[0, :1], [tokens[0, 1:3]])
        assert len(logits) == 0
        alone = log_softmax(self.walk(model, contexts[0], tokens[0, :2])[1:])
        self.close(score, alone[[0, 1], tokens[0, 1:3]])

    def test_the_same_call_gives_the_same_bits(self, model, contexts, tokens):
        def once():
            state, logits = model.prefill(contexts)
            return [logits, model.step(state, rows(0, 1, 1), tokens[:3, 0])[1]]

        for left, right in zip(once(), once(), strict=True):
            assert np.array_equal(left, right)
