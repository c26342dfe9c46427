"""How much a scorer counts is learnt from judged queries, saved, and left alone where it was given."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import genrail
from genrail.errors import SettingsError
from genrail.finding import Edition
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
    opened = genrail.load(tmp_path / "e", live=True)
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


# A finder that ranks ------------------------------------------------------------------------------------------------


def by_finder(**settings):
    return genrail.Engine.build(shop(), "reranked", **{"inner": "popularity", "weight": 1.0, "depth": 28, **settings})


def test_a_finder_ranks_what_another_one_found_and_lives_on_with_it(tmp_path):
    own = by_finder(scorer="bm25")
    words = genrail.Engine.build(shop(), "bm25")
    assert set(own.search("kettle", k=4).item_ids) == set(words.search("kettle", k=4).item_ids)
    assert own.search("kettle of row 10", k=1, exclude=["i10"]).item_ids != ["i10"]
    own.save(tmp_path / "e")
    opened = genrail.load(tmp_path / "e", live=True)
    opened.add([{"id": "new", "title": "kettle of copper"}])
    assert opened.search("copper", k=1).item_ids == ["new"]
    again = genrail.load(tmp_path / "e")
    assert again.search("copper", k=3).item_ids == opened.search("copper", k=3).item_ids
    merged = genrail.Engine(Edition(opened.catalog, opened.edition.finder.compact()))
    assert merged.search("copper", k=3).item_ids == opened.search("copper", k=3).item_ids
    opened.remove(["new"])
    assert "new" not in opened.search("copper", k=5).item_ids


def test_a_language_model_ranks_by_what_it_writes_of_these_items_alone():
    pytest.importorskip("transformers")
    from tests.finders.test_fine_tuning import language_model

    own = by_finder(scorer="titles", scorer_settings={"model": language_model(), "calibration": 1.0}, depth=8)
    best = own.search("boot", k=8, explain=True)
    said = [hit.explanation["ranker"] for hit in best]
    assert said == sorted(said, reverse=True) and len(set(said)) == 8
    first = by_finder(scorer="bm25", weight=0.0, depth=8).search("boot", k=8)
    assert set(best.item_ids) == set(first.item_ids)


def test_a_ranker_that_learns_is_taught_without_the_queries_of_its_weight():
    pytest.importorskip("peft")
    from tests.finders.test_fine_tuning import language_model

    own = by_finder(scorer="titles", scorer_settings={"model": language_model(), "calibration": 0.0}, weight=None)
    short = {"epochs": 1, "pseudo_queries": 0, "rank": 2, "validation": 0, "batch": 8}
    report = own.train(queries=QUERIES, qrels=QRELS, scorer_settings=short)
    assert report.pairs == {"judged": 32}  # of 40, a fifth is kept
    assert own.edition.finder.ranker.spelling.settings.calibration == 0.0


def test_a_ranker_of_no_kind_is_named_with_those_that_there_are():
    with pytest.raises(
        SettingsError, match=r"scorer is 'nothing'; give a scorer \(.*title-likelihood\), or a finder .*titles"
    ):
        by_finder(scorer="nothing")


def test_a_finder_of_other_items_is_no_ranker():
    other = genrail.Catalog.from_items([{"id": "x", "title": "boot"}])
    finder = genrail.Engine.build(other, "bm25").edition.finder
    with pytest.raises(SettingsError, match="knows other items"):
        by_finder(scorer=finder)
    assert (
        by_finder(scorer=genrail.Engine.build(shop(), "bm25").edition.finder).search("lamp", k=1)[0].title[:4] == "lamp"
    )
