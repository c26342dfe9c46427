"""Causal checkpoints: the contract, tree attention, and equality with plain forwards of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrail.decoding import BeamSettings, beam_search, score_sequences
from genrail.errors import LogitsError, QueryError, SettingsError
from genrail.models import causal, token_tree
from genrail.models.causal import CausalModel
from genrail.models.checkpoint_model import tail_log_probabilities
from genrail.models.checkpoints import load_checkpoint, wrap
from genrail.models.log_softmax import log_softmax
from genrail.models.output_layer import WholeLogits
from tests.contracts.dict_index import DictIndex
from tests.contracts.language_model import LanguageModelContract
from tests.models import checkpoints

CAUSAL = ["qwen2", "llama", "gpt2", "sliding", "gemma3", "gemma2"]


@pytest.fixture(scope="module")
def tokenizer():
    return checkpoints.tokenizer()


@pytest.fixture(scope="module")
def built(tokenizer):
    """Models by family; the heads are wider than the tokenizer, as many released ones are."""
    return {family: checkpoints.model(family, len(tokenizer) + 13) for family in CAUSAL}


@pytest.fixture(scope="module")
def contexts():
    return [[1, 50, 60, 70, 80], [1, 90], [1, *range(100, 120)], [7]]


@pytest.fixture(params=[(family, "auto", 1) for family in CAUSAL] + [("qwen2", "rows", 1), ("qwen2", "shared", 3)])
def model(request, built, tokenizer):
    family, attention, together = request.param
    return CausalModel(built[family], tokenizer, attention=attention, prompts_together=together)


def plain_log_probability(model, context, sequence):
    """Teacher forcing by one plain forward of transformers, without any cache."""
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([[*context, *sequence]]), use_cache=False).logits[0].double()
    table = torch.log_softmax(logits, dim=-1)
    return sum(float(table[len(context) - 1 + place, token]) for place, token in enumerate(sequence))


class TestCausalModel(LanguageModelContract):
    def test_steps_equal_a_plain_forward(self, model, contexts, tokens):
        sequences = tokens[:5].tolist()
        expected = [plain_log_probability(model, contexts[2], sequence) for sequence in sequences]
        np.testing.assert_allclose(score_sequences(model, contexts[2], sequences), expected, atol=1e-4)

    def test_a_remembered_prefix_changes_nothing(self, model, contexts, tokens):
        before = self.walk(model, contexts[2], tokens[0])
        model.remember_prefix(contexts[2][:7])
        try:
            self.close(self.walk(model, contexts[2], tokens[0]), before)
            self.close(self.walk(model, contexts[2][:7], tokens[0]), self.walk(model, contexts[2][:7], tokens[0]))
        finally:
            model.remember_prefix([])


def test_attention_is_shared_where_it_can_be(built, tokenizer):
    assert {CausalModel(built[family], tokenizer).attention for family in CAUSAL} == {"shared"}
    assert CausalModel(checkpoints.model("bloom", len(tokenizer)), tokenizer).attention == "rows"


def test_sharing_what_cannot_be_shared_is_refused(tokenizer):
    with pytest.raises(SettingsError, match="attention='rows'"):
        CausalModel(checkpoints.model("bloom", len(tokenizer)), tokenizer, attention="shared")


@pytest.mark.parametrize("family", ["sliding", "gemma3", "gemma2"])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 6, 7, 30])
def test_sharing_is_exact_inside_and_beyond_a_window_of_six(built, tokenizer, family, length):
    """Three tokens follow: so all fits the window, fills it, or goes beyond it while prompt or answer is written."""
    context = [(7 * place) % 50 + 5 for place in range(length)]
    sequences = np.random.default_rng(length).integers(5, 60, size=(8, 3)).tolist()
    shared, rows = (CausalModel(built[family], tokenizer, attention=kind) for kind in ("shared", "rows"))
    expected = [plain_log_probability(shared, context, sequence) for sequence in sequences]
    for model in (shared, rows):
        np.testing.assert_allclose(score_sequences(model, context, sequences), expected, atol=1e-4)


@pytest.mark.parametrize("family", CAUSAL)
def test_single_logits_and_sums_are_those_of_whole_rows(built, tokenizer, contexts, family):
    model = CausalModel(built[family], tokenizer)
    assert isinstance(model.output, WholeLogits) == (family == "gemma2")  # it caps logits behind the output layer
    _, logits = model.prefill(contexts)
    state, hidden = model.open_runs(contexts)
    pairs = np.array([[0, 5], [0, 7], [2, 0], [3, model.vocab_size - 1]])
    np.testing.assert_allclose(model.logits_of(hidden, *pairs.T), logits[tuple(pairs.T)], atol=1e-4)
    whole = np.log(np.exp(logits.astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(model.log_sums(hidden, np.array([2, 0])), whole[[2, 0]], atol=1e-4)
    runs = [np.array([5, 6]), np.zeros(0, dtype=np.int64), np.array([9])]
    after, hidden = model.read_runs(state, np.array([1, 1, 2]), runs)
    ends = [([*contexts[1], 5], 0), ([*contexts[1], 5, 6], 1), ([*contexts[2], 9], 2)]
    for context, row in ends:
        expected = model.prefill([context])[1][0]
        found = model.logits_of(hidden, np.full(20, row), np.arange(20))
        np.testing.assert_allclose(found, expected[:20], atol=1e-4)
    [again] = model.step(after, np.array([1]), np.array([8]))[1]  # an empty run stands where it stood
    np.testing.assert_allclose(again, model.prefill([[*contexts[1], 8]])[1][0], atol=1e-4)


def test_an_unknown_attention_is_refused(built, tokenizer):
    with pytest.raises(SettingsError, match="'sparse'"):
        CausalModel(built["qwen2"], tokenizer, attention="sparse")


def test_a_prompt_longer_than_the_context_is_refused(built, tokenizer):
    model = CausalModel(built["qwen2"], tokenizer, name="tiny")
    with pytest.raises(QueryError, match="prompt 1 has 300 tokens but tiny reads 256"):
        model.prefill([[1], [1] * 300])


@pytest.mark.parametrize("attention", ["shared", "rows"])
def test_an_identifier_that_does_not_fit_behind_its_prompt_is_refused(built, tokenizer, attention):
    model = CausalModel(built["gpt2"], tokenizer, attention=attention)
    index = DictIndex([[5] * 9 + [2], [5] * 8 + [6, 2]], len(tokenizer))
    with pytest.raises(QueryError, match="reads 256"):
        beam_search(model, [[1] * 250], index, BeamSettings(jump_tails=False), k=1)


def test_an_empty_prompt_is_refused(built, tokenizer):
    with pytest.raises(QueryError, match="prompt 0 is empty"):
        CausalModel(built["qwen2"], tokenizer).prefill([[]])


def test_queries_cannot_move_each_others_numbers(built, tokenizer, contexts):
    """On a CPU each prompt runs alone, so a batch gives the same bits."""
    model = CausalModel(built["qwen2"], tokenizer)
    titles = [[*tokenizer(title)["input_ids"], 2] for title in checkpoints.TITLES]
    index = DictIndex(titles, len(tokenizer))
    together = beam_search(model, contexts, index, k=5)
    for context, answer in zip(contexts, together, strict=True):
        [alone] = beam_search(model, [context], index, k=5)
        assert answer.rows.tolist() == alone.rows.tolist()
        assert answer.log_probabilities.tolist() == alone.log_probabilities.tolist()


@pytest.mark.parametrize("family", CAUSAL)
def test_prompts_in_groups_answer_as_one_by_one(built, tokenizer, contexts, family):
    titles = [[*tokenizer(title)["input_ids"], 2] for title in checkpoints.TITLES]
    index = DictIndex(titles, len(tokenizer))
    alone = beam_search(CausalModel(built[family], tokenizer), contexts, index, k=5)
    grouped = beam_search(CausalModel(built[family], tokenizer, prompts_together=3), contexts, index, k=5)
    for left, right in zip(alone, grouped, strict=True):
        assert left.rows.tolist() == right.rows.tolist()
        np.testing.assert_allclose(left.log_probabilities, right.log_probabilities, atol=1e-4)


def test_tails_larger_than_the_memory_bound_are_scored_in_portions(built, tokenizer, contexts, monkeypatch):
    titles = [[*tokenizer(title)["input_ids"], 2] for title in checkpoints.TITLES]
    index = DictIndex(titles, len(tokenizer))
    for attention in ("shared", "rows"):
        model = CausalModel(built["qwen2"], tokenizer, attention=attention)
        whole = beam_search(model, contexts, index, BeamSettings(jump_tokens=10**6), k=20)
        with monkeypatch.context() as patched:
            patched.setattr(causal, "TAIL_LOGITS_BYTES", 5 * 4 * model.vocab_size)
            patched.setattr(causal, "MOST_TOKENS", 5)
            portions = beam_search(model, contexts, index, BeamSettings(jump_tokens=10**6), k=20)
        for left, right in zip(whole, portions, strict=True):
            assert left.rows.tolist() == right.rows.tolist()
            np.testing.assert_allclose(left.log_probabilities, right.log_probabilities, atol=1e-4)


def test_leaving_abandoned_tokens_out_changes_nothing(built, tokenizer, contexts, monkeypatch):
    titles = [[*tokenizer(title)["input_ids"], 2] for title in checkpoints.TITLES]
    index = DictIndex(titles, len(tokenizer))
    model = CausalModel(built["qwen2"], tokenizer, prompts_together=2)
    copied = []
    original = token_tree.TokenTree._without_the_rest
    monkeypatch.setattr(
        token_tree.TokenTree, "_without_the_rest", lambda *inputs: copied.append(1) or original(*inputs)
    )
    results = []
    for spare in (10**9, -(10**9)):
        monkeypatch.setattr(token_tree, "SPARE_NODES", spare)
        results.append(beam_search(model, contexts, index, BeamSettings(jump_tails=False), k=10))
        assert bool(copied) == (spare < 0)
    for masked, left_out in zip(*results, strict=True):
        assert masked.rows.tolist() == left_out.rows.tolist()
        np.testing.assert_allclose(masked.log_probabilities, left_out.log_probabilities, atol=1e-4)


def test_tail_scores_follow_the_rules_for_broken_logits():
    logits = torch.tensor([[0.0, 1.0, torch.nan], [-torch.inf] * 3, [2.0, -torch.inf, 0.0]])
    tokens = torch.tensor([1, 0, 1])
    expected = log_softmax(logits.numpy())[np.arange(3), tokens.numpy()]
    np.testing.assert_allclose(tail_log_probabilities(logits, tokens), expected, atol=1e-6)
    with pytest.raises(LogitsError, match=r"\+inf"):
        tail_log_probabilities(torch.tensor([[0.0, torch.inf]]), torch.tensor([0]))


def test_warpers_of_the_generation_configuration_are_not_applied(tokenizer, contexts):
    built = checkpoints.model("qwen2", len(tokenizer))
    _, before = CausalModel(built, tokenizer).prefill(contexts)
    built.generation_config.update(do_sample=True, top_k=1, top_p=0.1, repetition_penalty=5.0, temperature=0.01)
    _, after = CausalModel(built, tokenizer).prefill(contexts)
    assert np.array_equal(before, after)


def test_several_end_tokens_are_named_the_tokenizers_own_first(tokenizer):
    built = checkpoints.model("qwen2", len(tokenizer))
    built.generation_config.eos_token_id = [4, 2]
    assert CausalModel(built, tokenizer).end_tokens == (2, 4)


def test_bfloat16_is_close(tokenizer, tmp_path, contexts):
    checkpoints.model("qwen2", len(tokenizer), sharpness=1.0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    whole, half = load_checkpoint(tmp_path), load_checkpoint(tmp_path, dtype="bfloat16")
    assert half.attention == "shared"
    left, right = whole.prefill(contexts)[1], half.prefill(contexts)[1]
    assert right.dtype == np.float32
    np.testing.assert_allclose(left, right, atol=0.05)


def test_a_checkpoint_says_of_which_family_it_is(tokenizer, tmp_path):
    for family in ("qwen2", "t5"):
        checkpoints.model(family, len(tokenizer)).save_pretrained(tmp_path / family)
        tokenizer.save_pretrained(tmp_path / family)
    causal_one, seq2seq = load_checkpoint(tmp_path / "qwen2"), load_checkpoint(tmp_path / "t5", local_files_only=True)
    assert (causal_one.family, seq2seq.family) == ("causal", "seq2seq")
    assert causal_one.describe()["parameters"] > 0
    assert causal_one.describe()["dtype"] == "float32"


def test_a_fingerprint_depends_on_content_not_on_the_folder(tokenizer, tmp_path):
    built = checkpoints.model("qwen2", len(tokenizer))
    for folder in ("here", "there"):
        built.save_pretrained(tmp_path / folder)
        tokenizer.save_pretrained(tmp_path / folder)
    here, there = load_checkpoint(tmp_path / "here"), load_checkpoint(tmp_path / "there")
    assert here.fingerprint == there.fingerprint
    other = wrap(checkpoints.model("qwen2", len(tokenizer), seed=1), tokenizer)
    assert other.fingerprint != here.fingerprint
    retokenized = wrap(built, checkpoints.tokenizer(vocab_size=350))
    assert retokenized.fingerprint != here.fingerprint


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot load a language model"):
        load_checkpoint(tmp_path, local_files_only=True)


def test_pickled_weights_are_refused(tokenizer, tmp_path):
    built = checkpoints.model("qwen2", len(tokenizer))
    built.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(built.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SettingsError, match="safetensors"):
        load_checkpoint(tmp_path, local_files_only=True)


def test_a_checkpoint_with_code_of_its_own_is_refused(tokenizer, tmp_path):
    import json

    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"model_type": "homemade", "auto_map": {"AutoConfig": "home.Config", "AutoModelForCausalLM": "home.LM"}}
        )
    )
    (tmp_path / "home.py").write_text("raise SystemExit('this code must never run')")
    with pytest.raises(SettingsError, match="cannot load"):
        load_checkpoint(tmp_path, local_files_only=True)


def test_a_tokenizer_class_can_be_named_and_nothing_else(tokenizer, tmp_path):
    checkpoints.model("qwen2", len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_checkpoint(tmp_path, tokenizer_class="PreTrainedTokenizerFast")
    text = "Nike Air Max red"
    assert loaded.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    with pytest.raises(SettingsError, match="no tokenizer class"):
        load_checkpoint(tmp_path, tokenizer_class="pipeline")


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="float8"):
        load_checkpoint(tmp_path, dtype="float8")
