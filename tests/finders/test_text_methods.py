"""BM25, TF-IDF and dense retrieval against the libraries they stand on, and at their edges."""

import numpy as np
import pytest

from genrail.catalog import Catalog
from genrail.errors import SettingsError, ShapeError
from genrail.finders import BM25, TFIDF, Dense
from genrail.types import Query
from tests.finders.test_contract import Letters

TITLES = [
    "Waterproof trail running shoes",
    "Trail shoes, trail laces",
    "Wool hat for the winter",
    "Red running socks",
    "The",
    "Winter boots with wool lining, warm and waterproof",
]
SHOP = Catalog.from_items([{"id": f"i{row}", "title": title} for row, title in enumerate(TITLES)])
METHODS = [BM25, TFIDF, lambda catalog: Dense(catalog, Letters())]
NAMES = ["BM25", "TF-IDF", "Dense"]


def test_bm25_equals_the_formula():
    """Lucene's BM25 by hand for one word: idf ln(1 + (N - n + 0.5) / (n + 0.5)), no factor (k1 + 1)."""
    lengths = [4, 4, 3, 3, 0, 6]  # words after stop words
    counts = {0: 1, 1: 2}
    idf = np.log(1 + (6 - 2 + 0.5) / (2 + 0.5))
    (ranking,) = BM25(SHOP).search_batch([Query("trails")], k=2)
    for hit in ranking:
        row = int(hit.item_id[1:])
        frequency = counts[row]
        norm = 1.5 * (1 - 0.75 + 0.75 * lengths[row] / np.mean(lengths))
        assert hit.score == pytest.approx(idf * frequency / (frequency + norm), rel=1e-5)


def test_bm25_equals_bm25s_itself():
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.6)
    index.index(bm25s.tokenize(TITLES, stopwords="english", stemmer=stemmer, show_progress=False), show_progress=False)
    text = "warm shoes for winter running and more shoes"
    words = bm25s.tokenize([text], stopwords="english", stemmer=stemmer, show_progress=False, return_ids=False)[0]
    (ours,) = BM25(SHOP, k1=1.2, b=0.6).text_scores([text])
    np.testing.assert_allclose(ours, index.get_scores(words), rtol=1e-6)


def test_tfidf_equals_cosines_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    matrix = vectorizer.fit_transform(TITLES)
    text = "winter wool wool shoes unheard"
    (ours,) = TFIDF(SHOP).text_scores([text])
    np.testing.assert_allclose(ours, cosine_similarity(vectorizer.transform([text]), matrix)[0], atol=1e-6)
    weights = np.array([0.5, 1.0])
    np.testing.assert_allclose(
        TFIDF(SHOP).item_scores(np.array([0, 5]), weights),
        weights @ cosine_similarity(matrix[[0, 5]], matrix),
        atol=1e-6,
    )


def test_dense_equals_cosines():
    encoder = Letters()
    vectors, query = encoder.encode(TITLES), encoder.encode(["wool"])[0]
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    (ranking,) = Dense(SHOP, encoder).search_batch([Query("wool")], k=6)
    assert [int(hit.item_id[1:]) for hit in ranking] == np.argsort(-cosines).tolist()
    assert [hit.score for hit in ranking] == pytest.approx(np.sort(cosines)[::-1].tolist(), abs=1e-6)


@pytest.mark.parametrize("make", METHODS[:2], ids=NAMES[:2])
def test_a_history_finds_items_like_its_last_ones(make):
    (ranking,) = make(SHOP, decay=0.1).search_batch([Query(history=["i2", "i0"])], k=1)
    assert ranking.item_ids == ["i1"]


@pytest.mark.parametrize("make", METHODS, ids=NAMES)
def test_words_and_a_history_are_added(make):
    source = make(SHOP)
    (words,) = source.text_scores(["red socks"])
    past = source.item_scores(np.array([2]), np.array([1.0]))
    expected = words / np.abs(words).max() + past / np.abs(past).max()
    (ranking,) = source.search_batch([Query("red socks", history=["i2"], exclude_seen=False)], k=6)
    scores = {hit.item_id: hit.score for hit in ranking}
    assert [scores[f"i{row}"] for row in range(6)] == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("make", METHODS[:2], ids=NAMES[:2])
@pytest.mark.parametrize("titles", [["The"], ["the", "of", "and"], ["!!!", "???"]])
def test_a_catalog_without_words_is_answered_in_seeded_order(make, titles):
    shop = Catalog.from_items([{"id": f"i{row}", "title": title} for row, title in enumerate(titles)])
    (ranking,) = make(shop).search_batch([Query("boots")], k=5)
    assert len(ranking) == len(titles)
    assert {hit.score for hit in ranking} == {0.0}


@pytest.mark.parametrize("make", METHODS[:2], ids=NAMES[:2])
def test_removed_items_do_not_count_in_word_statistics(make):
    smaller = Catalog.from_items([{"id": f"i{row}", "title": title} for row, title in enumerate(TITLES[:4])])
    (left,) = make(SHOP.remove(["i4", "i5"])).search_batch([Query("winter running")], k=4)
    (whole,) = make(smaller).search_batch([Query("winter running")], k=4)
    assert [(hit.item_id, hit.score) for hit in left] == [(hit.item_id, hit.score) for hit in whole]


@pytest.mark.parametrize("text", ["trail ' OR 1=1", "</s> [SEP] <|endoftext|>", "x" * 2000, "\x00\n\t trail"])
@pytest.mark.parametrize("make", METHODS, ids=NAMES)
def test_odd_queries_are_words_like_others(make, text):
    assert len(make(SHOP).search(text, k=3)) == 3


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="k1 is -1"):
        BM25(SHOP, k1=-1)
    with pytest.raises(SettingsError, match="2 texts for 6 rows"):
        BM25(SHOP, texts=["a", "b"])
    with pytest.raises(SettingsError, match="1 texts for 6 rows"):
        TFIDF(SHOP, texts=["a"])
    with pytest.raises(SettingsError, match="decay is 0"):
        BM25(SHOP, decay=0)


def test_vectors_are_checked():
    with pytest.raises(ShapeError, match=r"\(2, 3\) for 6 catalogue rows"):
        Dense(SHOP, Letters(), vectors=np.ones((2, 3)))
    bad = np.ones((6, 26))
    bad[4, 2] = np.nan
    with pytest.raises(ShapeError, match="number 4 of 6 catalogue rows"):
        Dense(SHOP, Letters(), vectors=bad)
    with pytest.raises(ShapeError, match="26 dimensions but the items have 3"):
        Dense(SHOP, Letters(), vectors=np.ones((6, 3))).search("hat")


def test_a_zero_vector_is_like_nothing():
    vectors = np.zeros((6, 26))
    vectors[3] = 1.0
    assert Dense(SHOP, Letters(), vectors=vectors).search("hat", k=1).item_ids == ["i3"]
