"""MaxSim is what the formula says, 8 bits change it little, and a saved index answers as before."""

import numpy as np
import pytest

from genrail.catalog import Catalog
from genrail.errors import DamagedError, FingerprintError, SettingsError, ShapeError
from genrail.finders import LateInteraction, LateInteractionRecipe
from genrail.finders import late_interaction as module
from genrail.types import Query


class Seeded:
    """Give each word its own random vector; a word alone decides."""

    fingerprint = "seeded-16"

    def __init__(self, dimensions=16):
        self.dimensions = dimensions

    def vector(self, word):
        return np.random.default_rng(list(word.encode())).normal(size=self.dimensions).astype(np.float32)

    def encode_tokens(self, texts, progress=None):
        for text in texts:
            words = [word for word in text.split() if word != "wordless"]
            yield np.array([self.vector(word) for word in words], np.float32).reshape(-1, self.dimensions)


WORDS = "trail boot sandal wool winter red blue running shoe".split()
RANDOM = np.random.default_rng(0)
SHOP = Catalog.from_items(
    [{"id": f"i{n}", "title": " ".join(RANDOM.choice(WORDS, size=1 + n % 7))} for n in range(60)]
    + [{"id": "wordless", "title": "wordless"}]
)
EXACT = LateInteractionRecipe(dimensions=None)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(query):
    """Score every item with its full vectors, one at a time."""
    encoder = Seeded()
    (asked,) = encoder.encode_tokens([query])
    scores = []
    for own in encoder.encode_tokens(SHOP.texts()):
        scores.append((unit(asked) @ unit(own).T).max(axis=1).mean() if len(own) else -1.0)
    return np.array(scores)


@pytest.mark.parametrize("block", [1, 7, 100_000])
@pytest.mark.parametrize("query", ["red trail shoe", "wool", "unheard of words", "red red blue"])
def test_scores_are_the_mean_of_the_best_cosines(monkeypatch, block, query):
    monkeypatch.setattr(module, "BLOCK", block)
    (scores,) = LateInteraction(SHOP, Seeded(), settings=EXACT).text_scores([query])
    assert scores == pytest.approx(by_hand(query), abs=0.01)  # 8 bits: a 127th part of the largest value, half of it


def test_a_projection_as_wide_as_what_tokens_span_changes_nothing():
    narrow = LateInteractionRecipe(dimensions=len(WORDS))  # as many directions as words
    (scores,) = LateInteraction(SHOP, Seeded(), settings=narrow).text_scores(["red trail shoe"])
    assert scores == pytest.approx(by_hand("red trail shoe"), abs=0.02)


def test_each_token_costs_its_dimensions_and_a_scale():
    tokens = sum(len(text.split()) for text in SHOP.texts()) - 1
    kept = LateInteraction(SHOP, Seeded(), settings=LateInteractionRecipe(dimensions=4))
    assert kept.index_bytes == tokens * (4 + 4) + (len(SHOP) + 1) * 8 + 16 * 4 * 4


def test_an_item_without_words_comes_last_and_a_query_without_known_tokens_still_gets_answers():
    found = LateInteraction(SHOP, Seeded(), settings=EXACT)
    assert found.search("red trail", k=len(SHOP)).item_ids[-1] == "wordless"
    (scores,) = found.text_scores([""])
    assert scores.tolist() == [0.0] * len(SHOP)


def test_a_history_finds_the_items_that_share_its_words():
    ranking = LateInteraction(SHOP, Seeded(), settings=EXACT).search_batch([Query(history=["i0"])], k=1)[0]
    word = SHOP.titles[0]
    assert word in SHOP.titles[SHOP.row(ranking.item_ids[0])]


def test_a_saved_index_answers_as_before(tmp_path):
    made = LateInteraction(SHOP, Seeded(), settings=LateInteractionRecipe(dimensions=8), name="MaxSim", seed=3)
    details = made.save(tmp_path)
    loaded = LateInteraction.load(tmp_path, details, SHOP, Seeded())
    queries = [Query("red boot"), Query("winter", history=["i3"])]
    assert loaded.search_batch(queries, k=20) == made.search_batch(queries, k=20)
    assert (loaded.name, loaded.recipe) == (made.name, made.recipe)


def test_what_does_not_belong_together_is_refused(tmp_path):
    details = LateInteraction(SHOP, Seeded(), settings=EXACT).save(tmp_path)
    other = Seeded()
    other.fingerprint = "another"
    for given in (other, None):
        with pytest.raises(FingerprintError, match="another encoder"):
            LateInteraction.load(tmp_path, details, SHOP, given)
    np.save(tmp_path / "scales.npy", np.zeros(3, np.float32))
    with pytest.raises(DamagedError, match="scales"):
        LateInteraction.load(tmp_path, details, SHOP, Seeded())


def test_odd_vectors_are_refused():
    class Odd(Seeded):
        def encode_tokens(self, texts, progress=None):
            for text in texts:
                yield np.ones((1, 1 + len(text) % 2), np.float32)

    class Broken(Seeded):
        def encode_tokens(self, texts, progress=None):
            return (np.full((1, 4), np.nan, np.float32) for _ in texts)

    with pytest.raises(ShapeError, match="one width"):
        LateInteraction(SHOP, Odd())
    with pytest.raises(ShapeError, match="finite"):
        LateInteraction(SHOP, Broken())
    made = LateInteraction(SHOP, Seeded(), settings=EXACT)
    made.tokens = Seeded(dimensions=5)
    with pytest.raises(ShapeError, match="5 dimensions"):
        made.search("red")
    with pytest.raises(SettingsError):
        LateInteractionRecipe(dimensions=0)
