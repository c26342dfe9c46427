"""Written queries are kept where a search finds their item again, are written once, and are taught like others."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from genrail.engine import Engine
from genrail.errors import DamagedError, FingerprintError, SettingsError
from genrail.finders.fusing import FusedRecipe
from genrail.finders.made_up import made_up
from genrail.finders.native import NativeRecipe
from genrail.finding import Data
from genrail.models.free_writing import drawn_lines
from genrail.models.plain_text import control_tokens
from genrail.training.fine_tuning_settings import FineTuning
from genrail.training.pseudo_queries import QueryMaking, pseudo_queries
from genrail.types import silent
from tests.finders.test_fine_tuning import QUICK, TEMPLATE, language_model

WORDS = ["zebra", "anchor", "violin", "cactus", "lantern", "walnut"]
BY_BM25 = {"made": "written", "kept_by": ("bm25",), "kept_within": 1}


def shop(changed=""):
    return genrail.Catalog.from_items(
        [
            {"id": f"t{row}", "title": f"{word} number {row}{changed if row == 2 else ''}"}
            for row, word in enumerate(WORDS)
        ]
    )


@pytest.fixture
def scripted(monkeypatch):
    """Let the writer give each text its first word, twice, then the word of its neighbour; lanterns stay empty."""
    calls = []

    def lines(model, tokenizer, prompts, count, most_tokens, randoms, *, choices):
        found = []
        for prompt in prompts:
            words = tokenizer.decode(prompt).split()
            word = [one for one in words if one in WORDS][-1]
            calls.append(word)
            own = ["", "", ""] if word == "lantern" else [word, word, WORDS[WORDS.index(word) - 1]]
            found.append(own[:count])
        return found

    monkeypatch.setattr("genrail.models.free_writing.drawn_lines", lines)
    return calls


def written(catalog, making, own=None, count=3, progress=silent):
    rows = np.flatnonzero(catalog.live)
    return made_up(Data(catalog), rows, count, making, progress, own or language_model())


def test_a_query_is_kept_where_it_finds_its_item_again(scripted):
    made = written(shop(), QueryMaking(**BY_BM25))
    kept = {(query, row) for query, row, model in zip(made.queries, made.rows, made.written, strict=True) if model}
    assert kept == {(word, row) for row, word in enumerate(WORDS) if word != "lantern"}
    assert made.counts == {"written": 18, "kept": 5, "repeated": 8, "not found": 5, "cut instead": 3}
    cut = [query for query, model in zip(made.queries, made.written, strict=True) if not model]
    titles = shop().titles
    assert cut == pseudo_queries(["", "", "", "", titles[4], ""], ["", "", "", "", titles[4], ""], 3)[0]


def test_without_a_filter_all_are_kept(scripted):
    made = written(shop(), QueryMaking(**{**BY_BM25, "kept_within": 0}))
    assert made.counts["kept"] == 10 and made.counts["not found"] == 0


def test_a_teacher_at_hand_is_asked_instead(scripted):
    class Nowhere:
        def find(self, requests, k, options):
            from genrail.finding import Found

            return [Found(np.zeros(0, np.int64), np.zeros(0))] * len(requests)

    data = Data(shop()).taught_by(Nowhere())
    made = made_up(data, np.arange(6), 2, QueryMaking(**BY_BM25), silent, language_model())
    assert made.counts["kept"] == 0 and len(made.queries) == 12 and not made.written.any()


class TestFile:
    def test_queries_are_written_once_and_a_run_that_was_cut_off_goes_on(self, scripted, tmp_path, monkeypatch):
        monkeypatch.setattr("genrail.finders.made_up.WRITTEN", 2)
        making = QueryMaking(**BY_BM25, query_file=str(tmp_path / "new" / "queries.jsonl"))

        def cut(stage, done, total):
            if stage == "writing queries" and done == 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            written(shop(), making, progress=cut)
        assert scripted == WORDS[:4]
        path = tmp_path / "new" / "queries.jsonl"
        path.write_bytes(path.read_bytes() + b'{"item_id": "t4", "te')  # killed while a line was written
        once = written(shop(), making)
        assert scripted == WORDS
        again = written(shop(), making, count=2)  # fewer are there already
        assert scripted == WORDS and again.counts["written"] == 12
        written(shop(" new"), making)
        assert scripted == [*WORDS, WORDS[2]]  # whose text has changed
        assert once.counts == written(shop(), making).counts
        first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert first["format"] == "genrail written queries 1" and len(lines) == 7

    def test_another_writer_is_refused_by_name(self, scripted, tmp_path):
        making = {**BY_BM25, "query_file": str(tmp_path / "queries.jsonl")}
        written(shop(), QueryMaking(**making))
        with pytest.raises(FingerprintError, match="made otherwise: model, query_tokens differ"):
            written(shop(), QueryMaking(**making, query_tokens=9), own=language_model(seed=1))

    def test_another_file_is_refused(self, scripted, tmp_path):
        (tmp_path / "queries.jsonl").write_text('{"format": "other"}\n')
        with pytest.raises(DamagedError, match="give another query_file"):
            written(shop(), QueryMaking(**BY_BM25, query_file=str(tmp_path / "queries.jsonl")))


def test_a_language_model_is_taught_by_its_own_queries_and_shows_them(scripted):
    engine = Engine.build(shop(), model=language_model(), template=TEMPLATE)
    how = {**QUICK, **BY_BM25, "pseudo_queries": 3}
    report = engine.train(**how)
    assert report.pairs == {"written": 5, "text": 3}
    assert report.summary()["queries of a model"].startswith("18 written, 5 kept, 8 repeated, 5 not found")
    *_, shown = engine.training_examples(1, **how)
    assert shown["source"] == "written"
    assert shown["items"][0]["title"].split()[0] in shown["prompt"]
    few = engine.train(**how, made_up=4)  # two items are drawn, and written about
    assert sum(few.pairs.values()) <= 4 and few.written["written"] == 6


def test_the_native_model_learns_from_them_too(scripted, tmp_path):
    writer = language_model()
    writer.model.save_pretrained(tmp_path / "model")
    writer.tokenizer.save_pretrained(tmp_path / "model")
    how = {"query_writer": str(tmp_path / "model"), "query_file": str(tmp_path / "queries.jsonl"), **BY_BM25}
    engine = Engine.build(shop(), "native", encoder="hashing", epochs=1, codes=4, pseudo_queries=3, **how)
    report = engine.edition.finder.report
    assert report.written["kept"] == 5 and "5 kept" in report.summary()["queries of a model"]
    engine.save(tmp_path / "e")
    assert str(tmp_path / "queries") not in "".join(one.read_text() for one in (tmp_path / "e").rglob("*.json"))
    recipe = genrail.load(tmp_path / "e").edition.finder.recipe
    assert recipe.making == QueryMaking(**how).kept()


def test_settings_are_read_back_and_wrong_ones_are_sentences():
    making = QueryMaking(**BY_BM25, query_template=TEMPLATE, query_file="here")
    for recipe in (NativeRecipe(making=making), FusedRecipe(making=making)):
        assert type(recipe).from_dict(json.loads(json.dumps(recipe.to_dict()))).making == making.kept()
    tuning = FineTuning(making=making)
    assert FineTuning.from_dict(json.loads(json.dumps(tuning.to_dict()))) == tuning.kept()
    for wrong in ({"made": "found"}, {"query_tokens": 0}, {"kept_by": ""}, {"kept_within": -1}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            QueryMaking(**wrong)


def test_nobody_to_write_and_nothing_to_be_written_are_sentences():
    with pytest.raises(SettingsError, match="give made='written'"):
        written(shop(), QueryMaking(query_writer="SmolLM2-135M"))
    with pytest.raises(SettingsError, match="no language model to write; give query_writer"):
        Engine.build(shop(), "native", encoder="hashing", **BY_BM25)


class TestDrawing:
    def lines(self, prompts, seeds, **settings):
        model = language_model()
        return drawn_lines(
            model, model.tokenizer, prompts, 4, 6, [np.random.default_rng(seed) for seed in seeds], **settings
        )

    def test_what_is_drawn_behind_a_prompt_depends_on_no_other(self):
        prompts = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
        together = self.lines(prompts, [1, 2, 3], choices=10)
        assert [
            self.lines([prompt], [seed], choices=10)[0] for prompt, seed in zip(prompts, [1, 2, 3], strict=True)
        ] == together
        assert len(set(together[0])) > 1 and self.lines(prompts[:1], [4], choices=10)[0] != together[0]

    def test_one_choice_is_the_most_probable_and_no_control_token(self):
        model = language_model()
        tokens = [5, 6, 7]
        control = [token for token in control_tokens(model.tokenizer) if token != model.tokenizer.eos_token_id]
        for _ in range(6):
            with torch.no_grad():
                logits = model.model(input_ids=torch.tensor([tokens])).logits[0, -1, : len(model.tokenizer)].clone()
            logits[control] = -torch.inf
            tokens.append(int(logits.argmax()))
            if tokens[-1] == model.tokenizer.eos_token_id:
                break
        expected = (model.tokenizer.decode(tokens[3:], skip_special_tokens=True).strip().splitlines() or [""])[
            0
        ].strip()
        assert self.lines([[5, 6, 7]], [0], choices=1) == [[expected] * 4]
