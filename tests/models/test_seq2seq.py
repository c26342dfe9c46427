"""Encoder-decoder checkpoints: the contract, and equality with plain forwards of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrail.decoding import BeamSettings, beam_search, score_sequences
from genrail.errors import QueryError, SettingsError
from genrail.models import seq2seq
from genrail.models.seq2seq import Seq2SeqModel
from tests.contracts.dict_index import DictIndex
from tests.contracts.language_model import LanguageModelContract
from tests.models import checkpoints


@pytest.fixture(scope="module")
def tokenizer():
    return checkpoints.tokenizer()


def bart(vocab_size):
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
             {"layers": 2, "attention_heads": 4, "ffn_dim": 48}.items()}  # fmt: skip
    config = BartConfig(
        vocab_size=vocab_size, d_model=32, max_position_embeddings=64, decoder_start_token_id=2,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, forced_bos_token_id=1, **sizes,
    )  # fmt: skip
    built = BartForConditionalGeneration(config).eval()
    built.generation_config.forced_bos_token_id = 1
    with torch.no_grad():
        built.get_input_embeddings().weight.mul_(20)
    return built


@pytest.fixture(scope="module")
def built(tokenizer):
    return {"t5": checkpoints.model("t5", len(tokenizer) + 13), "bart": bart(len(tokenizer) + 13)}


@pytest.fixture(scope="module")
def contexts():
    return [[50, 60, 70, 80, 2], [90, 2], [*range(100, 120), 2], [7]]


@pytest.fixture(params=["t5", "bart"])
def model(request, built, tokenizer):
    return Seq2SeqModel(built[request.param], tokenizer)


class TestSeq2SeqModel(LanguageModelContract):
    def test_steps_equal_a_plain_forward(self, model, contexts, tokens):
        sequences = tokens[:5].tolist()
        start = [0] if model.model.config.model_type == "t5" else [2, 1]  # BART forces its first token
        expected = []
        for sequence in sequences:
            with torch.inference_mode():
                logits = model.model(
                    input_ids=torch.tensor([contexts[2]]), decoder_input_ids=torch.tensor([[*start, *sequence]]),
                    use_cache=False,
                ).logits[0].double()  # fmt: skip
            table = torch.log_softmax(logits, dim=-1)
            places = range(len(start) - 1, len(start) - 1 + len(sequence))
            expected.append(sum(float(table[place, token]) for place, token in zip(places, sequence, strict=True)))
        np.testing.assert_allclose(score_sequences(model, contexts[2], sequences), expected, atol=1e-4)


def test_queries_cannot_move_each_others_numbers(built, tokenizer, contexts):
    model = Seq2SeqModel(built["t5"], tokenizer)
    index = DictIndex([[*tokenizer(title)["input_ids"], 2] for title in checkpoints.TITLES], len(tokenizer))
    together = beam_search(model, contexts, index, k=5)
    for context, answer in zip(contexts, together, strict=True):
        [alone] = beam_search(model, [context], index, k=5)
        assert answer.rows.tolist() == alone.rows.tolist()
        assert answer.log_probabilities.tolist() == alone.log_probabilities.tolist()


def test_jumping_to_the_end_changes_no_answer(model, contexts, tokenizer, monkeypatch):
    index = DictIndex([[*tokenizer(title)["input_ids"], 2] for title in checkpoints.TITLES], len(tokenizer))
    stepped = beam_search(model, contexts, index, BeamSettings(jump_tails=False), k=10)
    for bound in (2**28, 5 * 4 * model.vocab_size):
        monkeypatch.setattr(seq2seq, "TAIL_LOGITS_BYTES", bound)
        for left, right in zip(
            beam_search(model, contexts, index, BeamSettings(jump_tokens=10**6), k=10), stepped, strict=True
        ):
            assert left.rows.tolist() == right.rows.tolist()
            np.testing.assert_allclose(left.log_probabilities, right.log_probabilities, atol=1e-4)


def test_the_encoder_reads_each_prompt_once(built, tokenizer, contexts, monkeypatch):
    model = Seq2SeqModel(built["t5"], tokenizer)
    encoder = model.model.get_encoder()
    seen = []
    monkeypatch.setattr(
        encoder, "forward", lambda **inputs: seen.append(inputs) or type(encoder).forward(encoder, **inputs)
    )
    index = DictIndex([[*tokenizer(title)["input_ids"], 2] for title in checkpoints.TITLES], len(tokenizer))
    beam_search(model, contexts, index, k=5)
    assert [inputs["input_ids"].shape for inputs in seen] == [(1, len(context)) for context in contexts]


def test_a_prompt_longer_than_the_context_is_refused(built, tokenizer):
    with pytest.raises(QueryError, match="prompt 0 has 65 tokens but tiny reads 64"):
        Seq2SeqModel(built["bart"], tokenizer, name="tiny").prefill([[5] * 65])


def test_a_checkpoint_without_a_first_decoder_token_is_refused(tokenizer):
    built = checkpoints.model("t5", len(tokenizer))
    built.config.decoder_start_token_id = built.generation_config.decoder_start_token_id = None
    with pytest.raises(SettingsError, match="decoder_start_token_id"):
        Seq2SeqModel(built, tokenizer)
