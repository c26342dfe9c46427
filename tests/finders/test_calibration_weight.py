"""How much a taught model is calibrated is chosen on held-out requests, and stays with the engine."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from genrail.constraints.compressed import compressed
from genrail.decoding import BeamSettings
from genrail.decoding.decoders import Calibrated
from genrail.engine import Engine
from genrail.finders.calibration_weight import SEARCHED, WEIGHTS, chosen_weight
from genrail.finders.fine_tuning import CUTOFF, asked
from genrail.finding import FindOptions, Found
from genrail.training.figures import graded_figures
from genrail.training.pairs import Pair
from genrail.types import silent
from tests.finders.test_fine_tuning import ITEMS, QRELS, QUERIES, QUICK, engine, shop

MANY = {f"{turn}{query_id}": f"{text} {'now' * turn}" for turn in range(8) for query_id, text in QUERIES.items()}
JUDGED = {f"{turn}{query_id}": items for turn in range(8) for query_id, items in QRELS.items()}


class Writer:
    """Know of three items how probable they are when asked, and anyway."""

    def __init__(self, asked, anyway):
        self.log_probabilities, self.anyway, self.searched = np.array(asked), np.array(anyway), []

    def find(self, requests, k, options):
        weight = options.decoder.weight
        self.searched.append(weight)
        scores = self.log_probabilities - weight * self.anyway
        order = np.argsort(-scores)[: k if weight == 1.0 else 2]
        return [Found(order, scores[order], self.log_probabilities[order]) for _ in requests]


@pytest.mark.parametrize(
    ("right", "chosen"),
    [(0, 0.0), (1, 0.5), (2, 1.0)],  # first with a weight below 0.5, of 0.5 and 0.75, and of 1
)
def test_the_weight_that_finds_most_is_chosen_the_smallest_of_equal_ones(right, chosen):
    writer = Writer([-1.0, -1.45, -2.35], [-1.0, -2.0, -3.0])
    held = [Pair("boot", (), (right,))] * 3
    assert chosen_weight(writer, shop(), BeamSettings(), held, silent) == chosen
    assert writer.searched == list(SEARCHED)


def test_the_choice_is_that_of_a_search_with_each_weight():
    own = engine(calibration=None)
    own.train(queries=QUERIES, qrels=QRELS, **QUICK | {"epochs": 6})
    finder = own.edition.finder
    finder.spelling.empty_scores(compressed(finder.index))
    held = [Pair(f"{row} please", (), (row,)) for row in range(ITEMS)]
    held += [Pair(None, (row,), ((row + 1) % ITEMS,)) for row in range(ITEMS)]

    def found(weight):
        decoder = Calibrated(BeamSettings(width=20, meaning="renormalised"), weight)
        options = FindOptions(decoder=decoder if weight else decoder.decoder)
        rows = [one.rows for one in finder.find([asked(pair, own.catalog) for pair in held], CUTOFF, options)]
        return graded_figures(rows, [dict(zip(pair.rows, pair.weights, strict=True)) for pair in held], CUTOFF)[0]

    figures = {weight: found(weight) for weight in WEIGHTS}
    assert len(set(figures.values())) > 1
    best = max(WEIGHTS, key=lambda weight: (figures[weight], -weight))
    assert chosen_weight(finder, own.catalog, BeamSettings(), held, silent) == best


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
