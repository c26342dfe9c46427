"""Sums over the whole vocabulary: by parts, packed or not, they are those of all logits at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from genrail.models import output_layer
from genrail.models.output_layer import OutputLayer


def layer(words, bias, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(16, words, bias=bias).to(dtype)


@pytest.mark.parametrize("words", [1, 7, 8, 9, 50])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_parts_of_the_vocabulary_sum_up_to_the_whole(words, bias, packed, dtype, monkeypatch):
    monkeypatch.setattr(output_layer, "BLOCK", 8)
    monkeypatch.setattr(output_layer, "ROWS_TOGETHER", 3)
    own = OutputLayer(layer(words, bias, dtype))
    own.packed = packed
    hidden = torch.randn(7, 16).to(dtype)
    with torch.no_grad():
        expected = torch.logsumexp(own._layer(hidden).double(), dim=-1).numpy()
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    np.testing.assert_allclose(own.log_sums(hidden), expected, atol=tolerance)
    np.testing.assert_allclose(own.log_sums(hidden), expected, atol=tolerance)  # by what was kept
    assert own.log_sums(hidden[:0]).shape == (0,)


def test_what_was_packed_is_forgotten_once_the_weights_change():
    own = OutputLayer(layer(20, False))
    own.packed = True
    hidden = torch.randn(2, 16)
    before = own.log_sums(hidden)
    with torch.no_grad():
        own._layer.weight.mul_(3.0)
    after = own.log_sums(hidden)
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, torch.logsumexp(own._layer(hidden), dim=-1).detach().numpy(), atol=1e-5)


def test_a_logit_that_is_no_number_counts_as_none(monkeypatch):
    monkeypatch.setattr(output_layer, "BLOCK", 4)
    broken = layer(8, True)
    with torch.no_grad():
        broken.bias[5] = torch.nan
    hidden = torch.randn(2, 16)
    kept = torch.where(torch.isnan(broken(hidden)), -torch.inf, broken(hidden))
    found = OutputLayer(broken).log_sums(hidden)
    np.testing.assert_allclose(found, torch.logsumexp(kept, dim=-1).detach().numpy(), atol=1e-5)
