"""A language model is taught which titles follow which requests; then it is saved, opened and grown like any other."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import genrail
from genrail.catalog import Interactions
from genrail.engine import Engine
from genrail.errors import DamagedError, DiskError, FingerprintError, SettingsError
from genrail.finders.fine_tuning import pairs_of, taught_pairs
from genrail.finders.lessons import Distillation
from genrail.finding import Data
from genrail.models.adapters import AdaptedLinear
from genrail.models.checkpoints import wrap
from genrail.models.prompts import PromptTemplate
from genrail.training import fine_tuning
from genrail.training.fine_tuning_settings import FineTuning
from genrail.training.loop_settings import LoopSettings
from tests.models import checkpoints

ITEMS = 12
TITLES = checkpoints.TITLES[: 2 * ITEMS : 2]
TEMPLATE = PromptTemplate(system="", search="{query}", recommendation="{history}", answer="> ", line="{number} {title}")
QUERIES = {f"q{row}": f"{row} please" for row in range(ITEMS)}  # words that say nothing: they have to be learnt
QRELS = {f"q{row}": {f"t{row}": 1.0} for row in range(ITEMS)}
LONG = {"epochs": 25}
QUICK = {
    "learning_rate": 4e-3,
    "epochs": 1,
    "warm_up": 2,
    "batch": 6,
    "learns": "all",
    "pseudo_queries": 0,
    "validation": 0,
}


def language_model(family="llama", seed=0):
    tokenizer = checkpoints.tokenizer()
    room = {} if family == "t5" else {"max_position_embeddings": 512}
    return wrap(checkpoints.model(family, len(tokenizer), seed=seed, sharpness=1.0, **room), tokenizer)


def shop(items=ITEMS):
    return genrail.Catalog.from_items([{"id": f"t{row}", "title": title} for row, title in enumerate(TITLES[:items])])


def engine(items=ITEMS, **settings):
    return Engine.build(
        shop(items), model=settings.pop("model", None) or language_model(), template=TEMPLATE, **settings
    )


def events(users=12, length=6):
    steps = range(length)
    return Interactions.from_sequences(
        {f"u{user}": [f"t{(5 * user + 7 * step) % ITEMS}" for step in steps] for user in range(users)}
    )


def right(own):
    return np.mean([own.search(text, k=1).item_ids[0] == f"t{query_id[1:]}" for query_id, text in QUERIES.items()])


@pytest.fixture(scope="module")
def untaught():
    return engine()


@pytest.fixture(scope="module")
def whole(untaught):
    """Teach every weight of the model."""
    own = Engine(untaught.edition)
    own.train(queries=QUERIES, qrels=QRELS, recipe="sft", **QUICK | LONG)
    return own


def test_queries_find_their_titles_afterwards_and_the_given_engine_stays(untaught, whole):
    assert right(untaught) < 0.4 < 0.9 <= right(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [{"loss": "cross-entropy"}, {"pack_tokens": None, "precision": "bfloat16"}, {"learns": "top", "layers": 1}]
)
def test_other_ways_to_learn(untaught, how):
    own = Engine(untaught.edition)
    report = own.train(queries=QUERIES, qrels=QRELS, **{**QUICK, "epochs": 3, **how})
    assert report.loop.history[-1].loss < report.loop.history[0].loss


def test_a_taught_engine_is_saved_opened_and_grown(whole, tmp_path):
    whole.save(tmp_path / "e")
    loaded = genrail.load(tmp_path / "e", live=True)
    assert right(loaded) == right(whole)
    assert loaded.edition.finder.recipe.tuning.learns == "all"
    loaded.add([{"id": "new", "title": "Ecco Sandal purple"}])
    loaded.remove(["t3"])
    found = loaded.search("3 please", k=50).item_ids
    assert "new" in found and "t3" not in found and len(found) == ITEMS


def test_the_saved_folder_opens_with_transformers(whole, tmp_path):
    from transformers import AutoModelForCausalLM

    whole.save(tmp_path / "e")
    folder = next((tmp_path / "e").glob("**/checkpoint"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    own = dict(whole.edition.finder.spelling.model.model.named_parameters())
    assert all(torch.equal(weight, own[name]) for name, weight in model.named_parameters())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    pytest.importorskip("peft", reason='needs the extra: pip install "genrail[peft]"')
    model = language_model()
    folder = tmp_path_factory.mktemp("base")
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def taught(base):
    own = engine(model=str(base))
    spelling = own.edition.finder.spelling
    object.__setattr__(spelling, "source", str(base))  # as if it came from a hub, by name
    lora = {"learns": "lora", "rank": 8, "learning_rate": 1e-2, "epochs": 20}
    report = own.train(queries=QUERIES, qrels=QRELS, **QUICK | lora)
    assert 0 < report.weights < 0.5 * sum(one.numel() for one in spelling.model.model.parameters())
    return own


class TestLoRA:
    def test_the_adapter_is_kept_apart_and_the_base_by_name(self, taught, base, tmp_path):
        assert right(taught) >= 0.5
        taught.save(tmp_path / "e")
        assert not list((tmp_path / "e").glob("**/checkpoint"))
        assert right(genrail.load(tmp_path / "e")) == right(taught)

    @pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft over transformers
    def test_peft_opens_the_adapter(self, taught, base, tmp_path):
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        taught.save(tmp_path / "e")
        folder = next((tmp_path / "e").glob("**/adapter"))
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
        ids = torch.tensor([[5, 6, 7]])
        with torch.no_grad():
            own = taught.edition.finder.spelling.model.model(input_ids=ids).logits
            assert torch.allclose(model(input_ids=ids).logits, own, atol=1e-4)

    def test_engines_share_the_model_that_their_adapters_are_kept_beside(self, base, tmp_path):
        for name in ("one", "other"):
            own = engine(model=str(base))
            object.__setattr__(own.edition.finder.spelling, "source", str(base))
            judged = QRELS if name == "one" else {f"q{row}": {f"t{ITEMS - 1 - row}": 1.0} for row in range(ITEMS)}
            lora = {"learns": "lora", "rank": 8, "learning_rate": 1e-2, "epochs": 20, "merged": False}
            own.train(queries=QUERIES, qrels=judged, **QUICK | lora)
            own.save(tmp_path / name)
            apart = genrail.load(tmp_path / name)
            model = apart.edition.finder.spelling.model
            for text in ("3 please", "4 please"):  # merged in memory, apart from the folder
                merged, found = own.search(text, k=ITEMS), apart.search(text, k=ITEMS)
                assert found.item_ids == merged.item_ids
                assert [hit.score for hit in found] == pytest.approx([hit.score for hit in merged], abs=1e-5)
            assert model.describe()["parameters"] == own.edition.finder.spelling.model.describe()["parameters"]
            assert model.fingerprint == own.edition.finder.spelling.model.fingerprint
            apart.save(tmp_path / f"{name} again")
        first, second = genrail.load(tmp_path / "one again"), genrail.load(tmp_path / "other again")
        models = [one.edition.finder.spelling.model for one in (first, second)]
        assert models[0].over is models[1].over and models[0].fingerprint != models[1].fingerprint
        assert right(first) >= 0.5 > right(second)
        plain = copy.deepcopy(models[0].model)  # what a training begins with
        assert not any(isinstance(part, AdaptedLinear) for part in plain.modules())
        ids = torch.tensor([[5, 6, 7]])
        assert torch.allclose(plain(input_ids=ids).logits, models[0].model(input_ids=ids).logits, atol=1e-5)
        assert set(plain.state_dict()) == set(models[0].model.state_dict())
        with pytest.raises(SettingsError, match="was taught before"):
            first.train(queries=QUERIES, qrels=QRELS, **QUICK | {"learns": "lora", "merged": False})
        shared = weakref.ref(models[0].over)
        del first, second, models, model, apart
        gc.collect()
        assert shared() is None  # nobody needs it any longer

    def test_a_model_without_a_name_cannot_be_shared(self, untaught):
        with pytest.raises(SettingsError, match="has no name"):
            untaught.train(queries=QUERIES, qrels=QRELS, **QUICK | {"learns": "lora", "merged": False})
        with pytest.raises(SettingsError, match="learns is 'all'"):
            untaught.train(queries=QUERIES, qrels=QRELS, **QUICK | {"learns": "all", "merged": False})

    def test_an_adapter_of_another_shape_is_damage(self, taught, base):
        own = taught.edition.finder.spelling.adapter
        cut = {name: tensor[:, :-1] if ".lora_A" in name else tensor for name, tensor in own.tensors.items()}
        with pytest.raises(DamagedError, match="configuration and its base"):
            replace(own, tensors=cut).beside(language_model().model)

    @pytest.mark.slow
    def test_another_base_is_refused(self, taught, base, tmp_path, monkeypatch):
        taught.save(tmp_path / "e")
        other = language_model(seed=1)
        monkeypatch.setattr("genrail.models.checkpoints.load_checkpoint", lambda *_, **__: other)
        with pytest.raises(FingerprintError, match="not the one"):
            genrail.load(tmp_path / "e")

    @pytest.mark.slow
    def test_an_adapter_over_the_last_blocks_alone(self, base):
        own = engine(model=str(base))
        report = own.train(queries=QUERIES, qrels=QRELS, layers=1, **QUICK | {"learns": "lora"})
        sizes = {name: one.shape for name, one in own.edition.finder.spelling.model.model.named_parameters()}
        matrices = [shape for name, shape in sizes.items() if ".1." in name and len(shape) == 2]
        assert report.weights == sum(16 * sum(shape) for shape in matrices)
        assert own.edition.finder.spelling.adapter is None  # the base is a folder, which is copied: it is merged in

    @pytest.mark.slow
    def test_taught_twice_it_is_whole(self, taught, tmp_path):
        own = Engine(taught.edition)
        own.train(queries=QUERIES, qrels=QRELS, **QUICK | {"learns": "lora"})
        own.save(tmp_path / "e")
        assert list((tmp_path / "e").glob("**/checkpoint")) and not list((tmp_path / "e").glob("**/adapter"))
        genrail.load(tmp_path / "e")


def test_held_out_events_never_leak():
    """Every event is an item of its own kind: an item that was withheld can come from nowhere else."""
    catalog = genrail.Catalog.from_items([{"id": f"t{row}", "title": f"thing {row}"} for row in range(60)])
    taken = Interactions.from_sequences(
        {f"u{user}": [f"t{6 * user + step}" for step in range(6)] for user in range(10)}
    )
    data = Data(catalog, taken)
    learnt, held, _ = pairs_of(data, FineTuning(validation=64), 20)
    test = {6 * user + 5 for user in range(10)}
    validation = {row for pair in held for row in pair.rows}
    seen = {row for pair in learnt for row in (*pair.rows, *pair.history)}
    assert len(validation) == 2 and validation <= {6 * user + 4 for user in range(10)}
    assert not seen & (test | validation)
    assert not {row for pair in held for row in pair.history} & test
    everything, *_ = pairs_of(Data(catalog, taken, hold_out=False), FineTuning(validation=0), 20)
    assert {row for pair in everything for row in pair.rows} & test  # the test would see a leak


def test_words_that_validate_are_not_learnt():
    data = Data(shop(), queries=QUERIES, qrels=QRELS)
    learnt, held, _ = pairs_of(data, FineTuning(validation=4, pseudo_queries=0), 20)
    assert len(held) == 2 and len(learnt) == ITEMS - 2
    assert not {pair.text for pair in held} & {pair.text for pair in learnt}


def test_validation_chooses_by_constrained_decoding(untaught, tmp_path):
    own = Engine(untaught.edition)
    curve = tmp_path / "curve.jsonl"
    settings = {**QUICK, "validation": 4, "epochs": 2}
    report = own.train(queries=QUERIES, qrels=QRELS, interactions=events(), curve=str(curve), **settings)
    assert set(report.loop.best) == {"nDCG@10", "R@10"} and report.held_out == 2 + 3
    lines = [json.loads(line) for line in curve.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2] and all("nDCG@10" in line for line in lines)
    assert curve.with_suffix(".html").read_text().count("<polyline") == 3  # loss, nDCG, recall
    assert report.pairs == {"judged": 10, "history": 45}


def test_a_training_that_was_cut_off_resumes_to_the_same_weights(untaught, tmp_path):
    class Cut(Exception):
        pass

    settings = {**QUICK, "epochs": 3}

    def cut(stage, done, total):
        cut.calls += stage.startswith("fine-tuning")
        if cut.calls == 5:
            raise Cut

    cut.calls = 0
    straight, resumed = Engine(untaught.edition), Engine(untaught.edition)
    straight.train(queries=QUERIES, qrels=QRELS, **settings)
    kept = {"checkpoint": str(tmp_path / "kept.safetensors"), **settings}
    with pytest.raises(Cut):
        resumed.train(queries=QUERIES, qrels=QRELS, progress=cut, **kept)
    resumed.train(queries=QUERIES, qrels=QRELS, **kept)
    models = [one.edition.finder.spelling.model for one in (straight, resumed)]
    assert models[0].fingerprint == models[1].fingerprint


def test_long_pasts_are_read_in_pieces_and_learnt_from_alike(untaught, monkeypatch):
    """A batch of long pasts takes gigabytes; its gradients are those of its pieces together."""
    read = []
    plain = fine_tuning.packed

    def counted(examples, *rest, **how):
        read.append(len(examples))
        return plain(examples, *rest, **how)

    monkeypatch.setattr(fine_tuning, "packed", counted)
    weights = []
    for most in (100_000, 60):
        monkeypatch.setattr(fine_tuning, "AT_ONCE", most)
        own = Engine(untaught.edition)
        own.train(interactions=events(), hold_out=False, **QUICK | {"batch": 12, "learning_rate": 1e-3})
        weights.append([one.detach() for one in own.edition.finder.spelling.model.model.parameters()])
        assert (max(read) == 12) == (most == 100_000)
        read.clear()
    for one, other in zip(*weights, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_resuming_with_other_data_is_refused_by_name(untaught, tmp_path):
    settings = {**QUICK, "checkpoint": str(tmp_path / "kept.safetensors")}
    Engine(untaught.edition).train(queries=QUERIES, qrels=QRELS, **settings)
    fewer = {"q1": QRELS["q1"], "q2": QRELS["q2"]}
    with pytest.raises(FingerprintError, match=r"kept\.safetensors is of another training: its data differ"):
        Engine(untaught.edition).train(queries=QUERIES, qrels=fewer, **settings)


def test_a_full_disk_while_saving_is_a_sentence(untaught, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genrail.training.loop.save_file", full)
    with pytest.raises(DiskError, match="disk is full while writing the checkpoint"):
        Engine(untaught.edition).train(
            queries=QUERIES, qrels=QRELS, checkpoint=str(tmp_path / "kept.safetensors"), **QUICK
        )
    assert not list(tmp_path.iterdir())


def test_nothing_to_learn_from_is_a_sentence(untaught):
    with pytest.raises(SettingsError, match="nothing to learn from"):
        Engine(untaught.edition).train(pseudo_queries=0, learns="all")


def test_one_pair_is_enough(untaught):
    report = Engine(untaught.edition).train(
        queries={"q": "1 please"}, qrels={"q": {"t1": 1}}, **{**QUICK, "validation": 64}
    )
    assert report.pairs == {"judged": 1} and report.held_out == 0


def test_one_item_leaves_nothing_to_decide():
    with pytest.raises(SettingsError, match="one identifier"):
        engine(1).train(queries={"q": "x"}, qrels={"q": {"t0": 1}}, **QUICK)


def test_unknown_items_of_the_pairs_are_counted(untaught):
    qrels = {"q1": {"t1": 1, "gone": 1}, "q2": {"t2": 1, "away": 2}}
    settings = QUICK
    report = Engine(untaught.edition).train(queries=QUERIES, qrels=qrels, **settings)
    assert report.unknown == 2 and report.summary()["unknown judged items"] == "2"
    with pytest.raises(SettingsError, match="no judged item"):
        Engine(untaught.edition).train(queries=QUERIES, qrels={"q1": {"gone": 1}}, **settings)


@pytest.mark.parametrize(("too_long", "shortened", "left_out"), [("shorten", 1, 0), ("leave out", 0, 1)])
def test_a_request_longer_than_the_window_is_cut_or_left_out_and_counted(untaught, too_long, shortened, left_out):
    words = {"q1": "1 please", "q2": "word " * 60 + "2 please"}
    settings = {**QUICK, "longest": 80, "too_long": too_long}
    report = Engine(untaught.edition).train(queries=words, qrels={"q1": {"t1": 1}, "q2": {"t2": 1}}, **settings)
    assert (report.shortened, report.left_out) == (shortened, left_out)


def test_a_loss_that_becomes_nan_stops_and_keeps_the_best(untaught, monkeypatch):
    from genrail.training import fine_tuning

    plain, calls = fine_tuning.Branchings.loss, []

    def broken(*given):
        calls.append(1)
        return plain(*given) * (float("nan") if len(calls) > 2 else 1.0)

    monkeypatch.setattr(fine_tuning.Branchings, "loss", broken)
    own = Engine(untaught.edition)
    report = own.train(queries=QUERIES, qrels=QRELS, **QUICK | LONG)
    assert report.loop.stopped == "diverged" and "nan in step 3" in report.loop.trouble
    assert report.loop.best_epoch == 1
    assert len(own.search("1 please", k=ITEMS)) == ITEMS


@pytest.mark.slow
def test_a_batch_that_does_not_fit_the_memory_is_halved_and_it_says_so(untaught, monkeypatch):
    from genrail.training import fine_tuning

    plain = fine_tuning.hidden_states

    def small(body, packs, sees):
        if sum(pack.weight for pack in packs) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return plain(body, packs, sees)

    settings = QUICK
    whole, halved = Engine(untaught.edition), Engine(untaught.edition)
    whole.train(queries=QUERIES, qrels=QRELS, **settings)
    monkeypatch.setattr(fine_tuning, "hidden_states", small)
    report = halved.train(queries=QUERIES, qrels=QRELS, **settings)
    assert "cut into 2 pieces" in report.summary()["trouble"]
    models = [one.edition.finder.spelling.model.model for one in (whole, halved)]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("loss", ["pairwise", "listwise"])
def test_what_the_model_writes_wrongly_is_put_behind_what_is_right(untaught, loss, monkeypatch):
    from genrail.training import fine_tuning

    seen, plain = [], fine_tuning._Task._compared

    def compared(self, numbers):
        found = plain(self, numbers)
        seen.extend(zip([self.examples[one] for one in numbers], found, strict=True))
        return found

    monkeypatch.setattr(fine_tuning._Task, "_compared", compared)
    own = Engine(untaught.edition)
    report = own.train(queries=QUERIES, qrels=QRELS, **QUICK | {"epochs": 3, "loss": loss, "negatives": 3})
    assert report.loop.history[-1].loss < report.loop.history[0].loss
    assert len(seen) == 3 * len(QUERIES)
    for before, after in seen:
        wrong = after.rows[len(before.rows) :]
        assert len(wrong) == len(set(wrong)) == 3 and not set(wrong) & set(before.rows)
        assert [*after.weights] == [*before.weights, 0.0, 0.0, 0.0]


def test_negatives_are_for_losses_that_compare_items(untaught):
    with pytest.raises(SettingsError, match="negatives are compared by loss='pairwise' or 'listwise'"):
        untaught.train(queries=QUERIES, qrels=QRELS, **QUICK | {"negatives": 3})


def test_an_encoder_decoder_is_not_taught():
    with pytest.raises(SettingsError, match="fine-tuning takes a causal model of transformers"):
        engine(8, model=language_model("t5")).train(queries=QUERIES, qrels=QRELS)


def test_examples_are_shown_as_the_model_reads_them(untaught):
    shown = untaught.training_examples(1, queries=QUERIES, qrels=QRELS, interactions=events(), validation=0)
    assert [one["source"] for one in shown] == ["history", "judged", "text"]
    assert shown[1]["prompt"].endswith(" please\n> ")
    assert shown[0]["items"][0]["title"] in TITLES


@pytest.mark.parametrize(
    "wrong",
    [{"recipe": "rl"}, {"loss": "hinge"}, {"learns": "some"}, {"batch": 0}, {"smoothing": 1.0}, {"too_long": "cut"}],
)
def test_settings_outside_their_range_are_errors(untaught, wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        untaught.train(**wrong)


def test_more_blocks_than_there_are():
    with pytest.raises(SettingsError, match="the model has 2"):
        engine(8).train(queries=QUERIES, qrels=QRELS, **QUICK | {"learns": "top", "layers": 3})


def test_settings_are_read_back_from_a_manifest():
    own = FineTuning(learns="all", loop=LoopSettings(epochs=3), checkpoint="here", curve="there")
    assert FineTuning.from_dict(json.loads(json.dumps(own.to_dict()))) == own.kept()
    assert own.kept().checkpoint is None


class TestCodes:
    """Semantic IDs are learnt by the same way."""

    def build(self, **settings):
        own = {"encoder": "hashing", "template": TEMPLATE, "levels": 2, "codes": 4, **QUICK, **settings}
        return Engine.build(shop(), "codes", model=language_model(), queries=QUERIES, qrels=QRELS, **own)

    @pytest.mark.slow
    def test_queries_find_their_codes(self):
        own = self.build(**LONG)
        assert right(own) >= 0.4
        assert own.edition.finder.beam.meaning == "renormalised"

    def test_codes_alone_leave_every_word_as_it_was(self):
        own = self.build(learns="codes")
        words = language_model().model
        full, tokens = own.edition.finder.spelling.model.full, own.edition.finder.spelling.model.tokens
        learnt = dict(full.named_parameters())
        for name, weights in words.named_parameters():
            known = learnt[name][: tokens.first] if "embed" in name or "lm_head" in name else learnt[name]
            assert torch.equal(known, weights[: len(known)]), name
        assert own.edition.finder.report.loop.history[-1].loss > 0

    def test_further_training_leaves_the_engine_as_it_was(self, tmp_path):
        own = self.build()
        before = own.edition.finder.spelling.model.fingerprint
        other = Engine(own.edition)
        other.train(queries=QUERIES, qrels=QRELS, recipe="sft", **QUICK)
        assert own.edition.finder.spelling.model.fingerprint == before
        assert other.edition.finder.spelling.model.fingerprint != before
        other.save(tmp_path / "e")
        found = genrail.load(tmp_path / "e").search("3 please", k=5)
        assert found.item_ids == other.search("3 please", k=5).item_ids

    def test_words_have_no_codes_to_learn(self, untaught):
        with pytest.raises(SettingsError, match="writes words"):
            untaught.train(queries=QUERIES, qrels=QRELS, **QUICK | {"learns": "codes"})

    def test_alignment_joins_codes_and_words(self):
        own = self.build()
        given = {"recipe": "align", "interactions": events(), **QUICK}
        shown = own.training_examples(20, **{name: one for name, one in given.items() if name != "learns"})
        aligned = [one for one in shown if one["source"] == "align"]
        assert any("<sid_0_" in one["prompt"] for one in aligned) and any(
            "<sid_" not in one["prompt"] for one in aligned
        )
        report = own.train(**given, epoch=40)
        assert report.pairs["align"] == 2 * ITEMS + report.pairs["history"]
        assert len(own.search("3 please", k=ITEMS)) == ITEMS


def test_titles_have_no_codes_to_align(untaught):
    with pytest.raises(SettingsError, match="has no codes"):
        untaught.train(recipe="align", **QUICK)


def test_a_teacher_says_what_is_right_beside_the_item_itself(untaught):
    teacher = Engine.build(shop(), "bm25")
    data = Data(shop(), seed=3).taught_by(teacher.edition.finder)
    made, held, _ = pairs_of(data, FineTuning(pseudo_queries=2, validation=4), 20)
    told = taught_pairs(made, data, 20, Distillation(share=0.4, depth=3), lambda *_: None)
    assert len(told) == len(made) and len(held) == 4
    for before, pair in zip(made, told, strict=True):
        assert sum(pair.weights) == pytest.approx(1.0)
        own = dict(zip(pair.rows, pair.weights, strict=True))
        assert own[before.rows[0]] >= 0.6 - 1e-6
        listed = {int(one[1:]) for one in teacher.search(before.text, k=3).item_ids}
        assert set(own) - {before.rows[0]} <= listed
    report = Engine(untaught.edition).train(recipe="distill", teacher=teacher, **QUICK | {"pseudo_queries": 1})
    assert set(report.pairs) == {"teacher"}
    [shown] = untaught.training_examples(1, recipe="distill", teacher=teacher, **QUICK | {"pseudo_queries": 1})
    assert shown["source"] == "teacher" and shown["items"][0]["share"] >= 0.5
    with pytest.raises(SettingsError, match="nobody teaches"):
        untaught.train(recipe="distill", **QUICK | {"pseudo_queries": 1})
    with pytest.raises(SettingsError, match="teacher has 3 items"):
        untaught.train(recipe="distill", teacher=Engine.build(shop(3), "bm25"), **QUICK)


def test_contrast_learns_all_first_and_then_what_it_is_meant_for(untaught):
    catalog = genrail.Catalog.from_items(
        [{"id": f"t{row}", "title": title, "price": row} for row, title in enumerate(TITLES)]
    )
    own = Engine.build(catalog, model=language_model(), template=TEMPLATE)
    how = {"recipe": "calrec", "focus": "price < 4", "first_epochs": 1, "epochs": 2}
    report = own.train(interactions=events(), **QUICK | how)
    assert len(report.loop.history) == 2 and report.loop.history[1].loss > 0
    with pytest.raises(SettingsError, match="give pack_tokens"):
        own.train(interactions=events(), **QUICK | how | {"pack_tokens": None})
    with pytest.raises(SettingsError, match="focus allows no item"):
        own.train(interactions=events(), **QUICK | how | {"focus": "price > 99"})
