"""Packed weights answer as plain ones, and are plain again wherever they are copied, saved or trained."""

from __future__ import annotations

import copy
import weakref

import numpy as np
import pytest
import torch

from genrail.errors import StateError
from genrail.models.checkpoints import load_checkpoint
from genrail.models.packed_linear import PackedLinear, pack, unpack
from tests.models import checkpoints

CONTEXTS = [[1, 50, 60, 70, 80], [1, *range(100, 120)]]


@pytest.fixture(params=["llama", "qwen2", "gemma3", "t5"])
def folder(request, tmp_path):
    tokenizer = checkpoints.tokenizer()
    checkpoints.model(request.param, len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def packed_layers(model):
    return [module for module in model.modules() if isinstance(module, PackedLinear)]


def test_a_packed_checkpoint_answers_as_a_plain_one(folder):
    plain, packed = load_checkpoint(folder), load_checkpoint(folder, packed=True)
    if not packed_layers(packed.model):
        pytest.skip("this build of torch cannot pack weights")
    assert not packed_layers(plain.model)
    np.testing.assert_allclose(packed.prefill(CONTEXTS)[1], plain.prefill(CONTEXTS)[1], atol=1e-4)
    assert packed.fingerprint == plain.fingerprint
    assert packed.describe() == plain.describe()


def test_a_packed_model_is_read_under_autocast_as_a_plain_one(folder):
    plain, packed = load_checkpoint(folder), load_checkpoint(folder, packed=True)
    if not packed_layers(packed.model):
        pytest.skip("this build of torch cannot pack weights")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = packed.prefill(CONTEXTS)[1], plain.prefill(CONTEXTS)[1]
    np.testing.assert_allclose(found, expected, atol=0.1 * (1 + np.abs(expected).max()))


def test_what_is_saved_is_plain(folder, tmp_path):
    packed = load_checkpoint(folder, packed=True)
    packed.model.save_pretrained(tmp_path / "again")
    packed.tokenizer.save_pretrained(tmp_path / "again")
    assert load_checkpoint(tmp_path / "again").fingerprint == packed.fingerprint


def test_a_packed_model_refuses_to_be_trained_and_a_copy_does_not(folder):
    packed = load_checkpoint(folder, packed=True).model
    if not packed_layers(packed):
        pytest.skip("this build of torch cannot pack weights")
    with pytest.raises(StateError, match="unpack"):
        packed.train()
    copied = copy.deepcopy(packed).train()
    assert not packed_layers(copied)
    assert {name for name, _ in copied.named_parameters()} >= {name for name, _ in packed.named_parameters()}
    weights = dict(packed.state_dict())
    unpack(packed)
    for name, one in packed.train().named_parameters():
        assert one.requires_grad
        assert torch.equal(one, weights[name])
        assert torch.equal(one, dict(copied.named_parameters())[name])


def test_only_what_a_kernel_is_there_for_is_packed():
    assert not pack(torch.nn.Sequential(torch.nn.Linear(4, 4, dtype=torch.float64)))
    assert not pack(torch.nn.Sequential(torch.nn.Embedding(4, 4)))


def test_plain_weights_go_one_after_the_other(monkeypatch):
    """So that no second copy of the whole model is ever in memory."""
    network = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(4)))
    plain = [weakref.ref(layer.weight) for layer in network]
    alive = []
    monkeypatch.setattr(
        PackedLinear, "eval", lambda self: alive.append(sum(one() is not None for one in plain)) or self
    )
    if not pack(network):
        pytest.skip("this build of torch cannot pack weights")
    assert alive == [4, 3, 2, 1]
