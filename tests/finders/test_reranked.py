"""How much a scorer counts is learnt from judged queries, saved, and left alone where it was given."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import genrail
from genrail.finding.registry import register_scorer
from genrail.types import Query

KINDS = ("boot", "sandal", "lamp", "kettle", "chair", "towel", "mirror")
QUERIES = {f"q{number}": KINDS[number % 7] for number in range(40)}
QRELS = {query_id: {f"i{int(query_id[1:]) % 7 + 14}": 1.0} for query_id in QUERIES}


def shop():
    return genrail.Catalog.from_items([{"id": f"i{n}", "title": f"{KINDS[n % 7]} of row {n}"} for n in range(28)])


@register_scorer
class Rows:
    """Rows from 14 to 20 are right, or the others are."""

    kind = name = "rows"

    def __init__(self, right: bool = True) -> None:
        self.right = right

    def score(self, request, rows, catalog):
        known = ((rows >= 14) & (rows < 21)).astype(np.float64)
        return known if self.right else -known

    def save(self, folder):
        return {"right": self.right}

    @classmethod
    def load(cls, folder, details):
        return cls(details["right"])


def built(right, **settings):
    return genrail.Engine.build(
        shop(), "reranked", inner="bm25", scorer="rows", scorer_settings={"right": right}, **settings
    )


def test_a_scorer_that_knows_is_heard_and_the_weight_is_kept(tmp_path):
    own = built(True, queries=QUERIES, qrels=QRELS)
    assert own.edition.finder.weight > 0
    assert own.search("kettle", k=1).item_ids == ["i17"]
    own.save(tmp_path / "e")
    opened = genrail.load(tmp_path / "e")
    assert opened.edition.finder.weight == own.edition.finder.weight
    opened.add([{"id": "new", "title": "kettle of row 99"}])
    assert opened.edition.finder.weight == own.edition.finder.weight
    assert opened.search_batch([Query("kettle")], 1)[0].item_ids == ["i17"]


def test_a_scorer_that_is_wrong_counts_nothing():
    assert built(False, queries=QUERIES, qrels=QRELS).edition.finder.weight == 0.0


def test_training_learns_the_weight_of_a_first_stage_that_does_not_learn():
    own = built(True)
    assert own.edition.finder.weight == 0.5  # nothing is known
    own.train(queries=QUERIES, qrels=QRELS)
    assert own.search("towel", k=1).item_ids == ["i19"]
    given = built(True, weight=0.1, queries=QUERIES, qrels=QRELS)
    assert given.edition.finder.weight == 0.1
