"""TIGER as a retriever: the contract, probabilities as scores, and a folder that comes back as it was."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from genrail.errors import DamagedError, FingerprintError, FormatError, ShapeError
from genrail.finders import TIGER
from genrail.models.tiger import TigerSettings
from genrail.training.loop import LoopSettings
from genrail.training.tiger import TigerTraining
from genrail.types import Query
from tests.contracts.retriever import RetrieverContract, contract_catalog
from tests.finders.test_contract import events

SMALL = TigerSettings(width=16, layers=1, heads=1, head_width=8, feed_forward=16)
QUICK = TigerTraining(LoopSettings(epochs=2, learning_rate=0.01, warm_up=2), batch=32)


def codes(catalog):
    return np.array([[row // 5, row % 5] for row in range(len(catalog))])


def make(catalog, **options):
    return TIGER(catalog, events(catalog), codes(catalog), SMALL, QUICK, beam=4, **options)


class TestTIGER(RetrieverContract):
    def make(self, catalog):
        return make(catalog)


@pytest.fixture(scope="module")
def catalog():
    return contract_catalog()


@pytest.fixture(scope="module")
def method(catalog):
    return make(catalog)


def test_scores_are_log_probabilities_and_words_only_are_answered_by_popularity(method):
    past, words = method.search_batch([Query(history=["sku-2"]), Query("boot")], k=3)
    assert all(hit.log_probability == hit.score < 0 for hit in past)
    assert all(hit.log_probability is None for hit in words)
    assert any("popularity" in warning for warning in words.warnings)


def test_a_folder_of_0_1_is_refused_with_the_line_that_builds_it_again(method, catalog, tmp_path):
    details = method.save(tmp_path)
    early = {name: value for name, value in details.items() if name not in ("identifiers", "recipe", "beam")}
    with pytest.raises(FormatError, match="genrail build --recipe tiger"):
        TIGER.load(tmp_path, early, catalog)


def test_it_comes_back_from_its_folder(method, catalog, tmp_path):
    details = method.save(tmp_path)
    again = TIGER.load(tmp_path, details, catalog)
    query = Query(history=["sku-2", "sku-5"], where="in_stock")
    assert again.search_batch([query], k=5) == method.search_batch([query], k=5)
    with pytest.raises(DamagedError):
        TIGER.load(tmp_path, details, contract_catalog(items=4))


def test_weights_of_another_model_are_refused(method, catalog, tmp_path):
    details = method.save(tmp_path)
    make(catalog, seed=5).model.save(tmp_path)
    with pytest.raises(FingerprintError, match="another TIGER"):
        TIGER.load(tmp_path, details, catalog)


def test_another_number_of_codes_than_items_is_refused(catalog):
    with pytest.raises(ShapeError, match="23 rows of codes for 24 items"):
        TIGER(catalog, events(catalog), codes(catalog)[1:], SMALL, QUICK)
