"""The native model: true log-probabilities on the rails, growth without forgetting, saved folders."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from genrail.errors import (
    DamagedError,
    FormatError,
    IdentifierError,
    QueryError,
    SettingsError,
    ShapeError,
    StateError,
)
from genrail.models.native import NativeModel
from genrail.models.native_network import QUERY
from genrail.models.native_settings import NativeSettings
from tests.contracts.language_model import LanguageModelContract

SETTINGS = NativeSettings(width=16, heads=2, history=5)
CODES = np.random.default_rng(1).integers(0, 5, (40, 3))
VECTORS = np.random.default_rng(2).normal(size=(40, 12)).astype(np.float32)


def shaken(model: NativeModel) -> NativeModel:
    """Move every weight, so that nothing is hidden by a zero or an identity."""
    torch_random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch_random)
    model.changed()
    return model


@pytest.fixture
def model():
    return shaken(NativeModel.create(SETTINGS, CODES, VECTORS, seed=0, vocab_size=6))


@pytest.fixture
def contexts(model):
    return [
        model.context(history=[3, 7, 9]),
        model.context(query_vector=VECTORS[5]),
        model.context(query_vector=VECTORS[2], history=[1, 30]),
        model.context(history=list(range(20))),
    ]


def log_probabilities(model: NativeModel, context, identifiers):
    """Score identifiers token by token, each alone."""
    scores = []
    for identifier in identifiers:
        state, logits = model.prefill([context])
        score = 0.0
        for token in identifier:
            row = logits[0].astype(np.float64)
            score += row[token] - np.logaddexp.reduce(row)
            state, logits = model.step(state, np.array([0]), np.array([token]))
        scores.append(score)
    return np.array(scores)


class TestContract(LanguageModelContract):
    tolerance = 1e-5

    @pytest.fixture
    def tokens(self, model):
        return CODES[:12][:, [0, 1, 2, 0, 1, 2]]  # real beginnings; most continue to nowhere, which must agree as well

    @pytest.fixture
    def contexts(self, model):
        return [model.context(history=[3, 7, 9]), model.context(VECTORS[5]), model.context(VECTORS[2], [1, 30])]


def test_the_probabilities_of_all_identifiers_sum_to_one(model, contexts):
    every = sorted({tuple(code) for code in CODES.tolist()})
    for context in contexts:
        assert np.exp(log_probabilities(model, context, every)).sum() == pytest.approx(1.0, abs=1e-5)


def test_codes_that_lead_nowhere_have_logit_minus_infinity(model, contexts):
    state, logits = model.prefill(contexts[:1])
    assert set(np.flatnonzero(np.isfinite(logits[0]))) == set(CODES[:, 0])
    _, logits = model.step(state, np.array([0]), CODES[0, :1])
    assert set(np.flatnonzero(np.isfinite(logits[0]))) == set(CODES[CODES[:, 0] == CODES[0, 0], 1])


@torch.inference_mode()
def test_cached_steps_equal_one_forward_over_the_whole_prefix(model, contexts):
    network, nodes = model.network, model.nodes
    representations = network.node_representations(nodes)
    path = nodes.path[7][None]
    for context in contexts:
        queries = None if context.query is None else torch.from_numpy(context.query)[None]
        direct = None if queries is None else network.query_direct(queries)
        hidden = network.encode(nodes, representations, torch.tensor([context.tokens]), queries)[:, -1]
        states = network.depth_states(representations, hidden, path[:, 1:3])
        state, logits = model.prefill([context])
        for level in range(3):
            whole = network.child_logits(nodes, representations, states[:, level], path[:, level], level, direct)
            tokens = nodes.token[whole.child].numpy()
            np.testing.assert_allclose(logits[0][tokens], whole.values.numpy(), atol=1e-5)
            state, logits = model.step(state, np.array([0]), CODES[7, level : level + 1])


def test_a_code_that_no_identifier_has_there_gives_minus_infinity_ever_after(model, contexts):
    state, _ = model.prefill(contexts[:2])
    state, logits = model.step(state, np.array([0, 1]), np.array([5, CODES[0, 0]]))
    assert np.isneginf(logits[0]).all()
    assert np.isfinite(logits[1]).any()
    _, logits = model.step(state, np.array([0]), np.array([0]))
    assert np.isneginf(logits).all()


def test_only_the_latest_items_of_a_history_are_read(model):
    _, long = model.prefill([model.context(history=[30, 31, 1, 2, 3, 4, 5])])
    _, short = model.prefill([model.context(history=[1, 2, 3, 4, 5])])
    np.testing.assert_array_equal(long, short)


def test_the_order_of_a_history_matters(model):
    _, logits = model.prefill([model.context(history=[1, 2]), model.context(history=[2, 1])])
    assert not np.allclose(logits[0][np.isfinite(logits[0])], logits[1][np.isfinite(logits[1])])


def test_an_untrained_model_searches_by_similarity():
    vectors = np.eye(6, dtype=np.float32)
    model = NativeModel.create(NativeSettings(width=8), [[row, 0] for row in range(6)], vectors)
    _, logits = model.prefill([model.context(vector) for vector in vectors])
    assert logits.argmax(axis=1).tolist() == list(range(6))


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = NativeModel.create(SETTINGS, CODES, VECTORS, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert NativeModel.create(SETTINGS, CODES, VECTORS, seed=1).fingerprint == first.fingerprint
    assert NativeModel.create(SETTINGS, CODES, VECTORS, seed=2).fingerprint != first.fingerprint


# --- a growing catalogue ------------------------------------------------------------------------------------------


def test_new_items_can_be_written_and_read_at_once(model):
    grown = model.add_items([[5, 0, 0], [CODES[0, 0], 5, 1]], VECTORS[:2])
    assert (model.items, grown.items) == (40, 42)
    scores = log_probabilities(grown, grown.context(history=[41, 40]), [[5, 0, 0], [CODES[0, 0], 5, 1]])
    assert np.isfinite(scores).all()


def test_growth_moves_no_representation_of_an_earlier_item(model):
    grown = model.add_items(np.random.default_rng(8).integers(0, 6, (30, 3)), VECTORS[:30])
    before = model._node_representations()[model.nodes.path]
    after = grown._node_representations()[grown.nodes.path[:40]]
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)


def test_growth_changes_only_the_normaliser_of_raw_logits(model):
    context = model.context(history=[3, 9])
    grown = model.add_items([[5, 0, 0]], VECTORS[:1])
    _, before = model.prefill([context])
    _, after = grown.prefill([context])
    known = np.isfinite(before[0])
    np.testing.assert_allclose(after[0][known], before[0][known], atol=1e-5)
    assert np.isfinite(after[0][5]) and not np.isfinite(before[0][5])


def test_a_new_code_beyond_the_vocabulary_is_an_error(model):
    with pytest.raises(IdentifierError, match="item 40 has the identifier"):
        model.add_items([[6, 0, 0]], VECTORS[:1])


# --- saving -------------------------------------------------------------------------------------------------------


def test_a_saved_model_is_the_same_to_the_bit(model, contexts, tmp_path):
    grown = model.add_items([[5, 0, 0]], VECTORS[:1])
    grown.save(tmp_path)
    loaded = NativeModel.load(tmp_path)
    assert loaded.fingerprint == grown.fingerprint
    np.testing.assert_array_equal(loaded.prefill(contexts)[1], grown.prefill(contexts)[1])
    assert loaded.describe() == grown.describe()


@pytest.mark.parametrize("name", ["native.json", "native.safetensors"])
def test_a_missing_or_cut_file_is_named(model, tmp_path, name):
    model.save(tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedError, match=name):
        NativeModel.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DamagedError, match=name):
        NativeModel.load(tmp_path)


def test_a_flipped_bit_is_found(model, tmp_path):
    model.save(tmp_path)
    path = tmp_path / "native.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="does not hold what"):
        NativeModel.load(tmp_path)


def test_a_later_format_and_a_foreign_file_are_refused(model, tmp_path):
    model.save(tmp_path)
    header = json.loads((tmp_path / "native.json").read_text())
    (tmp_path / "native.json").write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(FormatError, match="99"):
        NativeModel.load(tmp_path)
    (tmp_path / "native.json").write_text("[]")
    with pytest.raises(FormatError, match="does not describe"):
        NativeModel.load(tmp_path)


# --- bad input ----------------------------------------------------------------------------------------------------


def test_a_request_without_anything_is_an_error(model):
    with pytest.raises(QueryError, match="nothing to go by"):
        model.context()


def test_an_unknown_row_in_a_history_is_an_error(model):
    with pytest.raises(QueryError, match="row 40"):
        model.context(history=[40])


def test_a_query_of_another_encoder_is_an_error(model):
    with pytest.raises(ShapeError, match="one text encoder"):
        model.context(np.zeros(3))


def test_vectors_must_fit_and_be_finite():
    with pytest.raises(ShapeError, match="one per identifier"):
        NativeModel.create(SETTINGS, CODES, VECTORS[:3])
    broken = VECTORS.copy()
    broken[4, 0] = math.nan
    with pytest.raises(ShapeError, match="item 4"):
        NativeModel.create(SETTINGS, CODES, broken)
    with pytest.raises(ShapeError, match="one item or more"):
        NativeModel.create(SETTINGS, np.zeros((0, 3), dtype=int), VECTORS[:0])


def test_nothing_follows_a_whole_identifier(model, contexts):
    state, _ = model.prefill(contexts[:1])
    for token in CODES[0]:
        state, logits = model.step(state, np.array([0]), np.array([token]))
    assert np.isneginf(logits).all()
    with pytest.raises(StateError, match="nothing to append"):
        model.step(state, np.array([0]), np.array([0]))


def test_a_parent_outside_the_state_is_an_error(model, contexts):
    state, _ = model.prefill(contexts[:1])
    with pytest.raises(StateError, match="outside the 1 rows"):
        model.step(state, np.array([1]), np.array([0]))


def test_one_item_alone_is_certain():
    model = NativeModel.create(SETTINGS, [[0, 0]], VECTORS[:1])
    assert log_probabilities(model, model.context(history=[0]), [[0, 0]]) == pytest.approx(0.0)


def test_no_contexts_give_no_rows(model):
    assert model.prefill([])[1].shape == (0, 6)


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"width": 10, "heads": 3}, {"dropout": 1.0}, {"query_similarity": -1.0}]
)
def test_settings_outside_their_range_are_errors(wrong):
    with pytest.raises(SettingsError):
        NativeSettings(**wrong)


def test_an_unknown_setting_is_an_error():
    with pytest.raises(SettingsError, match="unknown setting 'depth'"):
        NativeSettings.from_dict({"depth": 3})
    assert NativeSettings.from_dict(SETTINGS.to_dict()) == SETTINGS


def test_the_query_stands_behind_the_history(model):
    assert model.context(VECTORS[0], [4, 5]).tokens == [4, 5, QUERY]
