"""SASRec learns order, stands odd data, and comes back from its folder as it was."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from genrail.catalog import Catalog
from genrail.errors import DamagedError, SettingsError, ShapeError
from genrail.evaluation import Training, leave_last_out
from genrail.finders import SASRec, SASRecRecipe
from genrail.finders.sasrec_network import SASRecNetwork, softmax_loss
from genrail.finding import Added, Change
from genrail.training.loop import LoopSettings
from genrail.types import Query
from tests.contracts.retriever import RetrieverContract
from tests.finders.test_contract import events

QUICK = SASRecRecipe(width=8, heads=1, batch_targets=64, loop=LoopSettings(epochs=2, learning_rate=0.01, warm_up=2))
LEARN = SASRecRecipe(
    width=16, heads=2, dropout=0.1, batch_targets=64, loop=LoopSettings(epochs=25, learning_rate=0.02, warm_up=5)
)


class TestSASRec(RetrieverContract):
    def make(self, catalog):
        return SASRec(catalog, events(catalog), QUICK)


def shop(items):
    return Catalog.from_items([{"id": f"i{item}", "title": f"title {item}"} for item in range(items)])


def of_users(*sequences):
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    rows = np.array([row for sequence in sequences for row in sequence], dtype=np.int64)
    return Training([f"u{user}" for user in range(len(sequences))], offsets, rows)


def best(method, *history, k=1, **options):
    (ranking,) = method.search_batch([Query(history=[f"i{row}" for row in history], **options)], k=k)
    return ranking.item_ids


def test_what_comes_next_depends_on_more_than_the_last_item():
    """After 0 2 comes 3, after 1 2 comes 4: no method that looks at the last item alone can know."""
    method = SASRec(shop(6), of_users(*[[0, 2, 3], [1, 2, 4]] * 20), LEARN)
    assert best(method, 0, 2) == ["i3"]
    assert best(method, 1, 2) == ["i4"]


def test_the_same_seed_gives_the_same_answers_and_another_seed_others():
    data = of_users(*[[0, 1, 2, 3], [3, 2, 1]] * 5)
    scores = [
        [hit.score for hit in SASRec(shop(5), data, QUICK, seed=seed).search_batch([Query(history=["i0"])], k=4)[0]]
        for seed in (1, 1, 2)
    ]
    assert scores[0] == scores[1] != scores[2]


def test_training_leaves_the_random_state_of_torch_alone():
    before = torch.random.get_rng_state()
    SASRec(shop(4), of_users([0, 1, 2]), QUICK)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_kept_epoch_is_the_best_of_validation():
    random = np.random.default_rng(0)
    split = leave_last_out(of_users(*[np.arange(6) + random.integers(0, 10) for _ in range(60)]), items=16)
    method = SASRec(shop(16), split.train, QUICK, validation=split.validation)
    assert method.report.best["nDCG@10"] == max(record.metrics["nDCG@10"] for record in method.report.history)
    assert set(method.report.best) == {"nDCG@10", "R@10"}


def test_validation_equals_ranking_with_the_finished_method():
    from genrail.evaluation import evaluate_next_item

    random = np.random.default_rng(1)
    split = leave_last_out(of_users(*[random.permutation(30)[:6] for _ in range(50)]), items=30)
    method = SASRec(shop(30), split.train, QUICK, validation=split.validation)
    found = evaluate_next_item(method, split.validation, shop(30), metrics=["nDCG@10", "R@10"], k=10, latency_queries=0)
    assert found.means == pytest.approx(method.report.best)


def test_loss_is_the_cross_entropy_over_every_item():
    torch.manual_seed(0)
    network = SASRecNetwork(items=7, width=4, layers=1, heads=1, history=5, dropout=0.0, scale=3.0).eval()
    hidden = network(torch.tensor([[1, 2, 3]]))[0]
    scores = hidden @ network.item_vectors().T
    by_hand = -torch.stack([scores[place].log_softmax(0)[target] for place, target in enumerate([2, 3, 6])]).mean()
    found = softmax_loss(hidden, network.item_vectors(), torch.tensor([2, 3, 6]), 0.0)
    assert found.item() == pytest.approx(by_hand.item(), abs=1e-5)
    assert float(scores.detach().abs().max()) <= 3.0 + 1e-4  # cosines times the scale


def test_a_position_does_not_see_what_comes_later():
    network = SASRecNetwork(items=9, width=8, layers=2, heads=2, history=5, dropout=0.5, scale=10.0).eval()
    one, two = network(torch.tensor([[1, 2, 3], [1, 2, 8]]))
    assert torch.allclose(one[:2], two[:2], atol=1e-6)
    assert not torch.allclose(one[2], two[2])


# --- odd data -----------------------------------------------------------------------------------------------------


def test_users_with_one_event_teach_nothing_and_popularity_answers():
    method = SASRec(shop(3), of_users([2], [2], [1]), QUICK)
    assert method.report is None
    assert best(method, 0, k=2) == ["i2", "i1"]


def test_one_user_with_one_event_among_others_is_no_harm():
    method = SASRec(shop(6), of_users([5], *[[0, 1, 2]] * 20), LEARN)
    assert best(method, 0, 1) == ["i2"]


def test_an_item_never_seen_in_training_can_be_in_a_history_and_comes_out_last_resort():
    method = SASRec(shop(5), of_users(*[[0, 1, 2, 3]] * 20), LEARN)
    answer = best(method, 4, k=10)
    assert set(answer) == {"i0", "i1", "i2", "i3"}
    assert "i4" in best(method, 0, k=10)


def test_one_item_and_no_event():
    assert best(SASRec(shop(1), of_users([0, 0, 0]), QUICK), 0, exclude_seen=False) == ["i0"]
    assert best(SASRec(shop(2), of_users(), QUICK), 0) == ["i1"]


def test_a_history_longer_than_the_network_reads_is_cut_to_its_end():
    settings = SASRecRecipe(width=8, history=3, loop=QUICK.loop)
    method = SASRec(shop(8), of_users(*[[0, 1, 2, 3, 4, 5, 6, 7]] * 4), settings)
    long, short = (
        method.search_batch([Query(history=[f"i{row}" for row in rows], exclude_seen=False)], k=8)[0]
        for rows in ([7, 6, 0, 1, 2], [0, 1, 2])
    )
    assert long.item_ids == short.item_ids


def test_events_outside_the_catalog_are_refused():
    with pytest.raises(ShapeError, match="use one catalogue"):
        SASRec(shop(2), of_users([0, 5]), QUICK)


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"width": 0}, "width is 0"), ({"width": 9}, "2 heads"), ({"dropout": 1.0}, "dropout"), ({"scale": 0.0}, "scale")],
)
def test_settings_are_checked(setting, words):
    with pytest.raises(SettingsError, match=words):
        SASRecRecipe(**setting)


def test_small_sets_get_smaller_steps_and_a_limit_is_kept():
    small, large = SASRecRecipe.for_size(100), SASRecRecipe.for_size(100_000, max_seconds=5.0)
    assert small.batch_targets < large.batch_targets
    assert large.loop.max_seconds == 5.0


# --- folder -------------------------------------------------------------------------------------------------------


def test_an_untrained_one_stays_untrained(tmp_path):
    method = SASRec(shop(3), of_users([2], [2], [1]), QUICK)
    assert not method.trained
    details = json.loads(json.dumps(method.save(tmp_path)))
    assert best(SASRec.load(tmp_path, details, shop(3)), 0, k=2) == ["i2", "i1"]


def test_weights_of_another_size_are_refused(tmp_path):
    method = SASRec(shop(3), of_users([2, 1, 0]), QUICK)
    details = method.save(tmp_path)
    np.save(tmp_path / "weights.items.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(DamagedError, match="shape"):
        SASRec.load(tmp_path, details, shop(3))


def test_an_item_that_came_later_is_ranked_last_and_read_as_nothing():
    before = SASRec(shop(4), of_users(*[[0, 1, 2, 3]] * 20), LEARN)
    catalog = before.catalog.add([{"id": "new", "title": "New"}])
    after = before.grow(catalog, Change((Added.of(catalog, range(4, 5), None),)))
    assert best(after, 0, 1, k=10) == [*best(before, 0, 1, k=10), "new"]
    (with_new,) = after.search_batch([Query(history=["i0", "i1", "new"])], k=10)
    assert with_new.item_ids == best(before, 0, 1, k=10)
