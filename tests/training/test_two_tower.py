"""Two towers learn what their pairs say, are chosen on held-out queries, and come back from their folder."""

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

from genrail.catalog import Catalog
from genrail.errors import DamagedError, FingerprintError, SettingsError, ShapeError
from genrail.finders import Dense
from genrail.models.text_encoder import TextEncoder
from genrail.training.loop import LoopSettings
from genrail.training.tower_files import load_towers
from genrail.training.two_tower import TwoTowerSettings, _Judged, _Task, train_two_tower
from tests.training.tiny_encoder import save_tiny_encoder

ITEMS = [f"item{number}" for number in range(30)]
WORDS = [f"word{number}" for number in range(30)]
FILLERS = ["please", "find", "me", "some"]
SHOP = Catalog.from_items([{"id": f"i{number}", "title": item} for number, item in enumerate(ITEMS)])
# Word n is about item n: nothing in the letters says so. Each pair is asked in several ways.
QUERIES = {f"q{n}-{way}": f"{filler} {WORDS[n]}" for n in range(30) for way, filler in enumerate(FILLERS)}
RELEVANT = {query_id: [int(query_id[1:].split("-")[0])] for query_id in QUERIES}
RATES = {"head": 3e-2, "query": 1e-2, "both": 3e-3}
GAINS = {"head": 0.3, "query": 0.4, "both": 0.02}  # one tower of this size hardly holds both sides


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return TextEncoder.load(save_tiny_encoder(folder, [*ITEMS, *WORDS, *FILLERS], width=32))


@pytest.fixture(scope="module", params=["head", "query", "both"])
def trained(request, encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    loop = LoopSettings(
        epochs=30, learning_rate=RATES[request.param], warm_up=2, averaging=0.5, patience=30, validate_every=5
    )
    settings = TwoTowerSettings(loop=loop, train=request.param, hard_negatives=4, mined_depth=10, kept=(0.0, 0.5, 1.0))
    towers, report = train_two_tower(encoder, SHOP.texts(), QUERIES, RELEVANT, folder, settings)
    return folder, towers, report, request.param


def test_what_the_pairs_say_is_learnt_on_queries_that_were_held_out(trained):
    _, _, report, train = trained
    assert report.held_out == 18
    assert report.pairs == len(QUERIES) - 18
    assert report.by_share[0.0] == pytest.approx(report.before)
    assert report.by_share[report.kept] == max(report.by_share.values())
    assert report.by_share[report.kept] > report.before + GAINS[train]
    assert report.to_dict()["before"] == report.before


def test_the_towers_are_a_dense_retriever(trained, encoder):
    _, towers, _, train = trained
    found = Dense(SHOP, towers.items, query_encoder=towers.queries)
    right = [found.search(f"find {WORDS[n]}", k=5).item_ids for n in range(30)]
    if train != "both":
        assert np.mean([f"i{n}" in ids for n, ids in enumerate(right)]) > 0.5
        # The items' vectors stay as they were: nothing is encoded again.
        assert towers.items.encode(ITEMS) == pytest.approx(encoder.encode(ITEMS), abs=1e-6)
    else:
        assert towers.items is towers.queries


def test_they_come_back_from_their_folder(trained, tmp_path):
    folder, towers, _, _ = trained
    loaded = load_towers(folder)
    assert loaded.queries.fingerprint == towers.queries.fingerprint
    assert loaded.queries.encode(["find word3"]) == pytest.approx(towers.queries.encode(["find word3"]), abs=1e-6)
    made = Dense(SHOP, towers.items, query_encoder=towers.queries, name="Two towers")
    details = made.save(tmp_path)
    again = Dense.load(tmp_path, details, SHOP, loaded.items, loaded.queries)
    assert again.search("find word3", k=5) == made.search("find word3", k=5)
    if loaded.items is not loaded.queries:
        with pytest.raises(FingerprintError):
            Dense.load(tmp_path, details, SHOP, loaded.items, loaded.items)
    with pytest.raises(DamagedError):
        load_towers(tmp_path)


def test_the_encoder_given_is_not_changed_and_the_seed_decides(encoder, tmp_path):
    before = encoder.encode(WORDS)
    settings = TwoTowerSettings(loop=LoopSettings(epochs=1, warm_up=1), train="query", rounds=1)
    first, second, other = (
        train_two_tower(encoder, SHOP.texts(), QUERIES, RELEVANT, tmp_path / str(place), settings, seed=seed)[1]
        for place, seed in enumerate((0, 0, 1))
    )
    assert encoder.encode(WORDS) == pytest.approx(before, abs=0.0)
    assert first.by_share == second.by_share
    assert first.rounds[0].history[0].loss == second.rounds[0].history[0].loss
    assert first.rounds[0].history[0].loss != other.rounds[0].history[0].loss


def test_a_right_item_is_never_a_negative(encoder):
    queries = {f"q{number}": word for number, word in enumerate(WORDS)}
    relevant = {f"q{number}": np.array([number, (number + 1) % 30]) for number in range(30)}
    judged = _Judged.of(list(queries), queries, relevant)
    settings = TwoTowerSettings(mined_depth=30, hard_negatives=8, batch_size=16)
    task = _Task(encoder, ITEMS, encoder.encode(ITEMS), judged, judged, settings, seed=0)
    task.mine(0)
    for mined, right in zip(task.negatives, judged.rows, strict=True):
        assert set(mined) | set(right) == set(range(30))
        assert not set(mined) & set(right)
    words = {word: set(relevant[f"q{number}"]) for number, word in enumerate(WORDS)}
    for batch in task.epoch(0):
        for place, query in enumerate(batch.queries):
            own = int(batch.rows[batch.own[place]])
            assert own in words[query]
            assert {int(row) for row in batch.rows[~batch.barred[place]]} & words[query] == {own}


def test_frozen_blocks_stay(encoder):
    judged = _Judged(WORDS, [np.array([n]) for n in range(30)])
    task = _Task(
        encoder, ITEMS, encoder.encode(ITEMS), judged, judged, TwoTowerSettings(train="query", frozen_layers=1), seed=0
    )
    learning = {name for name, parameter in task.module.named_parameters() if parameter.requires_grad}
    assert learning
    assert not any("embeddings" in name or ".layer.0." in name for name in learning)
    assert any(".layer.1." in name for name in learning)


def test_what_cannot_be_learnt_from_is_refused(encoder, tmp_path):
    with pytest.raises(SettingsError, match="4 or more"):
        train_two_tower(encoder, ITEMS, QUERIES, {"q0-0": [0]}, tmp_path)
    with pytest.raises(ShapeError, match="rows of this catalogue"):
        train_two_tower(encoder, ITEMS, QUERIES, {**RELEVANT, "q0-0": [30]}, tmp_path)
    with pytest.raises(ShapeError, match="vectors"):
        train_two_tower(encoder, ITEMS, QUERIES, RELEVANT, tmp_path, vectors=np.zeros((3, 32), np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"train": "items"},
        {"temperature": 0.0},
        {"batch_size": 0},
        {"held_out": 1.0},
        {"hard_negatives": -1},
        {"kept": ()},
        {"kept": (2.0,)},
    ],
)
def test_settings_are_checked(options):
    with pytest.raises(SettingsError):
        TwoTowerSettings(**options)
