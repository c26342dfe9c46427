"""Engines whose items have several identifiers: given in a column, or written by the model itself."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import numpy as np

import genrail
from genrail.decoding import ExactSettings, SampleSettings, score_sequences
from genrail.engine import Calibrated, Diverse, Engine
from genrail.errors import CatalogError, SettingsError
from genrail.finders.titles import LanguageModelSettings
from genrail.models.identifier_writer import WriterSettings, write_identifiers
from tests.contracts.retriever import RetrieverContract
from tests.finders.test_language_model_engine import language_model
from tests.models import checkpoints


def shop(items=20):
    """Every third item has no alias, some share one, one alias is another item's title."""
    rows = []
    for row, title in enumerate(checkpoints.TITLES[:items]):
        aliases = "" if row % 3 == 0 else f"boot {row} | shared {row // 4} | {checkpoints.TITLES[(row + 1) % items]}"
        rows.append({"id": f"t{row}", "title": title, "price": row, "aliases": aliases, "brand": title.split()[0]})
    return genrail.Catalog.from_items(rows)


def build(items=20, **settings):
    settings = {"aliases": "aliases", "calibration": 0.0, **settings}
    return Engine.build(shop(items), model=language_model(), settings=LanguageModelSettings(**settings))


@pytest.fixture(scope="module")
def engine():
    return build()


class TestEngineWithSeveralIdentifiersIsARetriever(RetrieverContract):
    def make(self, catalog):
        frame = [
            {"id": item_id, "title": title, **catalog.attributes(row), "aliases": f"{title} again | thing {row}"}
            for row, (item_id, title) in enumerate(zip(catalog.item_ids, catalog.titles, strict=True))
        ]
        gone = [item_id for item_id, live in zip(catalog.item_ids, catalog.live, strict=True) if not live]
        copied = genrail.Catalog.from_items(frame, item_id="id", title="title").remove(gone)
        return Engine.build(
            copied, model=language_model(), settings=LanguageModelSettings(aliases="aliases", combine="sum")
        )

    def test_hits_carry_id_title_rank_and_falling_finite_scores(self, retriever):
        """The copied catalogue has one attribute more."""
        for ranking in retriever.search_batch(self.queries(), k=100):
            scores = [hit.score for hit in ranking]
            assert scores == sorted(scores, reverse=True)
            assert [hit.rank for hit in ranking] == list(range(1, len(ranking) + 1))


def exhaustive(engine, query, combine):
    """Score every identifier of every item with no search."""
    lane, table = engine.edition.finder.spelling, engine.edition.finder.table
    context = lane.prompts.render(query, [])
    scores = score_sequences(lane.model, context, table.flat)
    parts = np.split(scores, table.first[1:-1])
    return np.array([part.max() if combine == "best" else np.logaddexp.reduce(part) for part in parts])


@pytest.mark.parametrize("combine", ["best", "sum"])
def test_scores_are_those_of_all_identifiers(combine):
    own = build(combine=combine)
    expected = exhaustive(own, "red boot", combine)
    ranking = own.search("red boot", k=20)
    rows = own.catalog.rows(ranking.item_ids)
    assert sorted(rows.tolist()) == list(range(20))
    assert [hit.log_probability for hit in ranking] == pytest.approx(np.sort(expected)[::-1], abs=1e-4)
    assert [hit.log_probability for hit in ranking] == pytest.approx(expected[rows], abs=1e-4)


def test_the_proven_answer_is_the_best_of_all(engine):
    expected = exhaustive(engine, "red boot", "best")
    ranking = engine.search("red boot", k=3, decoder=ExactSettings())
    assert [hit.score for hit in ranking] == pytest.approx(np.sort(expected)[::-1][:3], abs=1e-4)


def test_an_item_is_found_by_another_items_title(engine):
    """Two items that share an identifier both come out."""
    shared = engine.edition.finder.table.flat.groups
    counts = np.bincount(shared)
    assert counts.max() >= 2
    assert len(set(engine.search("x", k=20).item_ids)) == 20


@pytest.mark.parametrize("decoder", [SampleSettings(seed=1), Diverse(), Calibrated(), Diverse(SampleSettings())])
def test_every_decoder_keeps_the_promises(engine, decoder):
    ranking = engine.search("red boot", k=5, history=["t1"], where="price < 8", decoder=decoder)
    assert len(set(ranking.item_ids)) == 5
    assert set(ranking.item_ids) <= {f"t{row}" for row in range(8)} - {"t1"}


def test_calibration_of_sums_is_refused():
    with pytest.raises(SettingsError, match="one identifier"):
        build(8, combine="sum").search("x", k=2, decoder=Calibrated())


