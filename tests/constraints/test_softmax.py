"""Log-sum-exp against float64, on the rows that break such loops."""

from __future__ import annotations

import numpy as np
import pytest

from genrail.constraints.softmax import log_sum_exp


def exact(row):
    row = np.where(np.isnan(row), np.float32(-np.inf), row).astype(np.float64)
    top = row.max()
    return -np.inf if np.isneginf(top) else top + np.log(np.exp(row - top).sum())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 1e3, 1e4])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 255, 2047, 2048, 2049, 4096, 5000])
def test_it_equals_float64(length, scale):
    rows = (np.random.default_rng(length).standard_normal((4, length)) * scale).astype(np.float32)
    expected = [exact(row) for row in rows]
    np.testing.assert_allclose(log_sum_exp(rows), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("place", [0, 7, 2047, 2048, 4999])
@pytest.mark.parametrize("value", [3.0, 1e30, 3.4e38])
def test_one_huge_value_anywhere(place, value):
    row = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    row[place] = value
    np.testing.assert_allclose(log_sum_exp(row[None]), [exact(row)], rtol=1e-6)


def test_minus_infinity_here_there_and_everywhere():
    row = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    row[:3000] = -np.inf  # the first block holds nothing else
    np.testing.assert_allclose(log_sum_exp(row[None]), [exact(row)], rtol=1e-6)
    assert np.isneginf(log_sum_exp(np.full((2, 3000), -np.inf))).all()


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001])
@pytest.mark.parametrize("place", [0, 1, 2047, 2048, 4999])
def test_every_kind_of_nan_counts_as_minus_infinity(place, bits):
    row = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    row.view(np.uint32)[place] = bits
    np.testing.assert_allclose(log_sum_exp(row[None]), [exact(row)], rtol=1e-6)


def test_a_row_of_one_nan_is_minus_infinity():
    assert np.isneginf(log_sum_exp([[np.nan]])).all()


@pytest.mark.parametrize("others", [0.0, np.nan, -np.inf])
def test_plus_infinity_shows(others):
    row = np.full((1, 5000), others, dtype=np.float32)
    row[0, 3333] = np.inf
    assert np.isposinf(log_sum_exp(row)).all()


def test_zeros_of_both_signs_and_denormals():
    row = np.array([[0.0, -0.0, 1e-42, -1e-42]], dtype=np.float32)
    np.testing.assert_allclose(log_sum_exp(row), [np.log(4)], rtol=1e-6)


def test_a_row_gives_the_same_bits_in_any_batch():
    rows = np.random.default_rng(0).standard_normal((9, 3001)).astype(np.float32)
    together = log_sum_exp(rows)
    assert [float(log_sum_exp(row[None])[0]) for row in rows] == together.tolist()
