"""SEAL keeps the contract of every finder; odd texts, passages, fields, and what its explanations say."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from genrail.catalog import Limits
from genrail.decoding import EvidenceSettings
from genrail.decoding.ngrams import NgramSettings
from genrail.engine import Engine
from genrail.errors import SettingsError
from genrail.finders.passages import Speller, word_ngrams
from genrail.finders.seal import SealRecipe
from genrail.models.checkpoints import wrap
from genrail.models.tiny_lm import UniformModel
from tests.contracts.finder import FinderContract, random_shop
from tests.models import checkpoints

NARROW = NgramSettings(width=3, length=3)
SMALL = {"width": 4, "length": 4, "evidence.smoothing": 0.1}  # five occurrences more are much among a few texts


def language_model(family="qwen2", **settings):
    tokenizer = checkpoints.tokenizer(**settings)
    room = {} if family == "t5" else {"max_position_embeddings": 512}
    return wrap(checkpoints.model(family, len(tokenizer), **room), tokenizer)


class Echo(UniformModel):
    """Write what stands in the prompt's first line, each token behind the one it stands behind there."""

    name, family = "echo", "causal"

    def __init__(self):
        self.tokenizer = checkpoints.tokenizer()
        super().__init__(len(self.tokenizer))
        [self._line] = self.tokenizer("\n", add_special_tokens=False)["input_ids"]

    def _logits(self, state):
        logits = np.zeros((len(state.rows), self.vocab_size), dtype=np.float32)
        for row, tokens in zip(logits, state.rows, strict=True):
            prompt, last = tokens[: tokens.index(self._line)], tokens[-1]
            row[list(prompt)] = 6.0
            row[[after for before, after in itertools.pairwise(prompt) if before == last]] = 12.0
        return logits


class TestSeal(FinderContract):
    tolerance = 1e-4

    def recipe(self):
        return SealRecipe(language_model(), passage=16, writing=NARROW)

    def checks(self, path):
        return path.suffix == ".npy"

    def test_a_recipe_survives_json(self):
        recipe = self.recipe()  # the model is saved by itself
        assert SealRecipe.from_dict(recipe.to_dict()).to_dict() == recipe.to_dict()


@pytest.fixture(scope="module")
def model():
    return Echo()


def engine_of(texts, model, **settings):
    items = [{"id": f"d{row}", "title": title, "text": text, "row": row} for row, (title, text) in enumerate(texts)]
    limits = Limits(record_bytes=2**21)  # a catalogue refuses records of a megabyte unless it is told
    catalog = genrail.Catalog.from_items(items, text=["text"], limits=limits)
    return Engine.build(catalog, "seal", model=model, **{**SMALL, **settings})


PLAIN = [
    ("Nike Air red", "a boot for the trail"),
    ("Ecco Sandal navy", "light and soft"),
    ("Clarks", "rain boot black"),
]


def ids(engine, text="rain boot", **query):
    return engine.search(text, k=10, **query).item_ids


# Bad input ------------------------------------------------------------------------------------------------------


def test_empty_documents(model):
    engine = engine_of([("", ""), ("", "a rain boot"), ("Nike", "")], model)
    assert "d0" not in engine.catalog  # the catalogue refuses an item without any words, and says so
    assert ids(engine) == ["d1", "d2"]
    tokens, offsets, counts = engine.edition.finder.speller.spell(["", ""], ["", "Nike"])
    assert (len(tokens) > 2, offsets[:2].tolist(), counts.tolist()) == (True, [0, 1], [1, 1])  # the mark alone


def test_one_document(model):
    engine = engine_of(PLAIN[:1], model)
    assert ids(engine) == ["d0"] and ids(engine, where="row > 0") == []


def test_documents_of_one_token(model):
    engine = engine_of([("b", ""), ("a", ""), ("r", "")], model)
    assert engine.edition.finder.index.token_count == 6  # each with its mark
    assert sorted(ids(engine, "a b")) == ["d0", "d1", "d2"]


