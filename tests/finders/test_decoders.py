"""Other ways to decode, for the native lane and the language-model lane."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from genrail.decoding import BeamSettings, ExactSettings, SampleSettings, score_sequences
from genrail.engine import Calibrated, Diverse, Engine
from genrail.errors import SettingsError
from tests.finders.test_language_model_engine import language_model, shop


@pytest.fixture(scope="module")
def native():
    catalog = genrail.Catalog.from_items(
        [{"id": f"s{row}", "title": f"boot {row} {'red' if row % 2 else 'blue'}", "price": row} for row in range(30)]
    )
    return Engine.build(catalog, encoder="hashing", epochs=2)


@pytest.fixture(scope="module")
def writing():
    return Engine.build(shop(), model=language_model())


@pytest.mark.parametrize(
    "decoder",
    [
        BeamSettings(width=3, length_normalisation=0.7),
        ExactSettings(beam_first=True),
        SampleSettings(temperature=(2.0, 1.0), seed=3),
        Diverse(relevance=0.2),
        Diverse(SampleSettings(seed=1)),
        Diverse(ExactSettings()),
    ],
)
@pytest.mark.parametrize("lane", ["native", "writing"])
def test_k_allowed_items_come_out_however_they_are_found(lane, decoder, request):
    engine = request.getfixturevalue(lane)
    seen = engine.catalog.item_ids[2]
    found = engine.search("boot", history=[seen], where="price < 12", k=6, decoder=decoder)
    assert len(set(found.item_ids)) == 6
    assert set(found.item_ids) <= set(engine.catalog.item_ids[:12]) - {seen}
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    again = engine.recommend([seen], where="price < 12", k=50, decoder=decoder)
    assert len(again) == 11
    assert again.exhausted


def test_calibrated_scores_take_off_what_an_empty_request_gives(writing):
    ranking = writing.search("red boot", k=30, decoder=Calibrated())
    lane, table = writing.edition.finder.spelling, writing.edition.finder.table
    rows = writing.catalog.rows(ranking.item_ids).tolist()
    sequences = [table.sequence(row).tolist() for row in rows]
    asked = score_sequences(lane.model, lane.prompts.render("red boot", []), sequences)
    anyway = score_sequences(lane.model, lane.prompts.empty(), sequences)
    assert [hit.score for hit in ranking] == pytest.approx(list(asked - anyway), abs=1e-3)
    assert [hit.log_probability for hit in ranking] == pytest.approx(list(asked), abs=1e-4)


def test_samples_differ_by_seed_and_repeat_by_seed(writing):
    drawn = [writing.search("x", k=3, decoder=SampleSettings(5.0, seed)).item_ids for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len({tuple(one) for one in drawn}) > 1


def test_a_lane_without_prompts_cannot_calibrate(native):
    with pytest.raises(SettingsError, match="prompts"):
        native.search("boot", decoder=Calibrated())
    with pytest.raises(SettingsError, match="decoder is 'beam'"):
        native.search("boot", decoder="beam")


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (Calibrated, {"weight": 2}),
        (Calibrated, {"pool": 0}),
        (Diverse, {"relevance": -1}),
        (Diverse, {"likeness": "x"}),
    ],
)
def test_settings_outside_their_range_are_refused(kind, bad):
    with pytest.raises(SettingsError):
        kind(**bad)
