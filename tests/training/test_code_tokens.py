"""A language model learns which identifier follows which prompt."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from genrail.constraints import Trie
from genrail.decoding import beam_search
from genrail.errors import SettingsError, ShapeError
from genrail.models.code_tokens import CodeModel, add_code_tokens
from genrail.models.prompts import Prompts, PromptTemplate
from genrail.training.code_tokens import CodeTrainingSettings, train_codes
from genrail.training.loop import LoopSettings
from tests.models import checkpoints

TITLES = checkpoints.TITLES[::8]


def make():
    codes = np.random.default_rng(1).permutation(64)[: len(TITLES)]
    matrix = np.stack([codes // 16, codes // 4 % 4, codes % 4], axis=1)
    tokenizer = checkpoints.tokenizer()
    built = checkpoints.model("qwen2", len(tokenizer), sharpness=1.0)
    tokens = add_code_tokens(built, tokenizer, matrix, TITLES)
    prompts = Prompts(tokenizer, PromptTemplate(system="", search="{query}"))
    return CodeModel(built, tokenizer, tokens), matrix, [prompts.render(title) for title in TITLES]


def settings(**changes):
    loop = LoopSettings(epochs=40, learning_rate=1e-2, warm_up=5, weight_decay=0.0, averaging=0.0)
    return CodeTrainingSettings(**{"batch": 8, "loop": loop, **changes})


def right(model, matrix, prompts):
    trie = Trie.from_matrix(matrix, vocab_size=4)
    answers = beam_search(model, prompts, trie, k=1)
    return float(np.mean([answer.rows[0] == row for row, answer in enumerate(answers)]))


def test_a_title_finds_its_item_after_training():
    model, matrix, prompts = make()
    before = right(model, matrix, prompts)
    report = train_codes(model, prompts, matrix, settings())
    assert report.history[-1].loss < report.history[0].loss
    assert right(model, matrix, prompts) >= 0.9 > before


def test_training_the_codes_alone_leaves_every_word_as_it_was():
    model, matrix, prompts = make()
    words = {name: weights.detach().clone() for name, weights in model.full.named_parameters()}
    report = train_codes(model, prompts, matrix, settings(train="codes"))
    assert report.history[-1].loss < report.history[0].loss
    first = model.tokens.first
    for name, weights in model.full.named_parameters():
        assert weights.requires_grad
        if "embed" in name or "lm_head" in name:
            assert torch.equal(weights[:first], words[name][:first])
            assert not torch.equal(weights[first:], words[name][first:])
        else:
            assert torch.equal(weights, words[name])


def test_held_out_prompts_choose_the_epoch():
    model, matrix, prompts = make()
    loop = LoopSettings(epochs=2, learning_rate=1e-3, warm_up=2, averaging=0.0)
    report = train_codes(model, prompts, matrix, settings(held_out=0.25, loop=loop))
    assert list(report.best) == ["log-probability of a code"]


def test_the_loss_is_what_decoding_reads():
    """Prompts of different length in one batch, padded on the left."""
    from genrail.decoding import score_sequences
    from genrail.training.code_tokens import _CodeTask

    model, matrix, prompts = make()
    chosen = np.array([0, 5, 9])
    with torch.no_grad():
        loss = float(_CodeTask(model, prompts, matrix, settings(), 0).loss(chosen))
    scores = [score_sequences(model, prompts[row], [matrix[row].tolist()])[0] for row in chosen]
    assert loss == pytest.approx(-np.mean(scores) / 3, abs=1e-4)


def test_what_does_not_fit_is_refused():
    model, matrix, prompts = make()
    with pytest.raises(ShapeError):
        train_codes(model, prompts[:2], matrix)
    with pytest.raises(SettingsError, match="no prompts"):
        train_codes(model, [], np.zeros((0, 3)))
    for bad in ({"train": "words"}, {"batch": 0}, {"held_out": 1.0}):
        with pytest.raises(SettingsError):
            CodeTrainingSettings(**bad)
