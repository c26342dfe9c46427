"""Promises of the language-model lane that hold across settings: caches, precision, broken logits, long prompts."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search, exact_search, score_sequences
from genrail.engine import Engine
from genrail.errors import LogitsError, QueryError
from genrail.models.checkpoints import wrap
from genrail.models.plain_text import plain_tokens
from genrail.models.prompts import Prompts
from tests.decoding.strategies import quietly
from tests.models import checkpoints

TITLES = checkpoints.TITLES[:60]


@pytest.fixture(scope="module")
def parts():
    tokenizer = checkpoints.tokenizer()
    sequences = [[*tokens, 2] for tokens in plain_tokens(tokenizer, TITLES)]
    index = Trie.from_sequences(sequences, len(tokenizer), end_token=2)
    prompts = Prompts(tokenizer)
    return tokenizer, sequences, index, [prompts.render("red boots"), prompts.render("x", ["Nike Air"] * 4)]


def same(one, other, tolerance=1e-4):
    for left, right in zip(one, other, strict=True):
        assert left.tokens == right.tokens
        np.testing.assert_allclose(left.log_probabilities, right.log_probabilities, atol=tolerance)


@pytest.mark.parametrize("jump", [True, False])
def test_shared_keys_and_values_change_no_answer(parts, jump):
    """One cache for all beams, or a row for each; prompts one by one, or together."""
    tokenizer, _, index, prompts = parts
    built = checkpoints.model("qwen2", len(tokenizer))
    settings = BeamSettings(width=12, jump_tails=jump)
    ways = [{"attention": "shared"}, {"attention": "rows"}, {"attention": "shared", "prompts_together": 2}]
    answers = [beam_search(wrap(built, tokenizer, **way), prompts, index, settings, k=10) for way in ways]
    same(answers[0], answers[1])
    same(answers[0], answers[2])


@pytest.mark.parametrize("family", ["qwen2", "t5"])
def test_jumping_to_the_end_changes_no_answer(parts, family):
    tokenizer, _, index, prompts = parts
    model = wrap(checkpoints.model(family, len(tokenizer)), tokenizer)
    same(*(beam_search(model, prompts, index, BeamSettings(width=12, jump_tails=jump), k=10) for jump in (True, False)))


@pytest.mark.parametrize("family", ["qwen2", "t5"])
def test_bfloat16_is_close(parts, family):
    """Scores within one part in twenty of the log-probability; what is clearly best stays best."""
    tokenizer, sequences, index, prompts = parts
    full = wrap(checkpoints.model(family, len(tokenizer), sharpness=2.0), tokenizer)
    half = wrap(checkpoints.model(family, len(tokenizer), sharpness=2.0).to(torch.bfloat16), tokenizer)
    for prompt in prompts:
        [answer] = beam_search(half, [prompt], index, BeamSettings(width=60), k=60)
        expected = score_sequences(full, prompt, sequences)
        np.testing.assert_allclose(answer.log_probabilities, expected[answer.rows], rtol=0.05)
        assert expected[answer.rows[0]] >= np.sort(expected)[-5]


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
@pytest.mark.parametrize("family", ["qwen2", "t5"])
def test_broken_logits_lose_no_item(parts, family, value):
    """A word of the output layer gives NaN or -inf throughout: titles with it come last, the others as before."""
    tokenizer, sequences, index, prompts = parts
    model = wrap(checkpoints.model(family, len(tokenizer)), tokenizer)
    broken = sequences[7][1]
    spoiled = [row for row, sequence in enumerate(sequences) if broken in sequence]

    def spoil(_module, _inputs, output):
        return output.index_fill(-1, torch.tensor([broken]), value)

    handle = model.model.get_output_embeddings().register_forward_hook(spoil)
    try:
        for search in (beam_search, exact_search):
            if search is exact_search and not model.joins_states:
                continue
            # The search by branchings takes single rows of the output layer, past this hook.
            settings = {"settings": BeamSettings(jump_tails=False)} if search is beam_search else {}
            [answer] = quietly(search, model, prompts[:1], index, k=60, **settings)
            assert sorted(answer.rows.tolist()) == list(range(60))
            assert set(answer.rows[60 - len(spoiled) :].tolist()) == set(spoiled)
            assert np.isneginf(answer.log_probabilities[60 - len(spoiled) :]).all()
            assert np.isfinite(answer.log_probabilities[: 60 - len(spoiled)]).all()
    finally:
        handle.remove()


def test_positive_infinity_is_named(parts):
    tokenizer, sequences, index, prompts = parts
    model = wrap(checkpoints.model("qwen2", len(tokenizer)), tokenizer)
    hook = model.model.get_output_embeddings().register_forward_hook(
        lambda _module, _inputs, output: output.index_fill(-1, torch.tensor([sequences[0][0]]), float("inf"))
    )
    with pytest.raises(LogitsError, match=r"\+inf"):
        beam_search(model, prompts[:1], index, k=3)
    hook.remove()


@pytest.mark.parametrize("family", ["qwen2", "t5"])
def test_the_generation_configuration_has_no_effect(parts, family):
    """As shipped with instruction models, it would leave two allowed tokens of fifty."""
    tokenizer, _, index, prompts = parts
    model = wrap(checkpoints.model(family, len(tokenizer)), tokenizer)
    before = beam_search(model, prompts, index, k=10)
    config = model.model.generation_config
    config.do_sample, config.top_k, config.top_p, config.temperature = True, 2, 0.1, 0.3
    config.repetition_penalty, config.no_repeat_ngram_size, config.bad_words_ids = 3.0, 1, [[5]]
    config.eos_token_id = [2, 4]
    same(before, beam_search(model, prompts, index, k=10), tolerance=0)


def test_an_end_token_inside_a_title_of_another_end_token(parts):
    """Several end tokens: an identifier ends with the tokenizer's own, others are tokens like any other."""
    tokenizer, sequences, _, prompts = parts
    model = wrap(checkpoints.model("qwen2", len(tokenizer)), tokenizer)
    model.model.generation_config.eos_token_id = [2, 4]
    odd = [[*sequence[:-1], 4, sequence[0], 2] for sequence in sequences[:5]] + sequences[5:10]
    index = Trie.from_sequences(odd, len(tokenizer), end_token=2)
    [answer] = beam_search(model, prompts[:1], index, k=10)
    assert model.end_tokens == (2, 4)
    assert sorted(answer.rows.tolist()) == list(range(10))
    np.testing.assert_allclose(answer.log_probabilities, score_sequences(model, prompts[0], answer.tokens), atol=1e-4)


def test_a_prompt_longer_than_the_context_is_an_error_of_the_engine():
    shop = genrail.Catalog.from_items([{"id": f"t{row}", "title": title} for row, title in enumerate(TITLES[:10])])
    tokenizer = checkpoints.tokenizer()
    model = wrap(checkpoints.model("qwen2", len(tokenizer), max_position_embeddings=200), tokenizer)
    engine = Engine.build(shop, model=model)
    assert len(engine.search("boot", k=3)) == 3
    with pytest.raises(QueryError, match="reads 200"):
        engine.search("boot " * 200, k=3)