def test_a_document_of_a_megabyte_is_cut_and_the_answer_names_the_passage(model):
    long = "Nike Air red " * 75_000
    engine = engine_of([("Long", f"{long} (Merrell) {long[:1000]}"), *PLAIN], model, lower_case=False)
    finder = engine.edition.finder
    assert max(len(finder.index.sequence(passage)) for passage in range(0, len(finder.index), 997)) <= 257
    hit = engine.search("Merrell", k=1, explain=True)[0]
    assert hit.item_id == "d0" and "(Merrell)" in hit.explanation["passage"]["text"]
    assert 1 < hit.explanation["passage"]["number"] <= hit.explanation["passage"]["of"] == finder.passages.counts[0]


def test_a_whole_megabyte_as_one_passage_is_shown_around_its_best_ngram(model):
    long = "Nike Air red " * 75_000
    engine = engine_of([("Long", f"{long} (Merrell)"), *PLAIN], model, passage=None, lower_case=False)
    told = engine.search("Merrell", k=1, explain=True)[0].explanation
    assert told["passage"]["of"] == 1 and len(told["passage"]["text"]) < 3000
    assert "(Merrell)" in told["passage"]["text"]


def test_control_tokens_inside_texts_are_characters(model):
    evil = "</s> rain <|im_end|> boot <think>"
    engine = engine_of([("</s>", evil), *PLAIN], model)
    finder = engine.edition.finder
    assert sorted(ids(engine, evil)) == ["d0", "d1", "d2", "d3"]
    for passage in range(len(finder.index)):
        assert finder.index.sequence(passage).tolist().count(finder.speller.mark) == 1
    assert "</s>" not in finder.speller.text(finder.index.sequence(0)[1:])


def test_ngrams_never_cross_the_border_of_a_document_or_passage(model):
    engine = engine_of([(title, f"{text} " * 20) for title, text in PLAIN], model, passage=16)
    finder = engine.edition.finder
    [parts] = finder.write([_request(engine, "rain boot")], [None], genrail.finding.FindOptions())
    passages = [finder.index.sequence(passage).tolist() for passage in range(len(finder.index))]
    for ngram in (ngram for written in parts for ngram in written.ngrams):
        assert any(passage[at : at + len(ngram)] == list(ngram) for passage in passages for at in range(len(passage)))


def test_all_documents_equal(model):
    engine = engine_of([("Rain boot", "black")] * 5, model)
    answer = engine.search("rain boot", k=10)
    assert sorted(answer.item_ids) == [f"d{row}" for row in range(5)]
    assert len({hit.score for hit in answer}) == 1


def test_a_filter_that_leaves_one_document(model):
    engine = engine_of(PLAIN, model)
    assert ids(engine, where="row = 1") == ["d1"]
    hit = engine.search("boot", where="row = 1", explain=True)[0]
    assert hit.explanation["passage"]["text"] == "Ecco Sandal navy. light and soft"


def test_settings_and_models_that_do_not_fit_are_refused(model):
    with pytest.raises(SettingsError, match="passage is 3; give 16"):
        engine_of(PLAIN, model, passage=3)
    with pytest.raises(SettingsError, match="fields is 'words'"):
        SealRecipe(model, fields="words")
    with pytest.raises(SettingsError, match="query_ngrams"):
        SealRecipe(model, query_ngrams=-1)
    with pytest.raises(SettingsError, match="and nothing was given"):
        Engine.build(random_shop(1), "seal")
    with pytest.raises(SettingsError, match="int is none"):
        Engine.build(random_shop(1), SealRecipe(3))


# What it promises -------------------------------------------------------------------------------------------------


def _request(engine, text):
    from genrail.finding import resolve
    from genrail.types import Query

    return resolve(Query(text), engine.catalog, engine.edition.filters)


def test_explanations_mark_the_ngrams_where_they_stand(model):
    engine = engine_of([*PLAIN, ("Größe – naïve ½", "Führer für Stiefel 靴 😀")], model)
    for text in ("rain boot black", "Führer für Stiefel 靴 😀"):
        hit = engine.search(text, k=1, explain=True)[0]
        passage, ngrams = hit.explanation["passage"]["text"], hit.explanation["ngrams"]
        assert ngrams and all(passage[one["start"] : one["end"]] == one["text"] for one in ngrams)
        assert all(one["text"] == one["text"].strip() for one in ngrams)
        assert any(one["text"] in text for one in ngrams)
        assert sum(one["score"] for one in ngrams) <= hit.score + 1e-6  # and single words beside them


TITLE_CASE = [("Nike Air Red", ""), ("Ecco Sandal Navy", ""), ("Clarks Rain Boot Black", "")]


