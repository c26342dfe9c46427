"""A log is applied in one step, and the result is that of one change after the other."""

import random

import numpy as np
import pytest

from genrail.engine import Engine
from genrail.engine.folder import load
from genrail.engine.live import MergeSettings
from genrail.engine.replaying import replayed
from genrail.errors import FormatError
from genrail.models.native_nodes import NodeTable
from genrail.storage import open_journal, open_version
from tests.engine.test_updates import answers, shoe
from tests.shops import engine

NEVER = MergeSettings(automatic=False)


@pytest.fixture
def live(tmp_path):
    Engine(engine().edition, merging=NEVER).save(tmp_path / "shop.genrail")
    return Engine.load(tmp_path / "shop.genrail", live=True, merging=NEVER)


def log_of(own):
    folder = own.standing()[1].folder
    return open_journal(open_version(folder)).records(), folder


def one_by_one(edition, records):
    for record in records:
        edition = replayed(edition, [record])
    return edition


def assert_same(one, other):
    """Rows, identifiers, index, every number of the model, and answers."""
    assert one.catalog.fingerprint == other.catalog.fingerprint
    assert one.catalog.item_ids == other.catalog.item_ids
    np.testing.assert_array_equal(one.catalog.live, other.catalog.live)
    np.testing.assert_array_equal(one.finder.table.matrix(), other.finder.table.matrix())
    model, same = one.finder.spelling.model, other.finder.spelling.model
    for name in ("parent", "token", "slot", "levels", "leaf"):
        np.testing.assert_array_equal(getattr(model.table, name), getattr(same.table, name))
    for name, tensor in model.network.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), same.network.state_dict()[name].numpy())
    np.testing.assert_array_equal(one.finder.spelling.memory.together, other.finder.spelling.memory.together)
    assert answers(Engine(one, merging=NEVER)) == answers(Engine(other, merging=NEVER))


def assert_replayed(own):
    records, folder = log_of(own)
    plain = engine().edition
    together, apart = replayed(plain, records), one_by_one(plain, records)
    assert_same(together, apart)
    assert_same(together, own.edition)
    assert_same(load(folder)[0], own.edition)


def test_adds_one_by_one(live):
    for number in range(25):
        live.add([shoe(number % 9 + 100 * number, name=f"purple wellington {number % 4}")])
    assert_replayed(live)


def test_adds_of_several_that_share_new_prefixes(live):
    for number in range(0, 30, 5):
        live.add([shoe(number + place, name=f"strange thing {place // 2}") for place in range(5)])
    assert_replayed(live)


def test_an_id_that_is_added_removed_and_added_again(live):
    live.add([shoe(1)])
    live.add([shoe(2)])
    live.remove(["n1"])
    live.remove(["n2", "s3"])
    live.add([shoe(1, name="yellow slipper")])
    live.update([shoe(1, price=77)])
    live.update([{"sku": "n1", "price": 78}, {"sku": "s4", "price": 79}])
    live.update([{"sku": "n1", "name": "yellow slipper indeed"}])
    live.update([{"sku": "n1", "name": "yellow slipper again"}, {"sku": "s5", "price": 1}])
    live.remove(["n1"])
    live.add([shoe(1, season="spring")])
    assert_replayed(live)
    assert live.catalog.attributes(live.catalog.row("n1"))["season"] == "spring"


@pytest.mark.parametrize("seed", range(4))
def test_any_log(live, seed):
    chance, number = random.Random(seed), 0
    for _ in range(30):
        ids = [item for item, there in zip(live.catalog.item_ids, live.catalog.live, strict=True) if there]
        act = chance.choice(["add", "add", "add", "remove", "price", "name"])
        if act == "add":
            count = chance.randint(1, 4)
            live.add([shoe(number + n, name=f"purple {chance.choice(ids)}") for n in range(count)])
            number += count
        elif act == "remove":
            live.remove(chance.sample(ids, 2))
        elif act == "price":
            live.update([{"sku": item, "price": chance.choice([3, 4.5, None])} for item in chance.sample(ids, 2)])
        else:
            live.update([{"sku": chance.choice(ids), "name": f"red boot {chance.randint(0, 3)}"}])
    assert_replayed(live)


def test_more_items_of_one_code_than_the_model_has_tokens(live):
    vocabulary = live.edition.finder.spelling.model.vocab_size
    for begin in range(0, vocabulary + 12, 4):
        live.add([shoe(begin + n, name="all alike") for n in range(4)])
    for number in range(3):
        live.add([shoe(10_000 + number, name="all alike")])
    assert_replayed(live)


def test_nothing_logged_and_an_unknown_change():
    edition = engine().edition
    assert replayed(edition, []) is edition
    with pytest.raises(FormatError, match="'paint'.*upgrade genrail"):
        replayed(edition, [{"change": "paint"}])


@pytest.mark.parametrize("seed", range(30))
def test_nodes_of_groups_are_those_of_one_group_after_the_other(seed):
    chance = np.random.default_rng(seed)
    first = NodeTable.empty(3, 5).extend(chance.integers(0, 5, (6, 3)))
    codes = chance.integers(0, 5, (20, 3))
    groups = np.sort(chance.integers(0, 8, 20))
    vectors = chance.normal(size=(20, 4)).astype(np.float32)
    together = first.extend(codes, groups)
    fresh = together.slot_vectors(vectors, first.slots, first.rows, groups)
    apart, known = first, []
    for group in np.unique(groups):
        grown = apart.extend(codes[groups == group])
        known.append(grown.slot_vectors(vectors[groups == group], apart.slots, apart.rows))
        apart = grown
    for name in ("parent", "token", "slot", "levels", "leaf"):
        np.testing.assert_array_equal(getattr(together, name), getattr(apart, name))
    np.testing.assert_array_equal(fresh, np.concatenate(known))