def test_items_come_go_and_change(tmp_path):
    own = build(10)
    own.save(tmp_path / "e")
    live = genrail.load(tmp_path / "e", live=True)
    live.add([{"id": "new", "title": "Nike Air purple", "price": 1, "aliases": "violet one | lilac", "brand": "Nike"}])
    live.remove(["t0"])
    live.update([{"id": "t2", "title": "Ecco Sandal beige", "aliases": "beige"}])
    names = sorted([*(f"t{row}" for row in range(1, 10)), "new"])
    before = live.search("boot", k=50)
    assert sorted(before.item_ids) == names
    live.merge()
    after = live.search("boot", k=50)
    again = genrail.load(tmp_path / "e").search("boot", k=50)
    for other in (after, again):
        assert sorted(other.item_ids) == names
        assert {hit.item_id: hit.score for hit in other} == pytest.approx(
            {hit.item_id: hit.score for hit in before}, abs=1e-4
        )


def test_settings_are_saved(tmp_path):
    own = build(8, combine="sum", catalog_facts=("brand",), item_facts=("brand", "price"))
    own.save(tmp_path / "e")
    loaded = genrail.load(tmp_path / "e")
    assert loaded.edition.finder.spelling.settings == own.edition.finder.spelling.settings
    assert loaded.edition.finder.spelling.facts == own.edition.finder.spelling.facts
    assert loaded.edition.finder.table == own.edition.finder.table
    one, other = own.search("x", history=["t1"], k=5), loaded.search("x", history=["t1"], k=5)
    assert one.item_ids == other.item_ids


def test_catalogue_facts_stand_in_the_prompt():
    own = build(8, catalog_facts=("brand",), item_facts=("brand",))
    lane = own.edition.finder.spelling
    text = lane.model.tokenizer.decode(lane.prompts.render("boot", []))
    assert "brand: Nike" in text
    [line] = [lane._line(own.catalog, 1)]
    assert line.endswith("(brand Nike)")


def test_an_unknown_column_is_named():
    with pytest.raises(CatalogError, match='"colour"'):
        Engine.build(shop(4), model=language_model(), settings=LanguageModelSettings(aliases="colour"))
    with pytest.raises(CatalogError, match='"colour"'):
        build(4, catalog_facts=("colour",))
    with pytest.raises(SettingsError, match="combine"):
        LanguageModelSettings(combine="mean")


def test_the_model_writes_identifiers_itself():
    writer = WriterSettings(count=3, max_tokens=4, tries=3, seed=5)
    own = Engine.build(shop(6), model=language_model(), settings=LanguageModelSettings(writer=writer))
    table = own.edition.finder.table
    counts = np.diff(table.first)
    assert counts.max() > 1
    assert counts.max() <= 1 + writer.count
    own.add([{"id": "new", "title": "Nike Air purple", "price": 1, "aliases": "", "brand": "Nike"}])
    assert sorted(own.search("x", k=50).item_ids) == sorted([*(f"t{row}" for row in range(6)), "new"])


def test_writing_is_repeatable_different_and_without_control_tokens():
    model = language_model()
    settings = WriterSettings(count=6, max_tokens=5, seed=2)
    once = write_identifiers(model, model.tokenizer, "red boot", settings)
    assert once == write_identifiers(model, model.tokenizer, "red boot", settings)
    assert len(once) == len(set(once)) > 0
    assert all(one.strip() == one and "\n" not in one and one for one in once)
    assert not any(mark in one for one in once for mark in ("<|im_start|>", "</s>", "<think>"))
    assert once != write_identifiers(model, model.tokenizer, "blue sandal", settings)


@pytest.mark.parametrize("bad", [{"count": 0}, {"max_tokens": 0}, {"tries": 0}, {"temperature": 0.0}])
def test_writer_settings_outside_their_range_are_refused(bad):
    with pytest.raises(SettingsError):
        WriterSettings(**bad)


def test_where_an_item_fell_out(engine):
    single = Engine.build(shop(20), model=language_model(), beam=genrail.decoding.BeamSettings(width=2))
    ranking = single.search("red boot", k=2, explain=True)
    stories = {item: single.follow(item, ranking) for item in single.catalog.item_ids}
    assert all(story.startswith(("finished", "lost", "open")) for story in stories.values())
    assert all(stories[item].startswith("finished") for item in ranking.item_ids)
    assert any(" of beam 2" in story for story in stories.values())
    removed = [beam.removed for step in ranking.trace.steps for beam in step.beams]
    assert all(0 <= share <= 1 for share in removed)
    with pytest.raises(genrail.errors.QueryError, match="explain=True"):
        single.follow("t1", single.search("x", k=1))
    with pytest.raises(SettingsError, match="beam search"):
        single.search("x", k=1, explain=True, decoder=ExactSettings())