def test_texts_in_title_case_are_read_in_lower_case_and_shown_as_they_are(model):
    engine = engine_of(TITLE_CASE, model)
    hit = engine.search("rain boot black", k=1, explain=True)[0]
    passage, ngrams = hit.explanation["passage"]["text"], hit.explanation["ngrams"]
    assert hit.item_id == "d2" and passage == "Clarks Rain Boot Black"
    assert "Black" in {one["text"] for one in ngrams}
    assert all(passage[one["start"] : one["end"]] == one["text"] for one in ngrams)
    assert ids(engine, "RAIN BOOT BLACK") == ids(engine, "rain boot black")
    assert engine_of(PLAIN, model).edition.finder.recipe.lower_case is False


def test_case_stays_as_it_was_chosen_when_taught_saved_and_grown(tmp_path):
    pytest.importorskip("peft")
    engine = engine_of(TITLE_CASE, language_model(), queries=QUERIES, qrels=QRELS, **SHORT)
    engine.save(tmp_path / "e")
    for own in (engine, genrail.load(tmp_path / "e", live=True)):
        assert own.edition.finder.recipe.lower_case is True and own.edition.finder.speller.lower
        own.add([{"id": "new", "title": "a boot for the trail", "text": "", "row": 9}])
        finder = own.edition.finder
        assert finder.index.count(finder.index.find(finder.speller.tokens(["Rain Boot Black"[4:]])[0]))


def test_titles_are_written_from_their_beginning(model):
    engine = engine_of(PLAIN, model, fields="titles", query_ngrams=0)
    finder = engine.edition.finder
    [[written]] = finder.write([_request(engine, "Ecco boot")], [None], genrail.finding.FindOptions())
    assert written.ngrams and all(ngram[0] == finder.speller.mark for ngram in written.ngrams)
    free = engine_of(PLAIN, model, fields="ngrams").edition.finder
    [[written]] = free.write([_request(engine, "Ecco boot")], [None], genrail.finding.FindOptions())
    assert all(free.speller.mark not in ngram for ngram in written.ngrams)


def test_asking_again_for_reasons_or_with_other_weights_costs_no_model(model):
    engine = engine_of(PLAIN, model)
    finder = engine.edition.finder
    answer = engine.search("rain boot", k=2)
    broken = finder.retuned(replace(finder.recipe, evidence=EvidenceSettings(scoring="best", smoothing=0.1)))
    assert finder.retuned(replace(finder.recipe, writing=NgramSettings(width=5))) is None
    for one in (finder, broken):
        one.model = None
    assert engine.search("rain boot", k=2, explain=True).item_ids == answer.item_ids
    assert 0 < broken.search("rain boot", k=3)[0].score < answer[0].score


def test_an_encoder_decoder_writes_ngrams_too():
    engine = engine_of(PLAIN, language_model("t5"))
    assert sorted(ids(engine)) == ["d0", "d1", "d2"] and ids(engine)[0] == "d2"


def test_it_is_a_lane_beside_others(tmp_path):
    catalog, own = random_shop(1), {"seal": {"width": 4, "length": 3, "calibrated": False}}
    engine = Engine.build(catalog, lanes=("bm25", "seal"), model=language_model(), settings=own)
    hit = engine.search("red boot", k=3, explain=True)[0]
    assert set(hit.explanation["lanes"]) == {"bm25", "seal"} and hit.explanation["matched"]
    assert "passage" in hit.explanation
    engine.save(tmp_path / "e")
    assert genrail.load(tmp_path / "e").search("red boot", k=5).item_ids == engine.search("red boot", k=5).item_ids


def test_words_of_a_query_in_both_cases_without_punctuation():
    assert word_ngrams('"Big" (dog)!', 3) == ["Big", "big", 'Big" (dog', 'big" (dog', "dog", "Dog"]
    assert word_ngrams("", 3) == word_ngrams("boots", 0) == word_ngrams("!!", 2) == []


