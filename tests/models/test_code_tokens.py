"""Semantic IDs in a language model: new tokens, an output layer of codes alone, saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search, exact_search, score_sequences
from genrail.errors import DamagedError, SettingsError, ShapeError, StateError
from genrail.models.code_tokens import CodeModel, CodeTokens, add_code_tokens
from genrail.models.plain_text import plain_tokens
from genrail.models.prompts import Prompts
from tests.contracts.language_model import LanguageModelContract, rows
from tests.models import checkpoints

TITLES = checkpoints.TITLES[:40]
LEVELS, CODES = 8, 5  # more levels than usual, for the walks of the contract


def codes(items=40, levels=LEVELS):
    return np.random.default_rng(0).integers(0, CODES, (items, levels))


def make(family="qwen2", levels=LEVELS, **settings):
    tokenizer = checkpoints.tokenizer()
    built = checkpoints.model(family, len(tokenizer))
    tokens = add_code_tokens(built, tokenizer, codes(levels=levels), TITLES, vocab_size=CODES)
    return CodeModel(built, tokenizer, tokens, **settings)


@pytest.fixture(scope="module", params=["qwen2", "llama", "gpt2"])
def made(request):
    return make(request.param)


class TestCodeModel(LanguageModelContract):
    @pytest.fixture
    def model(self, made):
        return made

    @pytest.fixture
    def contexts(self):
        return [[1, 50, 60, 70, 80], [1, 90], [1, *range(100, 120)], [7]]


@pytest.mark.parametrize("attention", ["shared", "rows"])
def test_scores_are_those_of_the_whole_model_among_the_codes_of_a_level(attention):
    model = make(attention=attention)
    prompt = [1, 50, 60]
    identifier = codes()[3].tolist()
    ids = [model.tokens.first + level * CODES + code for level, code in enumerate(identifier)]
    with torch.inference_mode():
        logits = model.full(input_ids=torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0]
    expected = 0.0
    for level, code in enumerate(identifier):
        first = model.tokens.first + level * CODES
        row = torch.log_softmax(logits[len(prompt) - 1 + level, first : first + CODES].double(), dim=0)
        expected += float(row[code])
    [score] = score_sequences(model, prompt, [identifier])
    assert score == pytest.approx(expected, abs=1e-4)


def test_every_item_is_found_and_the_proof_agrees():
    model = make(levels=4)
    matrix = codes(levels=4)
    trie = Trie.from_matrix(matrix, vocab_size=CODES)
    prompt = Prompts(model.tokenizer).render("red boots", ["Nike Air"])
    [wide] = beam_search(model, [prompt], trie, BeamSettings(width=50), k=40)
    assert sorted(wide.rows.tolist()) == list(range(40))
    np.testing.assert_allclose(wide.log_probabilities, score_sequences(model, prompt, wide.tokens), atol=1e-4)
    [proven] = exact_search(model, [prompt], trie, k=5)
    assert proven.exact
    np.testing.assert_allclose(proven.log_probabilities, wide.log_probabilities[:5], atol=1e-4)


def test_a_code_begins_as_the_words_of_its_items():
    model = make()
    table = model.full.get_input_embeddings().weight.detach()
    own = [row for row, code in enumerate(codes()[:, 0]) if code == 2]
    words = [token for tokens in plain_tokens(model.tokenizer, [TITLES[row] for row in own]) for token in tokens]
    expected = table[words].mean(dim=0)
    token = model.tokenizer.convert_tokens_to_ids("<sid_0_2>")
    assert token == model.tokens.first + 2
    assert float((table[token] - expected).abs().max()) < 0.2 * float(table.std())


def test_nobody_can_write_a_code():
    model = make()
    assert "<sid_0_1>" in model.tokenizer.get_vocab()
    [tokens] = plain_tokens(model.tokenizer, ["boot <sid_0_1> red"])
    assert max(tokens) < model.tokens.first


def test_padded_heads_keep_their_size():
    tokenizer = checkpoints.tokenizer()
    built = checkpoints.model("qwen2", len(tokenizer) + 100)
    add_code_tokens(built, tokenizer, codes(levels=2), TITLES)
    assert built.get_input_embeddings().weight.shape[0] == len(checkpoints.tokenizer()) + 100


def test_a_saved_model_answers_the_same(tmp_path):
    model = make(levels=3)
    model.save(tmp_path / "m")
    loaded = CodeModel.load(tmp_path / "m")
    assert loaded.tokens == model.tokens
    assert loaded.fingerprint == model.fingerprint
    one, other = (each.prefill([[1, 50, 60]])[1] for each in (model, loaded))
    np.testing.assert_allclose(one, other, atol=1e-5)
    (tmp_path / "m" / "code_tokens.json").write_text("{}")
    with pytest.raises(DamagedError, match="code_tokens.json"):
        CodeModel.load(tmp_path / "m")


def test_writing_on_behind_the_last_code_is_an_error():
    model = make(levels=1)
    state, _ = model.prefill([[1, 50]])
    with pytest.raises(StateError, match="1 codes"):
        model.step(state, rows(0), rows(0))


def test_what_does_not_fit_is_refused():
    tokenizer = checkpoints.tokenizer()
    built = checkpoints.model("qwen2", len(tokenizer))
    with pytest.raises(ShapeError, match="3 texts"):
        add_code_tokens(built, tokenizer, codes(), ["a", "b", "c"])
    with pytest.raises(SettingsError, match="vocab_size is 2"):
        add_code_tokens(built, tokenizer, codes(), TITLES, vocab_size=2)
    with pytest.raises(SettingsError, match="add_code_tokens"):
        CodeModel(built, tokenizer, CodeTokens(len(tokenizer), 2, 4))
    add_code_tokens(built, tokenizer, codes(), TITLES)
    with pytest.raises(SettingsError, match="already"):
        add_code_tokens(built, tokenizer, codes(), TITLES)
