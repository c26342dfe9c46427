from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.decoding import BeamSettings, beam_search
from genrail.models.log_softmax import log_softmax
from genrail.models.tiny_lm import NoiseModel, UniformModel
from tests.contracts.dict_index import DictIndex

CATALOG = [[1, 2, 0], [1, 3, 0], [2, 2, 0], [4, 4, 4, 0], [1, 0]]


def search(width=20, k=5, model=None, subset=None, meaning="full_softmax"):
    index = DictIndex(CATALOG, 5)
    beam = BeamSettings(width=width, trace=True, meaning=meaning)
    subsets = [index.only(subset)] if subset is not None else None
    [answer] = beam_search(model or NoiseModel(5, seed=2), [[9]], index, beam, subsets, k=k)
    return answer


def test_a_trace_holds_the_children_their_probabilities_and_the_removed_mass():
    [root] = search(model=UniformModel(5)).trace.steps[0].beams
    assert root.prefix == ()
    assert root.children.tolist() == [1, 2, 4]
    assert root.items.tolist() == [3, 1, 1]
    np.testing.assert_allclose(np.exp(root.log_probabilities), 1 / 5)
    assert root.removed == pytest.approx(2 / 5)


def test_a_trace_knows_the_filter():
    [root] = search(subset=[0, 3]).trace.steps[0].beams
    assert root.children.tolist() == [1, 4]
    assert root.items.tolist() == [1, 1]


def test_renormalised_probabilities_sum_to_one_without_a_filter():
    for step in search(meaning="renormalised").trace.steps:
        for beam in step.beams:
            assert np.exp(beam.log_probabilities).sum() == pytest.approx(1)


def test_every_item_that_came_out_is_followed_to_its_end():
    answer = search()
    for tokens in answer.tokens:
        assert answer.trace.follow(tokens).startswith(f"finished at step {len(tokens)}")


def test_a_lost_item_is_found_where_it_fell_out():
    model = NoiseModel(5, seed=2)
    answer = search(width=1, k=1, model=model)
    first = log_softmax(model.prefill([[9]])[1])[0]
    ranking = sorted([1, 2, 4], key=lambda token: -first[token])
    for rank, token in enumerate(ranking[1:], start=2):
        lost = next(sequence for sequence in CATALOG if sequence[0] == token)
        assert answer.trace.follow(lost) == f"lost at step 1, rank {rank} of beam 1"


def test_a_forbidden_item_is_called_so():
    assert "not allowed at step 1" in search(subset=[0]).trace.follow([2, 2, 0])


def test_died_beams_are_named():
    steps = search(width=1, k=1).trace.steps
    assert all(beam.prefix in step.died for step in steps for beam in step.beams if not step.kept)


def test_a_trace_becomes_json():
    answer = search()
    values = json.loads(json.dumps(answer.trace.to_dict(top=2), allow_nan=False))
    assert [step["step"] for step in values["steps"]] == list(range(1, len(answer.trace.steps) + 1))
    assert len(values["steps"][0]["beams"][0]["children"]) == 2


@given(seed=st.integers(0, 99), width=st.integers(1, 4), k=st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_a_trace_does_not_change_the_answer(seed, width, k):
    index, model = DictIndex(CATALOG, 5), NoiseModel(5, seed)
    [traced] = beam_search(model, [[9]], index, BeamSettings(width=width, trace=True), k=k)
    [plain] = beam_search(model, [[9]], index, BeamSettings(width=width), k=k)
    assert traced.tokens == plain.tokens
    assert plain.trace is None