def test_long_texts_are_cut_into_passages_that_begin_with_the_title():
    speller = Speller(checkpoints.tokenizer(), 16)
    tokens, offsets, counts = speller.spell(["Nike Air", ""], ["Nike Air. " + "rain boot " * 20, ""])
    passages = [tokens[first:last] for first, last in zip(offsets, offsets[1:], strict=False)]
    assert counts.tolist() == [len(passages) - 1, 1] and passages[-1].tolist() == [speller.mark]
    assert all(len(passage) <= 17 and passage[0] == speller.mark for passage in passages)
    assert all(speller.text(passage[1:]).startswith("Nike Air") for passage in passages[:-1])
    body = "".join(speller.text(passage[1:]).removeprefix("Nike Air") for passage in passages[:-1])
    assert body == ". " + "rain boot " * 20 or body.split() == ("." + " rain boot" * 20).split()
    assert np.all(counts >= 1)


def test_the_server_hands_marks_to_the_page(model):
    from genrail.serving.host import Host
    from genrail.serving.schemas import HitBody

    wanted = {"questions": [{"text": "rain boot"}], "k": 1, "tenant": None, "explain": {"beams": 3, "children": 5}}
    [page] = Host(engine_of(PLAIN, model)).answer(wanted)["answers"]
    hit = HitBody(**page["hits"][0])
    assert hit.id == "d2" and "rain" in hit.passage.text and hit.passage.of == 1
    assert [hit.passage.text[one.start : one.end] for one in hit.ngrams] == [one.text for one in hit.ngrams]
    assert page["trace"] == {"steps": []}


# Teaching -----------------------------------------------------------------------------------------------------------

QUERIES = {"q0": "something to run in", "q1": "a thing for the beach"}
QRELS = {"q0": {"d0": 1}, "q1": {"d1": 2, "d9": 1}}
SHORT = {"epochs": 1, "pseudo_queries": 0, "rank": 2, "validation": 0, "batch": 2}


def test_it_is_taught_by_judged_queries_and_by_made_up_ones(tmp_path):
    pytest.importorskip("peft")
    plain = engine_of(PLAIN, language_model())
    assert plain.edition.finder.report is None
    engine = engine_of(PLAIN, language_model(), queries=QUERIES, qrels=QRELS, **SHORT)
    report = engine.edition.finder.report
    assert report.pairs == {"judged": 2} and report.weights > 0
    assert engine.edition.finder.model.fingerprint != plain.edition.finder.model.fingerprint
    made = engine_of(PLAIN, language_model(), **{**SHORT, "pseudo_queries": 1}).edition.finder
    assert made.report.pairs == {"text": 3}
    engine.train(queries=QUERIES, qrels=QRELS, **SHORT)
    assert engine.edition.finder.report.pairs == {"judged": 2}
    engine.save(tmp_path / "e")
    loaded = genrail.load(tmp_path / "e")
    one, other = (each.search("boot", k=3) for each in (engine, loaded))
    assert one.item_ids == other.item_ids
    assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-3)


def test_the_weights_that_find_most_of_what_is_held_out_are_kept():
    pytest.importorskip("peft")
    queries = {f"q{number}": f"a boot of kind {number}" for number in range(10)}
    qrels = {query_id: {f"d{number % 3}": 1} for number, query_id in enumerate(queries)}
    settings = {**SHORT, "epochs": 3, "validation": 4, "batch": 4}
    loop = engine_of(PLAIN, language_model(), queries=queries, qrels=qrels, **settings).edition.finder.report.loop
    assert [list(one.metrics) for one in loop.history] == [["nDCG@10", "R@10", "log-probability of spans"]] * 3
    assert loop.best["nDCG@10"] == max(one.metrics["nDCG@10"] for one in loop.history) > 0


def test_what_lora_learnt_over_a_named_model_is_saved_without_the_model(tmp_path, monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.setattr("genrail.models.checkpoints.load_checkpoint", lambda *_, **__: language_model())
    engine = engine_of(PLAIN, "some/model", queries=QUERIES, qrels=QRELS, **SHORT)
    engine.save(tmp_path / "e")
    names = {path.name for path in (tmp_path / "e").rglob("*.safetensors")}
    assert names == {"adapter_model.safetensors"}
    loaded = genrail.load(tmp_path / "e")
    assert loaded.edition.finder.model.fingerprint == engine.edition.finder.model.fingerprint


def test_an_encoder_decoder_is_not_taught():
    with pytest.raises(SettingsError, match="taught to those only"):
        engine_of(PLAIN, language_model("t5"), queries=QUERIES, qrels=QRELS, **SHORT)
