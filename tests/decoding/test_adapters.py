"""Adapters keep the loops of transformers on the rails: beams equal ours, samples are real items."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.decoding.adapters import AllowedTokens, RailsLogitsProcessor, prefix_allowed_tokens
from genrail.errors import SettingsError, StateError
from genrail.models.checkpoints import wrap
from genrail.models.plain_text import plain_tokens
from genrail.models.prompts import Prompts
from tests.contracts.dict_index import DictIndex
from tests.models import checkpoints


@pytest.fixture(scope="module")
def lane():
    tokenizer = checkpoints.tokenizer()
    model = wrap(checkpoints.model("qwen2", len(tokenizer)), tokenizer)
    sequences = [[*tokens, 2] for tokens in plain_tokens(tokenizer, checkpoints.TITLES)]
    index = Trie.from_sequences(sequences, len(tokenizer), end_token=2)
    return model, index, sequences, Prompts(tokenizer).render("red boots")


def generate(model, prompt, copies=1, **settings):
    with torch.inference_mode():
        return model.model.generate(
            input_ids=torch.tensor([prompt] * copies),
            attention_mask=torch.ones(copies, len(prompt), dtype=torch.int64),
            max_new_tokens=30,
            eos_token_id=2,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )


def answers(output, prompt):
    rows = [ids[len(prompt) :] for ids in output.sequences.tolist()]
    return [ids[: ids.index(2) + 1] for ids in rows]


@pytest.mark.parametrize("kind", ["function", "processor"])
def test_beams_of_generate_equal_ours(lane, kind):
    model, index, _, prompt = lane
    [expected] = beam_search(model, [prompt], index, BeamSettings(width=10, finish="width"), k=10)
    if kind == "function":
        rails = {"prefix_allowed_tokens_fn": prefix_allowed_tokens(index, len(prompt), 2)}
    else:
        rails = {"logits_processor": [RailsLogitsProcessor(index, len(prompt), 2, rows_per_query=10)]}
    output = generate(
        model, prompt, num_beams=10, num_return_sequences=10, length_penalty=0.0, do_sample=False, **rails
    )
    assert [tuple(ids) for ids in answers(output, prompt)] == expected.tokens
    np.testing.assert_allclose(output.sequences_scores.numpy(), expected.log_probabilities, atol=1e-4)


def test_samples_are_real_items_of_each_querys_own_subset(lane):
    model, index, sequences, prompt = lane
    torch.manual_seed(0)
    few, others = list(range(0, 5)), list(range(100, 140))
    rails = RailsLogitsProcessor(index, len(prompt), 2, [index.only(few), index.only(others)], rows_per_query=20)
    output = generate(
        model, prompt, copies=2, do_sample=True, temperature=2.0, num_return_sequences=20, logits_processor=[rails]
    )
    found = answers(output, prompt)
    assert all(ids in [sequences[row] for row in few] for ids in found[:20])
    assert all(ids in [sequences[row] for row in others] for ids in found[20:])


@pytest.mark.parametrize("make", [DictIndex, lambda sequences, size: Trie.from_sequences(sequences, size, end_token=0)])
def test_allowed_tokens_are_the_children(make):
    allowed = AllowedTokens(make([[1, 2, 0], [1, 3, 0], [1, 0]], 5), end_token=0, remember=2)
    assert allowed([]).tolist() == [1]
    assert allowed([1]).tolist() == [0, 2, 3]
    assert allowed([1, 2]).tolist() == [0]
    assert allowed([1, 0]).tolist() == [0]
    assert allowed([1, 0, 0, 0]).tolist() == [0]  # padding behind the end


def test_leaving_the_rails_is_an_error():
    with pytest.raises(StateError, match=r"\[3\] do not begin"):
        AllowedTokens(DictIndex([[1, 0]], 5), end_token=0)([3])


def test_generate_with_more_beams_than_items_survives(lane):
    model, index, sequences, prompt = lane
    rails = prefix_allowed_tokens(index, len(prompt), 2, subset=index.only([0, 1]))
    output = generate(
        model, prompt, num_beams=6, num_return_sequences=2, length_penalty=0.0, prefix_allowed_tokens_fn=rails
    )
    assert sorted(answers(output, prompt)) == sorted(sequences[:2])


def test_rows_below_one_are_refused():
    with pytest.raises(SettingsError, match="rows_per_query is 0"):
        RailsLogitsProcessor(DictIndex([[1, 0]], 5), 3, 0, rows_per_query=0)
