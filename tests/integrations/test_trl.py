"""An engine in trl's GRPOTrainer: rollouts stay on the rails, and what is learnt there becomes an engine."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from genrail import Engine
from genrail.catalog import Interactions
from genrail.constraints.compressed import compressed
from genrail.errors import SettingsError
from genrail.integrations.trl import GrpoRails
from tests.finders.test_fine_tuning import ITEMS, QRELS, QUERIES, QUICK, TITLES, engine, shop


def rails(taught=None, **settings):
    given = {"queries": QUERIES, "qrels": QRELS, "pseudo_queries": 0, "validation": 0, **settings}
    return GrpoRails(taught or engine(), **given)


@pytest.mark.parametrize("sampler", ["beam", "sample"])
def test_each_rollout_is_another_item_and_is_worth_what_the_reward_says(sampler):
    own = rails(sampler=sampler, reward="hit")
    prompts = [one["prompt"] for one in own.examples()]
    assert len(prompts) == ITEMS
    found = own.rollouts([text for text in prompts[:3] for _ in range(6)], None)
    for place in range(3):
        group = slice(6 * place, 6 * place + 6)
        titles = [own.tokenizer.decode(one, skip_special_tokens=True) for one in found["completion_ids"][group]]
        assert len(set(titles)) == 6 and set(titles) <= set(TITLES)
        asked = next(row for row in range(ITEMS) if f"{row} please" in prompts[place])
        assert found["worth"][group] == [float(title == TITLES[asked]) for title in titles]
        assert own.rewards(prompts, titles, found["worth"][group]) == found["worth"][group]
    assert [own.tokenizer.decode(ids) for ids in found["prompt_ids"][::6]] == prompts[:3]


def test_only_tokens_at_branchings_are_learnt_from():
    own = rails()
    table = engine().edition.finder.table
    identifiers = [table.sequence(row).tolist() for row in range(ITEMS)]
    found = own.rollouts([own.examples()[0]["prompt"]] * 4, None)
    for tokens, chosen in zip(found["completion_ids"], found["env_mask"], strict=True):
        expected = [
            int(len({other[depth] for other in identifiers if other[:depth] == tokens[:depth]}) > 1)
            for depth in range(len(tokens))
        ]
        assert chosen == expected


def test_rollouts_follow_the_weights_as_they_stand():
    own = rails(sampler="beam")
    prompts = [own.examples()[0]["prompt"]] * 4
    before = own.rollouts(prompts, None)["completion_ids"]
    with torch.no_grad():
        own.model.get_output_embeddings().weight.neg_()
    assert own.rollouts(prompts, None)["completion_ids"] != before


def test_where_fewer_items_are_allowed_they_come_again():
    history = Interactions.from_sequences({f"u{n}": [f"t{row}" for row in range(ITEMS - 1)] for n in range(2)})
    own = rails(queries=None, qrels=None, interactions=history, hold_out=False)
    longest = max(own.examples(), key=lambda one: len(one["prompt"]))["prompt"]
    found = own.rollouts([longest] * 5, None)
    assert len({tuple(one) for one in found["completion_ids"]}) == 2


def test_what_is_asked_alike_has_the_right_items_of_both():
    queries, qrels = {"a": "boot", "b": "boot"}, {"a": {"t1": 1.0}, "b": {"t4": 1.0}}
    own = rails(queries=queries, qrels=qrels, reward="hit", sampler="beam")
    (asked,) = own.examples()
    assert sum(own.rollouts([asked["prompt"]] * ITEMS, None)["worth"]) == 2.0


def test_a_teacher_says_what_the_rollouts_are_worth():
    teacher = Engine.build(shop(), "bm25")
    settings = {"queries": None, "qrels": None, "pseudo_queries": 1, "share": 1.0, "reward": "teacher"}
    own = rails(teacher=teacher, **settings)
    prompt = own.examples()[0]["prompt"]
    worth = own.rollouts([prompt] * ITEMS, None)["worth"]
    assert sum(worth) == pytest.approx(1.0)
    with pytest.raises(SettingsError, match="nobody teaches"):
        rails(**settings)


def test_a_prompt_of_somebody_else_is_refused():
    with pytest.raises(SettingsError, match="'hello' is no request of this engine"):
        rails().rollouts(["hello"], None)


def test_an_engine_that_writes_no_titles_is_refused_by_name():
    with pytest.raises(SettingsError, match="writes titles; this one is BM25"):
        GrpoRails(Engine.build(shop(), "bm25"))


@pytest.mark.parametrize("hold_out", [False, True])
def test_the_engine_that_comes_out_tells_whether_last_events_were_held_out_and_keeps_its_calibration(hold_out):
    before = engine(calibration=None)
    spelling = before.edition.finder.spelling
    spelling.empty_scores(compressed(before.edition.finder.index))
    spelling.empty.choose(0.25)
    own = rails(before, hold_out=hold_out)
    trainer = SimpleNamespace(model=own.model, accelerator=SimpleNamespace(unwrap_model=lambda model: model))
    after = own.taught(trainer).edition.finder.spelling
    assert after.held_out is hold_out
    assert after.empty.weight == 0.25 and after.empty.known


@pytest.mark.parametrize("lora", [False, True])
def test_trl_teaches_the_engine(tmp_path, lora):
    """The real trainer: rewards rise, and the engine that comes out answers by the new weights and is saved."""
    trl = pytest.importorskip("trl", reason="trl: make test-adapters")
    from datasets import Dataset
    from peft import LoraConfig

    taught = engine()
    taught.train(queries=QUERIES, qrels=QRELS, **{**QUICK, "epochs": 8})
    own = rails(taught, reward="rank", sampler="beam")
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path / "trl"), per_device_train_batch_size=24, num_generations=6, max_steps=24, report_to=[],
        learning_rate=2e-2 if lora else 4e-3, beta=0.0, save_strategy="no", use_cpu=True, disable_tqdm=True, bf16=False,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        model=own.model,
        args=arguments,
        processing_class=own.tokenizer,
        train_dataset=Dataset.from_list(own.examples()),
        reward_funcs=own.rewards,
        rollout_func=own.rollouts,
        peft_config=LoraConfig(r=8, target_modules="all-linear") if lora else None,
    )
    trainer.train()
    better = own.taught(trainer)

    def reciprocal_rank(asked):
        found = [asked.search(text, k=ITEMS).item_ids for text in QUERIES.values()]
        return float(np.mean([1 / (1 + ids.index(*QRELS[query])) for query, ids in zip(QRELS, found, strict=True)]))

    assert reciprocal_rank(better) > reciprocal_rank(taught) + 0.05
    better.save(tmp_path / "shop.genrail")
    again = Engine.load(tmp_path / "shop.genrail")
    one, other = again.search("3 please"), better.search("3 please")
    assert one.item_ids == other.item_ids
    assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)
