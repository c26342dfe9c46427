"""backend="vllm": the same items and scores as transformers, several requests together, saved and opened again."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from genrail import Catalog, Engine, Query
from genrail.decoding import BeamSettings, ExactSettings
from genrail.decoding.decoders import Calibrated
from genrail.errors import MissingPackageError, QueryError, SettingsError
from tests.models import checkpoints, vllm_double

ITEMS = [{"sku": f"s{number}", "name": title, "price": number} for number, title in enumerate(checkpoints.TITLES[::6])]
ASKED = [Query("red boot"), Query("something for the beach", history=["s1", "s4"]), Query("x", where="price < 9")]
DECODERS = [
    None,  # calibrated, as by default
    BeamSettings(width=6),
    BeamSettings(width=6, meaning="renormalised"),
    Calibrated(BeamSettings(width=6), 0.5),
    ExactSettings(),
]


@pytest.fixture(autouse=True)
def vllm(monkeypatch):
    module = SimpleNamespace(LLM=vllm_double.LLM, SamplingParams=vllm_double.SamplingParams)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(vllm_double.LLM, "opened", [])
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    tokenizer = checkpoints.tokenizer()
    checkpoints.model("llama", len(tokenizer), sharpness=1.0).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def catalog():
    return Catalog.from_items(ITEMS)


def scores(rankings):
    return [{hit.item_id: hit.score for hit in ranking} for ranking in rankings]


@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_it_answers_as_transformers_does(catalog, folder, decoder):
    plain, fast = Engine.build(catalog, model=folder), Engine.build(catalog, model=folder, backend="vllm")
    expected, found = (one.search_batch(ASKED, k=5, decoder=decoder) for one in (plain, fast))
    assert [one.item_ids for one in found] == [one.item_ids for one in expected]
    for one, other in zip(scores(found), scores(expected), strict=True):
        np.testing.assert_allclose(list(one.values()), list(other.values()), atol=1e-5)


def test_the_requests_of_several_users_go_together(catalog, folder):
    engine = Engine.build(catalog, model=folder, backend="vllm")
    llm = engine.edition.finder.spelling.model.llm
    llm.calls.clear()
    [engine.search_batch([query], k=5) for query in ASKED]
    alone = list(llm.calls)
    llm.calls.clear()
    engine.search_batch(ASKED, k=5)
    assert sum(llm.calls) == sum(alone)  # the same work
    assert len(llm.calls) < len(alone)  # in fewer calls
    assert llm.calls[0] == len(ASKED)


def test_what_is_saved_opens_with_the_same_settings(catalog, folder, tmp_path):
    engine = Engine.build(
        catalog, model=folder, backend="vllm", dtype="float32", backend_settings={"max_model_len": 512}
    )
    expected = engine.search("red boot", k=4)
    engine.save(tmp_path / "shop.genrail")
    again = Engine.load(tmp_path / "shop.genrail", live=True)
    assert scores([again.search("red boot", k=4)]) == scores([expected])
    assert [one["max_model_len"] for one in vllm_double.LLM.opened] == [512, 512]
    assert again.describe()["model backend"] == "vllm"
    again.add([{"sku": "new", "name": "Nike Rain Boot red", "price": 1}])
    assert "new" in again.search("red boot", k=50).item_ids


def test_a_request_that_is_too_long_is_refused(catalog, folder):
    engine = Engine.build(catalog, model=folder, backend="vllm", backend_settings={"max_model_len": 256})
    with pytest.raises(QueryError, match="256|255"):
        engine.search("boot " * 300)


def test_settings_that_do_not_go_together_are_refused(catalog, folder, monkeypatch):
    with pytest.raises(SettingsError, match="give 'transformers' or 'vllm'"):
        Engine.build(catalog, model=folder, backend="onnx")
    with pytest.raises(SettingsError, match="chooses device and attention itself"):
        Engine.build(catalog, model=folder, backend="vllm", device="cuda")
    with pytest.raises(SettingsError, match="backend_settings are those of backend='vllm'"):
        Engine.build(catalog, model=folder, backend_settings={"max_model_len": 2})
    with pytest.raises(SettingsError, match="vLLM cannot open .*max_model_len"):
        Engine.build(catalog, model=folder, backend="vllm", backend_settings={"max_model_len": -1})
    with pytest.raises(SettingsError, match="fine-tuning takes a causal model of transformers"):
        Engine.build(catalog, model=folder, backend="vllm").train(
            queries={"q": "red boot"}, qrels={"q": {"s1": 1.0}}, recipe="sft"
        )
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingPackageError, match=r"genrail\[vllm\]"):
        Engine.build(catalog, model=folder, backend="vllm")
