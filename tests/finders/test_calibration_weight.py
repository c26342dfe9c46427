"""How much a taught model is calibrated is chosen on held-out requests, and stays with the engine."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from genrail.decoding import BeamSettings
from genrail.decoding.decoders import Calibrated
from genrail.engine import Engine
from genrail.finders.calibration_weight import WEIGHTS, chosen_weight
from genrail.finding import Found
from genrail.training.pairs import Pair
from genrail.types import silent
from tests.finders.test_fine_tuning import ITEMS, QRELS, QUERIES, QUICK, engine, shop

MANY = {f"{turn}{query_id}": f"{text} {'now' * turn}" for turn in range(8) for query_id, text in QUERIES.items()}
JUDGED = {f"{turn}{query_id}": items for turn in range(8) for query_id, items in QRELS.items()}


class Writer:
    """Answer rightly with some weights only."""

    def __init__(self, *right):
        self.right, self.asked = right, []

    def find(self, requests, k, options):
        weight = options.decoder.weight if isinstance(options.decoder, Calibrated) else 0.0
        self.asked.append(weight)
        row = 0 if weight in self.right else 1
        return [Found(np.array([row]), np.ones(1)) for _ in requests]


@pytest.mark.parametrize(("right", "chosen"), [((0.5,), 0.5), ((0.75, 0.25), 0.25), ((), 0.0), (WEIGHTS, 0.0)])
def test_the_weight_that_finds_most_is_chosen_the_smallest_of_equal_ones(right, chosen):
    writer = Writer(*right)
    held = [Pair("boot", (), (0,))] * 3
    assert chosen_weight(writer, shop(), BeamSettings(), held, silent) == chosen
    assert writer.asked == list(WEIGHTS)


def test_a_taught_engine_asks_with_the_weight_that_was_chosen_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr("genrail.finders.calibration_weight.WEIGHTS", (0.25,))
    own = engine(calibration=None)
    own.train(queries=MANY, qrels=JUDGED, **QUICK | {"validation": 20})
    empty = own.edition.finder.spelling.empty
    assert empty.weight == 0.25 and empty.known
    usual = own.search("3 please", k=5)
    asked = own.search("3 please", k=5, decoder=Calibrated(BeamSettings(meaning="renormalised"), 0.25))
    assert usual.item_ids == asked.item_ids
    own.save(tmp_path / "e")
    opened = genrail.load(tmp_path / "e", live=True)
    assert opened.edition.finder.spelling.empty.weight == 0.25
    assert opened.search("3 please", k=5).item_ids == usual.item_ids
    opened.add([{"id": "new", "title": "Ecco Sandal purple"}])
    assert opened.edition.finder.spelling.empty.weight == 0.25


@pytest.mark.parametrize("how", [{"validation": 0}, {"validation": 8}])
def test_nothing_is_chosen_on_few_requests(how):
    own = Engine(engine(calibration=None).edition)
    own.train(queries=QUERIES, qrels=QRELS, **QUICK | how)
    assert own.edition.finder.spelling.empty.weight is None
    assert len(own.search("boot", k=ITEMS)) == ITEMS


def test_a_weight_that_was_given_stays():
    own = engine(calibration=0.5)
    own.train(queries=MANY, qrels=JUDGED, **QUICK | {"validation": 20})
    assert own.edition.finder.spelling.empty.weight is None
    assert own.edition.finder.decoder(genrail.finding.FindOptions()).weight == 0.5
