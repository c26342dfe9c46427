"""TIGER's T5: the contract, equality with `generate`, and a folder that comes back as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from genrail.constraints import Trie
from genrail.decoding import BeamSettings, beam_search, score_sequences
from genrail.errors import DamagedError, FormatError, IdentifierError, QueryError, SettingsError
from genrail.models.tiger import TigerModel, TigerSettings
from tests.contracts.language_model import LanguageModelContract

SMALL = TigerSettings(width=16, layers=2, heads=2, head_width=8, feed_forward=24, history=4)
CODES = np.random.default_rng(0).integers(0, 5, (60, 3))


@pytest.fixture(scope="module")
def model():
    made = TigerModel(CODES, SMALL, seed=1)
    with torch.no_grad():
        made.model.get_input_embeddings().weight.mul_(20)  # probabilities that differ
    return made


class TestTigerModel(LanguageModelContract):
    @pytest.fixture
    def model(self, model):
        return model

    @pytest.fixture
    def contexts(self, model):
        return [model.context(history) for history in ([3], [1, 7], [9, 2, 5, 4, 8], [0, 0, 1])]


def test_each_level_has_tokens_of_its_own(model):
    assert (model.tokens == CODES + [0, 5, 10]).all()
    assert model.pad == 15 and model.vocab_size == 16


def test_only_the_last_items_of_a_history_are_read(model):
    assert model.context([1, 2, 3, 4, 5, 6]) == model.tokens[[3, 4, 5, 6]].reshape(-1).tolist()


def test_an_empty_history_is_refused(model):
    with pytest.raises(QueryError, match="at least one known item"):
        model.context([])


@pytest.mark.parametrize("codes", [[], [[]], [1, 2], [[0, -1]]])
def test_codes_that_are_none_are_refused(codes):
    with pytest.raises(IdentifierError, match="codes"):
        TigerModel(codes, SMALL)


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"dropout": 1.0}, {"history": 0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        TigerSettings(**wrong)


def test_it_equals_generate_with_a_trie(model):
    """The same sequences and scores as `generate(prefix_allowed_tokens_fn=...)`, the way of everybody else."""
    trie = Trie.from_matrix(model.tokens, model.pad)
    children: dict[tuple[int, ...], set[int]] = {}
    for row in model.tokens.tolist():
        for level, token in enumerate(row):
            children.setdefault(tuple(row[:level]), set()).add(token)
    for history in ([3], [1, 7], [9, 2, 5, 4]):
        context = model.context(history)
        [ours] = beam_search(model, [context], trie, BeamSettings(width=8, finish="width"), k=8)
        theirs = model.model.generate(
            torch.tensor([context]),
            num_beams=8,
            num_return_sequences=8,
            min_new_tokens=3,
            max_new_tokens=3,
            prefix_allowed_tokens_fn=lambda _, sent: sorted(children[tuple(sent[1:].tolist())]),
            return_dict_in_generate=True,
            output_scores=True,
            length_penalty=0.0,
        )
        distinct = dict(zip(ours.tokens, ours.log_probabilities, strict=True))  # items may share an identifier
        expected = [tuple(row[1:].tolist()) for row in theirs.sequences]
        assert list(distinct) == expected[: len(distinct)]
        np.testing.assert_allclose(list(distinct.values()), theirs.sequences_scores[: len(distinct)], atol=1e-4)


def test_a_score_is_the_teacher_forced_probability(model):
    trie = Trie.from_matrix(model.tokens, model.pad)
    context = model.context([5, 6])
    [answer] = beam_search(model, [context], trie, BeamSettings(width=60), k=60)
    assert sorted(answer.rows.tolist()) == list(range(60))
    forced = score_sequences(model, context, answer.tokens)
    np.testing.assert_allclose(answer.log_probabilities, forced, atol=1e-4)


def test_it_comes_back_from_its_folder(model, tmp_path):
    model.save(tmp_path)
    again = TigerModel.load(tmp_path)
    assert again.fingerprint == model.fingerprint
    _, before = model.prefill([model.context([1, 2])])
    _, after = again.prefill([model.context([1, 2])])
    assert (before == after).all()


def test_a_flipped_byte_is_refused(model, tmp_path):
    model.save(tmp_path)
    path = tmp_path / "tiger.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="altered"):
        TigerModel.load(tmp_path)


def test_a_missing_file_and_a_later_format_are_named(model, tmp_path):
    with pytest.raises(DamagedError):
        TigerModel.load(tmp_path)
    model.save(tmp_path)
    header = json.loads((tmp_path / "tiger.json").read_text())
    (tmp_path / "tiger.json").write_text(json.dumps({**header, "format": 9}))
    with pytest.raises(FormatError, match="format 9"):
        TigerModel.load(tmp_path)
