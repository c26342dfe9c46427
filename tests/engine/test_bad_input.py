"""Input that is odd or wrong, engine-wide: a clear error, or a defined answer."""

import numpy as np
import pytest

from genrail.catalog import Catalog, Interactions
from genrail.engine import Engine
from genrail.errors import FingerprintError, IdentifierError, ShapeError
from genrail.finders.native import NativeSpelling
from genrail.identifiers import SemanticIds
from genrail.models.native import NativeModel
from genrail.models.native_settings import NativeSettings
from genrail.models.tiny import HashingEncoder
from tests.shops import build, pasts, shop


class BrokenEncoder(HashingEncoder):
    """Gives NaN for one text."""

    def encode(self, texts, progress=None):
        vectors = np.array(super().encode(texts, progress))
        vectors[[place for place, text in enumerate(texts) if "broken" in text]] = np.nan
        return vectors


def test_a_text_whose_vector_is_nan_stops_the_build_and_is_named():
    items = [{"sku": str(number), "name": "boot"} for number in range(9)] + [{"sku": "9", "name": "broken"}]
    with pytest.raises(ShapeError, match="number 9 of 10 catalogue rows is not finite"):
        Engine.build(Catalog.from_items(items), encoder=BrokenEncoder(), epochs=2)


def test_an_added_item_whose_vector_is_nan_is_refused_and_nothing_changes():
    own = Engine.build(shop(10), encoder=BrokenEncoder(), epochs=2)
    with pytest.raises(IdentifierError, match="NaN"):
        own.add([{"sku": "new", "name": "broken boot", "colour": "red", "price": 1, "in_stock": True}])
    assert len(own) == 10
    assert len(own.search("boot", k=10)) == 10


def test_a_model_refuses_vectors_with_nan():
    vectors = np.eye(3, dtype=np.float32)
    vectors[1, 2] = np.nan
    with pytest.raises(ShapeError, match="item 1 holds NaN"):
        NativeModel.create(NativeSettings(width=8), np.array([[0], [1], [2]]), vectors)


@pytest.mark.parametrize("items", [1, 2, 3])
def test_fewer_items_than_codes(items):
    catalog = shop(items)
    own = build(catalog, interactions=pasts(catalog), codes=64, epochs=2)
    assert sorted(own.search("boot", k=10).item_ids) == sorted(catalog.item_ids)


def test_one_item_and_one_user_with_one_event():
    own = build(shop(1), interactions=Interactions.from_sequences({"u": ["s0"]}), epochs=2)
    assert own.recommend(["s0"], k=3, exclude_seen=False).item_ids == ["s0"]
    assert own.recommend(["s0"], k=3).exhausted


def test_users_with_one_event_teach_nothing_and_get_answers():
    catalog = shop(12)
    own = build(catalog, interactions=Interactions.from_sequences({f"u{n}": [f"s{n}"] for n in range(5)}))
    assert len(own.recommend(["s3"], k=11)) == 11


@pytest.mark.parametrize("policy", ["auto", "off", 0.5])
def test_an_item_never_seen_in_training_can_be_asked_with_and_comes_out(policy):
    catalog = shop(12)
    own = build(catalog, interactions=Interactions.from_sequences({"u": ["s1", "s2", "s3"], "v": ["s2", "s1", "s3"]}))
    assert len(own.recommend(["s9"], k=11, new_items=policy)) == 11
    assert "s9" in own.recommend(["s1"], k=12, new_items=policy).item_ids


def test_two_items_with_equal_vectors_both_come_out():
    items = [{"sku": "a", "name": "same boot"}, {"sku": "b", "name": "same boot"}, {"sku": "c", "name": "hat"}]
    own = build(Catalog.from_items(items), epochs=2)
    codes = own.edition.finder.table.matrix()
    assert codes[0, :-1].tolist() == codes[1, :-1].tolist()
    assert codes[0, -1] != codes[1, -1]
    assert sorted(own.search("same boot", k=3).item_ids) == ["a", "b", "c"]


def test_codebooks_of_another_version_are_refused(tmp_path):
    lane = build(shop(10), epochs=2).edition.finder.spelling
    (tmp_path / "identifiers").mkdir()
    details = lane.save(tmp_path)
    assert (
        NativeSpelling.load(tmp_path, details, shop(10), None).identifiers.fingerprint == lane.identifiers.fingerprint
    )
    other = SemanticIds.fit(HashingEncoder().encode(["a", "b", "c"]), levels=3, codes=2, version=2)
    other.save(tmp_path / "identifiers")
    with pytest.raises(FingerprintError, match="build the engine again"):
        NativeSpelling.load(tmp_path, details, shop(10), None)
