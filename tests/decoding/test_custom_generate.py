"""`model.generate(custom_generate=RailsGenerate(...))` gives what our beam search gives."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search
from genrail.decoding.custom_generate import RailsGenerate
from genrail.errors import SettingsError
from genrail.models.checkpoints import wrap
from genrail.models.plain_text import plain_tokens
from genrail.models.prompts import Prompts
from tests.models import checkpoints


@pytest.fixture(scope="module", params=["qwen2", "gpt2", "t5"])
def lane(request):
    tokenizer = checkpoints.tokenizer()
    model = wrap(checkpoints.model(request.param, len(tokenizer)), tokenizer)
    sequences = [[*tokens, 2] for tokens in plain_tokens(tokenizer, checkpoints.TITLES)]
    index = Trie.from_sequences(sequences, len(tokenizer), end_token=2)
    prompts = Prompts(tokenizer, seq2seq=request.param == "t5")
    return model, index, [prompts.render("red boots"), prompts.render("navy", ["Nike Air"])]


def padded(prompts):
    longest = max(map(len, prompts))
    ids = torch.zeros((len(prompts), longest), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return {"input_ids": ids, "attention_mask": mask}


def answers(output, start, count):
    rows = output.sequences[:, start:].tolist()
    found = [tuple(ids[: ids.index(2) + 1]) for ids in rows]
    return [found[first : first + count] for first in range(0, len(found), count)]


def test_it_equals_our_beam_search_for_a_padded_batch(lane):
    model, index, prompts = lane
    output = model.model.generate(
        **padded(prompts),
        custom_generate=RailsGenerate(index, model.tokenizer),
        num_beams=8,
        num_return_sequences=4,
        return_dict_in_generate=True,
        max_new_tokens=30,
        pad_token_id=0,
    )
    start = 1 if model.family == "seq2seq" else max(map(len, prompts))
    expected = beam_search(model, prompts, index, BeamSettings(width=8), k=4)
    assert answers(output, start, 4) == [answer.tokens for answer in expected]
    scores = np.concatenate([answer.log_probabilities for answer in expected])
    np.testing.assert_allclose(output.sequences_scores.numpy(), scores, atol=1e-4)


def test_warpers_have_no_effect(lane):
    model, index, prompts = lane
    rails = RailsGenerate(index, model.tokenizer)
    plain = {
        **padded(prompts[:1]),
        "custom_generate": rails,
        "num_return_sequences": 3,
        "num_beams": 5,
        "max_new_tokens": 30,
    }
    once = model.model.generate(**plain, pad_token_id=0)
    other = model.model.generate(**plain, pad_token_id=0, repetition_penalty=5.0, length_penalty=3.0)
    assert torch.equal(once, other)


def test_each_prompt_has_its_own_subset(lane):
    model, index, prompts = lane
    subsets = [index.only([3, 4]), index.only([50])]
    sequences = model.model.generate(
        **padded(prompts),
        custom_generate=RailsGenerate(index, model.tokenizer, subsets),
        num_beams=3,
        pad_token_id=0,
        max_new_tokens=30,
    )
    start = 1 if model.family == "seq2seq" else max(map(len, prompts))
    second = sequences[1, start:].tolist()
    assert second[: second.index(2) + 1] == index.sequence(50).tolist()
    with pytest.raises(SettingsError, match="2 subsets"):
        model.model.generate(
            **padded(prompts[:1]),
            custom_generate=RailsGenerate(index, model.tokenizer, subsets),
            pad_token_id=0,
            max_new_tokens=30,
        )
